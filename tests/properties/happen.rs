//! What happens to the core beside what supervisors and checks say: connections, samples, findings, people, effects.

use std::time::Duration;

use monitor_common::flow::{AF_INET, TCP};
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::{Event, Flow, Kind};
use smart_monitor::model::{
    Effect, EffectResult, Evidence, Finding, IncidentId, Plan, ProcessUsage, Request, Sample,
    Severity, Signal, Silence, Subject, Whole,
};

use super::play::{PROTECTED_PID, Play, key, task};
use super::setup::{COMMS, DETECTORS, NAMED, port, service_name};

impl Play<'_> {
    pub(super) fn silence(&mut self, on: usize, time: u64) -> Result<(), String> {
        self.silences = (self.silences + 1) % 3;
        let silence = Silence {
            id: self.silences,
            on: self.setup().name(on),
            detector: None,
            until: self.now.after(Duration::from_secs(time)),
            by: "ann".to_owned(),
            reason: "moving house".to_owned(),
        };
        self.keeper
            .silences
            .insert(silence.id, (silence.on.clone(), silence.until));
        self.person(Request::Silence { silence })
    }

    pub(super) fn connects(&mut self, from: usize, to: usize, well: bool) -> Result<(), String> {
        let from = self
            .keeper
            .runs
            .get(&self.name(from))
            .copied()
            .unwrap_or(key(78));
        let peer_port = port(to % self.setup().services.len());
        let mut peer_address = [0; 16];
        peer_address[..4].copy_from_slice(&[127, 0, 0, 1]);
        self.kernel(|header| {
            Event::TcpConnect(TcpConnect {
                header,
                task: task(from),
                flow: Flow {
                    local_address: [0; 16],
                    peer_address,
                    local_port: 40_000,
                    peer_port,
                    family: AF_INET,
                    protocol: TCP,
                },
                latency_ns: 20_000,
                error: if well { 0 } else { 111 },
                retransmits: 0,
                rtt_us: 0,
                drops: 0,
                drop_class: 0,
                reset: 0,
                elsewhere: 0,
            })
        })
    }

    pub(super) fn runs_away(&mut self, pid: u8, comm: usize, seconds: u64) -> Result<(), String> {
        let pid = [1, PROTECTED_PID, 801, 802, 803, 804][usize::from(pid)];
        for _ in 0..=seconds {
            let cpu_ns = self.cpu.entry(pid).or_default();
            *cpu_ns += 1_000_000_000;
            let usage = ProcessUsage {
                process: key(pid),
                comm: COMMS[comm].to_owned(),
                cpu_ns: *cpu_ns,
                resident: 1 << 20,
                major_faults: 0,
                run_delay_ns: 0,
                blocked: Vec::new(),
            };
            let sample = Sample::Processes {
                processes: vec![usage],
            };
            self.feed(&Signal::Sample { sample })?;
            self.pass(Duration::from_secs(1))?;
        }
        Ok(())
    }

    pub(super) fn found(&mut self, detector: usize, who: usize, what: u8) -> Result<(), String> {
        let services = self.setup().services.len();
        let (subject, process) = if who < services {
            let name = service_name(who);
            let process = self.keeper.runs.get(&name).copied();
            (Subject::Service { name }, process)
        } else {
            let at = (who - services) % COMMS.len();
            let process = key(900 + u32::try_from(at).unwrap_or_default());
            let named = at < NAMED && self.setup().batch.is_some();
            let subject = Subject::Process {
                process,
                comm: COMMS[at].to_owned(),
                group: named.then(|| "batch".to_owned()),
            };
            (subject, Some(process))
        };
        let seen = self.now;
        let mut evidence = Evidence::at(seen)
            .from_probe(Kind::TcpConnect)
            .since(seen.before(Duration::from_secs(1)));
        evidence.process = process;
        let severity = if what < 2 {
            Severity::Warning
        } else {
            Severity::Critical
        };
        let finding = if what == 4 {
            let because = "it is gone".to_owned();
            Finding::Cleared {
                subject,
                seen,
                because,
            }
        } else {
            Finding::Raised {
                subject,
                severity,
                evidence,
            }
        };
        self.ask(None, |engine, orders| {
            let known = engine.find(DETECTORS[detector], finding.clone(), seen, orders);
            assert_eq!(known, Ok(()));
        })
    }

    /// The effect of an act that is under way, told truly, falsely, for another one, or twice.
    pub(super) fn effect(&mut self, which: usize, how: u8, lie: u8) -> Result<(), String> {
        let flights = self.keeper.flights.len().max(1);
        let flight = self.keeper.flights.iter().nth(which % flights);
        let Some((id, flight)) = flight.map(|(id, flight)| (*id, flight.clone())) else {
            return self
                .told
                .clone()
                .map_or(Ok(()), |effect| self.feed(&Signal::Effect { effect }));
        };
        let (changes, result) = match how {
            0..=5 => (
                true,
                EffectResult::Done {
                    detail: String::new(),
                },
            ),
            6 => (
                false,
                EffectResult::Failed {
                    reason: "no program".to_owned(),
                },
            ),
            _ => (
                false,
                EffectResult::Refused {
                    reason: "another process".to_owned(),
                },
            ),
        };
        if changes && how < 4 {
            match &flight.plan {
                Plan::RestartService { service, .. } => self.start(service, 255)?,
                Plan::KillProcess { process, .. }
                | Plan::KillCgroup {
                    whole: Whole { process, .. },
                    ..
                } => {
                    let name = self.keeper.runs.iter().find(|(_, runs)| *runs == process);
                    if let Some(name) = name.map(|(name, _)| name.clone()) {
                        self.exit(&name)?;
                    }
                }
                // Of no consequence here, or in no rule of these tests.
                _ => {}
            }
        }
        let undo = (changes && how % 2 == 1).then(|| Plan::RestorePriority {
            process: key(if how == 5 { 1 } else { 900 }),
            comm: "x".to_owned(),
            nice: Vec::new(),
        });
        let effect = Effect {
            incident: if lie == 5 { IncidentId(id.0 + 1) } else { id },
            action: if lie == 6 { "another" } else { flight.action }.to_owned(),
            acted: changes.then_some(self.now),
            finished: self.now,
            result,
            verified: None,
            undo,
        };
        if let Some(effect) = self.told.replace(effect.clone()).filter(|_| lie == 7) {
            self.feed(&Signal::Effect { effect })?;
        }
        self.feed(&Signal::Effect { effect })
    }
}
