//! `smart-monitor approve`: allows what an incident proposes.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::{proposal, render};
use crate::api::answers::{Approval, OneIncident};

/// Allow what an incident proposes, after showing what exactly that is.
///
/// Only that is allowed: when the incident proposes something else by then, nothing is done. The exit code is 0 when it was
/// approved, 1 when it was not, 2 when the daemon cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the incident.
    id: u64,
    #[command(flatten)]
    daemon: Daemon,
    /// Do not ask before; needed where there is no terminal.
    #[arg(long, short)]
    yes: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { id, daemon, yes } = args;
    let path = format!("/api/v1/incidents/{id}");
    let one: OneIncident = match daemon.ask(&path) {
        Ok(one) => one,
        Err(error) => return NoAnswer::to_change(error).show(false),
    };
    let Some(proposed) = proposal::waiting(&one.incident, one.clock.time()) else {
        let state = proposal::state_name(&one.incident, one.clock.time());
        let why = format!("incident {id} proposes nothing (any more): it is {state}");
        return NoAnswer::Refused(why).show(false);
    };
    render::show(&proposal::text(&one, proposed))?;
    if !yes && !confirmed()? {
        render::remark("smart-monitor: nothing was approved");
        return Ok(ExitCode::FAILURE);
    }
    let approval = Approval {
        plan: Some(proposed.plan.clone()),
        on_behalf: ask::on_behalf(),
    };
    match daemon.post::<OneIncident>(&format!("{path}/approve"), &approval) {
        Ok(_) => render::show(&format!(
            "approved; what comes of it: `smart-monitor explain {id}`\n"
        ))?,
        Err(error) => return NoAnswer::to_change(error).show(false),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the person at the terminal means it.
fn confirmed() -> anyhow::Result<bool> {
    let stdin = io::stdin();
    anyhow::ensure!(
        stdin.is_terminal(),
        "there is no terminal to ask on: look at what is proposed, and add --yes to approve it"
    );
    render::ask("Do it? [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" YES\n"));
        for no in ["", "\n", "n\n", "yellow\n", "yes please\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
