//! From what is written to what is meant: names that exist, values that make sense.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};

use monitor_common::Kind;
use toml::Spanned;

use super::error::{Found, nearest};
use super::guard::{self, GuardKind, GuardRule, Target};
use super::{Config, folder, network, raw, response};

/// Longest process name the kernel keeps.
const COMM: usize = monitor_common::event::COMM_LEN - 1;
/// Least memory ceiling of a guard.
const LEAST_CEILING: u64 = 1 << 20;
/// Most services, `[[process]]` entries and remedies: what is bounded by the configuration is bounded.
const MOST: usize = 1024;

pub(super) struct Mistakes(Vec<Found>);

impl Mistakes {
    pub(super) fn add<T>(&mut self, at: &Spanned<T>, message: String, help: Option<String>) {
        self.0.push(Found {
            span: at.span(),
            message,
            help,
        });
    }

    /// A name that must be one of some.
    pub(super) fn unknown<'a>(
        &mut self,
        what: &str,
        at: &Spanned<String>,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let known: Vec<&str> = known.into_iter().collect();
        let help = match nearest(at.get_ref(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("the file names no {what}"),
            None => format!("known: {}", known.join(", ")),
        };
        self.add(
            at,
            format!("no {what} is called `{}`", at.get_ref()),
            Some(help),
        );
    }
}

