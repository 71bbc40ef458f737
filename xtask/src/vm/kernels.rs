//! Which kernels there are. Adding one: a line in [`DEBIAN`].

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, bail};

/// A suite of Debian's and the series of its kernel; `None` where the series still changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Debian {
    pub(super) suite: &'static str,
    pub(super) series: Option<&'static str>,
}

/// Oldest first.
const DEBIAN: [Debian; 4] = [
    Debian {
        suite: "bullseye",
        series: Some("5.10"),
    },
    Debian {
        suite: "bookworm",
        series: Some("6.1"),
    },
    Debian {
        suite: "trixie",
        series: Some("6.12"),
    },
    Debian {
        suite: "forky",
        series: None,
    },
];

/// A kernel that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The running one.
    Host,
    /// One that is booted in a machine.
    Debian(Debian),
}

impl Display for Wanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => write!(f, "the running kernel"),
            Self::Debian(Debian { suite, series }) => match series {
                Some(series) => write!(f, "{series} ({suite})"),
                None => write!(f, "{suite}"),
            },
        }
    }
}

/// The kernels of these names; all of them, the running one first, when none is named.
pub(super) fn wanted(names: &[String]) -> Result<Vec<Wanted>> {
    if names.is_empty() {
        let debian = DEBIAN.into_iter().map(Wanted::Debian);
        return Ok(std::iter::once(Wanted::Host).chain(debian).collect());
    }
    names.iter().map(|name| one(name)).collect()
}

fn one(name: &str) -> Result<Wanted> {
    if name == "host" {
        return Ok(Wanted::Host);
    }
    let known = DEBIAN
        .iter()
        .find(|debian| debian.suite == name || debian.series == Some(name));
    if let Some(debian) = known {
        return Ok(Wanted::Debian(*debian));
    }
    let names = DEBIAN.map(|debian| debian.series.unwrap_or(debian.suite));
    bail!(
        "no kernel `{name}` is known here: host, {}",
        names.join(", ")
    )
}

/// `6.12` of `6.12.107+deb13-cloud-amd64`.
pub(super) fn series(release: &str) -> &str {
    let mut dots = release.match_indices(|c: char| !c.is_ascii_digit());
    let end = dots.nth(1).map_or(release.len(), |(at, _)| at);
    release.get(..end).unwrap_or(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_the_first_two_numbers() {
        assert_eq!(series("6.12.107+deb13-cloud-amd64"), "6.12");
        assert_eq!(series("5.10.0-32-cloud-amd64"), "5.10");
        assert_eq!(series("7.2-rc1"), "7.2");
        assert_eq!(series("7.2"), "7.2");
    }

    #[test]
    fn kernels_go_by_their_series_and_by_their_suite() {
        assert_eq!(one("6.12").unwrap(), one("trixie").unwrap());
        assert_eq!(one("host").unwrap(), Wanted::Host);
        let error = one("4.19").unwrap_err().to_string();
        assert_eq!(
            error,
            "no kernel `4.19` is known here: host, 5.10, 6.1, 6.12, forky"
        );
    }

    #[test]
    fn without_a_name_it_is_all_of_them() {
        let all = wanted(&[]).unwrap();
        assert_eq!(all.first(), Some(&Wanted::Host));
        assert_eq!(all.len(), DEBIAN.len() + 1);
    }
}
