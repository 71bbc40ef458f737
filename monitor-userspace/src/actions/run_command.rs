//! Runs a program that the configuration names: for what no other action does. No shell, unless the command names one.
//!
//! What it is given is clean, and as little as is asked for: see `host::command`. Proven by its exit status, and like every act by the
//! signal that raised the incident. What it does to the host is its own: there is no undo.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use monitor_common::probes::process_exit::{Ending, ending};

use super::{Executed, Spec, Struck, Target, anywhere, check, refused};
use crate::config::units::Span;
use crate::host::Host;
use crate::host::command::{Ended, Finished, PROCESSES};
use crate::model::action::Risk;
use crate::model::command::{Confined, Order};
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "run_command",
    summary: "runs a program, with a time limit, confined where that is asked for",
    risk: Risk::Destructive,
    reversible: false,
    on: &[
        Target::Service,
        Target::Process,
        Target::Folder,
        Target::Network,
    ],
    needs: "what the program needs; CAP_SETUID and CAP_SETGID for `user`, CAP_SYS_ADMIN for `network = false`, Linux 6.2 with Landlock for `read` and `write`",
    able: anywhere,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// Longest time limit.
const LONGEST: Duration = Duration::from_mins(10);
/// Most words of a command, variables and paths, and most bytes of all of them: far below the kernel's own bounds.
const WORDS: usize = 256;
const BYTES: usize = 64 << 10;
/// What begins so is ours.
const OURS: &str = "SMART_MONITOR_";

/// `with` of this action.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Program and arguments.
    command: Vec<String>,
    /// How long it may run: at most ten minutes.
    #[serde(default = "thirty_seconds")]
    timeout: Span,
    /// Numeric user that it becomes; needs `group`.
    user: Option<u32>,
    /// Numeric group that it becomes; needs `user`.
    group: Option<u32>,
    /// Files and folders that it may read; with this or `write`, it reaches nothing else.
    read: Option<Vec<PathBuf>>,
    /// Files and folders that it may read and change.
    write: Option<Vec<PathBuf>>,
    /// Whether it has the host's network.
    #[serde(default = "yes")]
    network: bool,
    /// Variables beside `PATH`, `LANG` and ours.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Where it starts.
    folder: Option<PathBuf>,
    /// Exit statuses that are good.
    #[serde(default = "only_zero")]
    accept_exit: Vec<u8>,
}

fn thirty_seconds() -> Span {
    Span::seconds(30)
}

fn yes() -> bool {
    true
}

fn only_zero() -> Vec<u8> {
    vec![0]
}

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        let wrong = |why: &str| Err(why.to_owned());
        let program = self.command.first().map_or("", String::as_str);
        if program.is_empty() {
            return wrong(
                "`command` is empty; for example `command = [\"/usr/bin/systemctl\", \"reload\", \"nginx\"]`",
            );
        }
        if !program.starts_with('/') && program.contains('/') {
            return wrong(
                "the program of `command` must be an absolute path, or a name to look up in PATH",
            );
        }
        if self.timeout.0.is_zero() || self.timeout.0 > LONGEST {
            return wrong("`timeout` must be more than 0s and at most 10m");
        }
        if self.user.is_some() != self.group.is_some() {
            return wrong("`user` and `group` need each other (numbers, as `id` shows them)");
        }
        let confined = self.read.is_some() || self.write.is_some();
        if confined && self.user.is_none_or(|user| user == 0) {
            return wrong(
                "`read` and `write` need a `user` other than 0: Landlock keeps nobody from changing the mode and owner of what is his, nor from sending signals",
            );
        }
        if self.accept_exit.is_empty() {
            return wrong("`accept_exit` must name a status: it would fail whatever it does");
        }
        let paths = [&self.read, &self.write].into_iter().flatten().flatten();
        let mut paths = paths.chain(&self.folder);
        if let Some(path) = paths.clone().find(|path| !path.is_absolute()) {
            return Err(format!("`{}` is not an absolute path", path.display()));
        }
        for name in self.environment.keys() {
            if name.is_empty() || name.contains('=') || name.starts_with(OURS) {
                return Err(format!(
                    "no variable of `environment` can be called `{name}`"
                ));
            }
        }
        let variables = self.environment.iter();
        let texts = variables.flat_map(|(name, value)| [name, value]);
        let texts = || self.command.iter().chain(texts.clone());
        let bytes: usize = texts().map(String::len).sum();
        if texts().count() + paths.by_ref().count() > WORDS || bytes > BYTES {
            return Err(format!(
                "more than {WORDS} words, variables and paths, or more than {BYTES} bytes of them: put it into a script"
            ));
        }
        if texts().any(|text| text.contains('\0')) {
            return wrong("a word of a command cannot have a NUL character in it");
        }
        Ok(())
    }
}

