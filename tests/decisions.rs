//! What the core decides in situations that are hard to bring about for real: losses, limits, protected processes, other causes.

#![expect(clippy::panic, reason = "a test's helper fails by panicking")]

#[path = "decisions/disks.rs"]
mod disks;
#[path = "decisions/dns.rs"]
mod dns;
#[path = "decisions/frozen.rs"]
mod frozen;
#[path = "decisions/growth.rs"]
mod growth;
#[path = "decisions/killed.rs"]
mod killed;
#[path = "decisions/network.rs"]
mod network;
#[path = "decisions/queues.rs"]
mod queues;
#[path = "decisions/routes.rs"]
mod routes;
#[path = "decisions/storms.rs"]
mod storms;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use monitor_common::flow::{AF_INET, TCP};
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::probes::run_queue_latency::RunQueueLatency;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::{Event, Flow, Header, Kind, Task};
use smart_monitor::actions::{self, Struck};
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::host::{Host, HostError, Opened, Reniced, Restarted};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{
    CheckFailure, CheckResult, Effect, EffectResult, Incident, IncidentId, Outcome, Plan,
    ProcessKey, ProcessUsage, Sample, ServiceSignal, Signal, State, Time,
};
use smart_monitor::policy::Permit;

const SERVICE: &str = r#"
[[service]]
name = "shop"
kind = "command"
command = ["shop"]
listen = ["127.0.0.1:8080"]
memory_max = "100MiB"
check = { tcp = "127.0.0.1:8080" }
"#;

const RESTART: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#;

/// A core, its time, and what it ordered.
struct Scene {
    engine: Engine,
    now: Time,
    permits: Vec<Permit>,
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: u64::from(pid),
    }
}

fn task(pid: u32, comm: &str) -> Task {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(comm.bytes()) {
        *to = from;
    }
    let start_time_ns = u64::from(pid) * 10_000_000;
    Task {
        pid,
        tid: pid,
        start_time_ns,
        cgroup_id: 1,
        comm: name,
    }
}

fn settings(text: &str) -> Settings {
    let config = Config::parse(text, Path::new("test.toml"))
        .unwrap_or_else(|error| panic!("{}", error.render()));
    Settings {
        detectors: config.detectors,
        policy: config.policy,
        remedies: config.remedies,
        conditions: config.conditions,
        services: config.services,
        named: config.named,
        groups: config.groups,
        protected_pids: vec![1, 500],
        probes_off: Vec::new(),
    }
}

impl Scene {
    fn new(text: &str) -> Self {
        Self {
            engine: Engine::new(settings(text), IncidentId(1)),
            now: Time::from_nanos(1_000_000_000_000),
            permits: Vec::new(),
        }
    }

    fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            if let Order::Execute { permit, .. } = order {
                self.permits.push(permit);
            }
        }
    }

    fn signal(&mut self, signal: &Signal) {
        let mut orders = Vec::new();
        self.engine.observe(signal, self.now, self.now, &mut orders);
        self.take(orders);
    }

    /// Time passes; the core is woken when it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        for _ in 0..100_000 {
            let Some(wake) = self.engine.wake().filter(|wake| *wake <= end) else {
                break;
            };
            let mut orders = Vec::new();
            self.engine.tick(wake.max(self.now), &mut orders);
            self.take(orders);
            if self.engine.wake() == Some(wake) {
                break;
            }
        }
        self.now = end;
        let mut orders = Vec::new();
        self.engine.tick(end, &mut orders);
        self.take(orders);
    }

    fn kernel(&mut self, event: impl FnOnce(Header) -> Event) {
        let time_ns = u64::try_from(self.now.nanos()).expect("it is positive");
        let event = event(Header {
            kind: 0,
            cpu: 0,
            size: 0,
            time_ns,
        });
        self.signal(&Signal::Kernel { event });
    }

    fn starts(&mut self, pid: u32) {
        let change = ServiceSignal::Started {
            process: key(pid),
            adopted: false,
            cgroup_id: 0,
        };
        self.signal(&Signal::Service {
            service: "shop".to_owned(),
            change,
        });
    }

    fn answers(&mut self) {
        self.pass(Duration::from_millis(5));
        let result = CheckResult {
            service: "shop".to_owned(),
            latency: Duration::from_millis(1),
            failure: None,
        };
        self.signal(&Signal::Check { result });
    }

    fn runs(&mut self, pid: u32) {
        self.starts(pid);
        self.answers();
    }

    fn exits(&mut self, pid: u32, status: u32) {
        self.kernel(|header| {
            let task = task(pid, "shop");
            Event::ProcessExit(ProcessExit {
                header,
                task,
                parent_pid: 500,
                status,
                lifetime_ns: 5,
            })
        });
    }

    fn effect(&mut self, permit: &Permit, result: EffectResult) {
        let acted = matches!(result, EffectResult::Done { .. }).then_some(self.now);
        let effect = Effect {
            incident: permit.incident(),
            action: permit.action().to_owned(),
            acted,
            finished: self.now,
            result,
            undo: None,
        };
        self.signal(&Signal::Effect { effect });
    }

    /// The permit given last, which must be there and be the only one.
    fn permit(&mut self) -> Permit {
        assert_eq!(self.permits.len(), 1, "{:#?}", self.permits);
        self.permits.pop().expect("it is there")
    }

    /// Carries out a restart that works.
    fn restarts(&mut self, pid: u32) {
        let permit = self.permit();
        assert_eq!(permit.action(), "restart_service");
        self.starts(pid);
        self.effect(
            &permit,
            EffectResult::Done {
                detail: String::new(),
            },
        );
    }

    fn incident(&self, id: u64) -> &Incident {
        self.engine
            .incident(IncidentId(id))
            .expect("there is such an incident")
    }

    fn refused_by(&self, id: u64) -> String {
        let steps = self.incident(id).steps.iter().rev();
        let mut refused =
            steps.filter(|step| matches!(step.what, StepKind::Refused | StepKind::Escalated));
        refused
            .next()
            .map(|step| step.detail.clone())
            .unwrap_or_default()
    }
}

#[test]
fn a_crash_is_repaired_and_proven_by_the_services_own_answer() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    assert_eq!(
        scene.incident(1).state,
        State::Verifying,
        "started is not yet proven"
    );
    scene.answers();
    let incident = scene.incident(1);
    assert_eq!(
        (incident.state, incident.outcome),
        (State::Resolved, Some(Outcome::Fixed))
    );
    assert!(
        incident
            .evidence
            .facts
            .iter()
            .any(|(_, value)| value == "killed by SIGKILL (9)")
    );
}

#[test]
fn without_consent_nothing_is_done() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    scene.exits(700, 0);
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
    assert!(
        scene.refused_by(1).starts_with("consent:"),
        "{}",
        scene.refused_by(1)
    );
}

#[test]
fn a_crash_loop_waits_longer_each_time_then_is_given_up_and_tried_once_an_hour() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    let mut pid = 700;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let crashed = scene.now;
        scene.exits(pid, 256);
        while scene.permits.is_empty() {
            scene.pass(Duration::from_millis(100));
        }
        waits.push(scene.now.since(crashed).as_secs());
        pid += 1;
        scene.restarts(pid);
        scene.answers();
    }
    // Each wait counts from the action before, so it is a little shorter after a crash than the full 1, 2, 4, 8 s.
    assert_eq!(waits.first(), Some(&0), "the first is immediate");
    assert!(
        waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[4] >= 7,
        "{waits:?}"
    );
    scene.exits(pid, 256);
    scene.pass(Duration::from_mins(50));
    assert!(scene.permits.is_empty(), "it was given up");
    assert_eq!(scene.incident(6).state, State::Escalated);
    scene.pass(Duration::from_secs(700));
    scene.restarts(pid + 1);
    scene.answers();
    assert_eq!(scene.incident(6).outcome, Some(Outcome::Fixed));
    scene.exits(pid + 1, 256);
    scene.pass(Duration::from_mins(50));
    assert!(
        scene.permits.is_empty(),
        "one good try does not close the breaker"
    );
}

