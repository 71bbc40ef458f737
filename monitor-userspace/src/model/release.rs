//! Releases of a service: where they lie, as configured; which one it runs, which have proven themselves, as learned.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ProcessKey, Time};

/// Most releases of a service that are remembered: those that proved healthy, and those that were rolled back from.
pub const RELEASES: usize = 10;
/// Longest name of a release, bytes.
pub const NAME: usize = 200;

/// How the release of a service is told, and changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// The commit that is checked out.
    Git {
        /// The checkout.
        path: PathBuf,
    },
    /// What a symbolic link leads to.
    Symlink {
        /// The link.
        path: PathBuf,
        /// The folder that every release is a folder in.
        releases: PathBuf,
    },
    /// The tag of a container image, in a file that the service's command reads.
    Container {
        /// The file, which holds the tag and nothing else.
        path: PathBuf,
        /// The image, without its tag.
        image: String,
        /// Ends with 0 when an image is there; `{image}` stands for it with its tag.
        inspect: Vec<String>,
    },
    /// What a command says.
    Command {
        /// Writes the release's name.
        current: Vec<String>,
        /// Changes to another one; `{release}` stands for its name.
        switch: Vec<String>,
    },
}

/// What the configuration says of a service's releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// How they are told and changed.
    #[serde(flatten)]
    pub source: Source,
    /// Run after each change, before the service is started: program and arguments; none when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Must end with 0, or nothing is rolled back: whether the data can still be read by an older release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema_check: Vec<String>,
    /// Must end with 0, or nothing is rolled back: whether there is a backup that is fresh enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backup_check: Vec<String>,
    /// The longest that each of these commands may take.
    pub limit: Duration,
    /// How long a release must run well before it counts as good.
    pub proven_after: Duration,
}

/// What is known of a service's releases. Remembered in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The process that `runs` was read for: a release counts as run from the service's start on.
    pub process: Option<ProcessKey>,
    /// The release that this process runs.
    pub runs: Option<String>,
    /// When the service first ran it, having run another before; none when none other is known.
    pub changed: Option<Time>,
    /// Releases that have proven healthy, the last one last; at most [`RELEASES`].
    pub good: Vec<String>,
    /// Releases that were rolled back from, the last one last: never a second time. At most [`RELEASES`].
    pub rolled_back: Vec<String>,
}

/// The releases of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// As configured.
    pub how: Releases,
    /// As learned.
    pub known: Known,
    /// Why it is not known which one it runs, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Release {
    /// Nothing is known yet.
    pub fn new(how: Releases) -> Self {
        Self {
            how,
            known: Known::default(),
            unknown: None,
        }
    }
}

impl Known {
    /// The service was started as this process, with this release in place. Whether that was news: the release of a process does not
    /// change while it runs, whatever is put into place meanwhile.
    pub fn started_with(&mut self, process: ProcessKey, release: &str, at: Time) -> bool {
        if self.process == Some(process) && self.runs.is_some() {
            return false;
        }
        self.process = Some(process);
        if self.runs.as_deref() != Some(release) {
            self.changed = self.runs.is_some().then_some(at);
            self.runs = Some(release.to_owned());
        }
        true
    }

    /// The release that runs has proven healthy; whether that is news.
    pub fn proven(&mut self) -> bool {
        match &self.runs {
            Some(runs) if self.good.last() != Some(runs) => {
                remember(&mut self.good, runs.clone());
                true
            }
            _ => false,
        }
    }

    /// This release was rolled back from.
    pub fn left(&mut self, release: &str) {
        remember(&mut self.rolled_back, release.to_owned());
    }

    /// The release to go back to from this one: the last one that proved healthy, and was not rolled back from itself.
    pub fn good_but(&self, from: &str) -> Option<&str> {
        let mut good = self.good.iter().rev().map(String::as_str);
        good.find(|good| *good != from && !self.rolled_back.iter().any(|left| left == good))
    }
}

/// Adds one as the last, in whatever place it was before; the first goes where there are too many.
fn remember(names: &mut Vec<String>, name: String) {
    names.retain(|known| *known != name);
    names.push(name);
    if names.len() > RELEASES {
        names.remove(0);
    }
}

/// Whether a text can be the name of a release: it stands in commands, paths and reports.
pub fn good_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic();
    let dots = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    !name.is_empty()
        && name.len() <= NAME
        && !name.starts_with('-')
        && name.chars().all(plain)
        && !dots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessKey {
        ProcessKey {
            pid,
            start_ticks: 1,
        }
    }

    #[test]
    fn a_process_runs_what_was_there_when_it_started() {
        let mut known = Known::default();
        let at = Time::from_nanos;
        assert!(known.started_with(process(1), "a", at(1)));
        assert_eq!((known.runs.as_deref(), known.changed), (Some("a"), None));
        assert!(!known.started_with(process(1), "b", at(2)));
        assert_eq!(known.runs.as_deref(), Some("a"));
        assert!(known.started_with(process(2), "a", at(3)));
        assert_eq!(known.changed, None, "another process of the same release");
        assert!(known.started_with(process(3), "b", at(4)));
        assert_eq!(known.changed, Some(at(4)));
        assert!(known.started_with(process(4), "b", at(5)));
        assert_eq!(known.changed, Some(at(4)));
    }

    #[test]
    fn the_last_good_one_that_is_another_and_was_not_left_is_gone_back_to() {
        let mut known = Known::default();
        for (pid, release) in [(1, "a"), (2, "b"), (3, "c")] {
            known.started_with(process(pid), release, Time::default());
            assert!(known.proven());
            assert!(!known.proven());
        }
        assert_eq!(known.good_but("d"), Some("c"));
        assert_eq!(known.good_but("c"), Some("b"));
        known.left("b");
        assert_eq!(known.good_but("c"), Some("a"));
        assert_eq!(Known::default().good_but("a"), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for number in 0..50 {
            known.started_with(process(number), &number.to_string(), Time::default());
            known.proven();
            known.left(&number.to_string());
        }
        assert_eq!(
            (known.good.len(), known.rolled_back.len()),
            (RELEASES, RELEASES)
        );
        assert_eq!(known.good.last().map(String::as_str), Some("49"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for good in ["v1.2", "20260102-1", "4f2a", "a/b"] {
            assert!(good_name(good), "{good}");
        }
        for bad in [
            "",
            "-rf",
            "..",
            "a/../b",
            "/a",
            "a\nb",
            "a b",
            "a/",
            &"x".repeat(201),
        ] {
            assert!(!good_name(bad), "{bad}");
        }
    }
}