fn plan(incident: &Incident, _: &World, rung: &Rung) -> Result<Plan, String> {
    let settings = super::settings::<Settings>(&rung.with)?;
    let confined = settings.read.is_some() || settings.write.is_some();
    let order = Order {
        command: settings.command,
        timeout: settings.timeout.0,
        user: settings.user.zip(settings.group),
        confined: confined.then(|| Confined {
            read: settings.read.unwrap_or_default(),
            write: settings.write.unwrap_or_default(),
        }),
        no_network: !settings.network,
        environment: settings.environment.into_iter().collect(),
        folder: settings.folder,
    };
    Ok(Plan::RunCommand {
        order: Box::new(order),
        accept_exit: settings.accept_exit,
        subject: incident.subject.to_string(),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::RunCommand {
        order,
        accept_exit,
        subject,
    } = permit.plan()
    else {
        return Executed::not_mine(SPEC.name);
    };
    let mut order = Order::clone(order);
    let ours = [
        ("INCIDENT", permit.incident().to_string()),
        ("SUBJECT", subject.clone()),
        ("RULE", permit.grounds().rule.clone()),
    ];
    let ours = ours.map(|(name, value)| (format!("{OURS}{name}"), value.replace('\0', "")));
    order.environment.extend(ours);
    match host.run_command_about(permit.incident(), &order) {
        Ok(finished) => {
            let good = finished.ended.is_none()
                && matches!(ending(finished.status), Ending::Code(code) if accept_exit.contains(&code));
            let story = story(&order, &finished);
            let result = if good {
                EffectResult::Done { detail: story }
            } else {
                EffectResult::Failed { reason: story }
            };
            Executed::at(finished.started, result)
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

/// What came of a program, in words: how it ended, and what it said.
fn story(order: &Order, finished: &Finished) -> String {
    let program = order.command.first().map_or("", String::as_str);
    let how = match ending(finished.status) {
        Ending::Code(code) => format!("exit status {code}"),
        Ending::Signal(number) => format!("ended by signal {number}"),
    };
    let mut parts = vec![format!("{program}: {how} after {:.1?}", finished.took)];
    match &finished.ended {
        None => {}
        Some(Ended::Time) => {
            parts.push(format!("its time limit of {:?} was over", order.timeout));
        }
        Some(Ended::Processes) => {
            parts.push(format!(
                "ended because it was more than {PROCESSES} processes"
            ));
        }
        Some(Ended::CalledOff(why)) => parts.push(format!("called off: {why}")),
    }
    if finished.left {
        parts.push("what it left behind was ended".to_owned());
    }
    parts.extend(finished.limitation.clone());
    for (name, kept) in [("output", &finished.output), ("errors", &finished.errors)] {
        if kept.bytes > 0 {
            parts.push(format!("{name} ({} bytes): {kept}", kept.bytes));
        }
    }
    parts.join("; ")
}

fn verify(plan: &Plan, _: &dyn Host) -> Result<String, String> {
    match plan {
        Plan::RunCommand { accept_exit, .. } => Ok(format!(
            "its exit status is one of those that are accepted ({})",
            accept_exit
                .iter()
                .map(u8::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )),
        _ => Err("it is not a plan to run a command".to_owned()),
    }
}

#[cfg(test)]
mod tests;
