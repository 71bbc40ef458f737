//! Counting what test programs report.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Counts {
    /// Of one line of output: `test result: ok. 10 passed; 0 failed; 1 ignored; ...`; nothing of any other.
    pub(super) fn of_line(line: &str) -> Self {
        let mut counts = Self::default();
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return counts;
        };
        for part in numbers.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => counts.passed = number.parse().unwrap_or(0),
                Some((number, "failed")) => counts.failed = number.parse().unwrap_or(0),
                _ => {}
            }
        }
        counts
    }
}

/// Names of the tests that failed, from the list at the end of a test program's output.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_list: bool,
    pub(super) names: Vec<String>,
}

impl Failures {
    pub(super) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if line == "failures:" {
            self.in_list = true;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.in_list) {
            self.names.push(name.to_owned());
        } else if !line.is_empty() {
            // The first of the two parts with this title has the output of each.
            self.in_list = false;
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_all_programs() {
        let output = "\nrunning 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            Doc-tests x\ntest result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        let mut counts = Counts::default();
        for line in output.lines() {
            counts += Counts::of_line(line);
        }
        assert_eq!(counts.to_string(), "15 passed, 2 failed");
    }

    #[test]
    fn failed_tests_are_known_by_name() {
        let output = "test a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n    at x.rs\n\n---- c stdout ----\nx\n\n\n\
            failures:\n    a::b\n    c\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n    no name\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        assert_eq!(failures.names, ["a::b", "c"]);
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in ["", "test result", "test x ... ok", "3 passed; 1 failed"] {
            assert_eq!(Counts::of_line(line), Counts::default());
        }
    }
}
