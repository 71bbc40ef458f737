//! From findings to incidents: one for each condition on a subject, after it has held for as long as it must, until it has been gone for
//! as long as it must.

use super::{Clearing, Engine, Order, Pending};
use crate::detectors;
use crate::model::incident::StepKind;
use crate::model::{Evidence, Finding, Incident, IncidentId, Plan, Severity, Subject, Time};
use crate::policy::ConditionRule;

/// Most findings that wait to become incidents, and as many more of what the configuration names.
const PENDING: usize = 1024;
/// The step of an incident whose process a guard in the kernel killed.
const KILLED_IN_KERNEL: &str = "SIGKILL sent in the kernel";

impl Engine {
    pub(super) fn handle(
        &mut self,
        found: &mut Vec<(&'static str, Finding)>,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        for (detector, finding) in found.drain(..) {
            self.take_finding(detector, finding, now, orders);
        }
    }

    pub(super) fn take_finding(
        &mut self,
        detector: &'static str,
        finding: Finding,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        match finding {
            Finding::Raised {
                subject,
                severity,
                evidence,
            } => self.raised(detector, subject, severity, evidence, now, orders),
            Finding::Cleared {
                subject,
                seen,
                because,
            } => self.cleared(detector, &subject, seen, because, now, orders),
        }
    }

    /// The `[[condition]]` that is for this.
    fn condition_of(&self, detector: &str, subject: &Subject) -> Option<&ConditionRule> {
        let name = subject.configured_name();
        self.settings.conditions.iter().find(|rule| {
            rule.detector == detector
                && rule
                    .on
                    .iter()
                    .any(|on| on == "*" || Some(on.as_str()) == name)
        })
    }

    fn raised(
        &mut self,
        detector: &'static str,
        subject: Subject,
        severity: Severity,
        evidence: Evidence,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let rule = self.condition_of(detector, &subject);
        let severity = rule.and_then(|rule| rule.severity).unwrap_or(severity);
        if let Some(id) = self.book.find(detector, &subject) {
            return self.raised_again(id, severity, evidence, now, orders);
        }
        let hold = rule.map(|rule| rule.hold).unwrap_or_default();
        if hold.is_zero() {
            // It may have waited under a rule that is gone by now.
            if !self.pending.is_empty() {
                self.pending.remove(&(detector, subject.clone()));
            }
            return self.open(detector, subject, severity, evidence, now, orders);
        }
        // As in the book: strangers cannot take the room of what the configuration names.
        let own = if subject.configured_name().is_some() {
            PENDING
        } else {
            0
        };
        let key = (detector, subject);
        if let Some(pending) = self.pending.get_mut(&key) {
            if severity > pending.severity {
                pending.severity = severity;
                pending.evidence = evidence;
            }
        } else if self.pending.len() < PENDING + own {
            let due = evidence.seen.after(hold);
            let pending = Pending {
                due,
                severity,
                evidence,
            };
            self.pending.insert(key, pending);
        } else {
            self.counts.forgotten += 1;
        }
    }

    fn raised_again(
        &mut self,
        id: IncidentId,
        severity: Severity,
        evidence: Evidence,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let came_back = self.clearing.remove(&id).is_some();
        if let Some(act) = self.acts.get_mut(&id) {
            act.cleared = None;
            // After the act, that ends the wait for its proof.
            act.raised = Some(evidence.since);
        }
        let seen = evidence.seen;
        let worse = self.book.change(id, |incident| {
            if came_back {
                incident.flaps = incident.flaps.saturating_add(1);
                incident.step(
                    evidence.seen,
                    StepKind::Again,
                    "it had not been gone for long",
                );
            }
            let worse = severity > incident.severity;
            let killed = evidence.killed_in_kernel && !incident.evidence.killed_in_kernel;
            if killed {
                incident.step(evidence.seen, StepKind::Acted, KILLED_IN_KERNEL);
            }
            if worse || killed {
                incident.severity = severity.max(incident.severity);
                incident.evidence = Evidence {
                    frozen: incident.evidence.frozen.take(),
                    ..evidence
                };
            }
            worse
        });
        self.changed |= came_back;
        if worse == Some(true)
            && let Some(act) = self.acts.get_mut(&id)
        {
            act.grew = Some(seen);
        }
        self.judge(id, now, orders);
        // Nothing was decided while it was gone.
        if worse == Some(true) || came_back {
            self.decide(id, now, orders);
        }
    }

