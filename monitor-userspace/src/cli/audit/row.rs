//! An entry for people: who, what, and what came of it.

use std::time::Duration;

use super::book::{Act, Case};
use super::filter::at_once;
use crate::cli::render::{Cell, Column, Style, duration, wall};
use crate::model::{Effect, EffectResult, Incident, Outcome, Plan, Request, State};
use crate::record::Entry;
use crate::record::journal::Line;

pub(super) const COLUMNS: &[Column] = &[
    Column::left("TIME"),
    Column::right("INCIDENT"),
    Column::left("WHO"),
    Column::left("WHAT"),
    Column::left("OUTCOME"),
    Column::right("TO ACT"),
    Column::right("TO RECOVER"),
];

/// What stands in a row beside the time.
#[derive(Debug, Default)]
struct Row {
    incident: Option<u64>,
    who: Option<String>,
    what: String,
    outcome: Option<Outcome>,
    to_act: Option<Duration>,
    to_recover: Option<Duration>,
}

/// A row for the table.
pub(super) fn row(line: &Line, case: Option<&Case>, act: Option<&Act>) -> Vec<Cell> {
    let row = Row::of(&line.entry, case, act);
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), duration);
    vec![
        wall(line.unix_ns, "%Y-%m-%d %H:%M:%S").into(),
        row.incident
            .map_or_else(|| "-".to_owned(), |id| id.to_string())
            .into(),
        row.who.as_deref().unwrap_or("daemon").into(),
        row.what.into(),
        row.outcome.map_or_else(|| "-".into(), outcome),
        time(row.to_act).into(),
        time(row.to_recover).into(),
    ]
}

fn outcome(outcome: Outcome) -> Cell {
    let style = match outcome {
        Outcome::Fixed => Style::Good,
        Outcome::Refused | Outcome::WouldHave | Outcome::Unknown => Style::Warning,
        Outcome::NoEffect | Outcome::Worse | Outcome::Failed => Style::Bad,
    };
    Cell::styled(outcome.name(), style)
}

impl Row {
    fn of(entry: &Entry, case: Option<&Case>, act: Option<&Act>) -> Self {
        match entry {
            Entry::Incident { incident } => Self::incident(incident, case),
            Entry::Intent {
                incident,
                action,
                plan,
                rule,
                by,
                undo,
            } => {
                let undo = if *undo { "to undo: " } else { "" };
                Self {
                    incident: Some(incident.id.0),
                    who: who(rule, by.as_deref()),
                    what: format!(
                        "{undo}{action}, {}{}",
                        incident.subject,
                        target(plan, incident)
                    ),
                    ..Self::act(case, act)
                }
            }
            Entry::Effect { effect } => {
                let mut row = Self::act(case, act);
                row.outcome = row.outcome.or(at_once(&effect.result));
                Self {
                    incident: Some(effect.incident.0),
                    who: act.and_then(|act| who(&act.rule, act.by.as_deref())),
                    what: effect_words(effect),
                    ..row
                }
            }
            Entry::Person { by, request } => Self {
                incident: super::filter::incident_of(request),
                who: Some(by.clone()),
                what: request_words(request),
                ..Self::default()
            },
            other => Self {
                what: other_words(other),
                ..Self::default()
            },
        }
    }

    fn incident(incident: &Incident, case: Option<&Case>) -> Self {
        let under_way = matches!(incident.state, State::Acting | State::Verifying);
        let recovered = case
            .filter(|_| incident.is_over())
            .and_then(Case::to_recover);
        Self {
            incident: Some(incident.id.0),
            what: format!(
                "{}: {}, {}",
                incident.state.name(),
                incident.detector,
                incident.subject
            ),
            outcome: incident.outcome.filter(|_| !under_way),
            to_recover: recovered,
            ..Self::default()
        }
    }

    /// What came of an act, as it turned out later.
    fn act(case: Option<&Case>, act: Option<&Act>) -> Self {
        let outcome = act.and_then(|act| act.outcome);
        let acted = act.and_then(|act| act.acted);
        Self {
            outcome,
            to_act: case.zip(acted).map(|(case, acted)| acted.since(case.seen)),
            to_recover: case
                .filter(|_| outcome == Some(Outcome::Fixed))
                .and_then(Case::to_recover),
            ..Self::default()
        }
    }
}

