//! `[journal]`

use serde::{Deserialize, Serialize};

use crate::config::units::Bytes;

/// `[journal]`: takes effect at the next start, not on reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Size at which the journal becomes the first of the older generations.
    pub size: Bytes,
    /// How many older generations are kept; the oldest beyond that is deleted.
    pub keep: u32,
    /// When the intent of an act is on the disk.
    pub intent: Intent,
}

/// When the intent of an act is forced to the disk. It is with the kernel before the act in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// While the act is done: nothing waits for the disk.
    With,
    /// Before the act: it waits for the disk.
    Before,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: Bytes::mib(16),
            keep: 8,
            intent: Intent::With,
        }
    }
}

impl Config {
    /// What about it makes no sense.
    pub fn mistakes(&self) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        if !(Bytes::mib(1)..=Bytes::mib(1024)).contains(&self.size) {
            wrong.push("`size` must be 1MiB to 1GiB");
        }
        if !(1..=1000).contains(&self.keep) {
            wrong.push("`keep` must be 1 to 1000 (older generations)");
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let of = |size, keep| Config {
            size: Bytes(size),
            keep,
            ..Config::default()
        };
        for good in [Config::default(), of(1 << 20, 1), of(1 << 30, 1000)] {
            assert!(good.mistakes().is_empty(), "{good:?}");
        }
        for bad in [
            of((1 << 20) - 1, 8),
            of((1 << 30) + 1, 8),
            of(1 << 20, 0),
            of(1 << 20, 1001),
        ] {
            assert_eq!(bad.mistakes().len(), 1, "{bad:?}");
        }
        assert_eq!(of(0, 0).mistakes().len(), 2);
    }

    #[test]
    fn a_mistake_is_shown_where_it_stands() {
        let parse = |text: &str| {
            let path = std::path::Path::new("test.toml");
            crate::config::Config::parse(text, path)
        };
        let config = parse("[journal]\nsize = \"2MiB\"\nkeep = 3\nintent = \"before\"\n");
        let journal = config.expect("it is good").journal;
        assert_eq!(
            journal,
            Config {
                size: Bytes::mib(2),
                keep: 3,
                intent: Intent::Before
            }
        );
        let mistakes = parse("\n[journal]\nkeep = 0\n")
            .expect_err("none is kept")
            .to_string();
        assert!(
            mistakes.starts_with("test.toml:2:1: [journal]: `keep`"),
            "{mistakes}"
        );
        assert!(parse("[journal]\nintent = \"after\"\n").is_err());
    }
}
