//! The units that systemd runs: of type service, active with a main process, and not what systemd and logins themselves are made of.

use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::Builder;
use zbus::{Connection, OwnedObjectPath, Variant};

use super::Manager;
use super::link::{Failed, INTERFACE, MANAGER, call, connect, failed};
use super::unit::Unit;
use crate::host::procfs;
use crate::supervisors::{Discovered, Found};

/// How long a manager may take for all of it.
const WITHIN: Duration = Duration::from_secs(5);
/// Users whose managers are asked.
const USERS: usize = 16;

/// A unit, as `ListUnitsByPatterns` has it: name, description, load, active and sub state, whom it follows, path, and its job.
type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

pub(super) fn discover() -> Discovered {
    let mut all = Discovered::default();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Discovered::nobody(&format!("cannot wait for systemd: {error}")),
    };
    for manager in managers() {
        let asked = async { tokio::time::timeout(WITHIN, units(manager, &mut all)).await };
        let why = match runtime.block_on(asked) {
            Ok(Ok(())) => continue,
            Ok(Err(Failed::Refused(why) | Failed::Lost(why))) => why,
            Err(_) => format!("{manager} did not tell its units within {WITHIN:?}"),
        };
        all.problems.push(why);
    }
    all
}

/// That of the host, and those of the users who have one.
fn managers() -> Vec<Manager> {
    let users = std::fs::read_dir("/run/user").into_iter().flatten();
    let mut users: Vec<u32> = users
        .filter_map(|user| {
            let user = user.ok()?;
            user.path().join("bus").exists().then_some(())?;
            user.file_name().to_str()?.parse().ok()
        })
        .take(USERS)
        .collect();
    users.sort_unstable();
    let users = users.into_iter().map(Manager::User);
    std::iter::once(Manager::Host).chain(users).collect()
}

async fn units(manager: Manager, all: &mut Discovered) -> Result<(), Failed> {
    // Who listens for signals and does not take them holds up the answers.
    let (bus, _) = connect(manager).await.map_err(Failed::Lost)?;
    let which = (vec!["active"], vec!["*.service"]);
    let answer = call(&bus, MANAGER, INTERFACE, "ListUnitsByPatterns", &which);
    let answer = answer.await.map_err(failed)?;
    let rows: Vec<Row> = answer.body().deserialize().map_err(failed)?;
    for (name, description, _, _, sub, _, path, ..) in rows {
        if sub != "running" || is_plumbing(&name) {
            continue;
        }
        if all.found.len() >= Discovered::MOST {
            all.left_out += 1;
            continue;
        }
        match unit(&bus, &path).await {
            Ok(unit) => all.found.extend(found(manager, &name, &description, &unit)),
            // It ended meanwhile.
            Err(Failed::Refused(_)) => {}
            Err(lost) => return Err(lost),
        }
    }
    Ok(())
}

async fn unit(bus: &Connection, path: &str) -> Result<Unit, Failed> {
    let properties = "org.freedesktop.DBus.Properties";
    let answer = call(bus, path, properties, "GetAll", &"").await;
    let answer = answer.map_err(failed)?;
    let body = answer.body();
    let all: HashMap<&str, Variant<'_>> = body.deserialize().map_err(failed)?;
    Ok(Unit::read(&all))
}

fn found(manager: Manager, name: &str, description: &str, unit: &Unit) -> Option<Found> {
    let process = procfs::stat(unit.main_pid).filter(|_| unit.has_main())?.key;
    let mut with = toml::Table::from_iter([("unit".to_owned(), name.into())]);
    let mut stem = name.strip_suffix(".service").unwrap_or(name).to_owned();
    if let Manager::User(uid) = manager {
        with.insert("user".to_owned(), i64::from(uid).into());
        stem = format!("{stem}-{uid}");
    }
    Some(Found {
        name: stem,
        with,
        what: format!("{manager} runs {name}: {description}"),
        processes: vec![process],
        cgroup: Some(unit.control_group.clone()).filter(|path| path.len() > 1),
        published: Vec::new(),
    })
}

/// systemd's own daemons, the managers of users, the bus that all of them talk over, and the programs that ask for logins.
fn is_plumbing(unit: &str) -> bool {
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    let stem = stem.split_once('@').map_or(stem, |(template, _)| template);
    let own = [
        "user",
        "user-runtime-dir",
        "dbus",
        "dbus-broker",
        "getty",
        "autovt",
        "serial-getty",
        "container-getty",
        "console-getty",
        "emergency",
        "rescue",
    ];
    stem.starts_with("systemd-") || own.contains(&stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_is_made_of_is_no_service() {
        for own in [
            "systemd-journald.service",
            "user@1000.service",
            "getty@tty1.service",
            "dbus.service",
        ] {
            assert!(is_plumbing(own), "{own}");
        }
        for not in [
            "nginx.service",
            "getty-web.service",
            "worker@user.service",
            "dbus-proxy.service",
        ] {
            assert!(!is_plumbing(not), "{not}");
        }
    }

    #[test]
    fn a_unit_is_found_while_its_main_process_runs() {
        let mut unit = Unit {
            main_pid: std::process::id(),
            control_group: "/system.slice/web.service".to_owned(),
            ..Unit::default()
        };
        let of = |manager, unit: &Unit| found(manager, "web.service", "The web", unit);
        let found = of(Manager::User(7), &unit).expect("it runs");
        assert_eq!(found.name, "web-7");
        assert_eq!(found.with.to_string(), "unit = \"web.service\"\nuser = 7\n");
        assert_eq!(found.what, "systemd of user 7 runs web.service: The web");
        assert_eq!(found.cgroup.as_deref(), Some("/system.slice/web.service"));
        unit.main_pid = 0;
        assert_eq!(of(Manager::Host, &unit), None);
    }
}
