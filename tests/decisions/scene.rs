//! A core without a host: what it is told, what it orders, and the time in which that happens.

use std::path::Path;
use std::time::Duration;

use monitor_common::flow::{AF_INET, TCP};
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::{Event, Flow, Header, Task};
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{
    CheckFailure, CheckResult, Effect, EffectResult, Incident, IncidentId, Plan, ProcessKey,
    Request, ServiceSignal, Signal, Time,
};
use smart_monitor::policy::Permit;

pub(crate) const SERVICE: &str = r#"
[[service]]
name = "shop"
kind = "command"
command = ["shop"]
listen = ["127.0.0.1:8080"]
memory_max = "100MiB"
check = { tcp = "127.0.0.1:8080" }
"#;

pub(crate) const RESTART: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#;

/// A core, its time, and what it ordered.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
    pub(crate) permits: Vec<Permit>,
}

pub(crate) fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: u64::from(pid),
    }
}

pub(crate) fn task(pid: u32, comm: &str) -> Task {
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

pub(crate) fn settings(text: &str) -> Settings {
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
        folders: config.folders,
        protected_pids: vec![1, 500],
        networks: config.networks,
        probes_off: Vec::new(),
    }
}

impl Scene {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            engine: Engine::new(settings(text), IncidentId(1)),
            now: Time::from_nanos(1_000_000_000_000),
            permits: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            if let Order::Execute { permit, .. } = order {
                self.permits.push(permit);
            }
        }
    }

    pub(crate) fn signal(&mut self, signal: &Signal) {
        let mut orders = Vec::new();
        self.engine.observe(signal, self.now, self.now, &mut orders);
        self.take(orders);
    }

    /// Time passes; the core is woken when it wants to be.
    pub(crate) fn pass(&mut self, time: Duration) {
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

    pub(crate) fn kernel(&mut self, event: impl FnOnce(Header) -> Event) {
        let time_ns = u64::try_from(self.now.nanos()).expect("it is positive");
        let event = event(Header {
            kind: 0,
            cpu: 0,
            size: 0,
            time_ns,
        });
        self.signal(&Signal::Kernel { event });
    }

    pub(crate) fn starts(&mut self, pid: u32) {
        self.starts_as("shop", pid);
    }

    pub(crate) fn starts_as(&mut self, service: &str, pid: u32) {
        let change = ServiceSignal::Started {
            process: key(pid),
            adopted: false,
            cgroup_id: 0,
        };
        self.signal(&Signal::Service {
            service: service.to_owned(),
            change,
        });
    }

    /// A check that was sent just now.
    pub(crate) fn checked(&mut self, service: &str, failure: Option<CheckFailure>) {
        let result = CheckResult::new(service, Duration::ZERO, failure);
        self.signal(&Signal::Check { result });
    }

    pub(crate) fn person(&mut self, request: Request) {
        let by = "ann".to_owned();
        self.signal(&Signal::Person { by, request });
    }

    pub(crate) fn reconfigure(&mut self, text: &str) {
        self.engine.reconfigure(settings(text));
        self.pass(Duration::from_millis(1));
    }

    pub(crate) fn answers(&mut self) {
        self.pass(Duration::from_millis(5));
        let result = CheckResult::new("shop", Duration::from_millis(1), None);
        self.signal(&Signal::Check { result });
    }

    pub(crate) fn runs(&mut self, pid: u32) {
        self.starts(pid);
        self.answers();
    }

    pub(crate) fn exits(&mut self, pid: u32, status: u32) {
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

    pub(crate) fn effect(&mut self, permit: &Permit, result: EffectResult) {
        self.effect_with(permit, result, None);
    }

    /// It was done, and that is what was read back from the host.
    pub(crate) fn verified(&mut self, permit: &Permit, read: &str) {
        let effect = Effect {
            incident: permit.incident(),
            action: permit.action().to_owned(),
            acted: Some(self.now),
            finished: self.now,
            result: done(),
            verified: Some(read.to_owned()),
            undo: None,
        };
        self.signal(&Signal::Effect { effect });
    }

    pub(crate) fn effect_with(
        &mut self,
        permit: &Permit,
        result: EffectResult,
        undo: Option<Plan>,
    ) {
        let acted = matches!(result, EffectResult::Done { .. }).then_some(self.now);
        let effect = Effect {
            incident: permit.incident(),
            action: permit.action().to_owned(),
            acted,
            finished: self.now,
            result,
            verified: None,
            undo,
        };
        self.signal(&Signal::Effect { effect });
    }

    /// The permit given last, which must be there and be the only one.
    pub(crate) fn permit(&mut self) -> Permit {
        assert_eq!(self.permits.len(), 1, "{:#?}", self.permits);
        self.permits.pop().expect("it is there")
    }

    /// Carries out a restart that works.
    pub(crate) fn restarts(&mut self, pid: u32) {
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

    pub(crate) fn incident(&self, id: u64) -> &Incident {
        self.engine
            .incident(IncidentId(id))
            .expect("there is such an incident")
    }

    pub(crate) fn refused_by(&self, id: u64) -> String {
        let steps = self.incident(id).steps.iter().rev();
        let mut refused =
            steps.filter(|step| matches!(step.what, StepKind::Refused | StepKind::Escalated));
        refused
            .next()
            .map(|step| step.detail.clone())
            .unwrap_or_default()
    }
}

/// A connection to this IPv4 address, made (error 0) or not.
pub(crate) fn attempt(header: Header, error: u32, peer: [u8; 4], peer_port: u16) -> TcpConnect {
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

pub(crate) fn connect(scene: &mut Scene, error: u32) {
    scene.kernel(|header| Event::TcpConnect(attempt(header, error, [127, 0, 0, 1], 8080)));
}

pub(crate) fn done() -> EffectResult {
    EffectResult::Done {
        detail: String::new(),
    }
}
