//! What a configuration may say and can hardly mean: rules that never come to act, and doors that stand open.

use std::collections::BTreeSet;

use crate::actions::{self, Target};
use crate::config::Config;
use crate::detectors::MANUAL;
use crate::policy::{PROTECTED, Remedy};

/// Detectors whose findings are about disks, links, addresses or the host: no name of the file is ever their subject.
const NAMELESS: [&str; 4] = ["disk_error", "disk_slow", "dns_failure", "network_down"];

/// A line each, without a full stop.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut notes = without_remedy(config);
    for (at, remedy) in config.remedies.iter().enumerate() {
        let before = config.remedies.get(..at).unwrap_or_default();
        notes.extend(useless(config, before, remedy));
        notes.extend(never_works(config, remedy));
    }
    for condition in config.conditions.iter().filter(|it| it.on.is_empty()) {
        notes.push(format!(
            "a [[condition]] for {} is for nothing: its `on` is empty",
            condition.detector
        ));
    }
    for (comm, name) in &config.groups {
        if PROTECTED.contains(&comm.as_str()) {
            notes.push(format!(
                "nothing is ever done to [[process]] {name}: {comm} is protected, whatever the file says"
            ));
        }
    }
    if let Some(at) = config.daemon.http.0.filter(|at| !at.ip().is_loopback()) {
        notes.push(format!(
            "[daemon] http = \"{at}\" is no loopback address: whoever reaches it reads what is watched, without a password"
        ));
    }
    notes
}

fn without_remedy(config: &Config) -> Vec<String> {
    let covered = |name: &str| {
        config.remedies.iter().any(|remedy| {
            remedy.detector == "service_down" && remedy.on.iter().any(|on| on == "*" || on == name)
        })
    };
    // What nobody runs here has no process that could go down.
    let services = config.services.iter().filter(|it| !it.is_elsewhere());
    services
        .map(|service| service.name.as_str())
        .filter(|name| !covered(name))
        .map(|name| format!("no remedy brings service {name} back when it goes down"))
        .collect()
}

/// What a name of the configuration is.
fn kind_of(name: &str, config: &Config) -> Option<Target> {
    if config.services.iter().any(|service| service.name == name) {
        Some(Target::Service)
    } else if config.groups.values().any(|entry| entry == name) {
        Some(Target::Process)
    } else if config.folders.iter().any(|folder| folder.name == name) {
        Some(Target::Folder)
    } else {
        let network = config.networks.iter().any(|way| way.name == name);
        network.then_some(Target::Network)
    }
}

/// Steps that can do nothing to any of the names: each is passed over.
fn never_works(config: &Config, remedy: &Remedy) -> Vec<String> {
    if remedy.on.is_empty() || remedy.on.iter().any(|on| on == "*") {
        return Vec::new();
    }
    let works = |action: &str, name: &String| {
        let spec = actions::find(action);
        let fits = kind_of(name, config)
            .zip(spec)
            .is_some_and(|(kind, spec)| spec.on.contains(&kind));
        let service = config.services.iter().find(|service| service.name == *name);
        let lacks = service.is_some_and(|service| match action {
            "reload_service" => service.reload.is_none(),
            "rollback_release" => service.release.is_none(),
            _ => false,
        });
        fits && !lacks
    };
    let steps = remedy.steps.iter().map(|step| step.action.as_str());
    // Of that there is a note of its own.
    let steps = steps.filter(|action| *action != "restart_service");
    let in_vain = steps.filter(|action| !remedy.on.iter().any(|name| works(action, name)));
    in_vain
        .map(|action| {
            format!(
                "remedy {}: {action} can be done to none of {} as they are configured (see docs/actions.md)",
                remedy.name,
                remedy.on.join(", ")
            )
        })
        .collect()
}

/// Why a rule does less than it says; the first reason that there is.
fn useless(config: &Config, before: &[Remedy], remedy: &Remedy) -> Option<String> {
    let Remedy { name, detector, .. } = remedy;
    if remedy.on.is_empty() {
        return Some(format!("remedy {name} is for nothing: its `on` is empty"));
    }
    if NAMELESS.contains(&detector.as_str()) {
        return Some(format!(
            "remedy {name} never acts: what {detector} finds is never about a [[service]] or a [[process]]"
        ));
    }
    // People ask for an action of it, whatever rules there are before it.
    if detector == MANUAL {
        return None;
    }
    let named = named(config, remedy);
    let taken = |subject: &&str| {
        let mut earlier = before.iter().filter(|it| it.when.is_none());
        earlier.any(|it| {
            let covers = it.on.iter().any(|on| on == "*" || on == subject);
            covers && it.detector == *detector && it.severity <= remedy.severity
        })
    };
    if !named.is_empty() && named.iter().all(taken) {
        return Some(format!(
            "remedy {name} is never asked: rules for {detector} before it, without `when`, cover everything that it covers"
        ));
    }
    let all = |action: &str| remedy.steps.iter().all(|step| step.action == action);
    if detector == "service_down" && all("kill_process") {
        return Some(format!(
            "remedy {name} brings nothing back: kill_process only ends processes; restart_service ends what is left and starts anew"
        ));
    }
    if !remedy.steps.iter().any(|it| it.action == "restart_service") {
        return None;
    }
    let service = |subject: &&str| config.services.iter().any(|it| it.name == **subject);
    let explicit = remedy.on.iter().map(String::as_str);
    let mut processes: Vec<&str> = explicit.filter(|on| *on != "*" && !service(on)).collect();
    if !named.iter().any(service) {
        processes = named.into_iter().collect();
    }
    (!processes.is_empty()).then(|| {
        format!(
            "remedy {name} cannot restart {}: restart_service is for a [[service]], not for a [[process]]",
            processes.join(", ")
        )
    })
}

