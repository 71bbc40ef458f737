//! The parts of an incident's story, as text.

use crate::api::answers::OneIncident;
use crate::cli::held;
use crate::cli::proposal;
use crate::cli::render::{self, Paint, Style, WIDTH};
use crate::model::incident::StepKind;
use crate::model::{Incident, IncidentId, Severity, Time};

use super::{frozen, verdict};

/// What it is, its evidence, and how it ended.
pub(in crate::cli) fn summary(one: &OneIncident, paint: Paint) -> String {
    let mut out = head(one, paint);
    evidence(&mut out, &one.incident, paint);
    out.push('\n');
    ending(&mut out, one, paint);
    out
}

/// The same, with every step between and how the host was.
pub(in crate::cli) fn full(one: &OneIncident, paint: Paint) -> String {
    let mut out = head(one, paint);
    out.push('\n');
    steps(&mut out, one, paint);
    evidence(&mut out, &one.incident, paint);
    frozen::add(&mut out, &one.incident, paint);
    out.push('\n');
    ending(&mut out, one, paint);
    out
}

fn head(one: &OneIncident, paint: Paint) -> String {
    let incident = &one.incident;
    let (severity, style) = match incident.severity {
        Severity::Warning => ("warning", Style::Warning),
        Severity::Critical => ("critical", Style::Bad),
    };
    let title = format!(
        "incident {}: {}, {}",
        incident.id,
        incident.detector,
        render::clean(&incident.subject.to_string())
    );
    let seen = one.clock.unix_ns_of(incident.evidence.seen);
    let mut out = format!(
        "{}  {}, {}\n",
        paint.apply(Style::Heading, &title),
        paint.apply(style, severity),
        proposal::state_name(incident, one.clock.time()),
    );
    render::add(
        &mut out,
        format_args!(
            "seen on {}, category {}\n",
            render::wall(seen, "%Y-%m-%d at %H:%M:%S UTC%:z"),
            incident.category.name()
        ),
    );
    if let Some(cause) = incident.caused_by {
        render::add(
            &mut out,
            format_args!("brought about by an action on incident {cause}\n"),
        );
    }
    if let Some(root) = incident.suppressed_by {
        render::add(
            &mut out,
            format_args!("follows from incident {root}, which is dealt with first\n"),
        );
    }
    if !one.causes.is_empty() {
        let caused = numbers(&one.causes);
        render::add(
            &mut out,
            format_args!("an action on it brought about {caused}\n"),
        );
    }
    if !one.suppresses.is_empty() {
        let held = numbers(&one.suppresses);
        render::add(
            &mut out,
            format_args!("held back because they follow from it: {held}\n"),
        );
    }
    if let Some(by) = &incident.acknowledged_by {
        render::add(&mut out, format_args!("seen by {}\n", render::clean(by)));
    }
    out
}

/// Most numbers that are listed one by one.
const LISTED: usize = 8;

fn numbers(ids: &[IncidentId]) -> String {
    let listed: Vec<_> = ids.iter().take(LISTED).map(IncidentId::to_string).collect();
    let what = if ids.len() == 1 {
        "incident"
    } else {
        "incidents"
    };
    let more = match ids.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} {}{more}", listed.join(", "))
}

/// Columns of a line before its words: time of day, time since the start, what.
const BEFORE: usize = 2 + 15 + 2 + 12 + 2 + 12 + 2;

/// Every step, a line each.
pub(in crate::cli) fn steps(out: &mut String, one: &OneIncident, paint: Paint) {
    let incident = &one.incident;
    let start = incident.evidence.seen;
    for step in &incident.steps {
        let style = match step.what {
            StepKind::Acted | StepKind::Decided | StepKind::Approved | StepKind::Undone => {
                Style::Heading
            }
            StepKind::Recovered => Style::Good,
            StepKind::Refused
            | StepKind::Interrupted
            | StepKind::Suppressed
            | StepKind::Proposed
            | StepKind::Rejected
            | StepKind::Again => Style::Warning,
            StepKind::Failed | StepKind::Unproven | StepKind::Escalated => Style::Bad,
            StepKind::Seen
            | StepKind::Detected
            | StepKind::Released
            | StepKind::Acknowledged
            | StepKind::Told => Style::Dim,
        };
        let clock = render::wall(one.clock.unix_ns_of(step.at), "%H:%M:%S%.6f");
        let what = paint.apply(style, &format!("{:<12}", step.what.name()));
        let lines = render::wrap(
            &render::clean(&proposal::words(incident, step)),
            WIDTH - BEFORE,
        );
        let mut lines = lines.iter();
        let first = lines.next().map_or("", String::as_str);
        let line = format!(
            "  {clock:<15}  {:>12}  {what}  {first}",
            since(start, step.at)
        );
        out.push_str(line.trim_end());
        out.push('\n');
        for line in lines {
            render::add(out, format_args!("{:BEFORE$}{line}\n", ""));
        }
    }
}

pub(super) fn since(start: Time, at: Time) -> String {
    if at < start {
        format!("-{}", render::duration(start.since(at)))
    } else {
        format!("+{}", render::duration(at.since(start)))
    }
}

fn evidence(out: &mut String, incident: &Incident, paint: Paint) {
    let evidence = &incident.evidence;
    let mut facts = Vec::new();
    if let Some(probe) = evidence.probe {
        facts.push((
            "probe".to_owned(),
            format!("{}: {}", probe.name(), probe.spec().summary),
        ));
    }
    if let Some(process) = evidence.process {
        let comm = evidence.comm.as_deref().unwrap_or("?");
        facts.push(("process".to_owned(), format!("{comm} [{}]", process.pid)));
    }
    if let Some(who) = &evidence.who {
        let place = who.place.describe();
        // The root is no place to name.
        let elsewhere = who.cgroup.as_ref().filter(|path| *path != "/");
        let named = [
            ("in", place.as_ref().or(elsewhere)),
            ("user", who.user.as_ref()),
            ("command", who.argv.as_ref()),
        ];
        let said = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        facts.extend(said.map(|(name, value)| (name.to_owned(), value.clone())));
    }
    if evidence.since < evidence.seen {
        let over = evidence.seen.since(evidence.since);
        facts.push(("observed for".to_owned(), render::duration(over)));
    }
    facts.extend(evidence.facts.iter().cloned());
    if facts.is_empty() {
        return;
    }
    render::add(
        out,
        format_args!("\n{}\n", paint.apply(Style::Heading, "evidence")),
    );
    // A name that is absurdly long must not push its value off the screen.
    let widest = facts.iter().map(|(name, _)| name.chars().count()).max();
    let width = widest.unwrap_or(0).min(WIDTH / 3);
    let before = 2 + width + 2;
    for (name, value) in facts {
        let mut lines = render::wrap(&render::clean(&value), WIDTH - before).into_iter();
        let first = lines.next().unwrap_or_default();
        let name: String = render::clean(&name).chars().take(width).collect();
        out.push_str(format!("  {name:<width$}  {first}").trim_end());
        out.push('\n');
        for line in lines {
            render::add(out, format_args!("{:before$}{line}\n", ""));
        }
    }
}

fn ending(out: &mut String, one: &OneIncident, paint: Paint) {
    let now = one.clock.time();
    let held = held::words(&one.incident, now).map(|words| (words, Style::Warning));
    for (words, style) in [verdict::of(&one.incident, now)].into_iter().chain(held) {
        for line in render::wrap(&render::clean(&words), WIDTH) {
            out.push_str(&paint.apply(style, &line));
            out.push('\n');
        }
    }
}
