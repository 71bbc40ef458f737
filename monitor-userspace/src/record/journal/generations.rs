//! The files of a journal: `journal.jsonl`, which is written, and older generations, `journal.1.jsonl` the youngest of them.
//!
//! Each older one moves up by one when the journal becomes the first. The steps are such that it can be cut short anywhere: what is left
//! to do shows in which numbers are free, and is done the next time. No step overwrites a file.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The one that is written.
pub(super) const CURRENT: &str = "journal.jsonl";

/// Name of an older generation.
pub(super) fn name(number: u64) -> String {
    format!("journal.{number}.jsonl")
}

/// Numbers of the older generations that are there, the youngest first.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal."))
            .and_then(|name| name.strip_suffix(".jsonl"))
            .and_then(|number| number.parse().ok());
        found.extend(
            number.filter(|number| *number > 0 && name.to_str() == Some(&self::name(*number))),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// A step on the way to a free number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This generation goes.
    Delete(u64),
    /// This generation moves up by one, to a number that is free.
    MoveUp(u64),
}

impl Step {
    /// Does it. Done before is good.
    pub(super) fn take(self, folder: &Path) -> io::Result<()> {
        let at = |number| -> PathBuf { folder.join(name(number)) };
        let done = match self {
            Self::Delete(number) => std::fs::remove_file(at(number)),
            Self::MoveUp(number) => std::fs::rename(at(number), at(number.saturating_add(1))),
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// What makes number 1 free, when these are taken and so many are kept.
pub(super) fn steps(taken: &[u64], keep: u64) -> Vec<Step> {
    let mut steps: Vec<_> = taken
        .iter()
        .rev()
        .copied()
        .filter(|number| *number > keep)
        .map(Step::Delete)
        .collect();
    let free = (1..=keep).find(|number| !taken.contains(number));
    let last = free.unwrap_or_else(|| {
        steps.push(Step::Delete(keep));
        keep
    });
    steps.extend((1..last).rev().map(Step::MoveUp));
    steps
}

/// Makes number 1 free.
pub(super) fn make_room(folder: &Path, keep: u64) -> io::Result<()> {
    for step in steps(&numbers(folder)?, keep) {
        step.take(folder)?;
        if let Step::Delete(number) = step {
            tracing::info!(
                file = name(number),
                "the oldest generation of the journal is deleted"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_in_steps_that_lose_no_more_than_they_must() {
        use Step::{Delete, MoveUp};
        assert_eq!(steps(&[], 3), []);
        assert_eq!(steps(&[1], 3), [MoveUp(1)]);
        assert_eq!(steps(&[1, 2], 3), [MoveUp(2), MoveUp(1)]);
        assert_eq!(steps(&[1, 2, 3], 3), [Delete(3), MoveUp(2), MoveUp(1)]);
        // Cut short before: the free number is where it stopped.
        assert_eq!(steps(&[1, 2], 2), [Delete(2), MoveUp(1)]);
        assert_eq!(steps(&[1, 3], 3), [MoveUp(1)]);
        assert_eq!(steps(&[2, 3], 3), []);
        // Fewer are kept than before.
        assert_eq!(
            steps(&[1, 2, 3, 4], 2),
            [Delete(4), Delete(3), Delete(2), MoveUp(1)]
        );
        assert_eq!(steps(&[1], 1), [Delete(1)]);
    }
}
