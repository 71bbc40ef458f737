//! Whether a journal is whole: the chain of its sums, over all generations.

use serde::Serialize;

use super::chain::{self, Sum};
use super::entry::{Entry, Line};
use super::read::{Place, Shape, Stored};

/// Most places that are named.
const PLACES: usize = 1000;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whole lines.
    pub lines: u64,
    /// Those without a sum from before the chain began: an older version wrote them.
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

/// A place where the chain is broken.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The file's name within the state folder.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl Report {
    /// Whether nothing is broken.
    pub fn is_whole(&self) -> bool {
        self.breaks.is_empty()
    }
}

const NO_SUM: &str = "it has no sum, and lines before it have: it was inserted or damaged, or an older version wrote it";
const NO_BEGINNING: &str = "the lines before it are missing, or their sums are";
const NOT_NEXT: &str = "its sum does not follow from the line before: it was changed or inserted, or lines before it were changed, removed or moved";
const TOO_LONG: &str = "it is longer than any line that is written";
const CUT: &str = "it has no end, and more was written after it";

/// Checks the whole chain.
pub fn verify(stored: &Stored) -> std::io::Result<Report> {
    let mut chain = Chain::default();
    stored.each(|place, line| {
        chain.line(place, line);
        std::ops::ControlFlow::Continue(())
    })?;
    chain.report.last = chain.last.map(|sum| sum.to_string());
    Ok(chain.report)
}

#[derive(Default)]
struct Chain {
    report: Report,
    /// Sum of the last line that has one.
    last: Option<Sum>,
    /// When that one was not what it should be, the one before: what follows from this is good again.
    good: Option<Sum>,
}

impl Chain {
    fn line(&mut self, place: Place<'_>, line: &[u8]) {
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
            if self.last.is_some() {
                self.broken(place, NO_SUM);
            } else {
                self.report.unchecked += 1;
            }
            return;
        };
        let Some(last) = self.last else {
            self.last = Some(sum);
            if !self.begins(line, own, sum) {
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
