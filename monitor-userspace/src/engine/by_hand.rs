//! What a person asks of a service without naming an action: repair it, keep its release as one to go back to, watch it closely.

use super::manual::Wish;
use super::{Engine, Order};
use crate::detectors::MANUAL;
use crate::model::{Outcome, Refusal, ServiceState, Subject, Time};

/// What stands in the story of such an incident.
const RESTORE_POINT: &str = "restore_point";
const WATCH: &str = "watch_after_release";
const REPAIR: &str = "repair";

impl Engine {
    /// Does what the rules provide: the step that is named, or the one that is next. It goes the way of every act on a person's word.
    pub(super) fn asked_to_repair(
        &mut self,
        by: &str,
        (service, step): (&str, Option<&str>),
        dry_run: bool,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let found = self.step_of(service, step);
        let (action, rule) = match &found {
            Some((action, rule)) => (action.as_str(), Some(rule.as_str())),
            // No rule has it: the refusal says so.
            None => (step.unwrap_or(REPAIR), None),
        };
        let wish = Wish {
            by,
            action,
            subject: &Subject::service(service),
            rule,
            dry_run,
        };
        self.wish(&wish, now, orders);
    }

    /// Action and rule of a step.
    fn step_of(&self, service: &str, step: Option<&str>) -> Option<(String, String)> {
        let subject = Subject::service(service);
        let open = self.book.open_on(&subject);
        let newest = open
            .filter(|it| it.detector != MANUAL)
            .max_by_key(|it| it.id);
        let detector = newest.map(|incident| incident.detector.as_str());
        let names = |on: &String| on == "*" || on == service;
        let own = self.rules.all().iter().filter(|it| it.on.iter().any(names));
        // Those for what is open first, then as they stand in the file.
        let mut rules: Vec<_> = own.collect();
        rules.sort_by_key(|rule| Some(rule.detector.as_str()) != detector);
        let first = rules.first()?;
        let number = step.map(|step| step.parse::<usize>().ok());
        match (step, number.flatten()) {
            (_, Some(number)) => {
                let rung = first.steps.get(number.checked_sub(1)?)?;
                Some((rung.action.clone(), first.name.clone()))
            }
            (Some(action), None) => {
                let has = rules
                    .iter()
                    .find(|rule| rule.steps.iter().any(|rung| rung.action == action));
                has.map(|rule| (action.to_owned(), rule.name.clone()))
            }
            (None, _) => {
                let next = newest.filter(|it| it.rule.as_deref() == Some(&first.name));
                let at = next.map_or(0, |incident| incident.rung);
                let at = usize::try_from(at).unwrap_or(0);
                let rung = first.steps.get(at).or_else(|| first.steps.last())?;
                Some((rung.action.clone(), first.name.clone()))
            }
        }
    }

    /// Keeps the release that a service runs as one to go back to, though it may not have run for long.
    pub(super) fn restore_point(
        &mut self,
        by: &str,
        service: &str,
        dry_run: bool,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let subject = Subject::service(service);
        let Some(id) = self.asked_for((by, RESTORE_POINT), subject, now) else {
            return;
        };
        let release = match self.to_keep(service) {
            Ok(release) => release,
            Err(reason) => {
                let refusal = Refusal {
                    guard: super::decide::PLAN.to_owned(),
                    reason,
                    retry_at: None,
                };
                return self.not_granted(id, refusal, now, orders);
            }
        };
        if dry_run {
            let line = format!("would have kept release {release} as one to go back to");
            return self.end_wish(id, Outcome::WouldHave, &line, now, orders);
        }
        self.keep_release(service, orders);
        let line = format!("release {release} is one to go back to");
        self.end_wish(id, Outcome::Fixed, &line, now, orders);
    }

    /// The release that a service runs, where that can be told and nothing is known to be wrong with it.
    fn to_keep(&self, service: &str) -> Result<String, String> {
        let known = self.world.services.get(service);
        let known = known.ok_or_else(|| format!("no service {service}"))?;
        let release = known.release.as_ref().ok_or_else(|| {
            format!("the configuration does not say how the releases of {service} are told: see `release` of a [[service]]")
        })?;
        let runs = release.known.runs.as_ref().ok_or_else(|| {
            let why = release
                .unknown
                .as_deref()
                .unwrap_or("it has not been started yet");
            format!("it is not known which release {service} runs: {why}")
        })?;
        // This very incident is open on it, too: it does not count.
        if !known.serves() {
            let state = self.state_of(known);
            let state = if state == ServiceState::Healthy {
                "not well"
            } else {
                state.name()
            };
            return Err(format!(
                "{service} is {state}: what does not serve is nothing to go back to"
            ));
        }
        Ok(runs.clone())
    }

    /// Says that a service is watched as after a release: its checks are, by whoever makes them.
    pub(super) fn watched_closely(
        &mut self,
        by: &str,
        service: &str,
        dry_run: bool,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let subject = Subject::service(service);
        let Some(id) = self.asked_for((by, WATCH), subject, now) else {
            return;
        };
        let known = self.world.services.get(service);
        let checks = known.into_iter().flat_map(|known| &known.checks);
        let phased = checks.filter(|(_, check)| !check.after_release.is_empty());
        let plan: Vec<String> = phased
            .map(|(name, check)| format!("{name}: {}", check.phases()))
            .collect();
        if plan.is_empty() {
            let refusal = Refusal {
                guard: super::decide::PLAN.to_owned(),
                reason: format!(
                    "no check of {service} says `after_release`: they are made as always"
                ),
                retry_at: None,
            };
            return self.not_granted(id, refusal, now, orders);
        }
        let plan = plan.join("; ");
        let (outcome, line) = if dry_run {
            (
                Outcome::WouldHave,
                format!("would have watched it from now on: {plan}"),
            )
        } else {
            (Outcome::Fixed, format!("watched from now on: {plan}"))
        };
        self.end_wish(id, outcome, &line, now, orders);
    }
}
