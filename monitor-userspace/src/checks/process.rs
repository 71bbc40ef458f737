//! `process = { memory = "512MiB" }`: what the kernel says of a service's processes: how many, how large, how busy, in which state.
//!
//! Those are the main process of the service and all that came of it, or all of one name (`comm`). Reads `/proc`, with a table of all
//! processes that checks share for a moment; details of at most `DETAILS` processes.

mod look;

use serde::Deserialize;

use super::alone::Alone;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::{Bytes, Percent, Span};
use crate::model::CheckFailure;
use look::{Before, Seen};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "process",
    summary: "a service's processes are there, and take no more than they may",
    serving: true,
    short: "comm",
    example: "process = { memory = \"512MiB\", cpu = \"90%\", open_files = \"80%\" }",
    read: read::<Process>,
};

/// Most processes of which threads and open files are counted.
const DETAILS: usize = 256;

/// `process = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    /// The name of the processes, as the kernel has it (15 characters at most); those of the service when none.
    comm: Option<String>,
    /// Fewest processes.
    #[serde(default = "one")]
    min: usize,
    /// Most processes.
    max: Option<usize>,
    /// Most CPU time of all of them together since the check before; 100% is one core.
    cpu: Option<Percent>,
    /// Most resident memory of all of them together.
    memory: Option<Bytes>,
    /// Most threads of all of them together.
    threads: Option<u64>,
    /// Most open files of any of them, as a share of how many it may have.
    open_files: Option<Percent>,
    /// The oldest is at least so old.
    min_age: Option<Span>,
    /// The oldest is at most so old.
    max_age: Option<Span>,
    /// States that the oldest may not be in: `Z` (ended, and not taken note of), `D` (waits, and cannot be interrupted), `T` (stopped).
    #[serde(default = "zombie")]
    not_state: Vec<char>,
    #[serde(skip)]
    before: Alone<Before>,
}

const fn one() -> usize {
    1
}

fn zombie() -> Vec<char> {
    vec!['Z']
}

/// Longest name that the kernel keeps of a process.
const COMM: usize = 15;

impl Settings for Process {
    fn sensible(self) -> Result<Self, String> {
        if let Some(comm) = &self.comm
            && (comm.is_empty() || comm.len() > COMM)
        {
            return Err(format!(
                "`comm` is 1 to {COMM} bytes, as `ps -o comm` shows it: the kernel keeps no more of a name"
            ));
        }
        if self.max.is_some_and(|max| max < self.min) {
            return Err("`max` must not be less than `min`".to_owned());
        }
        let ages = self.min_age.zip(self.max_age);
        if ages.is_some_and(|(min, max)| min > max) {
            return Err("`max_age` must not be less than `min_age`".to_owned());
        }
        if let Some(state) = self
            .not_state
            .iter()
            .find(|state| !"RSDZTtI".contains(**state))
        {
            return Err(format!(
                "`{state}` is no state of a process: `not_state = [\"Z\", \"D\"]`"
            ));
        }
        Ok(self)
    }
}

impl Check for Process {
    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        Box::pin(async move {
            let whose = match &self.comm {
                Some(comm) => look::Whose::Named(comm.clone()),
                None => match about.tools.running.process(&about.service) {
                    Some(process) => look::Whose::From(process),
                    None if self.min == 0 => return Ok(Answer::well().saying("it does not run")),
                    None => return Err(wrong("the service does not run, as far as is known")),
                },
            };
            let seen = self
                .before
                .block(move |before| Ok(look::look(&whose, before)))
                .await?;
            self.judge(&seen)
        })
    }
}

fn wrong(why: impl Into<String>) -> CheckFailure {
    CheckFailure::Answer(why.into())
}

impl Process {
    fn judge(&self, seen: &Seen) -> Result<Answer, CheckFailure> {
        let mut troubles = Vec::new();
        let count = seen.count;
        if count < self.min {
            troubles.push(format!("{count} processes, expected at least {}", self.min));
        }
        if let Some(max) = self.max.filter(|max| count > *max) {
            troubles.push(format!("{count} processes, expected at most {max}"));
        }
        if let Some(state) = seen.state.filter(|state| self.not_state.contains(state)) {
            troubles.push(format!(
                "process {} is in state {state} ({})",
                seen.oldest,
                look::state(state)
            ));
        }
        if let Some((cpu, most)) = seen.cpu.zip(self.cpu).filter(|(cpu, most)| *cpu > most.0) {
            troubles.push(format!("CPU {cpu:.0}%, expected at most {most}"));
        }
        if let Some(most) = self.memory.filter(|most| seen.resident > most.0) {
            let resident = seen.resident >> 20;
            troubles.push(format!("memory {resident}MiB, expected at most {most}"));
        }
        if let Some(most) = self.threads.filter(|most| seen.threads > *most) {
            troubles.push(format!("{} threads, expected at most {most}", seen.threads));
        }
        if let Some(files) = &seen.files
            && let Some(most) = self.open_files.filter(|most| files.percent() > most.0)
        {
            troubles.push(format!(
                "process {} has {} of {} open files, expected at most {most}",
                files.pid, files.open, files.limit
            ));
        }
        if let Some(age) = seen.age {
            if let Some(most) = self.max_age.filter(|most| age > most.0) {
                troubles.push(format!(
                    "it runs for {}, expected at most {most}",
                    Span::seconds(age.as_secs())
                ));
            }
            if let Some(least) = self.min_age.filter(|least| age < least.0) {
                troubles.push(format!(
                    "it runs for {}, expected at least {least}",
                    Span::seconds(age.as_secs())
                ));
            }
        }
        if !troubles.is_empty() {
            return Err(wrong(troubles.join("; ")));
        }
        Ok(seen.figures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Process, String> {
        toml::from_str::<Process>(text)
            .map_err(|error| error.to_string())?
            .sensible()
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "comm = \"\"",
            "comm = \"a-name-of-sixteen\"",
            "max = 0",
            "not_state = [\"X\"]",
            "min_age = \"2h\"\nmax_age = \"1h\"",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let process = settings("max = 1\ncpu = \"50%\"\nmemory = \"1MiB\"\nthreads = 2\nopen_files = \"80%\"\nmax_age = \"1h\"\nnot_state = [\"D\"]").expect("it makes sense");
        let mut seen = Seen {
            count: 1,
            resident: 1 << 20,
            threads: 2,
            cpu: Some(50.0),
            files: Some(look::Files {
                pid: 7,
                open: 8,
                limit: 10,
            }),
            age: Some(std::time::Duration::from_hours(1)),
            state: Some('S'),
            oldest: 7,
        };
        assert!(process.judge(&seen).is_ok());
        seen = Seen {
            count: 2,
            resident: 3 << 20,
            threads: 3,
            cpu: Some(51.0),
            state: Some('D'),
            ..seen
        };
        seen.files = Some(look::Files {
            pid: 7,
            open: 9,
            limit: 10,
        });
        seen.age = Some(std::time::Duration::from_secs(3601));
        let Err(CheckFailure::Answer(why)) = process.judge(&seen) else {
            panic!("all is wrong");
        };
        for part in [
            "2 processes, expected at most 1",
            "state D",
            "CPU 51%",
            "memory 3MiB",
            "3 threads",
            "9 of 10",
            "1h",
        ] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }
}
