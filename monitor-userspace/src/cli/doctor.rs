//! `smart-monitor doctor`: what this kernel and this host can do for the daemon, and a fix for each problem.
//!
//! Works without a daemon and without root; what cannot be known then is said to be unknown. It changes nothing: kernel programs
//! are loaded for a moment and gone again.

mod abilities;
mod daemon;
mod kernel;
mod pressure;
mod probes;
mod rights;

use std::process::ExitCode;

use serde::Serialize;

use super::ask::{self, Daemon};
use super::render::{self, Paint, Style, WIDTH};

/// Check what this kernel and this host can do, probe by probe.
///
/// The exit code is 1 when a problem keeps the daemon from observing. As another user than root, some lines are unknown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code when the daemon cannot observe.
const PROBLEM: u8 = 1;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// As it should be.
    Ok,
    /// Cannot be known with these rights.
    Unknown,
    /// The daemon can do less.
    Warning,
    /// The daemon cannot observe.
    Problem,
}

impl Level {
    const fn shown(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok", Style::Good),
            Self::Unknown => ("unknown", Style::Dim),
            Self::Warning => ("warning", Style::Warning),
            Self::Problem => ("PROBLEM", Style::Bad),
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    section: &'static str,
    name: String,
    level: Level,
    detail: String,
    fix: Option<String>,
}

impl Check {
    fn ok(section: &'static str, name: &str, detail: impl Into<String>) -> Self {
        Self::new(section, name, Level::Ok, detail)
    }

    fn new(section: &'static str, name: &str, level: Level, detail: impl Into<String>) -> Self {
        Self {
            section,
            name: name.to_owned(),
            level,
            detail: detail.into(),
            fix: None,
        }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Whether the daemon could observe; none when that cannot be known.
    observes: Option<bool>,
    checks: &'a [Check],
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { daemon, json } = args;
    let mut checks = Vec::new();
    rights::check(&mut checks);
    kernel::check(&mut checks);
    pressure::check(&mut checks);
    abilities::check(&mut checks);
    daemon::check(&mut checks, &daemon);
    probes::check(&mut checks);
    if json {
        ask::show_json(&Report {
            observes: observes(&checks),
            checks: &checks,
        })?;
    } else {
        render::show(&text(&checks, Paint::for_stdout()))?;
    }
    let failed = observes(&checks) == Some(false);
    Ok(if failed {
        ExitCode::from(PROBLEM)
    } else {
        ExitCode::SUCCESS
    })
}

fn observes(checks: &[Check]) -> Option<bool> {
    if checks.iter().any(|check| check.level == Level::Problem) {
        return Some(false);
    }
    let mut probes = checks
        .iter()
        .filter(|check| check.section == probes::SECTION);
    probes
        .all(|check| check.level != Level::Unknown)
        .then_some(true)
}

/// Columns before the words of a line.
const LEVEL: usize = 9;

fn text(checks: &[Check], paint: Paint) -> String {
    let mut out = String::new();
    let widest = checks.iter().map(|check| check.name.chars().count()).max();
    let width = widest.unwrap_or(0);
    let before = 2 + LEVEL + width + 2;
    let mut section = "";
    for check in checks {
        if check.section != section {
            section = check.section;
            let gap = if out.is_empty() { "" } else { "\n" };
            render::add(
                &mut out,
                format_args!("{gap}{}\n", paint.apply(Style::Heading, section)),
            );
        }
        let (word, style) = check.level.shown();
        let word = paint.apply(style, &format!("{word:<LEVEL$}"));
        let mut lines = render::wrap(&render::clean(&check.detail), WIDTH - before).into_iter();
        let first = lines.next().unwrap_or_default();
        out.push_str(format!("  {word}{:<width$}  {first}", check.name).trim_end());
        out.push('\n');
        for line in lines {
            render::add(&mut out, format_args!("{:before$}{line}\n", ""));
        }
        let fix = check
            .fix
            .as_deref()
            .map(|fix| format!("-> {}", render::clean(fix)));
        for line in fix.iter().flat_map(|fix| render::wrap(fix, WIDTH - before)) {
            render::add(&mut out, format_args!("{:before$}{line}\n", ""));
        }
    }
    render::add(&mut out, format_args!("\n{}\n", verdict(checks, paint)));
    out
}

fn verdict(checks: &[Check], paint: Paint) -> String {
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let warnings = match count(Level::Warning) {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        more => format!("{more} warnings"),
    };
    match observes(checks) {
        Some(true) => {
            paint.apply(Style::Good, &format!("The daemon can observe here; {warnings}."))
        }
        Some(false) => {
            let first = checks.iter().find(|check| check.level == Level::Problem);
            let name = first.map_or("", |check| check.name.as_str());
            paint.apply(Style::Bad, &format!("The daemon cannot observe here: see {name}; {warnings}."))
        }
        None => paint.apply(
            Style::Warning,
            &format!("Whether the daemon can observe here is known only to root: sudo smart-monitor doctor; {warnings}."),
        ),
    }
}

#[cfg(test)]
mod tests;
