//! One core that is given recorded signals.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::ledger::{Key, Ledger};
use super::{Act, Decision, Side};
use crate::engine::{Engine, Order, Settings};
use crate::model::{Effect, EffectResult, Incident, IncidentId, Request, Signal, Time, View};

/// Most times that the core is woken between two signals.
const WAKES: usize = 1000;
/// A core that wants to be woken at once is woken after this, as by the daemon.
const SOONEST: Duration = Duration::from_millis(1);
/// Why an action is refused that nobody did.
const NOT_DONE: &str = "replay: it was not done in the recording";

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    side: Side,
    engine: Engine,
    /// How far time has come.
    last: Option<Time>,
    /// What incidents are about that are not over.
    open: BTreeMap<IncidentId, Key>,
    /// Actions under way that the recording has, too.
    doing: BTreeMap<IncidentId, &'static str>,
    /// Kept between signals.
    orders: Vec<Order>,
}

impl Run {
    pub(super) fn new(side: Side, settings: Settings, next: IncidentId) -> Self {
        Self {
            side,
            engine: Engine::new(settings, next),
            last: None,
            open: BTreeMap::new(),
            doing: BTreeMap::new(),
            orders: Vec::new(),
        }
    }

    pub(super) fn reconfigure(&mut self, settings: Settings) {
        self.engine.reconfigure(settings);
    }

    pub(super) fn halt(&mut self, reason: Option<String>) {
        self.engine.halt(reason);
    }

    pub(super) fn incidents(&mut self) -> Vec<Incident> {
        let mut view = View::default();
        self.engine.show(&mut view);
        view.incidents.into_values().collect()
    }

    /// The time until a signal passes as it did.
    pub(super) fn pass_time(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        decided: &mut Vec<Decision>,
    ) {
        for _ in 0..WAKES {
            let Some(wake) = self.engine.wake().filter(|wake| *wake < now) else {
                break;
            };
            let soonest = self.last.map_or(wake, |last| last.after(SOONEST));
            let at = wake.max(soonest);
            if at >= now {
                break;
            }
            self.last = Some(at);
            self.engine.tick(at, &mut self.orders);
            self.take_orders(at, ledger, decided);
        }
        self.last = self.last.max(Some(now));
    }

    /// Gives the core a signal, unless it speaks of what is not in this run.
    pub(super) fn give(
        &mut self,
        signal: &Signal,
        at: Time,
        now: Time,
        ledger: &mut Ledger,
        decided: &mut Vec<Decision>,
    ) {
        let Some(signal) = self.translate(signal, ledger) else {
            return;
        };
        self.engine.observe(&signal, at, now, &mut self.orders);
        self.take_orders(now, ledger, decided);
    }

    fn translate<'a>(&mut self, signal: &'a Signal, ledger: &Ledger) -> Option<Cow<'a, Signal>> {
        if ledger.is_own(self.side) {
            return Some(Cow::Borrowed(signal));
        }
        let translated = match signal {
            Signal::Effect { effect } => {
                let incident = self.own(effect.incident, ledger)?;
                let doing = self.doing.get(&incident);
                doing.filter(|action| **action == effect.action)?;
                self.doing.remove(&incident);
                let effect = Effect {
                    incident,
                    ..effect.clone()
                };
                Signal::Effect { effect }
            }
            Signal::Person { by, request } => {
                let own = |incident: &IncidentId| self.own(*incident, ledger);
                let request = match request {
                    Request::Approve { incident } => Request::Approve {
                        incident: own(incident)?,
                    },
                    Request::Reject { incident } => Request::Reject {
                        incident: own(incident)?,
                    },
                    Request::Acknowledge { incident } => Request::Acknowledge {
                        incident: own(incident)?,
                    },
                    other => other.clone(),
                };
                Signal::Person {
                    by: by.clone(),
                    request,
                }
            }
            other => return Some(Cow::Borrowed(other)),
        };
        Some(Cow::Owned(translated))
    }

    /// The open incident of this run that is about the same as that one of the recording.
    fn own(&self, recorded: IncidentId, ledger: &Ledger) -> Option<IncidentId> {
        let key = ledger.named(recorded)?;
        let mut open = self.open.iter().rev();
        open.find(|(_, own)| *own == key).map(|(id, _)| *id)
    }

    fn take_orders(&mut self, at: Time, ledger: &mut Ledger, decided: &mut Vec<Decision>) {
        for _ in 0..WAKES {
            let mut orders = std::mem::take(&mut self.orders);
            if orders.is_empty() {
                return;
            }
            let mut refused = Vec::new();
            for order in orders.drain(..) {
                let (incident, act) = match order {
                    Order::Releases { .. } => continue,
                    Order::Record(incident) => (incident, None),
                    Order::Execute { permit, incident } => {
                        let rule = permit.grounds().rule.clone();
                        (incident, Some((permit.action(), rule)))
                    }
                };
                self.note(&incident, ledger);
                let act = act.map(|(action, rule)| {
                    let recorded = self.done_for(&incident, action, ledger);
                    if recorded.is_none() {
                        refused.push(not_done(incident.id, action, at));
                    }
                    Act {
                        action,
                        rule,
                        recorded,
                    }
                });
                decided.push(Decision {
                    side: self.side,
                    at,
                    incident,
                    act,
                });
            }
            self.orders = orders;
            for effect in refused {
                let signal = Signal::Effect { effect };
                self.engine.observe(&signal, at, at, &mut self.orders);
            }
        }
    }

    fn note(&mut self, incident: &Incident, ledger: &mut Ledger) {
        if ledger.is_own(self.side) {
            ledger.name(incident.id, &incident.detector, &incident.subject);
        }
        if incident.is_over() {
            self.open.remove(&incident.id);
            self.doing.remove(&incident.id);
        } else {
            let key = || Key::new(&incident.detector, &incident.subject);
            self.open.entry(incident.id).or_insert_with(key);
        }
    }

    fn done_for(
        &mut self,
        incident: &Incident,
        action: &'static str,
        ledger: &mut Ledger,
    ) -> Option<IncidentId> {
        if ledger.is_own(self.side) {
            ledger.ordered(incident.id, action);
        }
        let key = Key::new(&incident.detector, &incident.subject);
        let recorded = ledger.done_for(self.side, &key, action)?;
        self.doing.insert(incident.id, action);
        Some(recorded)
    }
}

/// What became of an action that was not done.
fn not_done(incident: IncidentId, action: &str, at: Time) -> Effect {
    Effect {
        incident,
        action: action.to_owned(),
        acted: None,
        finished: at,
        result: EffectResult::Refused {
            reason: NOT_DONE.to_owned(),
        },
        verified: None,
        undo: None,
    }
}
