//! Random configurations, as a user would write them, and random sequences of what can happen.

use std::fmt::Write;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;

/// Two configurations, and what happens while one or the other is in force.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) limits: Limits,
    pub(crate) setups: [Setup; 2],
    pub(crate) steps: Vec<Step>,
    /// Whether two more cores are fed the same: one that must decide the same, and one that must not act.
    pub(crate) twins: bool,
}

/// `[policy]`, in seconds. The same in both configurations.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) limit: usize,
    pub(crate) window: u64,
    pub(crate) initial: u64,
    pub(crate) max: u64,
    pub(crate) reset: u64,
    pub(crate) half_open: u64,
    pub(crate) host: usize,
    pub(crate) concurrent: usize,
    pub(crate) settle: u64,
}

/// The rest of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) dry_run: bool,
    pub(crate) services: Vec<ServiceSetup>,
    /// The `[[process]]` entry `batch`, if there is one.
    pub(crate) batch: Option<NamedSetup>,
    pub(crate) rules: Vec<RuleSetup>,
    /// A detector's `for` and `keep_firing_for`.
    pub(crate) condition: Option<(usize, u64, u64)>,
    /// Most acts on the first two services within so many seconds.
    pub(crate) group: Option<(usize, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct NamedSetup {
    pub(crate) dry_run: bool,
    pub(crate) healer: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceSetup {
    pub(crate) named: NamedSetup,
    pub(crate) depends_on: u8,
    pub(crate) checked: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleSetup {
    pub(crate) detector: usize,
    /// A service by number, `batch`, or everything.
    pub(crate) on: usize,
    pub(crate) warning: bool,
    pub(crate) hold: u64,
    pub(crate) dry_run: bool,
    pub(crate) approval: Option<u64>,
    /// Actions, and how often each.
    pub(crate) ladder: Vec<(usize, u32)>,
}

pub(crate) const DETECTORS: [&str; 5] = [
    "service_down",
    "memory_pressure",
    "latency_spike",
    "connect_failure",
    "runaway_cpu",
];
pub(crate) const COMMS: [&str; 4] = ["cruncher", "helper", "sshd", "stranger"];
/// Of them, those that `batch` names.
pub(crate) const NAMED: usize = 3;
const MOST: usize = 4;
pub(crate) const ACTIONS: [&str; 3] = ["restart_service", "kill_process", "lower_priority"];

/// What happens. Numbers choose among what there is at that moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Pass(u64),
    Start(usize, u8),
    Exit(usize),
    Reaped(usize),
    StartFailed(usize),
    Stopped(usize),
    Check(usize, u8),
    Swells(usize, bool),
    Connects(usize, usize, bool),
    RunsAway(u8, usize, u64),
    /// A detector finds something, grave or not, or finds it gone.
    Found(usize, usize, u8),
    Loss(bool),
    Effect(usize, u8, u8),
    Approve(u64),
    Reject(u64),
    Acknowledge(u64),
    Silence(usize, u64),
    Unsilence(u64),
    Clock(i64),
    Reload,
    Halt(bool),
}

fn named() -> impl Strategy<Value = NamedSetup> {
    (prop::bool::weighted(0.04), weighted(0.1, 1..20_u64))
        .prop_map(|(dry_run, healer)| NamedSetup { dry_run, healer })
}

fn service() -> impl Strategy<Value = ServiceSetup> {
    (named(), any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(named, a, b, checked)| {
        // Few edges.
        ServiceSetup {
            named,
            depends_on: a & b,
            checked,
        }
    })
}

fn rule() -> impl Strategy<Value = RuleSetup> {
    // What ends a process is no answer to one that has ended.
    let action = prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2)];
    let ladder = vec((action, 0..3_u32), 1..4);
    let gates = (
        prop::bool::weighted(0.8),
        prop_oneof![8 => Just(0), 1 => 1..20_u64],
        prop::bool::weighted(0.04),
        weighted(0.15, 1..60_u64),
    );
    let detector = prop_oneof![2 => Just(0), 5 => 0..DETECTORS.len()];
    let on = prop_oneof![2 => 0..=MOST, 3 => Just(MOST + 1)];
    (detector, on, gates, ladder).prop_map(|(detector, on, gates, ladder)| {
        let (warning, hold, dry_run, approval) = gates;
        RuleSetup {
            detector,
            on,
            warning,
            hold,
            dry_run,
            approval,
            ladder,
        }
    })
}

