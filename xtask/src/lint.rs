//! `cargo xtask lint`: all that is checked without running a test. Every check runs, and the failed ones are named at
//! the end, so that one run shows all there is to repair.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::build::ebpf_cargo;
use crate::paths::Paths;
use crate::process::{self, capture, cargo, command, on_path};
use crate::{docs, fmt, setup};

/// A file is questioned at 400 lines, and split at this.
const LONG: usize = 600;

type Check<'a> = (&'static str, Box<dyn Fn() -> Result<()> + 'a>);

pub(crate) fn run(paths: &Paths, install_deny: bool, advisories: bool) -> Result<()> {
    let checks: [Check<'_>; 7] = [
        ("format", Box::new(|| fmt::run(paths, true))),
        ("clippy", Box::new(|| clippy_host(paths))),
        (
            "clippy of the kernel programs",
            Box::new(|| clippy_ebpf(paths)),
        ),
        ("rustdoc", Box::new(|| rustdoc(paths))),
        ("generated documents", Box::new(|| docs::run(paths, true))),
        ("long files", Box::new(|| long_files(paths))),
        (
            "dependencies",
            Box::new(|| deny(paths, install_deny, advisories)),
        ),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("lint: {name}");
        if let Err(error) = check() {
            eprintln!("lint: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    println!("lint: all checks passed");
    Ok(())
}

/// Over the default members: monitor-ebpf compiles for the BPF target only.
fn clippy_host(paths: &Paths) -> Result<()> {
    let mut clippy = cargo(paths);
    clippy.args([
        "clippy",
        "--quiet",
        "--keep-going",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    process::run(&mut clippy, "clippy")
}

fn clippy_ebpf(paths: &Paths) -> Result<()> {
    let toolchain = setup::ensure(paths, None)?;
    // Its dependencies in the workspace are the stable clippy's affair.
    let mut clippy = ebpf_cargo(paths, &toolchain, "clippy");
    clippy.args(["--quiet", "--no-deps", "--", "-D", "warnings"]);
    process::run(
        &mut clippy,
        "nightly's clippy (`rustup component add clippy --toolchain nightly` if it is missing)",
    )
}

fn rustdoc(paths: &Paths) -> Result<()> {
    let mut doc = cargo(paths);
    doc.args(["doc", "--quiet", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut doc, "rustdoc")
}

/// A notice, not a failure: a long file may have its reason.
fn long_files(paths: &Paths) -> Result<()> {
    for file in fmt::tracked(paths)? {
        let text = std::fs::read_to_string(paths.repo.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text.lines().count();
        if lines > LONG {
            println!(
                "lint: {} has {lines} lines; split files at {LONG}",
                file.display()
            );
        }
    }
    Ok(())
}

fn deny(paths: &Paths, install: bool, advisories: bool) -> Result<()> {
    let private = paths.tools().join("bin/cargo-deny");
    let found = [Some(private.clone()), on_path("cargo-deny")]
        .into_iter()
        .flatten()
        .find(|path| path.is_file());
    let binary: PathBuf = match found {
        Some(binary) => binary,
        None if install => {
            println!(
                "lint: installing cargo-deny under {} (some minutes)",
                paths.tools().display()
            );
            let mut cargo = cargo(paths);
            cargo
                .args(["install", "--quiet", "--locked", "cargo-deny", "--root"])
                .arg(paths.tools());
            capture(cargo.env_remove("CARGO_TARGET_DIR")).context("cannot install cargo-deny")?;
            private
        }
        None => {
            println!(
                "lint: cargo deny did NOT run: cargo-deny is not installed. `cargo xtask lint --deny` installs it under \
                 the target folder, `cargo install --locked cargo-deny` for all projects"
            );
            return Ok(());
        }
    };
    let mut deny = command(binary);
    deny.current_dir(&paths.repo)
        .args(["check", "licenses", "bans", "sources"]);
    if advisories {
        deny.arg("advisories");
    }
    process::run(&mut deny, "cargo deny")
}
