//! The record of a finished setup: which nightly it was for, and where the parts are. One `key=value` a line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Toolchain;
use super::nightly::Nightly;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    nightly: String,
    from_user: Option<PathBuf>,
    rust_src: Option<PathBuf>,
    linker: PathBuf,
}

impl Stamp {
    pub(super) fn new(
        nightly: &Nightly,
        from_user: Option<PathBuf>,
        rust_src: Option<PathBuf>,
        linker: PathBuf,
    ) -> Self {
        Self {
            nightly: nightly.identity(),
            from_user,
            rust_src,
            linker,
        }
    }

    /// `None` where there is no whole stamp: setup then runs anew.
    pub(super) fn read(file: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(file).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v)
        };
        let path = |key: &str| value(key).map(|v| (!v.is_empty()).then(|| PathBuf::from(v)));
        Some(Self {
            nightly: value("nightly")?.to_owned(),
            from_user: path("from_user")?,
            rust_src: path("rust_src")?,
            linker: path("linker")??,
        })
    }

    fn render(&self) -> String {
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default()
        };
        format!(
            "nightly={}\nfrom_user={}\nrust_src={}\nlinker={}\n",
            self.nightly,
            path(&self.from_user),
            path(&self.rust_src),
            self.linker.display()
        )
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.render())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Whether it is for this nightly and this wish of the user's, and its parts are still there.
    pub(super) fn holds(&self, nightly: &Nightly, from_user: Option<&Path>) -> bool {
        let library = self
            .rust_src
            .clone()
            .unwrap_or_else(|| nightly.own_library());
        let wish_kept = from_user.is_none() || from_user == self.from_user.as_deref();
        self.nightly == nightly.identity()
            && wish_kept
            && super::rust_src::is_library(&library)
            && self.linker.is_file()
    }

    pub(super) fn into_toolchain(self, nightly: &Nightly) -> Toolchain {
        Toolchain {
            nightly: nightly.name.clone(),
            rust_src: self.rust_src,
            linker: self.linker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        for rust_src in [None, Some(PathBuf::from("/some where/library"))] {
            let stamp = Stamp {
                nightly: "nightly 1.97.0-nightly abc".into(),
                from_user: None,
                rust_src,
                linker: "/t/bpf-linker".into(),
            };
            assert_eq!(Stamp::parse(&stamp.render()), Some(stamp));
        }
    }

    #[test]
    fn half_a_stamp_is_none() {
        assert_eq!(Stamp::parse("nightly=x\nfrom_user=\n"), None);
    }
}
