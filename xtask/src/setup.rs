//! `cargo xtask setup`: everything the kernel half needs, under the target folder, without root.
//!
//! Needed: a nightly toolchain, its library sources (`core` is built for the BPF target) and bpf-linker. A stamp says
//! what was prepared for which nightly, so that a second run only looks at it; a lock keeps two runs apart.

mod linker;
mod nightly;
mod package;
mod rust_src;
mod stamp;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::paths::Paths;
use crate::process::command;
use nightly::Nightly;
use stamp::Stamp;

/// Names a Rust source tree, as `--rust-src` does.
pub(crate) const RUST_SRC_VARIABLE: &str = "SMART_MONITOR_RUST_SRC";

/// What builds the kernel programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    nightly: String,
    /// The library sources, where they are not in nightly's own sysroot.
    pub(crate) rust_src: Option<PathBuf>,
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// A program of nightly's, whatever toolchain runs xtask.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        of_toolchain(&self.nightly, program)
    }
}

fn of_toolchain(toolchain: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = command("rustup");
    // Set for the toolchain that runs xtask; an inner nightly must not follow them.
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command.args(["run", toolchain]).arg(program);
    command
}

pub(crate) fn run(paths: &Paths, rust_src: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    let toolchain = ensure(paths, rust_src)?;
    println!(
        "setup: ready in {:.1} s: {}, sources {}, linker {}",
        start.elapsed().as_secs_f64(),
        toolchain.nightly,
        toolchain
            .rust_src
            .as_ref()
            .map_or_else(|| "of nightly".into(), |path| path.display().to_string()),
        toolchain.linker.display()
    );
    Ok(())
}

/// Prepares what is missing. `rust_src` wins over the environment's.
pub(crate) fn ensure(paths: &Paths, rust_src: Option<&Path>) -> Result<Toolchain> {
    let from_user = rust_src
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(RUST_SRC_VARIABLE).map(PathBuf::from));
    let nightly = Nightly::find()?;
    let folder = paths.toolchain();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let _lock = lock(&folder)?;
    let stamp_file = folder.join("stamp");
    if let Some(stamp) =
        Stamp::read(&stamp_file).filter(|stamp| stamp.holds(&nightly, from_user.as_deref()))
    {
        return Ok(stamp.into_toolchain(&nightly));
    }
    let rust_src = rust_src::find(&folder, &nightly, from_user.as_deref())?;
    let linker = linker::find(paths, &nightly)?;
    let stamp = Stamp::new(&nightly, from_user, rust_src, linker);
    stamp.write(&stamp_file)?;
    Ok(stamp.into_toolchain(&nightly))
}

/// Held until dropped; the kernel frees it also when this process is killed.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("setup: waiting for another xtask to finish its setup");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Says what is being done, and afterwards how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("setup: {what} ...");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "gave up" };
    println!(
        "setup: {what}: {verdict} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}
