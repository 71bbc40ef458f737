//! `[[service]]`: who runs it, how it is known to be well, what it needs.

use toml::Spanned;

use super::resolve::Mistakes;
use super::{Config, raw};
use crate::checks;
use crate::host::exec::Program;
use crate::host::notify::Notify;
use crate::model::Service;
use crate::model::command::Reload;
use crate::model::service::{COMMAND, NONE};
use crate::supervisors::{self, Outside};

/// Most checks of a service.
const CHECKS: usize = 64;

pub(super) fn service(mut raw: raw::Service, config: &mut Config, mistakes: &mut Mistakes) {
    let name = raw.name.get_ref().clone();
    let mut service = Service::new(&name);
    service.kind.clone_from(raw.kind.get_ref());
    run_by(&mut raw, &mut service, config, mistakes);
    service.observe_only = raw.observe_only;
    if raw.observe_only && service.kind == COMMAND {
        let help = "leave `observe_only` out, or name who else runs it".to_owned();
        let what = "what the daemon runs itself cannot be only observed".to_owned();
        mistakes.add(&raw.name, what, Some(help));
    }
    service.listen = std::mem::take(&mut raw.listen);
    service.start_within = raw.start_within.0;
    service.memory_max = raw.memory_max.map(|size| size.0);
    if service.memory_max == Some(0) {
        mistakes.add(
            &raw.name,
            "`memory_max` of 0 would end it at every start".to_owned(),
            None,
        );
    }
    if let Some(reload) = raw.reload {
        if let Reload::Command(command) = reload.get_ref()
            && command.first().is_none_or(String::is_empty)
        {
            let help =
                "for example `reload = { command = [\"/usr/sbin/nginx\", \"-s\", \"reload\"] }`";
            let what = "the command that reloads it is empty".to_owned();
            mistakes.add(&reload, what, Some(help.to_owned()));
        }
        if reload.get_ref() == &Reload::Supervisor && [COMMAND, NONE].contains(&&*service.kind) {
            let what = format!(
                "kind = \"{}\" has no way of its own to reload",
                service.kind
            );
            let help = "for example `reload = { signal = \"SIGHUP\" }`".to_owned();
            mistakes.add(&reload, what, Some(help));
        }
        service.reload = Some(reload.into_inner());
    }
    if let Some(check) = raw.check {
        let checks = read_checks(&check, mistakes);
        service.checks = checks
            .iter()
            .map(|check| (check.name().to_owned(), check.rule()))
            .collect();
        let said = checks.iter().filter_map(|check| check.check.notify());
        let said = said.reduce(|one, other| Notify {
            watchdog: [one.watchdog, other.watchdog].into_iter().flatten().min(),
        });
        match config.programs.get_mut(&name) {
            Some(program) => program.notify = said,
            None if said.is_some() && known_kind(&service.kind) => {
                let message = format!(
                    "a check `notify` is of kind = \"command\", not of \"{}\": the daemon gives a socket to what it starts itself",
                    service.kind
                );
                let help = "who runs it listens to it: that it is not ready, or misses its watchdog, is told by them".to_owned();
                mistakes.add(&check, message, Some(help));
            }
            None => {}
        }
        service.checked = service.checks.values().any(|check| check.serving);
        config.checks.insert(name.clone(), checks);
    }
    if service.is_elsewhere() && !service.checked {
        let help = "for example `check = { http = \"http://192.0.2.1/health\" }`".to_owned();
        let what = format!("nobody runs `{name}` here, and no check shows whether it serves");
        mistakes.add(&raw.name, what, Some(help));
    }
    if let Some(objectives) = raw.objectives.take() {
        service.objectives = super::objective::resolve(&objectives, &service, mistakes);
    }
    let release = raw.release.take();
    let release = release.and_then(|release| super::release::resolve(release, mistakes));
    service.release = release.map(|how| Box::new(crate::model::Release::new(how)));
    config.services.push(service);
}

/// Who runs it.
fn run_by(
    raw: &mut raw::Service,
    service: &mut Service,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    let kinds = supervisors::KINDS;
    let Some(kind) = kinds.iter().find(|kind| kind.name == raw.kind.get_ref()) else {
        let known = kinds.iter().map(|kind| kind.name);
        mistakes.unknown("kind of service", &raw.kind, known);
        return;
    };
    if kind.name == COMMAND {
        if let Some(with) = &raw.with {
            let message = "`with` is for services that somebody else runs".to_owned();
            mistakes.add(with, message, None);
        }
        program(raw, service, config, mistakes);
        return;
    }
    only_of_commands(raw, kind.name, mistakes);
    let Some(read) = kind.read else {
        if let Some(with) = &raw.with {
            let message = format!("kind = \"{}\" takes no `with`", kind.name);
            mistakes.add(with, message, None);
        }
        return;
    };
    let with = raw.with.as_ref();
    let table = with.map_or_else(toml::Table::new, |with| with.get_ref().clone());
    match read(&service.name, &table) {
        Ok(words) => {
            service.command.clone_from(&words);
            let outside = Outside {
                kind: kind.name,
                words,
                with: table,
            };
            config.outside.insert(service.name.clone(), outside);
        }
        Err(why) => {
            let message = format!("kind = \"{}\": `with`: {why}", kind.name);
            match with {
                Some(with) => mistakes.add(with, message, None),
                None => mistakes.add(&raw.kind, message, None),
            }
        }
    }
}

