//! The sources of Rust's library, of nightly's minor version. In this order: nightly's own, a path of the user's,
//! rustup's component, the distribution's package. Each failure's reason is kept for the one error at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::nightly::Nightly;
use super::{RUST_SRC_VARIABLE, package, step};
use crate::process::{capture_within, command};

/// The component is 3 MB; a server that cannot be reached must not hold up the other ways.
const RUSTUP_LIMIT: Duration = Duration::from_mins(1);

/// The library folder to use, or `None` where nightly has its own.
pub(super) fn find(
    folder: &Path,
    nightly: &Nightly,
    from_user: Option<&Path>,
) -> Result<Option<PathBuf>> {
    if let Some(path) = from_user {
        return users(path, nightly).map(Some);
    }
    if is_library(&nightly.own_library()) {
        return Ok(None);
    }
    let of_rustup = step("rust-src: asking rustup for nightly's component", || {
        rustup(nightly)
    });
    let Err(no_component) = of_rustup else {
        return Ok(None);
    };
    let minor = nightly.version.minor;
    let private = folder.join("rust-src");
    let kept = private.join("library");
    if is_library(&kept)
        && std::fs::read_to_string(private.join("minor"))
            .is_ok_and(|text| text == minor.to_string())
    {
        return Ok(Some(kept));
    }
    let package = step(
        &format!("rust-src: looking for the distribution's package of 1.{minor}"),
        || package::rust_src(folder, minor, &private),
    );
    match package {
        Ok(()) if is_library(&kept) => Ok(Some(kept)),
        Ok(()) => bail!("the distribution's rust-src package holds no library/core"),
        Err(no_package) => bail!(
            "no library sources for Rust 1.{minor}, needed to build `core` for the BPF target.\n  \
             rustup: {no_component:#}\n  package: {no_package:#}\n\
             Run `rustup component add rust-src --toolchain {name}` where its server can be reached, or give the path of \
             a Rust 1.{minor} source tree: `cargo xtask setup --rust-src PATH` or {RUST_SRC_VARIABLE}=PATH",
            name = nightly.name
        ),
    }
}

pub(super) fn is_library(folder: &Path) -> bool {
    folder.join("core/src/lib.rs").is_file()
}

fn users(path: &Path, nightly: &Nightly) -> Result<PathBuf> {
    let path = path
        .canonicalize()
        .with_context(|| format!("no Rust sources at {}", path.display()))?;
    let inner = ["", "library", "lib/rustlib/src/rust/library"];
    let library = inner
        .iter()
        .map(|inner| path.join(inner))
        .find(|folder| is_library(folder))
        .with_context(|| {
            format!(
                "{} holds no library/core/src/lib.rs; name a Rust source tree",
                path.display()
            )
        })?;
    // A source tree says its version in src/version; the bare component does not.
    if let Some(version) = library
        .parent()
        .and_then(|up| std::fs::read_to_string(up.join("src/version")).ok())
    {
        let minor = nightly.version.minor;
        if !version.trim().starts_with(&format!("1.{minor}.")) {
            bail!(
                "{} is Rust {}, but nightly is 1.{minor}",
                path.display(),
                version.trim()
            );
        }
    }
    Ok(library)
}

fn rustup(nightly: &Nightly) -> Result<()> {
    let mut add = command("rustup");
    add.args(["component", "add", "rust-src", "--toolchain", &nightly.name])
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUST_BACKTRACE", "0")
        .env("RUSTUP_MAX_RETRIES", "1");
    capture_within(&mut add, RUSTUP_LIMIT)?;
    if !is_library(&nightly.own_library()) {
        bail!(
            "rustup says that rust-src is installed, but {} is not there",
            nightly.own_library().display()
        );
    }
    Ok(())
}