#[test]
fn an_act_without_effect_is_no_success() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.pass(Duration::from_millis(10_005));
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::NoEffect), "{incident:#?}");
    assert!(!incident.is_over());
}

#[test]
fn what_goes_down_again_at_once_is_not_waited_for() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.pass(Duration::from_millis(20));
    scene.exits(701, 256);
    assert_eq!(scene.incident(1).outcome, Some(Outcome::NoEffect));
    scene.pass(Duration::from_secs(2));
    scene.restarts(702);
    scene.answers();
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

#[test]
fn an_end_that_is_heard_of_before_the_effect_counts_all_the_same() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    let permit = scene.permit();
    let acted = scene.now;
    scene.starts(701);
    scene.pass(Duration::from_millis(1));
    let change = ServiceSignal::Exited {
        process: key(701),
        status: Some(256),
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
    let effect = Effect {
        incident: permit.incident(),
        action: permit.action().to_owned(),
        acted: Some(acted),
        finished: scene.now,
        result: EffectResult::Done {
            detail: String::new(),
        },
        undo: None,
    };
    scene.signal(&Signal::Effect { effect });
    assert_eq!(scene.incident(1).outcome, Some(Outcome::NoEffect));
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.permits.len(), 1, "it is tried again at once");
}

const CONNECT: &str = r#"
[[remedy]]
detector = "connect_failure"
on = ["shop"]
action = "kill_process"
severity = "critical"
"#;

/// A connection to this IPv4 address, made (error 0) or not.
fn attempt(header: Header, error: u32, peer: [u8; 4], peer_port: u16) -> TcpConnect {
    let mut peer_address = [0; 16];
    for (to, from) in peer_address.iter_mut().zip(peer) {
        *to = from;
    }
    TcpConnect {
        header,
        task: task(900, "client"),
        flow: Flow {
            local_address: [0; 16],
            peer_address,
            local_port: 40_000,
            peer_port,
            family: AF_INET,
            protocol: TCP,
        },
        latency_ns: 20_000,
        error,
        retransmits: 0,
        rtt_us: 0,
        drops: 0,
        drop_class: 0,
        reset: 0,
        elsewhere: 0,
    }
}

fn connect(scene: &mut Scene, error: u32) {
    scene.kernel(|header| Event::TcpConnect(attempt(header, error, [127, 0, 0, 1], 8080)));
}

#[test]
fn a_service_is_not_blamed_for_connections_of_another_network_namespace() {
    for (elsewhere, raised) in [(0, 1), (1, 0)] {
        let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
        scene.runs(700);
        scene.pass(Duration::from_mins(2));
        for _ in 0..5 {
            scene.kernel(|header| {
                Event::TcpConnect(TcpConnect {
                    elsewhere,
                    ..attempt(header, 111, [127, 0, 0, 1], 8080)
                })
            });
        }
        assert_eq!(scene.engine.open_incidents().count(), raised, "{elsewhere}");
    }
}

#[test]
fn a_destructive_act_is_refused_when_its_evidence_overlaps_a_loss() {
    for (lossy, allowed) in [(false, true), (true, false)] {
        let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
        scene.runs(700);
        connect(&mut scene, 111);
        scene.pass(Duration::from_millis(10));
        let probe = if lossy {
            Kind::TcpConnect
        } else {
            Kind::ProcessFork
        };
        scene.signal(&Signal::Loss { probe, lost: 1 });
        connect(&mut scene, 111);
        connect(&mut scene, 111);
        assert_eq!(
            !scene.permits.is_empty(),
            allowed,
            "losses of another probe do not matter"
        );
        if !allowed {
            assert!(
                scene.refused_by(1).starts_with("evidence_lost:"),
                "{}",
                scene.refused_by(1)
            );
        }
    }
}

