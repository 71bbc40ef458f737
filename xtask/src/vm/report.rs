//! What a kernel answered: a line of JSON a probe and a program, between one that names the kernel and one that counts the others.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// A complete answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// As `uname -r` names the kernel.
    pub(super) release: String,
    /// Instructions that the verifier followed, by program; none where the kernel does not tell.
    pub(super) programs: BTreeMap<String, Option<u64>>,
    /// Loaded programs that nothing has made run.
    pub(super) idle: Vec<String>,
    /// In the order of their numbers.
    pub(super) probes: Vec<Probe>,
    /// What was done to processes and cgroups, and whether all of it held, or what went wrong.
    pub(super) scenes: Vec<(String, Result<(), String>)>,
    /// What scenes measured, by their names.
    pub(super) measured: BTreeMap<String, String>,
}

/// What a probe did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Off {
        reason: String,
    },
    On {
        /// Members that this kernel lacks.
        without: Vec<String>,
        /// What went wrong.
        attach: Result<(), String>,
        /// Whether its event came, or what went wrong.
        event: Result<(), String>,
    },
}

impl Report {
    /// The answer; what is cut off or does not add up is none.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        let mut end = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            ensure!(end.is_none(), "the answer goes on after its end: {line}");
            let value: Value = serde_json::from_str(line).with_context(|| {
                format!("no complete answer: a line of it is cut off or no JSON: {line}")
            })?;
            if let Some(release) = text_of(&value, "kernel") {
                report.release = release;
            } else if let Some(name) = text_of(&value, "program") {
                let cost = value.get("instructions").and_then(Value::as_u64);
                if value.get("runs").and_then(Value::as_u64) == Some(0) {
                    report.idle.push(name.clone());
                }
                report.programs.insert(name, cost);
            } else if let Some(name) = text_of(&value, "probe") {
                report.probes.push(Probe {
                    name,
                    state: State::of(&value).with_context(|| format!("not understood: {line}"))?,
                });
            } else if let Some(name) = text_of(&value, "scene") {
                let outcome = text_of(&value, "outcome");
                let outcome = outcome.with_context(|| format!("not understood: {line}"))?;
                if let Some(measured) = text_of(&value, "measured") {
                    report.measured.insert(name.clone(), measured);
                }
                report.scenes.push((name, result(outcome)));
            } else if let Some(counts) = value.get("end") {
                end = Some(counts.clone());
            } else {
                bail!("not understood: {line}");
            }
        }
        let counts = end.with_context(|| {
            let probes = report.probes.len();
            format!("no complete answer: {probes} probes were reported, and then nothing")
        })?;
        let told = |name| {
            counts
                .get(name)
                .and_then(Value::as_u64)
                .and_then(|count| usize::try_from(count).ok())
        };
        ensure!(
            told("probes") == Some(report.probes.len())
                && told("programs") == Some(report.programs.len())
                && told("scenes") == Some(report.scenes.len()),
            "no complete answer: {} probes, {} programs and {} scenes arrived of {counts}",
            report.probes.len(),
            report.programs.len(),
            report.scenes.len()
        );
        ensure!(!report.release.is_empty(), "the answer names no kernel");
        Ok(report)
    }
}

impl State {
    fn of(value: &Value) -> Option<Self> {
        if let Some(reason) = text_of(value, "off") {
            return Some(Self::Off { reason });
        }
        let without = value.get("without")?.as_array()?.iter();
        let event = text_of(value, "event")?;
        Some(Self::On {
            without: without
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            attach: result(text_of(value, "attach")?),
            event: result(event),
        })
    }
}

/// `ok`, or what went wrong.
fn result(text: String) -> Result<(), String> {
    if text == "ok" { Ok(()) } else { Err(text) }
}

fn text_of(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"kernel":"6.12.107+deb13-cloud-amd64"}
{"attach":"ok","event":"ok","on":"tp_btf/sched_process_fork","probe":"fork_storm","without":[]}
{"off":"no such hook","probe":"oom_kill"}
{"instructions":335,"program":"fork_storm","runs":160}
{"instructions":2,"program":"idler","runs":0}
{"scene":"freeze","outcome":"ok"}
{"scene":"limit","outcome":"it ran on"}
{"end":{"probes":2,"programs":2,"scenes":2}}
"#;

    #[test]
    fn a_complete_answer_is_read() {
        // A serial line ends its lines as a teleprinter does.
        let report = Report::parse(&ANSWER.replace('\n', "\r\n")).unwrap();
        assert_eq!(report.release, "6.12.107+deb13-cloud-amd64");
        assert_eq!(
            report.programs,
            BTreeMap::from([("fork_storm".into(), Some(335)), ("idler".into(), Some(2))])
        );
        assert_eq!(report.idle, ["idler"]);
        let bad = ("limit".to_owned(), Err("it ran on".to_owned()));
        assert_eq!(report.scenes, [("freeze".to_owned(), Ok(())), bad]);
        let states: Vec<&State> = report.probes.iter().map(|probe| &probe.state).collect();
        let on = State::On {
            without: vec![],
            attach: Ok(()),
            event: Ok(()),
        };
        let off = State::Off {
            reason: "no such hook".into(),
        };
        assert_eq!(states, [&on, &off]);
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_a_failure() {
        let whole = ANSWER.trim_end().len();
        for length in 0..whole {
            let cut = ANSWER.get(..length).unwrap();
            let error = format!("{:#}", Report::parse(cut).unwrap_err());
            assert!(error.contains("no complete answer"), "{length}: {error}");
        }
        assert!(Report::parse(ANSWER).is_ok());
    }

    #[test]
    fn a_lost_line_is_a_failure() {
        let lost: Vec<&str> = ANSWER
            .lines()
            .filter(|line| !line.contains("no such hook"))
            .collect();
        let error = Report::parse(&lost.join("\n")).unwrap_err().to_string();
        assert!(
            error.contains("1 probes, 2 programs and 2 scenes arrived"),
            "{error}"
        );
    }

    #[test]
    fn what_goes_wrong_is_kept() {
        let wrong = ANSWER.replace(r#""event":"ok""#, r#""event":"no such event""#);
        let report = Report::parse(&wrong).unwrap();
        let State::On { event, .. } = &report.probes[0].state else {
            panic!("on");
        };
        assert_eq!(event, &Err("no such event".to_owned()));
    }
}