/// None for the daemon: the rule is not known.
fn who(rule: &str, by: Option<&str>) -> Option<String> {
    match (rule, by) {
        ("", None) => None,
        (rule, None) => Some(format!("rule {rule}")),
        ("", Some(by)) => Some(by.to_owned()),
        (rule, Some(by)) => Some(format!("{by}, rule {rule}")),
    }
}

/// The process, where the subject does not name it.
fn target(plan: &Plan, incident: &Incident) -> String {
    let named = incident.subject.to_string();
    let process = plan
        .process()
        .filter(|process| !named.ends_with(&format!("[{}]", process.pid)));
    process.map_or_else(String::new, |process| format!(" (pid {})", process.pid))
}

fn effect_words(effect: &Effect) -> String {
    match &effect.result {
        EffectResult::Done { detail } => format!("done: {}: {detail}", effect.action),
        EffectResult::Failed { reason } => format!("failed: {}: {reason}", effect.action),
        EffectResult::Refused { reason } => format!("refused: {}: {reason}", effect.action),
    }
}

const fn dry(dry_run: bool) -> &'static str {
    if dry_run { " (dry run)" } else { "" }
}

fn request_words(request: &Request) -> String {
    match request {
        Request::Approve { .. } => "approves".to_owned(),
        Request::Reject { .. } => "rejects".to_owned(),
        Request::Acknowledge { .. } => "has seen it".to_owned(),
        Request::Silence { silence } => {
            let detector = silence.detector.as_deref().map(|name| format!(" ({name})"));
            format!(
                "silence {} on {}{}",
                silence.id,
                silence.on,
                detector.unwrap_or_default()
            )
        }
        Request::Unsilence { id } => format!("ends silence {id}"),
        Request::Act {
            action,
            subject,
            dry_run,
            ..
        } => format!("asks for {action} on {subject}{}", dry(*dry_run)),
        Request::Repair {
            service,
            step,
            dry_run,
        } => {
            let step = step.as_ref().map(|step| format!(" (step {step})"));
            let step = step.unwrap_or_default();
            format!("asks for a repair of {service}{step}{}", dry(*dry_run))
        }
        Request::RestorePoint { service, dry_run } => {
            format!("asks for a restore point of {service}{}", dry(*dry_run))
        }
        Request::Watch { service, dry_run } => {
            format!("asks for {service} to be watched{}", dry(*dry_run))
        }
        Request::Undo { .. } => "wants it undone".to_owned(),
    }
}

/// A list in words.
fn names(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn other_words(entry: &Entry) -> String {
    match entry {
        Entry::Started { version, pid, .. } => format!("started: version {version}, pid {pid}"),
        Entry::Ended => "ended".to_owned(),
        Entry::Resumed => "the journal can be written again".to_owned(),
        Entry::StormEnding { target, .. } => {
            format!("ends the fork storm of {target} with all of its cgroup")
        }
        Entry::Guarded {
            guard,
            target,
            limit,
            enforce,
        } => {
            let does = if *enforce { "kills" } else { "reports" };
            format!("arms {guard} on {target}: {does} over {limit}")
        }
        Entry::WillChange { action, undo, .. } => format!(
            "{action} begins; what changes it back: {}",
            crate::cli::proposal::plan(undo)
        ),
        Entry::ServiceStarted { service, command } => {
            format!("starts service {service}: {}", command.join(" "))
        }
        Entry::Releases { service, known } => format!(
            "{service} runs release {}; proven: {}; rolled back from: {}",
            known.runs.as_deref().unwrap_or("that is not known"),
            names(&known.good),
            names(&known.rolled_back)
        ),
        Entry::Reloaded { file } => format!("loads {file} anew"),
        Entry::Continued { generation, .. } => {
            format!("begins generation {generation} of the journal")
        }
        Entry::Incident { .. }
        | Entry::Intent { .. }
        | Entry::Effect { .. }
        | Entry::Person { .. } => String::new(),
    }
}
