//! bpf-linker: built once against the LLVM that nightly's own rustc uses, so that no LLVM package is needed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::nightly::Nightly;
use super::step;
use crate::paths::Paths;
use crate::process::{capture, cargo, command, on_path};

const VERSION: &str = "0.13.0";
/// The LLVM releases that this bpf-linker has a feature for.
const LLVM_FEATURES: std::ops::RangeInclusive<u32> = 21..=23;

/// A bpf-linker that runs: the private one, else one on PATH where the private one cannot be built.
pub(super) fn find(paths: &Paths, nightly: &Nightly) -> Result<PathBuf> {
    let private = paths.tools().join("bin/bpf-linker");
    let llvm = match std::env::var_os("LLVM_PREFIX").map(PathBuf::from) {
        Some(prefix) => named_llvm(prefix),
        None => private_llvm(paths, nightly),
    };
    let reason = match llvm.and_then(|llvm| install(paths, nightly, &llvm, &private)) {
        Ok(()) => return Ok(private),
        Err(error) => error,
    };
    let installed = PathBuf::from("bpf-linker");
    if let (Ok(version), Some(path)) = (runs(&installed), on_path("bpf-linker")) {
        println!(
            "setup: using {} ({version}) found on PATH: {reason:#}",
            path.display()
        );
        return Ok(path);
    }
    let llvm = nightly.version.llvm_major;
    Err(reason.context(format!(
        "no bpf-linker that works; the kernel programs cannot be linked without it. Install the system's LLVM {llvm} \
         with its development files and name its folder (LLVM_PREFIX=/usr/lib/llvm-{llvm} cargo xtask setup), or put a \
         working bpf-linker on PATH"
    )))
}

fn runs(linker: &Path) -> Result<String> {
    Ok(capture(command(linker).arg("--version"))?.trim().to_owned())
}

/// The folder the user names; cargo would find out only after most of a minute that it is none.
fn named_llvm(prefix: PathBuf) -> Result<PathBuf> {
    if !["lib", "lib64"].iter().any(|lib| prefix.join(lib).is_dir()) {
        bail!(
            "LLVM_PREFIX is {}, which holds no lib folder",
            prefix.display()
        );
    }
    Ok(prefix)
}

/// A folder shaped like an LLVM installation, whose library is nightly's.
fn private_llvm(paths: &Paths, nightly: &Nightly) -> Result<PathBuf> {
    let library = nightly.llvm_library().ok_or_else(|| {
        anyhow!(
            "nightly's sysroot holds no libLLVM.so.{}.* to build bpf-linker against ({})",
            nightly.version.llvm_major,
            nightly.sysroot.join("lib").display()
        )
    })?;
    let name = library
        .file_name()
        .context("the LLVM library has no name")?;
    let prefix = paths.toolchain().join("llvm");
    let folder = prefix.join("lib");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    // The linker finds the first name when it is built, the binary asks for the versioned one when it runs.
    symlink(&library, folder.join("libLLVM.so"))?;
    symlink(&library, folder.join(name))?;
    Ok(prefix)
}

fn install(paths: &Paths, nightly: &Nightly, llvm: &Path, binary: &Path) -> Result<()> {
    let number = nightly.version.llvm_major;
    if !LLVM_FEATURES.contains(&number) {
        bail!(
            "nightly uses LLVM {number}, but bpf-linker {VERSION} knows LLVM {} to {} only",
            LLVM_FEATURES.start(),
            LLVM_FEATURES.end()
        );
    }
    // Kept where only the sources changed: it takes a minute.
    let built_for = format!("{VERSION} {} {}", nightly.identity(), llvm.display());
    let marker = paths.toolchain().join("linker");
    if std::fs::read_to_string(&marker).is_ok_and(|text| text == built_for) && runs(binary).is_ok()
    {
        return Ok(());
    }
    step(
        &format!("building bpf-linker {VERSION} against LLVM {number} (about a minute)"),
        || {
            let mut install = cargo(paths);
            install
            .args(["install", "--quiet", "--force", "--locked", "--version", VERSION, "--no-default-features"])
            .arg(format!("--features=llvm-{number}"))
            .arg("--root")
            .arg(paths.tools())
            .arg("bpf-linker")
            .env("LLVM_PREFIX", llvm)
            // Unpacked sources and objects go when it is built; in the common target folder they would stay.
            .env_remove("CARGO_TARGET_DIR");
            capture(&mut install).context("cannot build bpf-linker")?;
            runs(binary).context("bpf-linker was built, but does not run")?;
            std::fs::write(&marker, built_for)
                .with_context(|| format!("cannot write {}", marker.display()))
        },
    )
}
