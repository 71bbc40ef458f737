//! How the file answers trouble: `[[remedy]]` (consent), `[[condition]]` (when a finding becomes an incident), `[[group]]` (what must not
//! all be touched at once), and what a service depends on. As written, and as meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Config;
use super::resolve::Mistakes;
use super::units::{Percent, Span};
use crate::model::{Dependency, Healer, Named, Severity};
use crate::policy::calendar::{self, Calendar, Window};
use crate::policy::condition::Condition;
use crate::policy::history;
use crate::policy::{ConditionRule, Group, Remedy, Rung};
use crate::{actions, detectors};

/// Most rungs of a ladder.
const RUNGS: usize = 16;
/// The nice value of `lower_priority`, where nothing says one.
const NICE: i32 = 10;
/// Longest time that a rule may wait, or a person be waited for.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// `[[remedy]]`: consent to a ladder of actions for one condition on named subjects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRemedy {
    /// What it is called; `DETECTOR-N` for the Nth entry of the file when it is not given.
    pub name: Option<Spanned<String>>,
    /// The condition.
    pub detector: Spanned<String>,
    /// Names of services and `[[process]]` entries; `*` for every one that the file names.
    pub on: Vec<Spanned<String>>,
    /// The least severity it is done for.
    #[serde(default = "critical")]
    pub severity: Severity,
    /// The rule is only for incidents for which this holds (CEL).
    pub when: Option<Spanned<String>>,
    /// How long an incident must have been open before anything is done.
    #[serde(rename = "for")]
    pub hold: Option<Spanned<Span>>,
    /// Only say what would have been done.
    #[serde(default)]
    pub dry_run: bool,
    /// The one action, where there is no ladder; what stands beside it is that action's.
    pub action: Option<Spanned<String>>,
    /// How often it is tried before a person is called.
    pub attempts: Option<u32>,
    /// How long it has to show an effect.
    #[serde(default = "verify_within")]
    pub verify_within: Span,
    /// Time between SIGTERM and SIGKILL.
    #[serde(default = "term_grace")]
    pub term_grace: Span,
    /// The nice value that `lower_priority` gives, 1 to 19; 10 when it is not given.
    pub nice: Option<Spanned<i32>>,
    /// A person must allow it, within this time.
    pub approval: Option<Spanned<Span>>,
    /// After this time, what it changed is changed back.
    pub undo_after: Option<Spanned<Span>>,
    /// What is said to this action alone; see the catalogue.
    pub with: Option<Spanned<toml::Table>>,
    /// The ladder.
    #[serde(default)]
    pub step: Vec<RawStep>,
}

/// `[[remedy.step]]`: a rung. What is not given is as in the remedy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    /// What to do.
    pub action: Spanned<String>,
    /// It is passed over where this does not hold (CEL).
    pub when: Option<Spanned<String>>,
    /// How often it is tried before the next rung is: once, and the last rung as often as the limits allow.
    pub attempts: Option<u32>,
    /// How long it has to show an effect.
    pub verify_within: Option<Span>,
    /// Time between SIGTERM and SIGKILL.
    pub term_grace: Option<Span>,
    /// The nice value that `lower_priority` gives, 1 to 19.
    pub nice: Option<Spanned<i32>>,
    /// A person must allow it, within this time.
    pub approval: Option<Spanned<Span>>,
    /// After this time, what it changed is changed back: for actions that can be undone.
    pub undo_after: Option<Spanned<Span>>,
    /// What is said to this action alone; see the catalogue.
    pub with: Option<Spanned<toml::Table>>,
}

/// `[[condition]]`: when a finding becomes an incident, and when an incident is over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCondition {
    /// The detector.
    pub detector: Spanned<String>,
    /// Names of services and `[[process]]` entries; `*` for every subject.
    pub on: Vec<Spanned<String>>,
    /// How long it must hold before it becomes an incident.
    #[serde(default, rename = "for")]
    pub hold: Span,
    /// How long it must be gone before the incident is over.
    #[serde(default)]
    pub keep_firing_for: Span,
    /// The severity of the incident, whatever the detector says.
    pub severity: Option<Severity>,
}

/// `[[group]]`: subjects that must not all be touched at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// Its name.
    pub name: Spanned<String>,
    /// Names of services and `[[process]]` entries.
    pub members: Vec<Spanned<String>>,
    /// Most actions on all of them within `within`.
    pub max_acts: Option<u32>,
    /// See `max_acts`.
    #[serde(default = "hour")]
    pub within: Span,
    /// Most of them that may be out of service at once.
    pub max_share: Option<Spanned<Percent>>,
}