fn setup() -> impl Strategy<Value = Setup> {
    (
        prop::bool::weighted(0.03),
        vec(service(), 1..=MOST),
        weighted(0.8, named()),
        vec(rule(), 4..16),
        weighted(0.3, (0..DETECTORS.len(), 0..4_u64, 0..4_u64)),
        weighted(0.2, (1..3_usize, 5..60_u64)),
    )
        .prop_map(
            |(dry_run, services, batch, rules, condition, group)| Setup {
                dry_run,
                services,
                batch,
                rules,
                condition,
                group,
            },
        )
}

fn limits() -> impl Strategy<Value = Limits> {
    let waits = (0..4_u64, 1..20_u64, 1..60_u64, 1..120_u64);
    (
        1..5_usize,
        1..60_u64,
        waits,
        1..30_usize,
        1..4_usize,
        0..10_u64,
    )
        .prop_map(
            |(limit, window, (initial, max, reset, half_open), host, concurrent, settle)| Limits {
                limit,
                window,
                initial,
                max,
                reset,
                half_open,
                host,
                concurrent,
                settle,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0..MOST;
    let time = prop_oneof![4 => 1..100_u64, 4 => 100..3_000_u64, 1 => 3_000..15_000_u64];
    prop_oneof![
        8 => time.prop_map(Step::Pass),
        4 => (service.clone(), any::<u8>()).prop_map(|(s, pid)| Step::Start(s, pid)),
        10 => service.clone().prop_map(Step::Exit),
        1 => service.clone().prop_map(Step::Reaped),
        2 => service.clone().prop_map(Step::StartFailed),
        1 => service.clone().prop_map(Step::Stopped),
        6 => (service.clone(), 0..3_u8).prop_map(|(s, how)| Step::Check(s, how)),
        4 => (service.clone(), any::<bool>()).prop_map(|(s, over)| Step::Swells(s, over)),
        3 => (service.clone(), service.clone(), any::<bool>())
            .prop_map(|(from, to, well)| Step::Connects(from, to, well)),
        2 => (0..6_u8, 0..COMMS.len(), 1..4_u64)
            .prop_map(|(pid, comm, seconds)| Step::RunsAway(pid, comm, seconds)),
        8 => (0..DETECTORS.len(), 0..MOST + COMMS.len(), 0..5_u8)
            .prop_map(|(detector, who, what)| Step::Found(detector, who, what)),
        1 => any::<bool>().prop_map(Step::Loss),
        14 => (any::<usize>(), 0..8_u8, 0..12_u8)
            .prop_map(|(which, how, lie)| Step::Effect(which, how, lie)),
        4 => (0..8_u64).prop_map(Step::Approve),
        1 => (0..8_u64).prop_map(Step::Reject),
        1 => (0..8_u64).prop_map(Step::Acknowledge),
        1 => (0..MOST + 2, 1..30_u64).prop_map(|(on, time)| Step::Silence(on, time)),
        1 => (0..3_u64).prop_map(Step::Unsilence),
        1 => any::<i64>().prop_map(Step::Clock),
        1 => Just(Step::Reload),
        1 => any::<bool>().prop_map(Step::Halt),
    ]
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let twins = prop::bool::weighted(0.1);
    (limits(), setup(), of(setup()), vec(step(), 1..50), twins).prop_map(
        |(limits, first, second, steps, twins)| {
            let setups = [first.clone(), second.unwrap_or(first)];
            Case {
                limits,
                setups,
                steps,
                twins,
            }
        },
    )
}

pub(crate) fn service_name(number: usize) -> String {
    format!("s{number}")
}

impl Setup {
    /// What a number chooses to name: a service, `batch`, or everything.
    pub(crate) fn name(&self, number: usize) -> String {
        let service = (number < MOST).then(|| service_name(number % self.services.len()));
        let batch = (number == MOST && self.batch.is_some()).then(|| "batch".to_owned());
        service.or(batch).unwrap_or_else(|| "*".to_owned())
    }

    pub(crate) fn service(&self, name: &str) -> Option<&ServiceSetup> {
        self.services
            .iter()
            .zip(0..)
            .find(|(_, at)| service_name(*at) == name)
            .map(|(s, _)| s)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&NamedSetup> {
        match name {
            "batch" => self.batch.as_ref(),
            _ => self.service(name).map(|service| &service.named),
        }
    }

    pub(crate) fn rule_name(number: usize) -> String {
        format!("r{number}")
    }

    /// The file.
    pub(crate) fn text(&self, limits: &Limits, dry_run: bool) -> String {
        let mut text = format!(
            "[policy]\ndry_run = {}\nprotected = [\"helper\"]\nlimit = {}\nlimit_window = \"{}s\"\nbackoff_initial = \"{}s\"\n\
             backoff_max = \"{}s\"\nbackoff_reset = \"{}s\"\nhalf_open_after = \"{}s\"\nhost_limit_per_hour = {}\n\
             concurrent = {}\nroot_settle = \"{}s\"\n",
            self.dry_run || dry_run,
            limits.limit,
            limits.window,
            limits.initial,
            limits.max,
            limits.reset,
            limits.half_open,
            limits.host,
            limits.concurrent,
            limits.settle,
        );
        text.push_str(
            "[detectors]\nlatency_spike.checks = 2\nconnect_failure.failures = 2\nrunaway_cpu.for = \"1s\"\nrunaway_cpu.scope = \"all\"\n",
        );
        for (at, service) in self.services.iter().enumerate() {
            let mut depends_on: Vec<String> = Vec::new();
            for other in (0..self.services.len()).filter(|other| *other != at) {
                if service.depends_on & (1 << other) != 0 {
                    depends_on.push(service_name(other));
                }
            }
            let name = service_name(at);
            let _ = write!(
                text,
                "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"x\"]\nmemory_max = \"100MiB\"\n\
                 listen = [\"127.0.0.1:{}\"]\ndepends_on = {depends_on:?}\n",
                port(at)
            );
            if service.checked {
                let _ = writeln!(text, "check = {{ tcp = \"127.0.0.1:{}\" }}", port(at));
            }
            write_named(&mut text, &service.named);
        }
        if let Some(batch) = &self.batch {
            let _ = writeln!(
                text,
                "[[process]]\nname = \"batch\"\ncomm = {:?}",
                &COMMS[..NAMED]
            );
            write_named(&mut text, batch);
        }
        for (at, rule) in self.rules.iter().enumerate() {
            self.write_rule(at, rule, &mut text);
        }
        if let Some((detector, hold, keep)) = self.condition {
            let _ = writeln!(
                text,
                "[[condition]]\ndetector = \"{}\"\non = [\"*\"]\nfor = \"{hold}s\"\nkeep_firing_for = \"{keep}s\"",
                DETECTORS[detector]
            );
        }
        if let Some((most, within)) = self.group {
            let members: Vec<String> = (0..self.services.len().min(2)).map(service_name).collect();
            let _ = writeln!(
                text,
                "[[group]]\nname = \"pair\"\nmembers = {members:?}\nmax_acts = {most}\nwithin = \"{within}s\""
            );
        }
        text
    }

    fn write_rule(&self, at: usize, rule: &RuleSetup, text: &mut String) {
        let _ = writeln!(
            text,
            "[[remedy]]\nname = \"{}\"\ndetector = \"{}\"\non = [\"{}\"]\nseverity = \"{}\"\ndry_run = {}",
            Self::rule_name(at),
            DETECTORS[rule.detector],
            self.name(rule.on),
            if rule.warning { "warning" } else { "critical" },
            rule.dry_run
        );
        if rule.hold > 0 {
            let _ = writeln!(text, "for = \"{}s\"", rule.hold);
        }
        if let Some(within) = rule.approval {
            let _ = writeln!(text, "approval = \"{within}s\"");
        }
        let _ = writeln!(text, "verify_within = \"3s\"");
        for (action, attempts) in &rule.ladder {
            let action = ACTIONS[*action];
            let _ = writeln!(text, "[[remedy.step]]\naction = \"{action}\"");
            if *attempts > 0 {
                let _ = writeln!(text, "attempts = {attempts}");
            }
        }
    }
}

pub(crate) fn port(service: usize) -> u16 {
    10_000 + u16::try_from(service).unwrap_or_default()
}

fn write_named(text: &mut String, named: &NamedSetup) {
    let _ = writeln!(text, "dry_run = {}", named.dry_run);
    if let Some(patience) = named.healer {
        let _ = writeln!(
            text,
            "healer = {{ name = \"systemd\", patience = \"{patience}s\" }}"
        );
    }
}
