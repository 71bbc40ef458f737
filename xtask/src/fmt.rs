//! `cargo xtask fmt`: rustfmt over every tracked file. `cargo fmt` follows `mod` lines only, and so misses modules that
//! a macro declares.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::process::{self, capture, command};

pub(crate) fn run(paths: &Paths, check: bool) -> Result<()> {
    let files = tracked(paths)?;
    let mut rustfmt = command("rustfmt");
    rustfmt.current_dir(&paths.repo).args(["--edition", "2024"]);
    if check {
        // The names are enough: formatting makes the rest.
        rustfmt.args(["--check", "--files-with-diff"]);
    }
    rustfmt.args(&files);
    let what = if check {
        "the format check (`cargo xtask fmt` repairs it)"
    } else {
        "formatting"
    };
    process::run(&mut rustfmt, what)
}

/// Every tracked Rust file that is there, relative to the repository.
pub(crate) fn tracked(paths: &Paths) -> Result<Vec<PathBuf>> {
    let mut git = command("git");
    git.current_dir(&paths.repo)
        .args(["ls-files", "-z", "--", "*.rs"]);
    let listed = capture(&mut git).context("cannot list the tracked files")?;
    let there = |file: &&str| !file.is_empty() && Path::new(&paths.repo).join(file).is_file();
    let files: Vec<PathBuf> = listed
        .split('\0')
        .filter(there)
        .map(PathBuf::from)
        .collect();
    if files.is_empty() {
        bail!("git tracks no Rust file in {}", paths.repo.display());
    }
    Ok(files)
}