/// Who else repairs a service or a process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHealer {
    /// Who: `systemd`, `docker`, `pm2`, ...
    pub name: String,
    /// How long it is given before it counts as having given up.
    #[serde(default = "patience")]
    pub patience: Span,
}

fn critical() -> Severity {
    Severity::Critical
}

fn verify_within() -> Span {
    Span::seconds(10)
}

fn term_grace() -> Span {
    Span::seconds(5)
}

fn hour() -> Span {
    Span::seconds(3600)
}

fn patience() -> Span {
    Span::seconds(30)
}

/// What the file says of a name besides what it is.
pub(super) fn named(dry_run: bool, healer: Option<RawHealer>) -> Named {
    Named {
        dry_run,
        healer: healer.map(|healer| Healer {
            name: healer.name,
            patience: healer.patience.0,
        }),
    }
}

/// What services depend on: other services by name, or addresses. Known only when all services are.
pub(super) fn dependencies(
    written: &BTreeMap<String, Vec<Spanned<String>>>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    let names: BTreeSet<String> = config
        .services
        .iter()
        .map(|service| service.name.clone())
        .collect();
    for service in &mut config.services {
        for on in written.get(&service.name).into_iter().flatten() {
            let text = on.get_ref();
            if let Ok(address) = text.parse::<SocketAddr>() {
                service.depends_on.push(Dependency::Peer(address));
            } else if *text == service.name {
                let message = format!("service `{text}` cannot depend on itself");
                mistakes.add(on, message, None);
            } else if names.contains(text) {
                service.depends_on.push(Dependency::Service(text.clone()));
            } else {
                let names = names.iter().map(String::as_str);
                mistakes.unknown("service (or address, as in \"10.0.0.5:5432\")", on, names);
            }
        }
    }
}

fn condition(text: Option<Spanned<String>>, mistakes: &mut Mistakes) -> Option<Condition> {
    let text = text?;
    match Condition::compile(text.get_ref()) {
        Ok(condition) => Some(condition),
        Err(error) => {
            mistakes.add(&text, format!("`when` cannot be used: {error}"), None);
            None
        }
    }
}

fn span(at: Option<&Spanned<Span>>, mistakes: &mut Mistakes) -> Option<Duration> {
    let at = at?;
    let span = *at.get_ref();
    if span.0.is_zero() || span.0 > LONGEST {
        mistakes.add(
            at,
            format!("{span} is not more than nothing and at most 7 days"),
            None,
        );
    }
    Some(span.0)
}

fn detector(name: &Spanned<String>, mistakes: &mut Mistakes) {
    if name.get_ref() == detectors::MANUAL {
        return;
    }
    let known = detectors::ALL.iter().map(|spec| spec.name);
    if !known.clone().any(|known| known == name.get_ref()) {
        mistakes.unknown("detector", name, known);
    }
}

fn subjects(
    on: Vec<Spanned<String>>,
    names: &BTreeSet<String>,
    mistakes: &mut Mistakes,
) -> Vec<String> {
    for on in &on {
        if on.get_ref() != "*" && !names.contains(on.get_ref()) {
            mistakes.unknown("service or process", on, names.iter().map(String::as_str));
        }
    }
    on.into_iter().map(Spanned::into_inner).collect()
}

fn nice(at: Option<&Spanned<i32>>, mistakes: &mut Mistakes) -> i32 {
    let Some(at) = at else {
        return NICE;
    };
    if !(1..=19).contains(at.get_ref()) {
        let help = "19 is the last to get a CPU; 0 is what processes usually have".to_owned();
        mistakes.add(at, "`nice` must be 1 to 19".to_owned(), Some(help));
    }
    *at.get_ref()
}

