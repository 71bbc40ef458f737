//! `smart-monitor undo`: changes back what was done about an incident and is still in force.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::waiting::{self, Wait};
use super::{held, render};
use crate::api::answers::{OneIncident, Word};
use crate::model::incident::StepKind;

/// Change back what was done about an incident and is still in force; `smart-monitor status` lists it.
///
/// The exit code is 0 when nothing of it is in force any more, 1 when there was nothing to undo or it could not be undone, 2 when the
/// daemon cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the incident.
    id: u64,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    wait: Wait,
    /// Print the incident as JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        id,
        daemon,
        wait,
        json,
    } = args;
    let word = Word {
        on_behalf: ask::on_behalf(),
    };
    let path = format!("/api/v1/incidents/{id}/undo");
    let one: OneIncident = match daemon.post(&path, &word) {
        Ok(one) => one,
        Err(error) => return NoAnswer::to_change(error).show(json),
    };
    // A try in vain is counted.
    let known = |one: &OneIncident| {
        let held = one.incident.held.as_ref();
        held.is_none_or(|held| held.tries > 0)
    };
    let one = match waiting::until(&daemon, one, wait, known) {
        Ok(one) => one,
        Err(error) => return NoAnswer::from(error).show(json),
    };
    if json {
        ask::show_json(&one)?;
    } else {
        render::show(&format!("{}\n", render::clean(&came_of(&one))))?;
    }
    Ok(if one.incident.held.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn came_of(one: &OneIncident) -> String {
    let incident = &one.incident;
    let mut steps = incident.steps.iter().rev();
    let said = steps.find(|step| {
        matches!(
            step.what,
            StepKind::Undone | StepKind::Failed | StepKind::Refused
        )
    });
    let last = said.map_or("", |step| step.detail.as_str());
    match held::words(incident, one.clock.time()) {
        Some(held) if last.is_empty() => format!("not undone yet: {held}"),
        Some(held) => format!("not undone ({last}): {held}"),
        None if said.is_some_and(|step| step.what == StepKind::Undone) => format!("undone: {last}"),
        None => format!("there is nothing left to undo: {last}"),
    }
}
