//! `cargo xtask build`: the kernel programs with nightly, then the daemon that embeds them.
//!
//! The object is copied to its place only when its bytes changed, so that an unchanged kernel half does not make
//! cargo build the daemon again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::process::{self, capture, cargo};
use crate::setup::{self, Toolchain};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The default: the daemon's cost and latency are part of what it is.
    Release,
    Debug,
}

impl Profile {
    pub(crate) fn from_debug(debug: bool) -> Self {
        if debug { Self::Debug } else { Self::Release }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// Builds both halves; the path of the daemon.
pub(crate) fn run(paths: &Paths, profile: Profile) -> Result<PathBuf> {
    programs(paths)?;
    daemon(paths, profile)
}

/// Builds the kernel programs, which what is built after them embeds.
pub(crate) fn programs(paths: &Paths) -> Result<()> {
    let toolchain = setup::ensure(paths, None)?;
    object(paths, &toolchain)
}

/// Builds the daemon with the kernel programs that are there, or none.
pub(crate) fn daemon(paths: &Paths, profile: Profile) -> Result<PathBuf> {
    let mut build = cargo(paths);
    build.args(["build", "--package", "monitor-userspace"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    process::run(&mut build, "building the daemon")?;
    let binary = paths.target.join(profile.folder()).join("smart-monitor");
    if !binary.is_file() {
        bail!(
            "cargo built the daemon, but {} is not there; is `build.target` set in a cargo configuration file?",
            binary.display()
        );
    }
    Ok(binary)
}

/// A cargo of nightly's that builds or checks monitor-ebpf for the BPF target.
pub(crate) fn ebpf_cargo(paths: &Paths, toolchain: &Toolchain, subcommand: &str) -> Command {
    // aya-ebpf picks its bindings by the machine the programs will run on; those flags are aya-build's.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    let mut command = toolchain.command("cargo");
    command
        .current_dir(&paths.repo)
        .args([subcommand, "--package", "monitor-ebpf", "--release"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"])
        // A folder of its own: in the common one, the outer cargo's lock would make this one wait for ever.
        .arg(paths.target.join("ebpf-build"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS");
    if let Some(library) = &toolchain.rust_src {
        command.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
    }
    command
}

fn object(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    process::run(
        &mut ebpf_cargo(paths, toolchain, "build"),
        "building the kernel programs",
    )?;
    let built = paths
        .target
        .join("ebpf-build/bpfel-unknown-none/release/monitor-ebpf");
    let small = without_debug(toolchain, &built).unwrap_or_else(|error| {
        println!("build: the kernel programs keep their debug information: {error:#}");
        built
    });
    let object = paths.object();
    let first = !object.is_file();
    if copy_if_changed(&small, &object)? && first {
        // The build script watches the object only where it found one: a daemon built before that keeps none.
        for profile in ["dev", "release"] {
            let mut clean = cargo(paths);
            clean.args([
                "clean",
                "--quiet",
                "--package",
                "monitor-userspace",
                "--profile",
                profile,
            ]);
            process::run(
                &mut clean,
                "forgetting the daemon built without kernel programs",
            )?;
        }
    }
    Ok(())
}

/// A copy without DWARF, which nothing reads and which is most of the object. BTF stays: the kernel needs it. The tool comes
/// with nightly's rustc.
fn without_debug(toolchain: &Toolchain, built: &Path) -> Result<PathBuf> {
    let mut rustc = toolchain.command("rustc");
    let library = capture(rustc.args(["--print", "target-libdir"]))?;
    let objcopy = Path::new(library.trim()).with_file_name("bin/rust-objcopy");
    let small = built.with_extension("small");
    // Through rustup, which tells it where nightly's LLVM is.
    let mut strip = toolchain.command(&objcopy);
    capture(strip.arg("--strip-debug").args([built, &small]))?;
    Ok(small)
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Renamed into place, so that a build script running now never embeds half an object.
    let partial = to.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, to))
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(true)
}
