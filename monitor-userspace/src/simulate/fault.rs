//! The faults: their names, their options with defaults and bounds. Parsing only; `server` and `load` carry them out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Most memory that a leak may ever take, MiB: a demonstration must not hurt its host.
pub const LEAK_LIMIT_MIB: u64 = 2048;
/// Most threads that a spin may take.
pub const SPIN_LIMIT_THREADS: usize = 64;

/// Options of a fault as they stand in the query.
pub type Settings = BTreeMap<String, String>;

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Ends the process.
    Crash {
        /// In which way.
        how: Crash,
    },
    /// Takes and touches memory, and never gives it back.
    Leak {
        /// How fast.
        mib_per_s: u64,
        /// How much in all.
        max_mib: u64,
    },
    /// Burns CPU.
    Spin {
        /// On so many threads.
        threads: usize,
    },
    /// Answers nothing: connections wait in the backlog for ever. Alive and idle.
    Hang {
        /// SIGTERM is left unheard too.
        deaf: bool,
    },
    /// Closes the listening socket, so that peers are refused. Alive otherwise.
    Refuse,
    /// Answers `/work` with status 500.
    Errors {
        /// This share of the time, 0 to 1.
        ratio: f64,
    },
    /// Ends leak, spin and errors.
    None,
}

/// How a crash ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Exit code 101, as after a panic.
    Exit,
    /// SIGABRT.
    Abort,
    /// SIGSEGV.
    Segv,
    /// SIGKILL, as the kernel's OOM killer sends it.
    Kill,
}

impl Fault {
    /// Every name, in the order of the documentation.
    pub const NAMES: &'static [&'static str] =
        &["crash", "leak", "spin", "hang", "refuse", "errors", "none"];

    /// From the name in the path and the options in the query. An unknown name or option, or a value out of bounds, is an
    /// error that says what there is.
    pub fn parse(kind: &str, settings: &Settings) -> Result<Self, String> {
        let mut settings = Reader {
            kind,
            settings,
            known: Vec::new(),
        };
        let fault = match kind {
            "crash" => Self::Crash {
                how: match settings.text("how").unwrap_or("exit") {
                    "exit" => Crash::Exit,
                    "abort" => Crash::Abort,
                    "segv" => Crash::Segv,
                    "kill" => Crash::Kill,
                    other => {
                        return Err(format!(
                            "how={other} is unknown; there are exit, abort, segv, kill"
                        ));
                    }
                },
            },
            "leak" => Self::Leak {
                mib_per_s: settings.number("mib_per_s", 200, &(1..=4096))?,
                max_mib: settings.number("max_mib", LEAK_LIMIT_MIB, &(1..=LEAK_LIMIT_MIB))?,
            },
            "spin" => Self::Spin {
                threads: settings.number("threads", 1, &(1..=SPIN_LIMIT_THREADS))?,
            },
            "hang" => Self::Hang {
                deaf: settings.number("deaf", 0, &(0..=1))? == 1,
            },
            "refuse" => Self::Refuse,
            "errors" => Self::Errors {
                ratio: settings.number("ratio", 0.5, &(0.0..=1.0))?,
            },
            "none" => Self::None,
            other => {
                return Err(format!(
                    "fault {other:?} is unknown; there are {}",
                    Self::NAMES.join(", ")
                ));
            }
        };
        settings.finish()?;
        Ok(fault)
    }
}

/// Reads options and remembers which ones there are, so that a misspelt one is found.
struct Reader<'a> {
    kind: &'a str,
    settings: &'a Settings,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.known.push(key);
        self.settings.get(key).map(String::as_str)
    }

    fn number<T>(
        &mut self,
        key: &'static str,
        default: T,
        bounds: &RangeInclusive<T>,
    ) -> Result<T, String>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|value| bounds.contains(value))
            .ok_or_else(|| {
                let (least, most) = (bounds.start(), bounds.end());
                format!("{key}={text} is not a number from {least} to {most}")
            })
    }

    fn finish(self) -> Result<(), String> {
        let unknown = self
            .settings
            .keys()
            .find(|key| !self.known.contains(&key.as_str()));
        match unknown {
            None => Ok(()),
            Some(key) if self.known.is_empty() => Err(format!(
                "fault {} has no option {key:?}; it takes none",
                self.kind
            )),
            Some(key) => Err(format!(
                "fault {} has no option {key:?}; it takes {}",
                self.kind,
                self.known.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, settings: &[(&str, &str)]) -> Result<Fault, String> {
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Fault::parse(kind, &settings)
    }

    #[test]
    fn every_name_works_without_options() {
        for name in Fault::NAMES {
            assert!(parse(name, &[]).is_ok(), "{name}");
        }
    }

    #[test]
    fn options_are_read() {
        assert_eq!(
            parse("leak", &[("mib_per_s", "50"), ("max_mib", "300")]),
            Ok(Fault::Leak {
                mib_per_s: 50,
                max_mib: 300
            })
        );
        assert_eq!(
            parse("crash", &[("how", "segv")]),
            Ok(Fault::Crash { how: Crash::Segv })
        );
        assert_eq!(
            parse("errors", &[("ratio", "0.25")]),
            Ok(Fault::Errors { ratio: 0.25 })
        );
    }

    #[test]
    fn what_is_out_of_bounds_or_unknown_is_refused_and_explained() {
        for (kind, settings, says) in [
            ("leak", [("max_mib", "2049")], "from 1 to 2048"),
            ("spin", [("threads", "0")], "from 1 to 64"),
            ("errors", [("ratio", "NaN")], "from 0 to 1"),
            ("crash", [("how", "politely")], "exit, abort, segv, kill"),
            ("leak", [("rate", "1")], "mib_per_s, max_mib"),
            ("refuse", [("how", "exit")], "takes none"),
            ("melt", [("how", "exit")], "crash, leak, spin"),
        ] {
            let error = parse(kind, &settings).unwrap_err();
            assert!(error.contains(says), "{kind}: {error}");
        }
    }
}
