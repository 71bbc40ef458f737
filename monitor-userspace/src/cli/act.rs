//! `smart-monitor act`: has something done now, on a person's word.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::explain::{story, verdict};
use super::render::{self, Paint};
use super::waiting::{self, Wait};
use super::{held, proposal};
use crate::api::answers::{NewAct, OneIncident};
use crate::api::client::ClientError;
use crate::model::Outcome;

/// Have an action done now; `smart-monitor catalogue` lists them.
///
/// It needs a `[[remedy]]` that allows the action on the subject (`detector = "manual"` for what only people may ask for). It goes
/// through policy like any other act: what never may be touched is not, and one thing at a time is done to a subject; cooldowns,
/// limits, silences and maintenance windows do not count. The exit code is 0 when it was done (or would be, with --dry-run), 1 when
/// it was refused, failed or is not over yet, 2 when it was not understood or the daemon cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the action.
    action: String,
    /// Name of a service, folder, network or `[[process]]` entry of the configuration; or pid:N.
    subject: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Only on the word of this `[[remedy]]`; else the first that allows it.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Only say what would be done, and what stands in the way.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    /// Print the incident that came of it as JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        action,
        subject,
        daemon,
        rule,
        dry_run,
        wait,
        json,
    } = args;
    let new = NewAct {
        action,
        subject,
        rule,
        dry_run,
        on_behalf: ask::on_behalf(),
    };
    follow(&daemon, "/api/v1/acts", &new, (dry_run, wait, json))
}

/// Asks for something that becomes an incident, and shows what comes of it.
pub(super) fn follow(
    daemon: &Daemon,
    path: &str,
    new: &impl serde::Serialize,
    (dry_run, wait, json): (bool, Wait, bool),
) -> anyhow::Result<ExitCode> {
    let one: OneIncident = match daemon.post(path, new) {
        Ok(one) => one,
        Err(error) => return not_taken(error).show(json),
    };
    if !json {
        render::show(&intended(&one, dry_run))?;
    }
    let over = |one: &OneIncident| one.incident.is_over();
    let one = match waiting::until(daemon, one, wait, over) {
        Ok(one) => one,
        Err(error) => return NoAnswer::from(error).show(json),
    };
    if json {
        ask::show_json(&one)?;
    } else {
        render::show(&came_of(&one, wait, Paint::for_stdout()))?;
    }
    Ok(match one.incident.outcome {
        Some(Outcome::Fixed) => ExitCode::SUCCESS,
        Some(Outcome::WouldHave) if dry_run => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What makes no sense to the daemon was not written as it must be.
fn not_taken(error: ClientError) -> NoAnswer {
    match error {
        ClientError::Refused {
            code: 400, message, ..
        } => NoAnswer::Unreachable(message),
        other => NoAnswer::to_change(other),
    }
}

/// What exactly is done, before anything is known of what comes of it.
fn intended(one: &OneIncident, dry_run: bool) -> String {
    let incident = &one.incident;
    let Some(proposed) = &incident.proposed else {
        return String::new();
    };
    let rule = incident.rule.as_deref().unwrap_or("?");
    let verb = if dry_run { "would" } else { "is to" };
    let words = format!(
        "{} (rule {rule}) {verb} {}",
        proposed.action,
        proposal::plan(&proposed.plan)
    );
    lines(&words)
}

/// The story, and its end in a sentence.
fn came_of(one: &OneIncident, wait: Wait, paint: Paint) -> String {
    let mut out = String::new();
    let incident = &one.incident;
    if incident.actions > 0 {
        story::steps(&mut out, one, paint);
    }
    if incident.is_over() {
        let (words, style) = verdict::of(incident, one.clock.time());
        for line in render::wrap(&render::clean(&words), render::WIDTH) {
            render::add(&mut out, format_args!("{}\n", paint.apply(style, &line)));
        }
    } else {
        out.push_str(&lines(&format!(
            "not over after {}; what comes of it: `smart-monitor explain {}`",
            render::duration(wait.time()),
            incident.id
        )));
    }
    if let Some(held) = held::words(incident, one.clock.time()) {
        out.push_str(&lines(&held));
    }
    out
}

fn lines(words: &str) -> String {
    let mut out = String::new();
    for line in render::wrap(&render::clean(words), render::WIDTH) {
        render::add(&mut out, format_args!("{line}\n"));
    }
    out
}
