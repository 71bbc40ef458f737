//! What a step says happens, as signals and findings for the core.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::expect::Wrong;
use super::super::step::{Becomes, Input, On, Word};
use super::Scene;
use crate::model::{
    CheckResult, Evidence, Finding, Incident, Request, Sample, ServiceSignal, Severity, Signal,
    Silence,
};

impl Scene {
    /// Something happens.
    pub(in crate::policy_test) fn input(
        &mut self,
        input: &Input,
        effects: Option<Becomes>,
    ) -> Result<(), Wrong> {
        self.set_effects(effects);
        match input {
            Input::Started(name) => self.start(name),
            Input::Exited(name, status) => return self.exit(name, *status),
            Input::StartFailed(service, reason) => {
                let reason = reason.clone();
                self.service(service, ServiceSignal::StartFailed { reason });
            }
            Input::Raised {
                detector,
                on,
                severity,
                facts,
            } => return self.raise(detector, on, *severity, facts),
            Input::Cleared {
                detector,
                on,
                because,
            } => return self.clear(detector, on, because),
            Input::Check {
                service,
                check,
                failure,
                latency,
            } => self.signal(&Signal::Check {
                result: CheckResult {
                    check: check.clone(),
                    ..CheckResult::new(service, *latency, failure.clone())
                },
            }),
            Input::Load(load) => self.signal(&Signal::Sample {
                sample: Sample::Load { load: *load },
            }),
            Input::Lost(probe, lost) => self.signal(&Signal::Loss {
                probe: *probe,
                lost: *lost,
            }),
            Input::Clock(unix_ns) => self.signal(&Signal::Sample {
                sample: Sample::Clock { unix_ns: *unix_ns },
            }),
            Input::Word {
                word,
                on,
                detector,
                by,
            } => return self.word(*word, on, detector.as_deref(), by),
            Input::Asked {
                action,
                on,
                rule,
                by,
            } => {
                let request = Request::Act {
                    action: action.clone(),
                    subject: self.subject(on),
                    rule: rule.clone(),
                    dry_run: false,
                };
                self.person(by, request);
            }
            Input::Lifted { on, detector, by } => return self.lift(on, detector.as_deref(), by),
            Input::Silence {
                on,
                time,
                detector,
                by,
                reason,
            } => self.silence(on, *time, detector.clone(), by, reason),
            Input::Unsilence(on, by) => return self.unsilence(on, by),
        }
        Ok(())
    }

    fn exit(&mut self, name: &str, status: u32) -> Result<(), Wrong> {
        let running = self.view.services.get(name);
        let process = running.and_then(|view| view.service.process);
        let process = process.ok_or_else(|| Wrong {
            expected: format!("that {name} runs"),
            happened: "it does not: nothing has started it".to_owned(),
        })?;
        self.end(process, name, status);
        Ok(())
    }

    fn raise(
        &mut self,
        detector: &str,
        on: &On,
        severity: Severity,
        facts: &BTreeMap<String, String>,
    ) -> Result<(), Wrong> {
        let subject = self.subject(on);
        let mut evidence = Evidence::at(self.now);
        if let Some((process, comm)) = self.process_of(&subject) {
            evidence = evidence.about(process, &comm);
        }
        for (name, value) in facts {
            evidence = evidence.fact(name, value);
        }
        let finding = Finding::Raised {
            subject,
            severity,
            evidence,
        };
        self.find(detector, finding)
    }

    fn clear(&mut self, detector: &str, on: &On, because: &str) -> Result<(), Wrong> {
        let open = self.newest(on, Some(detector));
        let open = open.filter(|incident| !incident.is_over());
        let subject = open.map(|incident| incident.subject.clone());
        let subject = subject.ok_or_else(|| Wrong {
            expected: format!("an open incident of {detector} on {on}"),
            happened: "there is none that could clear".to_owned(),
        })?;
        let finding = Finding::Cleared {
            subject,
            seen: self.now,
            because: because.to_owned(),
        };
        self.find(detector, finding)
    }

    fn word(&mut self, word: Word, on: &On, detector: Option<&str>, by: &str) -> Result<(), Wrong> {
        let about = |incident: &&Incident| {
            on.is(&incident.subject)
                && detector.is_none_or(|detector| detector == incident.detector)
                && (word == Word::Acknowledge || incident.proposed.is_some())
        };
        let incidents = self.engine.open_incidents().filter(about);
        let incident = incidents.map(|incident| incident.id).max();
        let incident = incident.ok_or_else(|| Wrong {
            expected: format!("something of {on} that a person can speak about"),
            happened: self.last_word(on, detector),
        })?;
        let request = match word {
            Word::Approve => Request::Approve { incident },
            Word::Reject => Request::Reject { incident },
            Word::Acknowledge => Request::Acknowledge { incident },
        };
        self.person(by, request);
        Ok(())
    }

    fn lift(&mut self, on: &On, detector: Option<&str>, by: &str) -> Result<(), Wrong> {
        let about = |incident: &Incident| {
            on.is(&incident.subject) && detector.is_none_or(|name| name == incident.detector)
        };
        let held = self.engine.held().filter(about);
        let incident = held.map(|incident| incident.id).max();
        let incident = incident.ok_or_else(|| Wrong {
            expected: format!("something done to {on} that is in force"),
            happened: self.last_word(on, detector),
        })?;
        self.person(by, Request::Undo { incident });
        Ok(())
    }

    fn silence(
        &mut self,
        on: &str,
        time: Duration,
        detector: Option<String>,
        by: &str,
        reason: &str,
    ) {
        self.last_silence += 1;
        let silence = Silence {
            id: self.last_silence,
            on: on.to_owned(),
            detector,
            until: self.now.after(time),
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        self.silences.push((silence.id, on.to_owned()));
        self.person(by, Request::Silence { silence });
    }

    fn unsilence(&mut self, on: &str, by: &str) -> Result<(), Wrong> {
        let (ended, rest) = std::mem::take(&mut self.silences)
            .into_iter()
            .partition(|(_, name)| name == on);
        self.silences = rest;
        let ended: Vec<(u64, String)> = ended;
        if ended.is_empty() {
            return Err(Wrong {
                expected: format!("a silence on {on}"),
                happened: "no step before this one asks for it".to_owned(),
            });
        }
        for (id, _) in ended {
            self.person(by, Request::Unsilence { id });
        }
        Ok(())
    }

    fn person(&mut self, by: &str, request: Request) {
        let by = by.to_owned();
        self.signal(&Signal::Person { by, request });
    }
}
