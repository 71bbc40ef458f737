//! What the machines are made of, out of the distribution's packages: kernels, a busybox, and an emulator where the system has none.
//! Each is unpacked once, into a folder of its own that appears only when it is whole; removing `target/vm` fetches all anew.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::kernels::{Debian, series};
use crate::apt::{self, State};
use crate::paths::Paths;
use crate::process::on_path;

/// The package that names the newest kernel of a suite: small, and with all that an emulated machine needs built in.
const KERNEL: &str = "linux-image-cloud-amd64";
const EMULATOR: &str = "qemu-system-x86_64";
/// Modules that the events need, in the order in which they are loaded.
const MODULES: [&str; 1] = ["loop"];

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// As they came, compressed or not.
    pub(super) modules: Vec<PathBuf>,
}

/// The kernel of a suite.
pub(super) fn kernel(paths: &Paths, debian: &Debian) -> Result<Kernel> {
    let suite = debian.suite;
    let folder = paths.vm().join("kernels").join(suite);
    once(&folder, |partial| {
        from_mirrors(paths, suite, |state| {
            let needed = state.depends(KERNEL)?;
            let image = needed
                .iter()
                .find(|name| name.starts_with("linux-image-"))
                .with_context(|| format!("its {KERNEL} names no kernel"))?;
            let release = image.trim_start_matches("linux-image-");
            // Since 7.2 what is booted and the modules stand in packages of their own.
            let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
            let needed = state.depends(image)?;
            let mut packages = vec![image.clone()];
            packages.extend(parts.into_iter().filter(|part| needed.contains(part)));
            println!("  downloading {} from suite {suite}", packages.join(" "));
            let whole = partial.join("whole");
            fs::create_dir_all(&whole)?;
            for package in state.download(&packages)? {
                apt::unpack(&package, &whole, &[])?;
            }
            keep(&whole, partial, release)?;
            fs::remove_dir_all(whole)?;
            Ok(())
        })
    })?;
    let release = fs::read_to_string(folder.join("release"))?;
    if let Some(expected) = debian.series
        && series(&release) != expected
    {
        bail!("suite {suite} has kernel {release} now, not {expected}");
    }
    let mut modules: Vec<PathBuf> = files(&folder.join("modules"))?;
    modules.sort();
    Ok(Kernel {
        release,
        image: folder.join("image"),
        modules,
    })
}

/// Keeps what is booted and the modules that are needed: the rest is 100 MB.
fn keep(whole: &Path, folder: &Path, release: &str) -> Result<()> {
    let all = files(whole)?;
    let name = |file: &Path| {
        file.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let image = all
        .iter()
        .find(|file| name(file).starts_with("vmlinuz"))
        .context("the package holds no kernel")?;
    fs::rename(image, folder.join("image"))?;
    fs::create_dir(folder.join("modules"))?;
    for (number, module) in MODULES.iter().enumerate() {
        let start = format!("{module}.ko");
        let file = all.iter().find(|file| name(file).starts_with(&start));
        let file = file.with_context(|| format!("the package holds no module {module}"))?;
        let numbered = format!("{number}-{}", name(file));
        fs::rename(file, folder.join("modules").join(numbered))?;
    }
    Ok(fs::write(folder.join("release"), release)?)
}

/// A busybox that needs no libraries.
pub(super) fn busybox(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.vm().join("busybox");
    once(&folder, |partial| {
        from_mirrors(paths, &apt::own_suite()?, |state| {
            println!("  downloading busybox-static");
            for package in state.download(&["busybox-static".to_owned()])? {
                apt::unpack(&package, partial, &[])?;
            }
            Ok(())
        })
    })?;
    let found = files(&folder)?.into_iter().find(|file| {
        file.file_name() == Some(OsStr::new("busybox")) && file.ends_with("bin/busybox")
    });
    found.context("the package busybox-static holds no bin/busybox")
}

/// An emulator, and the folder that it was unpacked into, if it was.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) program: PathBuf,
    pub(super) root: Option<PathBuf>,
}

/// The system's emulator, or else one of its suite's, so that it fits the system's libraries.
pub(super) fn emulator(paths: &Paths) -> Result<Emulator> {
    if let Some(program) = on_path(EMULATOR) {
        return Ok(Emulator {
            program,
            root: None,
        });
    }
    let root = paths.vm().join("qemu");
    once(&root, |partial| {
        from_mirrors(paths, &apt::own_suite()?, |state| {
            println!("  downloading qemu-system-x86, which is not installed here (50 MB)");
            for package in state.download_missing("qemu-system-x86")? {
                apt::unpack(&package, partial, &[])?;
            }
            Ok(())
        })
    })?;
    let program = root.join("usr/bin").join(EMULATOR);
    if !program.is_file() {
        bail!("the package qemu-system-x86 holds no {}", program.display());
    }
    Ok(Emulator {
        program,
        root: Some(root),
    })
}

/// Fills a folder unless it is there, all of it or nothing.
pub(super) fn once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    fill(&partial)?;
    Ok(fs::rename(&partial, folder)?)
}

/// Does something with the suite of the first of the machine's mirrors that has what it takes.
pub(super) fn from_mirrors(
    paths: &Paths,
    suite: &str,
    mut fetch: impl FnMut(&State) -> Result<()>,
) -> Result<()> {
    let folder = paths.vm().join("apt");
    let mut reasons = String::new();
    for mirror in &apt::mirrors()? {
        match State::of(&folder, mirror, suite).and_then(|state| fetch(&state)) {
            Ok(()) => return Ok(()),
            Err(error) => write!(reasons, "\n    {error:#}")?,
        }
    }
    bail!(
        "no mirror of this machine's has what is needed of suite {suite}:{reasons}{}",
        apt::advice(&reasons)
    )
}

/// Every file below a folder, links left out.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
