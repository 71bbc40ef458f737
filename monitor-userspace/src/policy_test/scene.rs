//! The core, its time, and a host that is made up: what becomes of its acts is what the test says.

mod inputs;
mod pretend;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::expect::Wrong;
use super::step::{Becomes, On, Test};
use super::story::Story;
use crate::config::Config;
use crate::engine::{Engine, Order, Settings};
use crate::model::{
    Finding, Incident, IncidentId, Plan, ProcessKey, Sample, Signal, Subject, Time, View,
};

/// How long an act takes.
const ACT: Duration = Duration::from_millis(10);
/// Least time between two wakings of a core that asks to be woken in the past.
const PACE: Duration = Duration::from_millis(1);
/// Most wakings in a test.
const WAKES: u32 = 200_000;
/// The first process id that is given.
const PIDS: u32 = 1000;

/// An act that the core ordered.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) at: Duration,
    pub(super) action: &'static str,
    pub(super) incident: IncidentId,
    pub(super) detector: String,
    pub(super) subject: Subject,
    pub(super) rule: String,
    /// It changes back what an act before it changed.
    pub(super) undo: bool,
    /// A step expected it.
    pub(super) expected: bool,
}

/// An act whose end is to come.
#[derive(Debug)]
struct Due {
    at: Time,
    incident: IncidentId,
    action: &'static str,
    plan: Plan,
    becomes: Becomes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scene {
    engine: Engine,
    begin: Time,
    now: Time,
    ticked: Time,
    wakes: u32,
    view: View,
    becomes: Becomes,
    due: VecDeque<Due>,
    acts: Vec<Act>,
    story: Story,
    next_pid: u32,
    /// Made-up processes of `[[process]]` entries, by entry.
    processes: BTreeMap<String, ProcessKey>,
    /// Silences that were asked for: their numbers, and what for.
    silences: Vec<(u64, String)>,
    last_silence: u64,
}

impl Scene {
    pub(super) fn new(config: &Config, test: &Test) -> Self {
        let mut policy = config.policy.clone();
        policy.dry_run = test.dry_run.unwrap_or(policy.dry_run);
        let settings = Settings {
            detectors: config.detectors.clone(),
            policy,
            remedies: config.remedies.clone(),
            conditions: config.conditions.clone(),
            services: config.services.clone(),
            named: config.named.clone(),
            groups: config.groups.clone(),
            folders: config.folders.clone(),
            protected_pids: vec![1],
            networks: config.networks.clone(),
            probes_off: Vec::new(),
        };
        let begin = Time::default().after(test.uptime);
        let mut scene = Self {
            engine: Engine::new(settings, IncidentId(1)),
            begin,
            now: begin,
            ticked: begin,
            wakes: 0,
            view: View::default(),
            becomes: test.effects,
            due: VecDeque::new(),
            acts: Vec::new(),
            story: Story::default(),
            next_pid: PIDS,
            processes: BTreeMap::new(),
            silences: Vec::new(),
            last_silence: 0,
        };
        let unix_ns = test.start;
        scene.signal(&Signal::Sample {
            sample: Sample::Clock { unix_ns },
        });
        scene
    }

    /// Time passes until so long after the begin: the core is woken when it wants to be, and acts come to their ends.
    pub(super) fn pass(&mut self, until: Duration) -> Result<(), Wrong> {
        let end = self.begin.after(until);
        loop {
            let due = self.due.front().map(|due| due.at);
            // It may want to be woken in the past, which is soon.
            let wake = self.engine.wake().map(|wake| {
                if wake <= self.ticked {
                    self.ticked.after(PACE)
                } else {
                    wake
                }
            });
            let Some(next) = due
                .into_iter()
                .chain(wake)
                .min()
                .filter(|next| *next <= end)
            else {
                break;
            };
            self.wakes += 1;
            if self.wakes > WAKES {
                return Err(Wrong {
                    expected: format!("that the core is woken at most {WAKES} times"),
                    happened: "it asks for more; use steps that are closer together".to_owned(),
                });
            }
            self.now = self.now.max(next);
            if due == Some(next) {
                self.end_act();
            } else {
                self.tick();
            }
        }
        self.now = end;
        self.tick();
        Ok(())
    }

