//! Durations as `5s`, sizes as `256MiB`, shares as `80%`: how people write them, refused with an example when they do not read.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written `250ms`, `5s`, `1h 30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size in bytes, written `512KiB`, `256MiB`, `2GiB`; `MB` and the like count in thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A share, written `85%`; more than `100%` is possible where cores are added up.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// A level of something that has a whole, written as a share of it (`4%`) or as a size (`500MiB`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// So much of the whole.
    Share(Percent),
    /// So much, whatever the whole is.
    Size(Bytes),
}

/// An address to listen on, written `127.0.0.1:9464`; an empty text for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<std::net::SocketAddr>);

impl Listen {
    /// From what stands in a file or on a command line.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(Self(None))
        } else {
            text.parse().ok().map(|at| Self(Some(at)))
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Span {
    /// From milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// From what stands in a file or on a command line.
    pub fn parse(text: &str) -> Option<Self> {
        let signed: jiff::SignedDuration = text.trim().parse().ok()?;
        Duration::try_from(signed).ok().map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(signed) => write!(f, "{signed:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl Bytes {
    /// From mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// From what stands in a file or on a command line.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (suffix, factor) = UNITS.iter().find(|(suffix, _)| text.ends_with(suffix))?;
        let number: u64 = text.strip_suffix(suffix)?.trim().parse().ok()?;
        number.checked_mul(*factor).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS
            .iter()
            .take(4)
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match whole {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Percent {
    /// As a share of one: `85%` is 0.85.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }

    fn parse(text: &str) -> Option<Self> {
        let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(Self(number))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Level {
    /// In bytes, of a whole of so many; never more than that.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a level needs no exact bytes, and a cast of a float stays within the type"
            )]
            Self::Share(share) => ((whole as f64 * share.share()) as u64).min(whole),
            Self::Size(size) => size.0.min(whole),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let share = Percent::parse(text).map(Self::Share);
        share.or_else(|| Bytes::parse(text).map(Self::Size))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(f),
            Self::Size(size) => size.fmt(f),
        }
    }
}

macro_rules! written_as_text {
    ($($name:ident: $example:literal,)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($example)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text)
                            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

written_as_text! {
    Span: "a duration in quotes, such as \"250ms\", \"5s\" or \"1h 30m\" (days are written \"24h\")",
    Bytes: "a size in quotes, such as \"512KiB\" or \"256MiB\"",
    Listen: "an address in quotes, such as \"127.0.0.1:9464\", or \"\" for none",
    Level: "a share or a size in quotes, such as \"4%\" or \"500MiB\"",
    Percent: "a share in quotes, such as \"85%\"",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["250ms", "5s", "10m", "1h 30m"] {
            let span = Span::parse(text).expect(text);
            assert_eq!(Span::parse(&span.to_string()), Some(span), "{text}");
        }
        for text in ["1B", "512KiB", "256MiB", "2GiB"] {
            assert_eq!(
                Bytes::parse(text).map(|size| size.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in ["4%", "500MiB"] {
            let level = Level::parse(text).map(|level| level.to_string());
            assert_eq!(level.as_deref(), Some(text));
        }
        assert_eq!(Level::parse("4%").map(|level| level.of(1000)), Some(40));
        assert_eq!(Level::parse("2KiB").map(|level| level.of(1000)), Some(1000));
        assert_eq!(Bytes::parse("3MB"), Some(Bytes(3_000_000)));
        assert_eq!(Percent::parse("85%").map(Percent::share), Some(0.85));
    }

    #[test]
    fn what_does_not_read_is_refused() {
        for text in ["", "5", "s", "-5s", "1d", "5 parsecs"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
        for text in ["", "5", "MiB", "-1MiB", "99999999999TiB", "1.5"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
        for text in ["", "85", "%", "-1%", "NaN%", "inf%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
    }
}