/// The names that a rule is for.
fn named<'a>(config: &'a Config, remedy: &'a Remedy) -> BTreeSet<&'a str> {
    if remedy.on.iter().any(|on| on == "*") {
        let services = config.services.iter().map(|service| service.name.as_str());
        let processes = config.groups.values().map(String::as_str);
        return services.chain(processes).collect();
    }
    remedy.on.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NAMES: &str = r#"
[[service]]
name = "web"
kind = "command"
command = ["/usr/bin/sleep", "9"]
[[process]]
name = "batch"
comm = ["batch"]
[[remedy]]
name = "web-back"
detector = "service_down"
on = ["web"]
action = "restart_service"
"#;

    /// The notes on what is added to a configuration that has none.
    fn notes(more: &str) -> Vec<String> {
        let text = format!("{more}{NAMES}");
        let config = Config::parse(&text, Path::new("a.toml"));
        of(&config.unwrap_or_else(|error| panic!("{}", error.render())))
    }

    /// The same for a rule that stands behind all others.
    fn last(rule: &str) -> Vec<String> {
        let text = format!("{NAMES}[[remedy]]\nname = \"it\"\n{rule}\n");
        let config = Config::parse(&text, Path::new("a.toml"));
        of(&config.unwrap_or_else(|error| panic!("{}", error.render())))
    }

    #[test]
    fn a_step_that_can_do_nothing_to_what_is_named_has_a_note() {
        for (on, action) in [
            ("\"web\"", "clean_folder"),
            ("\"web\", \"batch\"", "repair_network"),
            ("\"web\"", "reload_service"),
            ("\"web\"", "rollback_release"),
        ] {
            let rule = format!("detector = \"latency_spike\"\non = [{on}]\naction = \"{action}\"");
            let said = last(&rule).concat();
            let expected = format!("remedy it: {action} can be done to none of ");
            assert!(said.contains(&expected), "{rule}: {said}");
        }
        // One of them is enough, and a person asks for what is meant.
        for (on, detector) in [("\"web\", \"batch\"", "latency_spike"), ("\"web\"", MANUAL)] {
            let rule = format!("detector = \"{detector}\"\non = [{on}]\naction = \"stop_service\"");
            assert_eq!(last(&rule), [""; 0], "{rule}");
        }
    }

    #[test]
    fn what_makes_sense_needs_no_note() {
        assert_eq!(notes(""), [""; 0]);
        for rule in [
            "detector = \"runaway_cpu\"\non = [\"*\"]\naction = \"kill_process\"",
            "detector = \"runaway_cpu\"\non = [\"*\"]\naction = \"restart_service\"",
            "detector = \"service_down\"\non = [\"web\"]\nseverity = \"warning\"\naction = \"restart_service\"",
        ] {
            assert_eq!(last(rule), [""; 0], "{rule}");
        }
    }

    #[test]
    fn a_rule_that_never_comes_to_act_is_noted() {
        for (rule, note) in [
            (
                "detector = \"runaway_cpu\"\non = []\naction = \"kill_process\"",
                "its `on` is empty",
            ),
            (
                "detector = \"disk_error\"\non = [\"web\"]\naction = \"restart_service\"",
                "never about a [[service]]",
            ),
            (
                "detector = \"service_down\"\non = [\"web\"]\naction = \"restart_service\"",
                "is never asked",
            ),
            (
                "detector = \"runaway_cpu\"\non = [\"batch\", \"web\"]\naction = \"restart_service\"",
                "cannot restart batch:",
            ),
        ] {
            let notes = last(rule);
            let good =
                notes.len() == 1 && notes[0].contains("remedy it ") && notes[0].contains(note);
            assert!(good, "{rule}: {notes:?}");
        }
        let text = NAMES.replace("restart_service", "kill_process");
        let config = Config::parse(&text, Path::new("a.toml")).expect("it is good");
        let notes = of(&config);
        assert!(
            notes.len() == 1 && notes[0].contains("brings nothing back"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_protected_or_open_to_all_is_noted() {
        let found = notes("[daemon]\nhttp = \"0.0.0.0:9464\"\n");
        assert!(
            found.len() == 1 && found[0].contains("loopback"),
            "{found:?}"
        );
        assert_eq!(notes("[daemon]\nhttp = \"[::1]:9464\"\n"), [""; 0]);
        let text = NAMES.replace("[\"batch\"]", "[\"sshd\"]");
        let config = Config::parse(&text, Path::new("a.toml")).expect("it is good");
        let found = of(&config);
        assert!(
            found.len() == 1 && found[0].contains("sshd is protected"),
            "{found:?}"
        );
        let found = notes("[[condition]]\ndetector = \"runaway_cpu\"\non = []\n");
        assert!(
            found.len() == 1 && found[0].contains("[[condition]]"),
            "{found:?}"
        );
    }
}
