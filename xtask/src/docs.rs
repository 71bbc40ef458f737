//! `cargo xtask docs`: the reference pages that derive from the registries. The daemon writes them, xtask compares.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
use crate::paths::Paths;
use crate::process::{self, command};

pub(crate) fn run(paths: &Paths, check: bool) -> Result<()> {
    if !check {
        return generate(paths, &paths.repo);
    }
    let fresh = paths.target.join("docs-check");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    generate(paths, &fresh)?;
    let files = files_below(&fresh)?;
    if files.is_empty() {
        bail!("`smart-monitor generate-docs` wrote no file");
    }
    let mut stale = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&fresh)?;
        match fs::read(paths.repo.join(name)) {
            Ok(bytes) if bytes == fs::read(file)? => {}
            Ok(_) => stale.push(format!("{} differs", name.display())),
            Err(_) => stale.push(format!("{} is missing", name.display())),
        }
    }
    if !stale.is_empty() {
        bail!(
            "generated files are out of date (`cargo xtask docs` writes them): {}",
            stale.join(", ")
        );
    }
    println!("docs: {} generated files are up to date", files.len());
    Ok(())
}

/// The pages hold nothing of the kernel programs, so the daemon is built as it is, without the eBPF toolchain.
fn generate(paths: &Paths, into: &Path) -> Result<()> {
    let binary = build::daemon(paths, Profile::Debug)?;
    process::run(
        command(binary).arg("generate-docs").arg(into),
        "`smart-monitor generate-docs`",
    )
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