/// The configuration as far as it makes sense, and what does not.
pub(super) fn resolve(root: raw::Root, file: Option<PathBuf>) -> (Config, Vec<Found>) {
    let mut mistakes = Mistakes(Vec::new());
    let mut config = Config {
        file,
        text: None,
        daemon: root.daemon,
        journal: root.journal,
        kernel: root.kernel,
        samplers: root.samplers,
        detectors: root.detectors,
        policy: root.policy,
        remedies: Vec::new(),
        services: Vec::new(),
        programs: BTreeMap::new(),
        checks: BTreeMap::new(),
        outside: BTreeMap::new(),
        conditions: Vec::new(),
        named: BTreeMap::new(),
        guards: Vec::new(),
        groups: BTreeMap::new(),
        networks: Vec::new(),
        folders: Vec::new(),
    };
    for wrong in config.journal.mistakes() {
        mistakes.0.push(Found {
            span: 0..0,
            message: format!("[journal]: {wrong}"),
            help: None,
        });
    }
    kernel(&config.kernel, &mut mistakes);
    budget(&config.kernel, &mut mistakes);
    limits(&config.policy, &mut mistakes);
    daemon(&config.daemon, &mut mistakes);
    if let Err((name, why)) = config.samplers.resolve() {
        let message = format!("[samplers.{name}]: {why}");
        mistakes.0.push(Found {
            span: 0..0,
            message,
            help: None,
        });
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut depends_on = BTreeMap::new();
    for mut service in root.service {
        if unique(&service.name, &mut names, &mut mistakes) {
            let name = service.name.get_ref().clone();
            depends_on.insert(name.clone(), std::mem::take(&mut service.depends_on));
            let said = response::named(service.dry_run, service.healer.take());
            config.named.insert(name, said);
            super::service::service(service, &mut config, &mut mistakes);
        }
    }
    for mut entry in root.process {
        if unique(&entry.name, &mut names, &mut mistakes) {
            let said = response::named(entry.dry_run, entry.healer.take());
            config.named.insert(entry.name.get_ref().clone(), said);
            process(&entry, &mut config, &mut mistakes);
        }
    }
    for mut entry in root.network {
        if unique(&entry.name, &mut names, &mut mistakes) {
            let said = response::named(entry.dry_run, entry.healer.take());
            config.named.insert(entry.name.get_ref().clone(), said);
            let way = network::resolve(entry, &config.networks, &mut mistakes);
            config.networks.push(way);
        }
    }
    folders(root.folder, &mut names, &mut config, &mut mistakes);
    response::dependencies(&depends_on, &mut config, &mut mistakes);
    for (at, entry) in root.remedy.into_iter().enumerate() {
        response::remedy(entry, at + 1, &names, &mut config, &mut mistakes);
    }
    for entry in root.condition {
        response::condition_rule(entry, &names, &mut config, &mut mistakes);
    }
    response::maintenance(root.maintenance, &names, &mut config, &mut mistakes);
    for entry in root.group {
        response::group(entry, &names, &mut config, &mut mistakes);
    }
    for entry in root.guard {
        guard(&entry, &mut config, &mut mistakes);
    }
    let most = [
        names.len(),
        config.remedies.len(),
        config.conditions.len(),
        config.policy.groups.len(),
    ];
    if most.into_iter().any(|entries| entries > MOST) {
        let message =
            format!("more than {MOST} services and processes, remedies, conditions or groups");
        mistakes.0.push(Found {
            span: 0..0,
            message,
            help: None,
        });
    }
    (config, mistakes.0)
}

/// Whether a text can be a name; says so when not.
pub(super) fn good_name(name: &Spanned<String>, mistakes: &mut Mistakes) -> bool {
    let text = name.get_ref();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    // Names become names of folders.
    let dots = text.chars().all(|c| c == '.');
    if dots || text.len() > 64 || !text.chars().all(good) {
        let help =
            "use 1 to 64 letters, digits, `-`, `_`, `.` or `@`, and not dots alone".to_owned();
        mistakes.add(name, format!("`{text}` cannot be a name"), Some(help));
        return false;
    }
    true
}

fn unique(name: &Spanned<String>, names: &mut BTreeSet<String>, mistakes: &mut Mistakes) -> bool {
    if !good_name(name, mistakes) {
        return false;
    }
    let text = name.get_ref();
    if !names.insert(text.clone()) {
        mistakes.add(name, format!("the name `{text}` is used twice"), None);
        return false;
    }
    true
}

fn folders(
    written: Vec<folder::Raw>,
    names: &mut BTreeSet<String>,
    config: &mut Config,
    mistakes: &mut Mistakes,
) {
    for mut entry in written {
        if unique(&entry.name, names, mistakes) {
            let said = response::named(entry.dry_run, entry.healer.take());
            config.named.insert(entry.name.get_ref().clone(), said);
            folder::folder(&entry, config, mistakes);
        }
    }
}

fn daemon(daemon: &raw::Daemon, mistakes: &mut Mistakes) {
    if daemon.discover_every.0 < std::time::Duration::from_secs(1) {
        mistakes.0.push(Found {
            span: 0..0,
            message: "[daemon]: `discover_every` must be at least 1s".to_owned(),
            help: None,
        });
    }
}

fn kernel(kernel: &raw::Kernel, mistakes: &mut Mistakes) {
    for name in kernel.disabled.iter().chain(&kernel.refuse) {
        if !Kind::ALL.iter().any(|kind| kind.name() == name) {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            let message = format!("[kernel]: no probe is called `{name}`");
            let help = Some(format!("known: {}", known.join(", ")));
            mistakes.0.push(Found {
                span: 0..0,
                message,
                help,
            });
        }
    }
}

fn budget(kernel: &raw::Kernel, mistakes: &mut Mistakes) {
    let mut wrong = |message: &str| {
        mistakes.0.push(Found {
            span: 0..0,
            message: format!("[kernel]: {message}"),
            help: None,
        });
    };
    if !(0.01..=100.0).contains(&kernel.cpu_budget) {
        wrong("`cpu_budget` must be 0.01 to 100 (per cent of all CPUs)");
    }
    if kernel.cgroup_events_per_second < 10 {
        wrong(
            "`cgroup_events_per_second` must be at least 10, or the life of processes is not seen",
        );
    }
    if kernel.forks_per_second == 0 {
        wrong("`forks_per_second` must be at least 1");
    }
    if kernel.dns_timeout.0 < std::time::Duration::from_millis(100) {
        wrong("`dns_timeout` must be at least 100ms");
    }
}

fn limits(policy: &crate::policy::Config, mistakes: &mut Mistakes) {
    let mut wrong = |message: &str| {
        mistakes.0.push(Found {
            span: 0..0,
            message: format!("[policy]: {message}"),
            help: None,
        });
    };
    if policy.limit == 0 {
        wrong(
            "`limit` must be at least 1; for no actions at all use `dry_run = true` or no [[remedy]]",
        );
    }
    if policy.concurrent == 0 || policy.concurrent > 16 {
        wrong("`concurrent` must be 1 to 16");
    }
    if policy.breaker_after == 0 || policy.propose_after == 0 {
        wrong("`breaker_after` and `propose_after` must be at least 1");
    }
    let never_zero = [
        ("limit_window", policy.limit_window),
        ("backoff_reset", policy.backoff_reset),
        ("half_open_after", policy.half_open_after),
    ];
    for (key, span) in never_zero {
        if span.0.is_zero() {
            wrong(&format!(
                "`{key}` must be more than nothing, or `limit` limits nothing"
            ));
        }
    }
    for name in &policy.protected {
        if name.is_empty() || name.len() > COMM {
            wrong(&format!(
                "`protected`: no process can be called `{name}`; the kernel keeps {COMM} bytes of a name, see /proc/PID/comm"
            ));
        }
    }
    if policy.host_limit_per_hour > 1_000_000 || policy.limit > 1000 {
        wrong("`limit` can be at most 1000");
    }
}

fn process(raw: &raw::Process, config: &mut Config, mistakes: &mut Mistakes) {
    for comm in &raw.comm {
        let text = comm.get_ref();
        if text.is_empty() || text.len() > COMM {
            let help = Some(format!(
                "the kernel keeps {COMM} bytes of a name: see /proc/PID/comm"
            ));
            mistakes.add(comm, format!("no process can be called `{text}`"), help);
        } else if config
            .groups
            .insert(text.clone(), raw.name.get_ref().clone())
            .is_some()
        {
            mistakes.add(
                comm,
                format!("`{text}` stands in two [[process]] entries"),
                None,
            );
        }
    }
}

fn guard(raw: &guard::Raw, config: &mut Config, mistakes: &mut Mistakes) {
    let kind = *raw.kind.get_ref();
    let mut wrong = |message: &str| mistakes.add(&raw.kind, message.to_owned(), None);
    match kind {
        GuardKind::MemoryCeiling if raw.per_second.is_some() => {
            return wrong(
                "`per_second` is for kind = \"fork_storm\"; a memory ceiling takes `limit`",
            );
        }
        GuardKind::ForkStorm if raw.limit.is_some() => {
            return wrong(
                "`limit` is for kind = \"memory_ceiling\"; a fork limit takes `per_second`",
            );
        }
        GuardKind::ForkStorm if raw.per_second.is_none_or(|limit| limit == 0) => {
            return wrong("a fork limit needs `per_second`, at least 1");
        }
        _ => {}
    }
    if raw.limit.is_some_and(|limit| limit.0 < LEAST_CEILING) {
        return wrong("a ceiling below 1MiB would end everything at its start");
    }
    if raw.on.is_empty() == raw.cgroup.is_none() {
        return wrong("a guard needs either `on` (services) or `cgroup` (a path)");
    }
    if let Some(cgroup) = &raw.cgroup {
        if kind == GuardKind::MemoryCeiling && raw.limit.is_none() {
            return wrong("a ceiling on a cgroup needs `limit`");
        }
        let path = cgroup.get_ref();
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let below_root = path.components().count() > 1;
        if !path.is_absolute() || !below_root || !path.components().all(plain) {
            let help = Some("for example \"/batch.slice\"".to_owned());
            mistakes.add(
                cgroup,
                "`cgroup` must be the path of a cgroup below the root, without `..`".to_owned(),
                help,
            );
            return;
        }
    }
    let services: Vec<(String, Option<u64>)> = config
        .services
        .iter()
        .filter(|service| !service.observe_only)
        .map(|service| (service.name.clone(), service.memory_max))
        .collect();
    for on in &raw.on {
        let named = |name: &String| on.get_ref() == "*" || name == on.get_ref();
        let mut any = false;
        for (name, memory_max) in services.iter().filter(|(name, _)| named(name)) {
            any = true;
            let limit = match kind {
                GuardKind::MemoryCeiling => raw.limit.map(|limit| limit.0).or(*memory_max),
                GuardKind::ForkStorm => raw.per_second.map(u64::from),
            };
            let Some(limit) = limit else {
                let message =
                    format!("service `{name}` has no `memory_max`, and the guard no `limit`");
                mistakes.add(on, message, None);
                continue;
            };
            let target = Target::Service(name.clone());
            let rule = GuardRule {
                kind,
                target,
                limit,
            };
            config.guards.push(rule);
        }
        if !any && on.get_ref() != "*" {
            mistakes.unknown(
                "service",
                on,
                services.iter().map(|(name, _)| name.as_str()),
            );
        }
    }
    if let Some(cgroup) = &raw.cgroup {
        let limit = raw.limit.map(|limit| limit.0);
        config.guards.push(GuardRule {
            kind,
            target: Target::Cgroup(cgroup.get_ref().clone()),
            limit: limit.or(raw.per_second.map(u64::from)).unwrap_or(u64::MAX),
        });
    }
    let mut seen = BTreeSet::new();
    let twice = config
        .guards
        .iter()
        .any(|rule| !seen.insert((rule.kind, rule.target.clone())));
    if twice {
        mistakes.add(
            &raw.kind,
            "two guards of this kind are on the same target".to_owned(),
            None,
        );
    }
}
