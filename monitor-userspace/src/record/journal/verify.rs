//! Whether a journal is whole: the chain of its sums, over all generations.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::chain::{self, Sum};
use super::entry::{Entry, Line};
use super::read::{Place, Shape, Stored};

/// Most places that are named.
const PLACES: usize = 1000;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What all of it comes to.
    pub verdict: Verdict,
    /// Whole lines.
    pub lines: u64,
    /// Those without a sum from before the chain began: an older version wrote them, or somebody put them there or took their sums.
    pub unchecked: u64,
    /// Where the chain is broken, oldest first; at most 1000 of them.
    pub breaks: Vec<Break>,
    /// How many more.
    pub more_breaks: u64,
    /// The last line has no end: it is being written, or the writing was cut short.
    pub torn: bool,
    /// How many generations came before the first line and are gone (too old, or deleted).
    pub generations_gone: u64,
    /// The last sum. With it written down elsewhere, it shows later whether everything up to here is still what it was.
    pub last: Option<String>,
}

/// What a check of the chain comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no line to check.
    #[default]
    Nothing,
    /// Every line has a sum, which follows from the line before.
    Whole,
    /// The chain is not broken, but lines before its beginning have no sums.
    Unchecked,
    /// It is broken somewhere.
    Broken,
}

/// A place where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The file's name within the state folder.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: &'static str,
}

const NO_SUM: &str = "it has no sum, and lines before it have: it was inserted or damaged, or an older version wrote it";
const ODD_SUM: &str = "its sum does not stand where a sum is written: the line was changed";
const UNREADABLE: &str = "it cannot be read: it was damaged or put there";
const NO_BEGINNING: &str = "the lines before it are missing, or their sums are";
const NOT_NEXT: &str = "its sum does not follow from the line before: it was changed or inserted, or lines before it were changed, removed or moved";
const TOO_LONG: &str = "it is longer than any line that is written";
const CUT: &str = "it has no end, and more was written after it";

/// Checks the whole chain.
pub fn verify(stored: &Stored) -> std::io::Result<Report> {
    let mut chain = Chain::of(stored);
    stored.each(|place, line| {
        chain.line(place, line, false);
        std::ops::ControlFlow::Continue(())
    })?;
    chain.end(stored)
}

/// What every line has, whichever version wrote it.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "unix_ns")]
    _unix_ns: i64,
    #[serde(rename = "monotonic_ns")]
    _monotonic_ns: i64,
    #[serde(rename = "entry")]
    _entry: String,
    sum: Option<IgnoredAny>,
}

impl Head {
    /// None when the line cannot be read.
    fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// A walk along the chain.
#[derive(Default)]
pub(super) struct Chain {
    report: Report,
    /// What is read does not begin with the journal's beginning: whatever the first sum follows from is not there to be checked.
    within: bool,
    /// Sum of the last line that has one.
    last: Option<Sum>,
    /// When that one was not what it should be, the one before: what follows from this is good again.
    good: Option<Sum>,
}

impl Chain {
    pub(super) fn of(stored: &Stored) -> Self {
        Self {
            within: stored.is_cut(),
            ..Self::default()
        }
    }

    /// Takes the next line. `reads` says that it is known to be one that can be read.
    pub(super) fn line(&mut self, place: Place<'_>, line: &[u8], reads: bool) {
        if place.shape == Shape::Torn && place.current {
            self.report.torn = true;
            return;
        }
        self.report.lines += 1;
        match place.shape {
            Shape::Whole => {}
            Shape::Torn => return self.broken(place, CUT),
            Shape::TooLong => return self.broken(place, TOO_LONG),
        }
        let Some((own, sum)) = chain::split(line) else {
            match Head::of(line) {
                None => self.broken(place, UNREADABLE),
                Some(head) if head.sum.is_some() => self.broken(place, ODD_SUM),
                Some(_) if self.last.is_some() => self.broken(place, NO_SUM),
                Some(_) => self.report.unchecked += 1,
            }
            return;
        };
        if !reads && Head::of(line).is_none() {
            self.broken(place, UNREADABLE);
        }
        let Some(last) = self.last else {
            self.last = Some(sum);
            if !self.within && !self.begins(line, own, sum) {
                self.broken(place, NO_BEGINNING);
            }
            return;
        };
        let follows = |before: Sum| before.then(own) == sum;
        if follows(last) || self.good.is_some_and(follows) {
            self.good = None;
        } else {
            self.good = self.good.or(Some(last));
            self.broken(place, NOT_NEXT);
        }
        self.last = Some(sum);
    }

    /// Whether this may be the first line with a sum: the very first of all, or the first of a generation and of what is left.
    fn begins(&mut self, line: &[u8], own: &[u8], sum: Sum) -> bool {
        if Sum::NONE.then(own) == sum {
            return true;
        }
        let entry = serde_json::from_slice::<Line>(line).map(|line| line.entry);
        let Ok(Entry::Continued { generation, after }) = entry else {
            return false;
        };
        self.report.generations_gone = generation;
        let after = after.parse::<Sum>();
        self.report.lines == 1 && after.is_ok_and(|after| after.then(own) == sum)
    }

    /// What was found, when there are no more lines.
    pub(super) fn end(mut self, stored: &Stored) -> std::io::Result<Report> {
        let report = &mut self.report;
        report.last = self.last.map(|sum| sum.to_string());
        report.verdict = if !report.breaks.is_empty() {
            Verdict::Broken
        } else if report.lines == 0 {
            Verdict::Nothing
        } else if report.unchecked > 0 {
            Verdict::Unchecked
        } else {
            Verdict::Whole
        };
        // Lines are counted from where the reading began.
        if self.within && !report.breaks.is_empty() {
            let (file, lines) = stored.passed_over()?;
            for at in report.breaks.iter_mut().filter(|at| at.file == file) {
                at.line = at.line.saturating_add(lines);
            }
        }
        Ok(self.report)
    }

    fn broken(&mut self, place: Place<'_>, what: &'static str) {
        if self.report.breaks.len() < PLACES {
            self.report.breaks.push(Break {
                file: place.file.to_owned(),
                line: place.line,
                what,
            });
        } else {
            self.report.more_breaks += 1;
        }
    }
}