#[test]
fn the_caller_of_a_failed_connection_is_never_the_one_to_be_ended() {
    let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
    scene.runs(700);
    for _ in 0..3 {
        connect(&mut scene, 111);
    }
    let permit = scene.permit();
    let Plan::KillProcess { process, .. } = permit.plan() else {
        panic!("not a kill: {permit:?}")
    };
    assert_eq!(*process, key(700), "the caller is process 900");
}

#[test]
fn a_service_that_starts_slowly_is_not_blamed_for_it() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{CONNECT}"));
    scene.starts(700);
    for _ in 0..50 {
        connect(&mut scene, 111);
        let failure = Some(CheckFailure::Connect("refused".to_owned()));
        let latency = Duration::from_millis(1);
        scene.pass(Duration::from_millis(100));
        let result = CheckResult {
            service: "shop".to_owned(),
            latency,
            failure,
        };
        scene.signal(&Signal::Check { result });
    }
    assert!(scene.permits.is_empty() && scene.engine.open_incidents().next().is_none());
    scene.pass(Duration::from_mins(2));
    for _ in 0..3 {
        connect(&mut scene, 111);
    }
    assert_eq!(scene.permits.len(), 1, "its grace is over");
}

#[test]
fn consent_given_later_counts_for_what_is_open() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.permits.is_empty());
    scene
        .engine
        .reconfigure(settings(&format!("{SERVICE}{RESTART}")));
    scene.pass(Duration::from_millis(1));
    scene.restarts(701);
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
    scene.runs(700);
    for error in [111, 111, 0, 111, 111, 0] {
        connect(&mut scene, error);
    }
    assert!(scene.engine.open_incidents().next().is_none());
}

#[test]
fn a_service_that_is_down_is_not_blamed_for_refusing_connections() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{CONNECT}"));
    scene.runs(700);
    scene.exits(700, 9);
    for _ in 0..10 {
        connect(&mut scene, 111);
    }
    scene.restarts(701);
    for _ in 0..10 {
        connect(&mut scene, 111);
    }
    scene.answers();
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert!(scene.permits.is_empty(), "one cause, one action");
}

const RUNAWAY: &str = r#"
[detectors.runaway_cpu]
for = "2s"
scope = "all"
[[process]]
name = "batch"
comm = ["cruncher", "sshd", "helper"]
[[remedy]]
detector = "runaway_cpu"
on = ["batch"]
action = "kill_process"
"#;