/// What a step says to its action alone.
fn said_to(spec: &actions::Spec, step: &RawStep, mistakes: &mut Mistakes) {
    let none = toml::Table::new();
    let with = step.with.as_ref().map_or(&none, Spanned::get_ref);
    if let Err(why) = (spec.check)(with) {
        let help = Some(format!(
            "see {} in docs/actions.md for what it takes",
            spec.name
        ));
        let message = format!("{}: {why}", spec.name);
        match &step.with {
            Some(at) => mistakes.add(at, message, help),
            None => mistakes.add(&step.action, message, help),
        }
    }
    if step.undo_after.is_none() && actions::PASSING.contains(&spec.name) {
        let help = "for example `undo_after = \"1m\"`".to_owned();
        let message = format!(
            "{} needs `undo_after`: it must not last for ever",
            spec.name
        );
        mistakes.add(&step.action, message, Some(help));
    }
    if let Some(at) = step.undo_after.as_ref().filter(|_| !spec.reversible) {
        let message = format!("{} cannot be undone: `undo_after` means nothing", spec.name);
        mistakes.add(at, message, None);
    }
}

/// The rungs of a remedy: its steps, or the one action that stands for a ladder.
fn rungs(raw: &RawRemedy, mistakes: &mut Mistakes) -> Vec<Rung> {
    let one = raw.action.clone().map(|action| RawStep {
        action,
        when: None,
        attempts: raw.attempts,
        verify_within: None,
        term_grace: None,
        nice: None,
        approval: None,
        undo_after: raw.undo_after.clone(),
        with: raw.with.clone(),
    });
    if one.is_some() && !raw.step.is_empty() {
        let help = "the steps are the actions: take `action` away, or make it the first step";
        mistakes.add(
            &raw.detector,
            "a remedy has either `action` or steps".to_owned(),
            Some(help.to_owned()),
        );
    }
    let steps: Vec<RawStep> = one
        .into_iter()
        .chain(raw.step.iter().cloned())
        .take(RUNGS + 1)
        .collect();
    if steps.is_empty() {
        let help = "for example `action = \"restart_service\"`".to_owned();
        mistakes.add(
            &raw.detector,
            "a remedy needs `action`, or at least one [[remedy.step]]".to_owned(),
            Some(help),
        );
    }
    if steps.len() > RUNGS {
        mistakes.add(
            &raw.detector,
            format!("a remedy has at most {RUNGS} steps"),
            None,
        );
    }
    let last = steps.len().saturating_sub(1);
    let whole = span(raw.approval.as_ref(), mistakes);
    steps
        .into_iter()
        .enumerate()
        .map(|(at, step)| {
            if let Some(spec) = actions::find(step.action.get_ref()) {
                said_to(spec, &step, mistakes);
            } else {
                let known = actions::ALL.iter().map(|spec| spec.name);
                mistakes.unknown("action", &step.action, known);
            }
            if step.attempts == Some(0) {
                let help =
                    Some("leave the step out, or give it a `when` that does not hold".to_owned());
                mistakes.add(&step.action, "0 attempts are none".to_owned(), help);
            }
            Rung {
                action: step.action.get_ref().clone(),
                when: condition(step.when, mistakes),
                attempts: step.attempts.or((at < last).then_some(1)),
                verify_within: step.verify_within.unwrap_or(raw.verify_within).0,
                term_grace: step.term_grace.unwrap_or(raw.term_grace).0,
                nice: nice(step.nice.as_ref().or(raw.nice.as_ref()), mistakes),
                approval: span(step.approval.as_ref(), mistakes).or(whole),
                undo_after: span(step.undo_after.as_ref(), mistakes),
                with: step.with.map(Spanned::into_inner).unwrap_or_default(),
            }
        })
        .collect()
}

pub(super) fn remedy(
    raw: RawRemedy,
    number: usize,
    names: &BTreeSet<String>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    detector(&raw.detector, mistakes);
    let steps = rungs(&raw, mistakes);
    let settle = config.detectors.service_down.settle;
    let unchecked = config.services.iter().any(|service| !service.checked);
    let shortest = steps.iter().map(|step| step.verify_within).min();
    if raw.detector.get_ref() == "service_down"
        && unchecked
        && shortest.is_some_and(|within| within <= settle.0)
    {
        let message = format!(
            "`verify_within` must be longer than [detectors.service_down] settle ({settle}): a service without a check proves itself no sooner",
        );
        mistakes.add(&raw.detector, message, None);
    }
    let name = match &raw.name {
        Some(name) => name.get_ref().clone(),
        None => format!("{}-{number}", raw.detector.get_ref()),
    };
    if config.remedies.iter().any(|other| other.name == name) {
        let message = format!("two remedies are called `{name}`");
        match &raw.name {
            Some(at) => mistakes.add(at, message, None),
            None => mistakes.add(&raw.detector, message, None),
        }
    }
    if let Some(at) = &raw.name {
        super::resolve::good_name(at, mistakes);
    }
    let remedy = Remedy {
        name,
        when: condition(raw.when, mistakes),
        hold: span(raw.hold.as_ref(), mistakes).unwrap_or_default(),
        dry_run: raw.dry_run,
        severity: raw.severity,
        steps,
        on: subjects(raw.on, names, mistakes),
        detector: raw.detector.into_inner(),
    };
    config.remedies.push(remedy);
}