/// What says how the daemon starts a service is no word to anybody else.
fn only_of_commands(raw: &raw::Service, kind: &str, mistakes: &mut Mistakes) {
    let help = || Some("who runs it has a configuration of its own for that".to_owned());
    if let Some(command) = &raw.command {
        let message = format!("`command` is of kind = \"command\", not of \"{kind}\"");
        mistakes.add(command, message, help());
    }
    let mut given = Vec::new();
    if !raw.environment.is_empty() {
        given.push("environment");
    }
    if raw.folder.is_some() {
        given.push("folder");
    }
    if raw.uid.is_some() || raw.gid.is_some() {
        given.push("uid and gid");
    }
    let only = [
        (raw.environment_file.is_some(), "environment_file"),
        (raw.user.is_some() || raw.group.is_some(), "user and group"),
        (raw.umask.is_some(), "umask"),
        (raw.limits.is_some(), "limits"),
        (raw.stop_signal.is_some(), "stop_signal"),
        (raw.stop_timeout.is_some(), "stop_timeout"),
        (raw.log.is_some(), "log"),
    ];
    given.extend(only.iter().filter(|(is, _)| *is).map(|(_, what)| *what));
    for what in given {
        let message = format!("`{what}`: only of kind = \"command\", not of \"{kind}\"");
        mistakes.add(&raw.name, message, help());
    }
}

fn known_kind(kind: &str) -> bool {
    supervisors::KINDS.iter().any(|known| known.name == kind)
}

/// A program that the daemon starts.
fn program(
    raw: &mut raw::Service,
    service: &mut Service,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    let example = "for example `command = [\"/usr/bin/redis-server\", \"--port\", \"6379\"]`";
    let help = Some(example.to_owned());
    let command = if let Some(command) = raw.command.take() {
        if command.get_ref().first().is_none_or(String::is_empty) {
            mistakes.add(&command, "`command` is empty".to_owned(), help);
        }
        command.into_inner()
    } else {
        let message = "a service of kind = \"command\" needs a `command`".to_owned();
        mistakes.add(&raw.kind, message, help);
        Vec::new()
    };
    let child = super::child::resolve(raw, mistakes);
    let user = match (raw.uid, &raw.gid) {
        (Some(uid), Some(gid)) => Some((uid, *gid.get_ref())),
        (None, None) => None,
        (None, Some(gid)) => {
            mistakes.add(gid, "`gid` needs `uid`".to_owned(), None);
            None
        }
        (Some(_), None) => {
            mistakes.add(&raw.name, "`uid` needs `gid`".to_owned(), None);
            None
        }
    };
    service.command.clone_from(&command);
    let program = Program {
        command,
        environment: std::mem::take(&mut raw.environment).into_iter().collect(),
        folder: raw.folder.take(),
        user: user.or(child.user),
        ..child
    };
    config.programs.insert(service.name.clone(), program);
}

/// `check = { .. }`, or several.
fn read_checks(written: &Spanned<toml::Value>, mistakes: &mut Mistakes) -> Vec<checks::Config> {
    let tables: Vec<toml::Table> = match written.get_ref() {
        toml::Value::Table(table) => vec![table.clone()],
        toml::Value::Array(array) => {
            let tables = array.iter().map(|value| value.as_table().cloned());
            tables.collect::<Option<Vec<_>>>().unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if tables.is_empty() || tables.len() > CHECKS {
        let message = format!("`check` is a table, or 1 to {CHECKS} of them");
        let help = "for example `check = { tcp = \"127.0.0.1:6379\" }`".to_owned();
        mistakes.add(written, message, Some(help));
        return Vec::new();
    }
    let mut read: Vec<checks::Config> = Vec::new();
    for table in tables {
        match checks::Config::read(table) {
            Ok(check) if read.iter().any(|other| other.name() == check.name()) => {
                let message = format!("two checks are called `{}`", check.name());
                let help = "give one of them a `name`".to_owned();
                mistakes.add(written, message, Some(help));
            }
            Ok(check) if !good_name(check.name()) => {
                let message = format!("`{}` cannot be the name of a check", check.name());
                let help = "use 1 to 64 letters, digits, `-`, `_` or `.`".to_owned();
                mistakes.add(written, message, Some(help));
            }
            Ok(check) => read.push(check),
            Err(message) => mistakes.add(written, message, None),
        }
    }
    read
}

/// Names become values of labels.
fn good_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(good)
}