/// Ten seconds in which a process takes a whole core.
fn runs_away(scene: &mut Scene, pid: u32, comm: &str) {
    for second in 0..10_u64 {
        let usage = ProcessUsage {
            process: key(pid),
            comm: comm.to_owned(),
            cpu_ns: second * 1_000_000_000,
            resident: 1 << 20,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        scene.signal(&Signal::Sample {
            sample: Sample::Processes {
                processes: vec![usage],
            },
        });
        scene.pass(Duration::from_secs(1));
    }
}

#[test]
fn what_is_not_named_or_is_protected_is_never_ended() {
    for (pid, comm, guard) in [
        (800, "cruncher", None),
        (800, "database", Some("consent:")),
        (800, "sshd", Some("protected_subject:")),
        (1, "helper", Some("protected_subject:")),
        (500, "helper", Some("protected_subject:")),
    ] {
        let mut scene = Scene::new(RUNAWAY);
        runs_away(&mut scene, pid, comm);
        match guard {
            None => assert_eq!(scene.permit().action(), "kill_process"),
            Some(guard) => {
                assert!(
                    scene.permits.is_empty(),
                    "{comm} [{pid}] would have been killed"
                );
                assert!(
                    scene.refused_by(1).starts_with(guard),
                    "{}",
                    scene.refused_by(1)
                );
            }
        }
    }
}

#[test]
fn a_short_burst_is_no_runaway() {
    let mut scene = Scene::new(RUNAWAY);
    for (second, cpu) in [
        (0, 0),
        (1, 1_000),
        (2, 1_800),
        (3, 1_900),
        (4, 2_900),
        (5, 3_000_u64),
    ] {
        let usage = ProcessUsage {
            process: key(800),
            comm: "cruncher".to_owned(),
            cpu_ns: cpu * 1_000_000,
            resident: 1,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        assert!(second <= 5);
        scene.signal(&Signal::Sample {
            sample: Sample::Processes {
                processes: vec![usage],
            },
        });
        scene.pass(Duration::from_secs(1));
    }
    assert!(scene.engine.open_incidents().next().is_none());
}

const MEMORY: &str = r#"
[[process]]
name = "batch"
comm = ["small", "large"]
[[remedy]]
detector = "memory_pressure"
on = ["batch"]
action = "kill_process"
"#;

fn memory(scene: &mut Scene, processes: &[(u32, &str, u64)], available: u64, pressed: bool) {
    let processes = processes.iter().map(|(pid, comm, mib)| ProcessUsage {
        process: key(*pid),
        comm: (*comm).to_owned(),
        cpu_ns: 0,
        resident: mib << 20,
        major_faults: 0,
        run_delay_ns: 0,
        blocked: Vec::new(),
    });
    let table = Sample::Processes {
        processes: processes.collect(),
    };
    if pressed {
        let sample = Sample::MemoryPressure {
            some_avg10: 2_000,
            full_avg10: 500,
        };
        scene.signal(&Signal::Sample { sample });
    }
    scene.signal(&Signal::Sample { sample: table });
    let sample = Sample::Memory {
        total: 1000 << 20,
        available: available << 20,
    };
    scene.signal(&Signal::Sample { sample });
    scene.pass(Duration::from_secs(1));
}

#[test]
fn the_host_gives_up_the_named_process_whose_end_suffices() {
    let mut scene = Scene::new(MEMORY);
    let table = [
        (800, "small", 10),
        (801, "large", 300),
        (802, "database", 600),
    ];
    memory(&mut scene, &table, 500, false);
    memory(&mut scene, &table, 40, true);
    let permit = scene.permit();
    assert_eq!(
        scene.incident(1).evidence.process,
        Some(key(801)),
        "{:#?}",
        scene.incident(1)
    );
    scene.effect(
        &permit,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    memory(
        &mut scene,
        &[(800, "small", 10), (802, "database", 600)],
        340,
        false,
    );
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

#[test]
fn pressure_alone_or_a_low_level_alone_kills_nothing() {
    let table = [(801, "large", 900)];
    let mut scene = Scene::new(MEMORY);
    for _ in 0..10 {
        memory(&mut scene, &table, 500, true);
    }
    assert!(
        scene.engine.open_incidents().next().is_none(),
        "there is enough memory"
    );
    let mut scene = Scene::new(MEMORY);
    for _ in 0..10 {
        memory(&mut scene, &table, 40, false);
    }
    assert!(
        scene.engine.open_incidents().next().is_none(),
        "nothing stalls"
    );
}

#[test]
fn when_only_a_stranger_would_do_it_is_proposed_and_not_done() {
    let mut scene = Scene::new(MEMORY);
    let table = [(800, "small", 10), (802, "database", 900)];
    memory(&mut scene, &table, 500, false);
    memory(&mut scene, &table, 20, true);
    assert!(scene.permits.is_empty());
    assert!(scene.incident(1).subject.to_string().contains("database"));
    assert!(scene.refused_by(1).starts_with("consent:"));
}

#[test]
fn a_kill_of_ours_is_named_as_the_cause_and_does_not_hold_up_the_restart() {
    let kill =
        "[[remedy]]\ndetector = \"memory_pressure\"\non = [\"*\"]\naction = \"kill_process\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{kill}"));
    scene.runs(700);
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(700),
        resident: 101 << 20,
    };
    scene.signal(&Signal::Sample { sample });
    let killed = scene.permit();
    assert_eq!(killed.action(), "kill_process");
    scene.exits(700, 9);
    assert_eq!(scene.incident(2).caused_by, Some(IncidentId(1)));
    scene.restarts(701);
    scene.effect(
        &killed,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    let change = ServiceSignal::Exited {
        process: key(700),
        status: Some(9),
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
    scene.answers();
    for id in [1, 2] {
        assert_eq!(
            scene.incident(id).outcome,
            Some(Outcome::Fixed),
            "{:#?}",
            scene.incident(id)
        );
    }
}

#[test]
fn nothing_acts_while_the_journal_cannot_be_written_and_everything_after() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.engine.halt(Some(
        "cannot write the journal: no space left on device".to_owned(),
    ));
    scene.exits(700, 9);
    scene.pass(Duration::from_mins(1));
    assert!(scene.permits.is_empty());
    assert!(scene.refused_by(1).starts_with("journal:"));
    scene.engine.halt(None);
    scene.pass(Duration::from_secs(6));
    scene.restarts(701);
}

#[test]
fn a_dry_run_names_the_action_where_the_audit_looks_for_it() {
    let mut scene = Scene::new(&format!("[policy]\ndry_run = true\n{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.permits.is_empty());
    let said = scene.refused_by(1);
    assert!(said.starts_with("dry_run: "), "{said}");
    assert!(said.ends_with(" would have done restart_service"), "{said}");
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::WouldHave));
    assert!(incident.rule.is_some(), "and the rule: {incident:#?}");
}

#[test]
fn a_hanging_service_is_restarted_and_its_exit_is_no_incident_of_its_own() {
    let latency =
        "[[remedy]]\ndetector = \"latency_spike\"\non = [\"*\"]\naction = \"restart_service\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{latency}"));
    scene.runs(700);
    for _ in 0..3 {
        scene.pass(Duration::from_secs(7));
        let failure = Some(CheckFailure::Timeout);
        let result = CheckResult {
            service: "shop".to_owned(),
            latency: Duration::from_secs(6),
            failure,
        };
        scene.signal(&Signal::Check { result });
    }
    let permit = scene.permit();
    scene.exits(700, 15);
    scene.starts(701);
    scene.effect(
        &permit,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    scene.answers();
    assert_eq!(
        scene.incident(1).outcome,
        Some(Outcome::Fixed),
        "{:#?}",
        scene.incident(1)
    );
    assert!(scene.engine.incident(IncidentId(2)).is_none());
}

#[test]
fn long_waits_for_a_cpu_are_seen_and_end_with_a_quiet_window() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    for _ in 0..20 {
        scene.kernel(|header| {
            Event::RunQueueLatency(RunQueueLatency {
                header,
                task: task(700, "shop"),
                wait_ns: 30_000_000,
                previous_pid: 900,
                quota: 0,
                throttled_ns: 0,
                idle_ns: 0,
                others_ns: 0,
                forgotten_ns: 0,
                culprits: Default::default(),
                previous_comm: [0; 16],
            })
        });
    }
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.incident(1).actions, 0);
}

