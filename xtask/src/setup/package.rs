//! The distribution's `rust-src` package, of which only the sources of the library are kept.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Mirror, State};

/// Suites that may hold the right version, the likeliest first; the machine's own suite is mostly far too old.
/// forky has 1.97 and keeps it once it is released.
const SUITES: [&str; 4] = ["forky", "testing", "unstable", "experimental"];

/// Unpacks the `library` folder of Rust 1.`minor` into `into`.
pub(super) fn rust_src(folder: &Path, minor: u32, into: &Path) -> Result<()> {
    let mut reasons = String::new();
    for mirror in &apt::mirrors()? {
        for suite in SUITES {
            match fetch(&folder.join("apt"), mirror, suite, minor, into) {
                Ok(()) => return Ok(()),
                Err(error) => write!(reasons, "\n    {suite}: {error:#}")?,
            }
        }
    }
    bail!(
        "no suite of this machine's mirror has rust-src 1.{minor}:{reasons}{}",
        apt::advice(&reasons)
    )
}

fn fetch(state: &Path, mirror: &Mirror, suite: &str, minor: u32, into: &Path) -> Result<()> {
    let state = State::of(state, mirror, suite)?;
    let versions = state.versions("rust-src")?;
    let version = pick(&versions, minor).with_context(|| match versions.split('|').nth(1) {
        Some(other) => format!("its rust-src is {}", other.trim()),
        None => "it has no rust-src".to_owned(),
    })?;
    println!("setup: rust-src: downloading {version} from suite {suite} (46 MB)");
    let packages = state.download(&[format!("rust-src={version}")])?;
    let package = packages.first().context("apt-get left no package")?;
    unpack(package, minor, into)
}

/// The version of the wanted minor, from `apt-cache madison`: `rust-src | 1.97.1+dfsg1-1 | mirror suite/main ...`.
fn pick(madison: &str, minor: u32) -> Option<&str> {
    let wanted = format!("1.{minor}.");
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| version.starts_with(&wanted))
}

/// Only `library` is unpacked: the whole package is 450 MB.
fn unpack(package: &Path, minor: u32, into: &Path) -> Result<()> {
    let partial = into.with_extension("partial");
    for folder in [&partial, into] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    fs::create_dir_all(&partial)?;
    let library = [
        "--strip-components=4",
        "--wildcards",
        "./usr/src/rustc-*/library",
    ];
    apt::unpack(package, &partial, &library)?;
    fs::write(partial.join("minor"), minor.to_string())?;
    fs::rename(&partial, into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_minor_version() {
        let text = " rust-src | 1.98.0+dfsg1-1 | http://mirror.example/debian sid/main amd64 Packages\n \
                    rust-src | 1.97.1+dfsg1-1 | http://mirror.example/debian forky/main amd64 Packages\n";
        assert_eq!(pick(text, 97), Some("1.97.1+dfsg1-1"));
        assert_eq!(pick(text, 9), None);
        assert_eq!(pick("", 97), None);
    }
}