    fn open(
        &mut self,
        detector: &'static str,
        subject: Subject,
        severity: Severity,
        evidence: Evidence,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        if !self.book.has_room(&subject) {
            self.counts.forgotten += 1;
            return;
        }
        let id = self.book.number();
        let caused_by = self.cause(&subject, &evidence);
        let mut incident = Incident::new(id, detector, subject, severity, evidence, now);
        incident.caused_by = caused_by;
        incident.category = detectors::category(detector);
        let source = incident
            .evidence
            .probe
            .map_or("sample or check", monitor_common::Kind::name);
        incident.step(incident.evidence.seen, StepKind::Seen, source);
        incident.step(now, StepKind::Detected, detector);
        if incident.evidence.killed_in_kernel {
            let seen = incident.evidence.seen;
            incident.step(seen, StepKind::Acted, KILLED_IN_KERNEL);
        }
        incident.evidence.frozen = Some(Box::new(self.freeze(&incident)));
        self.count_opened(&incident, now);
        self.show_again(&incident.subject);
        self.counts.forgotten += self.book.insert(incident);
        self.changed = true;
        self.decide(id, now, orders);
    }

    /// The incident whose action, or whose guard in the kernel, ended the process that this evidence is about.
    fn cause(&self, subject: &Subject, evidence: &Evidence) -> Option<IncidentId> {
        let ended = evidence.process?;
        // Another trouble of a process that still runs does not follow from its end.
        let down = matches!(subject, Subject::Service { name }
            if self.world.services.get(name).is_some_and(|service| service.process != Some(ended)));
        let cause = self.acts.iter().find(|(_, act)| {
            let kills = matches!(&act.plan, Plan::KillProcess { process, .. } if *process == ended);
            down && kills
        });
        let guarded = || {
            let mut guarded = self.book.killed_in_kernel();
            guarded.find(|incident| incident.evidence.process == Some(ended))
        };
        cause
            .map(|(id, _)| *id)
            .or_else(|| guarded().map(|incident| incident.id))
    }

    fn cleared(
        &mut self,
        detector: &'static str,
        subject: &Subject,
        seen: Time,
        because: String,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        if !self.pending.is_empty() {
            self.pending.remove(&(detector, subject.clone()));
        }
        let Some(id) = self.book.find(detector, subject) else {
            return;
        };
        let rule = self.condition_of(detector, subject);
        let keep = rule.map(|rule| rule.keep_firing_for).unwrap_or_default();
        if keep.is_zero() {
            return self.gone(id, seen, because, now, orders);
        }
        let clearing = Clearing {
            due: seen.after(keep),
            seen,
            because,
        };
        self.clearing.entry(id).or_insert(clearing);
    }

    /// The condition of an incident is gone, for long enough.
    fn gone(
        &mut self,
        id: IncidentId,
        seen: Time,
        because: String,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        if let Some(act) = self.acts.get_mut(&id) {
            // A command or a repair that has helped is let come to its end; what ends or deletes has nothing left to be done for.
            let needless = matches!(
                act.plan,
                Plan::KillProcess { .. } | Plan::CleanFolder { .. }
            );
            let why = format!("no longer needed: {because}");
            act.cleared = Some((seen, because));
            if needless {
                self.call_off(id, &why);
            }
            self.judge(id, now, orders);
        } else {
            self.resolve(id, None, seen, &because, orders);
        }
    }

    /// What has held, or has been gone, for long enough by now.
    pub(super) fn settle(&mut self, now: Time, orders: &mut Vec<Order>) {
        if self.pending.values().any(|pending| pending.due <= now) {
            let due = self.pending.extract_if(.., |_, pending| pending.due <= now);
            for ((detector, subject), pending) in due.collect::<Vec<_>>() {
                self.open(
                    detector,
                    subject,
                    pending.severity,
                    pending.evidence,
                    now,
                    orders,
                );
            }
        }
        if self.clearing.values().any(|clearing| clearing.due <= now) {
            let due = self
                .clearing
                .extract_if(.., |_, clearing| clearing.due <= now);
            for (id, clearing) in due.collect::<Vec<_>>() {
                self.gone(id, clearing.seen, clearing.because, now, orders);
            }
        }
    }

    /// When [`Engine::settle`] has something to do.
    pub(super) fn settles(&self) -> Option<Time> {
        let pending = self.pending.values().map(|pending| pending.due);
        let clearing = self.clearing.values().map(|clearing| clearing.due);
        pending.chain(clearing).min()
    }
}
