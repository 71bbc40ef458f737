//! What may be permitted, kept in books of its own: it reads the configuration as it was written, and what was told to the core.

use std::collections::BTreeMap;
use std::time::Duration;

use smart_monitor::model::{
    Effect, EffectResult, Incident, IncidentId, Plan, ProcessKey, Proposed, Severity, Subject, Time,
};
use smart_monitor::policy::{PROTECTED, Permit};

use super::setup::{ACTIONS, COMMS, DETECTORS, Limits, NAMED, RuleSetup, Setup};

/// An act of which no effect was told yet.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) action: &'static str,
    pub(crate) plan: Plan,
    pub(crate) granted: Time,
    subject: Subject,
}

/// What holds at the moment of a permit.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    pub(crate) at: Time,
    pub(crate) limits: &'a Limits,
    pub(crate) setup: &'a Setup,
    /// What waited for a person's word before this signal.
    pub(crate) proposed: &'a BTreeMap<IncidentId, Proposed>,
    /// The incident for which this very signal is a person's word.
    pub(crate) approves: Option<IncidentId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// The process of each service, and the one it had last.
    pub(crate) runs: BTreeMap<String, ProcessKey>,
    pub(crate) last: BTreeMap<String, ProcessKey>,
    pub(crate) silences: BTreeMap<u64, (String, Time)>,
    pub(crate) halted: bool,
    pub(crate) flights: BTreeMap<IncidentId, Flight>,
    /// What effects said would change the host back.
    offered: Vec<(IncidentId, Plan)>,
    /// When the host was last changed for an incident.
    pub(crate) acted: BTreeMap<IncidentId, Time>,
    /// Acts by action and name, and which it was that an incident saw last.
    acts: BTreeMap<(&'static str, String), Vec<Time>>,
    latest: BTreeMap<IncidentId, (&'static str, String)>,
    fixed: BTreeMap<(&'static str, String), Time>,
    host: Vec<Time>,
    pair: Vec<Time>,
}

macro_rules! must {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}
pub(crate) use must;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Keeper {
    /// An effect was told, truly or not.
    pub(crate) fn tell(&mut self, effect: &Effect) {
        let of = self.flights.get(&effect.incident);
        if of
            .is_none_or(|flight| flight.action != effect.action || effect.finished < flight.granted)
        {
            return;
        }
        self.flights.remove(&effect.incident);
        if let EffectResult::Done { .. } = effect.result {
            self.acted
                .insert(effect.incident, effect.acted.unwrap_or(effect.finished));
        }
        if let Some(plan) = &effect.undo {
            self.offered.push((effect.incident, plan.clone()));
        }
    }

    /// An incident was proven to be mended.
    pub(crate) fn mended(&mut self, id: IncidentId, at: Time) {
        if let Some(target) = self.latest.get(&id) {
            self.fixed.insert(target.clone(), at);
        }
    }

    /// Takes a permit, or says what is wrong with it.
    pub(crate) fn permit(
        &mut self,
        permit: &Permit,
        incident: &Incident,
        now: &Now<'_>,
    ) -> Result<(), String> {
        let (id, plan) = (permit.incident(), permit.plan());
        must!(
            incident.id == id && (!incident.is_over() || permit.grounds().undo),
            "not for an open incident"
        );
        must!(!self.halted, "the journal cannot be written");
        must!(
            !self.flights.contains_key(&id),
            "an act for the same incident is under way"
        );
        must!(permit.granted() == now.at, "granted at another time");
        self.touches_only_its_own(plan, incident)?;
        if permit.grounds().undo {
            let offered = self
                .offered
                .iter()
                .any(|(of, offered)| *of == id && offered == plan);
            must!(offered, "nobody offered to undo so");
        } else {
            must!(incident.suppressed_by.is_none(), "it is suppressed");
            self.allowed(permit, incident, now)?;
            self.within_limits(permit, incident, now)?;
        }
        let flight = Flight {
            action: permit.action(),
            plan: plan.clone(),
            granted: now.at,
            subject: incident.subject.clone(),
        };
        self.flights.insert(id, flight);
        Ok(())
    }

    fn touches_only_its_own(&self, plan: &Plan, incident: &Incident) -> Result<(), String> {
        if let Some(process) = plan.process() {
            must!(
                process.pid > 2 && process.pid != 500,
                "{process} is never touched"
            );
        }
        match (plan, &incident.subject) {
            (
                Plan::KillProcess { process, .. } | Plan::LowerPriority { process, .. },
                Subject::Service { name },
            ) => {
                must!(
                    self.runs.get(name) == Some(process),
                    "{process} is not what {name} runs as"
                );
            }
            (
                Plan::KillProcess { process, comm, .. } | Plan::LowerPriority { process, comm, .. },
                Subject::Process {
                    process: of,
                    comm: name,
                    ..
                },
            ) => {
                must!(
                    process == of && comm == name,
                    "another process than the subject"
                );
                let protected = PROTECTED.contains(&&**comm) || comm == "helper";
                must!(!protected, "{comm} is protected");
            }
            (
                Plan::RestartService {
                    service, process, ..
                },
                Subject::Service { name },
            ) => {
                must!(service == name, "another service than the subject");
                must!(
                    self.last.get(name) == process.as_ref(),
                    "not the process it had last"
                );
            }
            (Plan::RestorePriority { .. }, _) => {}
            (plan, subject) => return Err(format!("{plan:?} is nothing to do to {subject}")),
        }
        Ok(())
    }

    /// The rules, dry runs, silences, waits and people that allow it.
    fn allowed(&self, permit: &Permit, incident: &Incident, now: &Now<'_>) -> Result<(), String> {
        let (setup, id) = (now.setup, incident.id);
        let name = name(incident)?;
        if let Subject::Process { comm, .. } = &incident.subject {
            must!(COMMS[..NAMED].contains(&&**comm), "{comm} is not named");
        }
        let named = setup
            .named(&name)
            .ok_or_else(|| format!("{name} is not configured"))?;
        let covers = |rule: &&RuleSetup| {
            let on = setup.name(rule.on);
            let severe = rule.warning || incident.severity == Severity::Critical;
            DETECTORS[rule.detector] == incident.detector && (on == "*" || on == name) && severe
        };
        let at = setup
            .rules
            .iter()
            .position(|rule| covers(&rule))
            .ok_or("no rule allows it")?;
        let rule = &setup.rules[at];
        must!(
            permit.grounds().rule == Setup::rule_name(at),
            "not by the first rule that is for it"
        );
        let step = |(action, _): &(usize, u32)| ACTIONS[*action] == permit.action();
        must!(rule.ladder.iter().any(step), "no step of the rule");
        must!(
            !setup.dry_run && !rule.dry_run && !named.dry_run,
            "in a dry run"
        );
        must!(
            now.at >= incident.opened.after(seconds(rule.hold)),
            "before its `for` is over"
        );
        let patience = named.healer.unwrap_or_default();
        must!(
            now.at >= incident.opened.after(seconds(patience)),
            "the healer has time left"
        );
        let silenced = self
            .silences
            .values()
            .any(|(on, until)| (on == "*" || *on == name) && now.at < *until);
        must!(!silenced, "it is silenced");
        let by = permit.grounds().by.as_deref();
        must!(rule.approval.is_none() || by.is_some(), "nobody was asked");
        if by.is_some() {
            let proposed = now.proposed.get(&id).ok_or("it was not proposed")?;
            must!(
                now.approves == Some(id) && by == Some("ann"),
                "nobody has said so"
            );
            must!(
                proposed.plan == *permit.plan(),
                "something else was proposed"
            );
            must!(
                proposed.action == permit.action(),
                "another action was proposed"
            );
            must!(now.at < proposed.until, "the word came too late");
        }
        Ok(())
    }

    /// What is counted.
    fn within_limits(
        &mut self,
        permit: &Permit,
        incident: &Incident,
        now: &Now<'_>,
    ) -> Result<(), String> {
        let (limits, at, name) = (now.limits, now.at, name(incident)?);
        // What a kill of ours brings about is not held up by it.
        let others = self
            .flights
            .iter()
            .filter(|(other, _)| Some(**other) != incident.caused_by);
        must!(
            others.clone().count() < limits.concurrent,
            "too many at one time"
        );
        for (other, flight) in others {
            must!(
                flight.subject != incident.subject,
                "incident {other} is at the same subject"
            );
        }
        must!(
            recent(&self.host, seconds(3_600), at) < limits.host,
            "too many on the host"
        );
        let in_pair =
            (0..now.setup.services.len().min(2)).any(|s| super::setup::service_name(s) == name);
        if let Some((most, within)) = now.setup.group.filter(|_| in_pair) {
            must!(
                recent(&self.pair, seconds(within), at) < most,
                "too many in the group"
            );
            self.pair.push(at);
        }
        let target = (permit.action(), name);
        let acts = self.acts.entry(target.clone()).or_default();
        if let Some(last) = acts.last() {
            let (reset, gap) = (seconds(limits.reset), at.since(*last));
            let fixed = self.fixed.get(&target);
            let stayed_well = fixed.is_some_and(|fixed| incident.opened.since(*fixed) >= reset);
            let tried_again = gap >= seconds(limits.half_open);
            let most = recent(acts, seconds(limits.window), at) < limits.limit;
            must!(
                most || stayed_well || tried_again,
                "the target was given up"
            );
            if incident.opened.since(*last) < reset {
                let together = acts
                    .windows(2)
                    .rev()
                    .take_while(|two| two[1].since(two[0]) < reset);
                let doubled = seconds(limits.initial << together.count().min(20));
                must!(
                    gap >= doubled.min(seconds(limits.max)),
                    "{gap:?} after the act before"
                );
            }
        }
        acts.push(at);
        self.host.push(at);
        self.fixed.remove(&target);
        self.latest.insert(incident.id, target);
        Ok(())
    }
}

fn recent(times: &[Time], window: Duration, now: Time) -> usize {
    times.iter().filter(|at| now.since(**at) < window).count()
}

fn name(incident: &Incident) -> Result<String, String> {
    match &incident.subject {
        Subject::Service { name } => Ok(name.clone()),
        Subject::Process {
            group: Some(group), ..
        } => Ok(group.clone()),
        other => Err(format!("{other} has no name")),
    }
}
