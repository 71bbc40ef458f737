//! The nightly toolchain: which version it is, which LLVM it holds, where its files are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::of_toolchain;
use crate::process::capture;

/// A dated toolchain may be named in its place: `nightly-2026-05-20`.
const TOOLCHAIN_VARIABLE: &str = "SMART_MONITOR_NIGHTLY";

#[derive(Debug)]
pub(super) struct Nightly {
    /// As rustup knows it.
    pub(super) name: String,
    pub(super) sysroot: PathBuf,
    pub(super) version: Version,
}

/// What `rustc -vV` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// `1.97.0-nightly`
    pub(super) release: String,
    pub(super) minor: u32,
    pub(super) commit: String,
    pub(super) llvm_major: u32,
}

impl Nightly {
    pub(super) fn find() -> Result<Self> {
        let name = std::env::var(TOOLCHAIN_VARIABLE).unwrap_or_else(|_| "nightly".into());
        let advice = format!(
            "the kernel programs need a nightly toolchain (`core` is built from source for the BPF target): \
             install rustup, then run `rustup toolchain install {name} --component rust-src`"
        );
        let text = capture(of_toolchain(&name, "rustc").arg("-vV"))
            .map_err(|error| anyhow!("no `{name}` toolchain ({error}); {advice}"))?;
        let version = Version::parse(&text)?;
        if !version.release.contains("nightly") && !version.release.contains("dev") {
            bail!(
                "toolchain `{name}` is {}, not a nightly; {TOOLCHAIN_VARIABLE} must name one",
                version.release
            );
        }
        let sysroot = capture(of_toolchain(&name, "rustc").args(["--print", "sysroot"]))?;
        Ok(Self {
            name,
            sysroot: PathBuf::from(sysroot.trim()),
            version,
        })
    }

    /// Changes whenever what was prepared for it may no longer fit.
    pub(super) fn identity(&self) -> String {
        let Version {
            release,
            commit,
            llvm_major,
            ..
        } = &self.version;
        format!(
            "{} {release} {commit} LLVM {llvm_major} {}",
            self.name,
            self.sysroot.display()
        )
    }

    /// Where the rust-src component has the library sources.
    pub(super) fn own_library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// The LLVM that rustc itself is linked to, where it is a library of its own.
    pub(super) fn llvm_library(&self) -> Option<PathBuf> {
        let prefix = format!("libLLVM.so.{}.", self.version.llvm_major);
        let fits = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        };
        let entries = std::fs::read_dir(self.sysroot.join("lib")).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| fits(path))
    }
}

impl Version {
    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.trim())
                .with_context(|| format!("`rustc -vV` of nightly names no {key}"))
        };
        let release = value("release")?;
        let number =
            |text: &str, at: usize| text.split('.').nth(at).and_then(|part| part.parse().ok());
        Ok(Self {
            release: release.to_owned(),
            minor: number(release, 1)
                .with_context(|| format!("rustc release `{release}` has no minor version"))?,
            commit: value("commit-hash")?.to_owned(),
            llvm_major: number(value("LLVM version")?, 0)
                .context("`rustc -vV` names no LLVM number")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        commit-hash: e50aa6fba4e63ab3\ncommit-date: 2026-05-19\nhost: x86_64-unknown-linux-gnu\n\
        release: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn reads_versions() {
        let version = Version::parse(TEXT).unwrap();
        assert_eq!((version.minor, version.llvm_major), (97, 22));
        assert_eq!(version.release, "1.97.0-nightly");
        assert_eq!(version.commit, "e50aa6fba4e63ab3");
    }

    #[test]
    fn says_what_is_missing() {
        let text = TEXT.replace("LLVM version: 22.1.4\n", "");
        assert!(
            Version::parse(&text)
                .unwrap_err()
                .to_string()
                .contains("LLVM version")
        );
    }
}
