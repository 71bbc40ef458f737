//! `smart-monitor incidents`: what was wrong and what came of it; one of them with its evidence.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::explain::story;
use super::proposal;
use super::render::{self, Cell, Column, Paint, Style, Table};
use super::stored::Stored;
use crate::api::answers::{Clock, Incidents, OneIncident};
use crate::api::client::ClientError;
use crate::model::incident::StepKind;
use crate::model::{Incident, IncidentId, Outcome, Severity};

/// List incidents, newest last; or show one of them with its evidence.
///
/// When the daemon does not run, they come from its journal.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the incident to show.
    id: Option<u64>,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    stored: Stored,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// How many to list, the newest.
    #[arg(long, default_value_t = 30)]
    limit: usize,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        id,
        daemon,
        stored,
        json,
        limit,
    } = args;
    if let Some(id) = id {
        let one = match find(&daemon, &stored, IncidentId(id)) {
            Ok(one) => one,
            Err(why) => return why.show(json),
        };
        if json {
            ask::show_json(&one)?;
        } else {
            render::show(&story::summary(&one, Paint::for_stdout()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let list = match list(&daemon, &stored, limit) {
        Ok(list) => list,
        Err(why) => return why.show(json),
    };
    if json {
        ask::show_json(&list)?;
    } else {
        render::show(&table(&list, Paint::for_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One incident, from the daemon or from its journal; or why it cannot be had.
pub(super) fn find(
    daemon: &Daemon,
    stored: &Stored,
    id: IncidentId,
) -> Result<OneIncident, NoAnswer> {
    let error = match daemon.ask(&format!("/api/v1/incidents/{id}")) {
        Ok(one) => return Ok(one),
        Err(error) => error,
    };
    let folder = stored.folder();
    let one = match (&error, stored.incident(id)) {
        (ClientError::NotRunning { .. } | ClientError::NotFound { .. }, Ok(Some(one))) => one,
        (ClientError::NotRunning { .. }, Ok(None)) => {
            let why = format!(
                "{error}\nthe journal in {} has no incident {id}",
                folder.display()
            );
            return Err(NoAnswer::Missing(why));
        }
        (ClientError::NotRunning { .. }, Err(why)) => {
            return Err(NoAnswer::Unreachable(format!("{error}\n{why}")));
        }
        // It may have forgotten what its journal still has; where that cannot be read, its own word stands.
        (ClientError::NotFound { .. }, _) => return Err(NoAnswer::Missing(error.to_string())),
        _ => return Err(error.into()),
    };
    render::remark(format_args!("from the journal in {}:", folder.display()));
    Ok(one)
}

fn list(daemon: &Daemon, stored: &Stored, limit: usize) -> Result<Incidents, NoAnswer> {
    let error = match daemon.ask(&format!("/api/v1/incidents?limit={limit}")) {
        Ok(list) => return Ok(list),
        Err(error @ ClientError::NotRunning { .. }) => error,
        Err(other) => return Err(other.into()),
    };
    let both = |why| NoAnswer::Unreachable(format!("{error}\n{why}"));
    let mut list = stored.incidents().map_err(both)?;
    let surplus = list.incidents.len().saturating_sub(limit);
    list.incidents.drain(..surplus);
    let folder = stored.folder();
    render::remark(format_args!(
        "the daemon does not run; from the journal in {}:",
        folder.display()
    ));
    Ok(list)
}

const COLUMNS: &[Column] = &[
    Column::right("ID"),
    Column::left("SEEN"),
    Column::right("AGE"),
    Column::left("DETECTOR"),
    Column::left("SUBJECT"),
    Column::left("SEVERITY"),
    Column::left("STATE"),
    Column::left("OUTCOME"),
    Column::right("RECOVERED IN"),
    Column::left("ACKNOWLEDGED BY"),
];

fn table(list: &Incidents, paint: Paint) -> String {
    if list.incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    // The last column is shown once there is something to stand in it.
    let seen = |incident: &Incident| incident.acknowledged_by.is_some();
    let columns = COLUMNS.len() - usize::from(!list.incidents.iter().any(seen));
    let mut table = Table::new(COLUMNS.get(..columns).unwrap_or(COLUMNS));
    for incident in &list.incidents {
        let mut row = row(incident, &list.clock);
        row.truncate(columns);
        table.row(row);
    }
    table.render(paint)
}

fn row(incident: &Incident, clock: &Clock) -> Vec<Cell> {
    let seen = incident.evidence.seen;
    // Over is not recovered: the daemon may have ended, or the service been taken out.
    let recovered = incident
        .last(StepKind::Recovered)
        .filter(|_| incident.is_over());
    vec![
        incident.id.to_string().into(),
        render::wall(clock.unix_ns_of(seen), "%m-%d %H:%M:%S").into(),
        render::duration(clock.time().since(seen)).into(),
        incident.detector.as_str().into(),
        incident.subject.to_string().into(),
        severity(incident.severity),
        proposal::state(incident, clock.time()),
        incident.outcome.map_or_else(|| "-".into(), outcome),
        recovered.map_or_else(|| "-".into(), |at| render::duration(at.since(seen)).into()),
        incident.acknowledged_by.as_deref().unwrap_or("-").into(),
    ]
}

fn severity(severity: Severity) -> Cell {
    match severity {
        Severity::Warning => "warning".into(),
        Severity::Critical => "critical".into(),
    }
}

fn outcome(outcome: Outcome) -> Cell {
    let style = match outcome {
        Outcome::Fixed => Style::Good,
        Outcome::Refused | Outcome::WouldHave | Outcome::Unknown => Style::Warning,
        Outcome::NoEffect | Outcome::Worse | Outcome::Failed => Style::Bad,
    };
    Cell::styled(outcome.name(), style)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Evidence, Plan, Proposed, Subject, Time};

    #[test]
    fn what_waits_for_a_word_and_who_has_seen_it_stand_in_the_list() {
        let mut incident = Incident::new(
            IncidentId(7),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            Evidence::at(Time::default()),
            Time::default(),
        );
        let clock = Clock {
            monotonic_ns: 5,
            unix_ns: 5,
        };
        let shown = |incident: &Incident| {
            let incidents = vec![incident.clone()];
            table(&Incidents { clock, incidents }, Paint::none())
        };
        let plain = shown(&incident);
        assert!(plain.contains("critical  open "), "{plain}");
        assert!(!plain.contains("ACKNOWLEDGED"), "{plain}");
        incident.acknowledged_by = Some("root (alice)".to_owned());
        incident.proposed = Some(Box::new(Proposed {
            action: "restart_service".to_owned(),
            plan: Plan::RestartService {
                service: "auth".to_owned(),
                process: None,
                term_grace: Duration::ZERO,
                command: Vec::new(),
            },
            reason: String::new(),
            until: Time::from_nanos(6),
        }));
        let asked = shown(&incident);
        assert!(asked.contains("critical  proposed"), "{asked}");
        assert!(asked.ends_with("  root (alice)\n"), "{asked}");
    }
}