#[test]
fn ten_thousand_incidents_leave_a_bounded_book() {
    let mut scene = Scene::new(&format!(
        "{SERVICE}[detectors.connect_failure]\nfailures = 1\nscope = \"all\"\n"
    ));
    for n in 0..10_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        scene.kernel(|header| Event::TcpConnect(attempt(header, 111, [10, 0, high, low], 1)));
    }
    let open = scene.engine.open_incidents().count();
    assert_eq!(
        open,
        smart_monitor::model::view::OPEN,
        "and those over it are counted, not kept"
    );
}

/// A host with one process that ignores SIGTERM, and what was done to it.
#[derive(Debug, Default)]
struct Stubborn(std::sync::Arc<Mutex<Vec<&'static str>>>);

#[derive(Debug)]
struct Held(std::sync::Arc<Mutex<Vec<&'static str>>>);

impl Held {
    fn did(&self, what: &'static str) {
        self.0.lock().expect("nobody panics with it").push(what);
    }
}

impl Opened for Held {
    fn terminate(&self) -> Result<(), HostError> {
        self.did("TERM");
        Ok(())
    }

    fn kill(&self) -> Result<(), HostError> {
        self.did("KILL");
        Ok(())
    }

    fn wait(&self, _: Duration) -> Result<bool, HostError> {
        self.did("wait");
        Ok(self
            .0
            .lock()
            .expect("nobody panics with it")
            .contains(&"KILL"))
    }

    fn release_memory(&self) {
        self.did("release");
    }

    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        self.did("renice");
        Ok(Reniced {
            before: vec![(1, 0)],
            changed: usize::from(want(1, 0) != 0),
            ..Reniced::default()
        })
    }
}

impl Host for Stubborn {
    fn open(&self, _: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held(self.0.clone())))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn now(&self) -> Time {
        Time::from_nanos(1)
    }
}

