//! What is expected of each kernel, in `tests/kernel-matrix.json`: the probes that are off there, and what each program costs the
//! verifier. The kernel refuses a program beyond a million instructions, so that growth is found long before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::kernels::series;
use super::report::{Report, State};

const FILE: &str = "tests/kernel-matrix.json";
/// How the daemon words a program that the verifier does not take.
const REFUSED: &str = "verifier refuses";
/// Growth that is let pass: a tenth, or so many instructions of a small program.
const SLACK: u64 = 100;
const HOW: &str = "(`cargo xtask vm --record` writes down what is measured; say why in the commit)";

/// By series.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record(BTreeMap<String, Expected>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    /// The kernel that it was measured on.
    kernel: String,
    off: Vec<String>,
    instructions: BTreeMap<String, u64>,
}

impl Record {
    pub(super) fn read(repo: &Path) -> Result<Self> {
        match std::fs::read_to_string(file(repo)) {
            Ok(text) => Self::parse(&text).with_context(|| format!("cannot read {FILE}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {FILE}")),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let whole: Map<String, Value> = serde_json::from_str(text)?;
        let parts = whole.iter().map(|(series, value)| {
            let part = Expected::of(value).with_context(|| format!("the part of {series}"))?;
            Ok((series.clone(), part))
        });
        Ok(Self(parts.collect::<Result<_>>()?))
    }

    fn render(&self) -> Result<String> {
        let parts = self.0.iter().map(|(series, expected)| {
            let Expected {
                kernel,
                off,
                instructions,
            } = expected;
            let part = json!({"kernel": kernel, "off": off, "instructions": instructions});
            (series.clone(), part)
        });
        let whole: Map<String, Value> = parts.collect();
        Ok(serde_json::to_string_pretty(&whole)? + "\n")
    }

    pub(super) fn write(&self, repo: &Path) -> Result<()> {
        let file = file(repo);
        std::fs::write(&file, self.render()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("vm: {FILE} is written");
        Ok(())
    }

    /// Takes what was measured as what is expected.
    pub(super) fn note(&mut self, report: &Report) {
        let is_off = |state: &State| matches!(state, State::Off { .. });
        let off = report.probes.iter().filter(|probe| is_off(&probe.state));
        let told = report.programs.iter();
        let expected = Expected {
            kernel: report.release.clone(),
            off: off.map(|probe| probe.name.clone()).collect(),
            instructions: told
                .filter_map(|(name, cost)| Some((name.clone(), (*cost)?)))
                .collect(),
        };
        self.0.insert(series(&report.release).to_owned(), expected);
    }

    /// What is wrong with an answer. The running kernel may be any, built in any way: of that one, nothing is recorded.
    pub(super) fn judge(&self, report: &Report, running: bool) -> Vec<String> {
        let series = series(&report.release);
        let expected = self.0.get(series).filter(|_| !running);
        let mut problems = Vec::new();
        if expected.is_none() && !running {
            problems.push(format!("nothing is recorded of {series} {HOW}"));
        }
        for probe in &report.probes {
            let name = &probe.name;
            let off = expected.map(|expected| expected.off.contains(name));
            match (&probe.state, off) {
                // Never a matter of what a kernel has: the program itself is at fault.
                (State::Off { reason }, _) if reason.contains(REFUSED) => {
                    problems.push(format!("{name} is off: {reason}"));
                }
                (State::Off { reason }, Some(false)) => {
                    problems.push(format!(
                        "{name} is off, and was on when it was recorded: {reason}"
                    ));
                }
                (State::Off { .. }, _) => {}
                (State::On { attach, event, .. }, _) => {
                    if off == Some(true) {
                        problems.push(format!("{name} is on, and recorded as off {HOW}"));
                    }
                    if let Err(error) = attach {
                        problems.push(format!("{name} does not attach: {error}"));
                    }
                    if let Err(error) = event {
                        problems.push(format!("{name}: {error}"));
                    }
                }
            }
        }
        for (name, outcome) in &report.scenes {
            if let Err(error) = outcome {
                problems.push(format!("{name}: {error}"));
            }
        }
        if let Some(expected) = expected {
            problems.extend(expected.costs(&report.programs));
        }
        problems
    }
}

impl Expected {
    fn of(value: &Value) -> Option<Self> {
        let off = value.get("off")?.as_array()?.iter();
        let costs = value.get("instructions")?.as_object()?.iter();
        Some(Self {
            kernel: value.get("kernel")?.as_str()?.to_owned(),
            off: off
                .map(|name| Some(name.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            instructions: costs
                .map(|(name, cost)| Some((name.clone(), cost.as_u64()?)))
                .collect::<Option<_>>()?,
        })
    }

    fn costs(&self, measured: &BTreeMap<String, Option<u64>>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unknown = Vec::new();
        for (name, cost) in measured {
            match (cost, self.instructions.get(name)) {
                (None, _) => problems.push(format!(
                    "{name} is loaded, and its verifier cost was not told"
                )),
                (Some(cost), None) => unknown.push(format!("{name} ({cost})")),
                (Some(cost), Some(before)) if *cost > before + (before / 10).max(SLACK) => {
                    problems.push(format!(
                        "{name} costs the verifier {cost} instructions, {before} when it was recorded {HOW}"
                    ));
                }
                (Some(_), Some(_)) => {}
            }
        }
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            problems.push(format!("no verifier cost is recorded of {names} {HOW}"));
        }
        problems
    }
}

fn file(repo: &Path) -> PathBuf {
    repo.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::report::Probe;

    fn on(name: &str) -> Probe {
        Probe {
            name: name.into(),
            state: State::On {
                without: vec![],
                attach: Ok(()),
                event: Ok(()),
            },
        }
    }

    fn off(name: &str) -> Probe {
        Probe {
            name: name.into(),
            state: State::Off {
                reason: "no hook".into(),
            },
        }
    }

    fn report(probes: Vec<Probe>, costs: &[(&str, Option<u64>)]) -> Report {
        Report {
            release: "6.1.176-cloud".into(),
            programs: costs
                .iter()
                .map(|(name, cost)| ((*name).into(), *cost))
                .collect(),
            probes,
            ..Report::default()
        }
    }

    fn recorded() -> Record {
        let mut record = Record::default();
        let costs = [("a", Some(500)), ("b", Some(50_000))];
        record.note(&report(vec![on("p"), off("q")], &costs));
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = recorded();
        assert_eq!(Record::parse(&record.render().unwrap()).unwrap(), record);
        assert!(Record::parse("{\"6.1\": {\"off\": []}}").is_err());
    }

    #[test]
    fn what_is_as_recorded_passes() {
        let costs = [("a", Some(600)), ("b", Some(55_000))];
        let same = report(vec![on("p"), off("q")], &costs);
        assert_eq!(recorded().judge(&same, false), Vec::<String>::new());
    }

    #[test]
    fn growth_and_what_is_not_known_fail() {
        let costs = [
            ("a", Some(601)),
            ("b", Some(55_001)),
            ("c", None),
            ("d", Some(1)),
            ("e", Some(2)),
        ];
        let problems = recorded().judge(&report(vec![on("p"), off("q")], &costs), false);
        let expected = [
            format!("a costs the verifier 601 instructions, 500 when it was recorded {HOW}"),
            format!("b costs the verifier 55001 instructions, 50000 when it was recorded {HOW}"),
            "c is loaded, and its verifier cost was not told".to_owned(),
            format!("no verifier cost is recorded of d (1), e (2) {HOW}"),
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_probe_that_was_on_must_not_be_off() {
        let problems = recorded().judge(&report(vec![off("p"), on("q")], &[]), false);
        let [was_on, was_off] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(was_on.starts_with("p is off, and was on"), "{was_on}");
        assert!(
            was_off.starts_with("q is on, and recorded as off"),
            "{was_off}"
        );
    }

    #[test]
    fn a_program_that_the_verifier_refuses_fails_whatever_is_recorded() {
        let mut refused = report(vec![on("p"), off("q")], &[]);
        let reason = "the kernel's verifier refuses its program: too many instructions";
        refused.probes[1].state = State::Off {
            reason: reason.into(),
        };
        for running in [true, false] {
            let problems = recorded().judge(&refused, running);
            assert_eq!(problems, [format!("q is off: {reason}")]);
        }
    }

    #[test]
    fn a_kernel_without_a_record_fails_unless_it_is_the_running_one() {
        let fresh = report(vec![on("p"), off("q")], &[("a", Some(1))]);
        let problems = Record::default().judge(&fresh, false);
        assert_eq!(problems, [format!("nothing is recorded of 6.1 {HOW}")]);
        assert_eq!(Record::default().judge(&fresh, true), Vec::<String>::new());
    }

    #[test]
    fn an_event_that_did_not_come_fails_on_every_kernel() {
        let mut silent = on("p");
        silent.state = State::On {
            without: vec![],
            attach: Ok(()),
            event: Err("no such event".into()),
        };
        let problems = Record::default().judge(&report(vec![silent], &[]), true);
        assert_eq!(problems, ["p: no such event"]);
    }
}