pub(super) fn condition_rule(
    raw: RawCondition,
    names: &BTreeSet<String>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    detector(&raw.detector, mistakes);
    if raw.hold.0 > LONGEST || raw.keep_firing_for.0 > LONGEST {
        let message = "`for` and `keep_firing_for` are at most 7 days".to_owned();
        mistakes.add(&raw.detector, message, None);
    }
    let rule = ConditionRule {
        on: subjects(raw.on, names, mistakes),
        hold: raw.hold.0,
        keep_firing_for: raw.keep_firing_for.0,
        severity: raw.severity,
        detector: raw.detector.into_inner(),
    };
    config.conditions.push(rule);
}

/// The `[[maintenance]]` windows.
pub(super) fn maintenance(
    raw: Vec<Spanned<calendar::Raw>>,
    names: &BTreeSet<String>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    let mut windows: Vec<Window> = Vec::new();
    for entry in raw {
        let written = entry.get_ref();
        let unknown = written
            .on
            .iter()
            .find(|on| *on != "*" && !names.contains(*on));
        if let Some(name) = unknown {
            let message = format!("no service or process is called `{name}`");
            mistakes.add(&entry, message, None);
        }
        let detector = written.detector.as_ref();
        if let Some(name) = detector
            && !detectors::ALL.iter().any(|spec| spec.name == name)
        {
            mistakes.add(&entry, format!("no detector is called `{name}`"), None);
        }
        match Window::parse(written) {
            Ok(window) => windows.push(window),
            Err(why) => mistakes.add(&entry, why, None),
        }
        // All so far: a mistake of all of them stands at the one that makes it one.
        match Calendar::new(windows.clone()) {
            Ok(calendar) => config.policy.calendar = calendar,
            Err(why) => return mistakes.add(&entry, why, None),
        }
    }
}

pub(super) fn group(
    raw: RawGroup,
    names: &BTreeSet<String>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    if !super::resolve::good_name(&raw.name, mistakes) {
        return;
    }
    let name = raw.name.get_ref().clone();
    if config.policy.groups.iter().any(|group| group.name == name) {
        mistakes.add(&raw.name, format!("two groups are called `{name}`"), None);
    }
    if raw.max_acts.is_none() && raw.max_share.is_none() {
        let message = "a group without `max_acts` and `max_share` limits nothing".to_owned();
        mistakes.add(&raw.name, message, None);
    }
    let remembered = u32::try_from(history::ACTIONS).unwrap_or(u32::MAX);
    if raw
        .max_acts
        .is_some_and(|most| most == 0 || most > remembered)
        || raw.within.0.is_zero()
        || raw.within.0 > LONGEST
    {
        let message =
            "`max_acts` is 1 to 1024, `within` more than nothing and at most 7 days".to_owned();
        mistakes.add(&raw.name, message, None);
    }
    if let Some(share) = &raw.max_share
        && !(0.0..=100.0).contains(&share.get_ref().0)
    {
        mistakes.add(share, "`max_share` is 0% to 100%".to_owned(), None);
    }
    for member in &raw.members {
        if !names.contains(member.get_ref()) {
            mistakes.unknown(
                "service or process",
                member,
                names.iter().map(String::as_str),
            );
        } else if raw.max_share.is_some() && !config.programs.contains_key(member.get_ref()) {
            let message = format!(
                "`max_share` counts services, and `{}` is none",
                member.get_ref()
            );
            mistakes.add(member, message, None);
        }
    }
    if raw.members.is_empty() {
        mistakes.add(&raw.name, "a group needs members".to_owned(), None);
    }
    config.policy.groups.push(Group {
        name,
        members: raw.members.into_iter().map(Spanned::into_inner).collect(),
        max_acts: raw.max_acts,
        within: raw.within.0,
        max_share: raw.max_share.map(|share| share.get_ref().share()),
    });
}