#[test]
fn a_process_is_asked_first_and_killed_only_when_it_stays() {
    for (grace, expected) in [
        ("5s", vec!["TERM", "wait", "KILL", "release", "wait"]),
        ("0s", vec!["KILL", "release", "wait"]),
    ] {
        let mut scene = Scene::new(&RUNAWAY.replace(
            "action = \"kill_process\"",
            &format!("action = \"kill_process\"\nterm_grace = \"{grace}\""),
        ));
        runs_away(&mut scene, 800, "cruncher");
        let permit = scene.permit();
        let host = Stubborn::default();
        let struck: Option<Struck> = actions::strike(&permit, &host).expect("it is there");
        assert!(
            struck.is_some(),
            "the first signal is sent on the hot thread"
        );
        let effect = actions::execute(permit, struck, &host);
        assert!(
            matches!(effect.result, EffectResult::Done { .. }),
            "{effect:?}"
        );
        assert_eq!(*host.0.lock().expect("nobody panics with it"), expected);
    }
}

#[test]
fn a_runaway_process_is_let_wait_and_what_it_had_is_known() {
    let mut scene = Scene::new(&RUNAWAY.replace(
        "action = \"kill_process\"",
        "action = \"lower_priority\"\nnice = 15",
    ));
    runs_away(&mut scene, 800, "cruncher");
    let permit = scene.permit();
    let Plan::LowerPriority { process, nice, .. } = *permit.plan() else {
        panic!("{permit:?}");
    };
    assert_eq!((process.pid, nice), (800, 15));
    let host = Stubborn::default();
    let struck = actions::strike(&permit, &host).expect("it has none");
    assert!(
        struck.is_none(),
        "thousands of threads are nothing for the hot thread"
    );
    let effect = actions::execute(permit, struck, &host);
    assert!(
        matches!(effect.result, EffectResult::Done { .. }),
        "{effect:?}"
    );
    let undo = Plan::RestorePriority {
        process,
        comm: "cruncher".to_owned(),
        nice: vec![(1, 0)],
    };
    assert_eq!(effect.undo, Some(undo));
    assert_eq!(
        *host.0.lock().expect("nobody panics with it"),
        ["renice"],
        "nothing is ended"
    );
}

#[test]
fn an_answer_of_something_else_does_not_bring_a_dead_service_back() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.exits(701, 256);
    scene.answers();
    assert!(
        !scene.incident(1).is_over(),
        "another program answers on its port"
    );
    for _ in 0..10 {
        scene.pass(Duration::from_secs(1));
        scene.answers();
    }
    assert_eq!(scene.permits.len(), 1, "and it is tried again");
}

#[test]
fn what_is_no_longer_configured_leaves_no_open_incident() {
    let mut scene = Scene::new(&format!(
        "{SERVICE}[detectors.connect_failure]\nfailures = 1\n"
    ));
    scene.runs(700);
    connect(&mut scene, 111);
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.engine.reconfigure(settings(""));
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.engine.open_incidents().count(), 0);
}