    /// From here on, this becomes of acts.
    pub(super) fn set_effects(&mut self, effects: Option<Becomes>) {
        self.becomes = effects.unwrap_or(self.becomes);
    }

    fn find(&mut self, detector: &str, finding: Finding) -> Result<(), Wrong> {
        let mut orders = Vec::new();
        let found = self.engine.find(detector, finding, self.now, &mut orders);
        self.take(orders);
        found.map_err(|error| Wrong {
            expected: format!("that the detector {detector} is on"),
            happened: error,
        })
    }

    fn signal(&mut self, signal: &Signal) {
        let mut orders = Vec::new();
        self.engine.observe(signal, self.now, self.now, &mut orders);
        self.take(orders);
    }

    fn tick(&mut self) {
        let mut orders = Vec::new();
        self.ticked = self.now;
        self.engine.tick(self.now, &mut orders);
        self.take(orders);
    }

    fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            let Order::Execute { permit, incident } = order else {
                continue;
            };
            let granted = permit.grounds();
            let known = incident.rule.clone().unwrap_or_default();
            self.acts.push(Act {
                at: self.elapsed(),
                action: permit.action(),
                incident: incident.id,
                detector: incident.detector.clone(),
                subject: incident.subject.clone(),
                rule: if granted.rule.is_empty() {
                    known
                } else {
                    granted.rule.clone()
                },
                undo: granted.undo,
                expected: false,
            });
            if self.becomes != Becomes::Nothing {
                self.due.push_back(Due {
                    at: self.now.after(ACT),
                    incident: permit.incident(),
                    action: permit.action(),
                    plan: permit.plan().clone(),
                    becomes: self.becomes,
                });
            }
        }
        if self.engine.changed() {
            self.engine.show(&mut self.view);
            let at = self.elapsed();
            for incident in self.view.incidents.values() {
                self.story.incident(at, incident);
            }
        }
    }

    /// Adds a line to the story.
    pub(super) fn says(&mut self, text: &str) {
        let at = self.elapsed();
        self.story.line(at, text);
    }

    /// Since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.now.since(self.begin)
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.story.lines()
    }

    pub(super) fn acts(&self) -> &[Act] {
        &self.acts
    }

    pub(super) fn acts_mut(&mut self) -> &mut [Act] {
        &mut self.acts
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The newest incident on a subject, one that is not over before one that is.
    pub(super) fn newest(&self, on: &On, detector: Option<&str>) -> Option<&Incident> {
        let incidents = self.view.incidents.values().rev().filter(|incident| {
            on.is(&incident.subject) && detector.is_none_or(|name| name == incident.detector)
        });
        let mut over = None;
        for incident in incidents {
            if !incident.is_over() {
                return Some(incident);
            }
            over = over.or(Some(incident));
        }
        over
    }

    /// Where the newest incident on a subject stands, in words.
    pub(super) fn last_word(&self, on: &On, detector: Option<&str>) -> String {
        let Some(incident) = self.newest(on, detector) else {
            let of = detector
                .map(|name| format!(" of {name}"))
                .unwrap_or_default();
            return format!("there is no incident{of} on {on}");
        };
        let last = incident.steps.last();
        let last = last.map(|step| format!("; last: {}: {}", step.what.name(), step.detail));
        format!(
            "incident {} ({} of {}) is {}{}{}",
            incident.id,
            incident.detector,
            incident.subject,
            incident.state.name(),
            incident
                .outcome
                .map(|outcome| format!(", {}", outcome.name()))
                .unwrap_or_default(),
            last.unwrap_or_default()
        )
    }
}
