//! Every guard alone and every two of them together; and what comes before there is something to ask a guard about.

use std::collections::BTreeSet;
use std::time::Duration;

use monitor_common::Kind;
use smart_monitor::model::action::Risk;
use smart_monitor::model::{
    Evidence, Healer, HostLoad, Incident, IncidentId, Named, Outcome, Plan, Service, Severity,
    Silence, Subject, Time, World,
};
use smart_monitor::policy::{
    Approved, Config, Group, Policy, Proposal, Remedy, Rung, With, guards,
};

use super::{SERVICE, key};

/// Everything that guards look at, such that none of them refuses.
struct Ask {
    config: Config,
    world: World,
    remedy: Remedy,
    rung: Rung,
    approved: Option<Plan>,
    busy: Vec<(Subject, IncidentId)>,
    lost: Option<Time>,
    halted: Option<&'static str>,
    silences: Vec<Silence>,
    /// Past actions of the same rule: on whom, how long ago, what came of them.
    past: Vec<(&'static str, u64, Option<Outcome>)>,
}

const ACTION: &str = "kill_process";

fn now() -> Time {
    Time::default().after(Duration::from_secs(10_000))
}

fn ago(seconds: u64) -> Time {
    now().before(Duration::from_secs(seconds))
}

fn incident(name: &str, opened: Time) -> Incident {
    let evidence = Evidence::at(opened)
        .from_probe(Kind::TcpConnect)
        .since(opened.before(Duration::from_secs(1)))
        .about(key(700), name);
    let subject = Subject::service(name);
    let severity = Severity::Critical;
    Incident::new(
        IncidentId(1),
        "connect_failure",
        subject,
        severity,
        evidence,
        opened,
    )
}

fn plan(pid: u32) -> Plan {
    Plan::KillProcess {
        process: key(pid),
        comm: "shop".to_owned(),
        term_grace: Duration::ZERO,
        named: false,
    }
}

impl Ask {
    fn new() -> Self {
        let rung = Rung {
            action: ACTION.to_owned(),
            when: None,
            attempts: None,
            verify_within: Duration::from_secs(10),
            term_grace: Duration::ZERO,
            nice: 10,
            approval: None,
            undo_after: None,
            with: With::new(),
        };
        let mut world = World::default();
        for name in ["shop", "database"] {
            let mut service = Service::new(name);
            service.process = (name == "shop").then(|| key(700));
            world.services.insert(service);
        }
        Self {
            config: Config::default(),
            world,
            remedy: Remedy {
                name: "rule".to_owned(),
                detector: "connect_failure".to_owned(),
                on: vec!["shop".to_owned()],
                severity: Severity::Critical,
                when: None,
                hold: Duration::ZERO,
                dry_run: false,
                steps: vec![rung.clone()],
            },
            rung,
            approved: None,
            busy: Vec::new(),
            lost: None,
            halted: None,
            silences: Vec::new(),
            past: Vec::new(),
        }
    }

    /// The guard that refuses; none when it is permitted.
    fn refused_by(&self) -> Option<String> {
        let mut policy = Policy::new(self.config.clone());
        for (name, seconds, outcome) in &self.past {
            let incident = incident(name, ago(*seconds));
            policy.remember(ACTION, "rule", &incident, ago(*seconds));
            if let Some(outcome) = outcome {
                policy.judged(ACTION, "rule", &incident, *outcome, ago(*seconds));
            }
        }
        for silence in &self.silences {
            assert!(policy.schedules_mut().add(silence.clone()));
        }
        policy.schedules_mut().pass(now(), Some(0));
        let incident = incident("shop", ago(5));
        let busy: Vec<(&Subject, IncidentId)> =
            self.busy.iter().map(|(busy, id)| (busy, *id)).collect();
        let proposal = Proposal {
            action: ACTION,
            risk: Risk::Destructive,
            plan: plan(700),
            incident: &incident,
            symptom: false,
            remedy: &self.remedy,
            rung: &self.rung,
            approved: self
                .approved
                .as_ref()
                .map(|plan| Approved { by: "ann", plan }),
            busy: &busy,
            lost: self.lost,
            world: &self.world,
            halted: self.halted,
        };
        match policy.decide(proposal, now()) {
            Ok(permit) => {
                assert_eq!((permit.action(), permit.plan()), (ACTION, &plan(700)));
                None
            }
            Err(refusing) => Some(refusing.refusal.guard),
        }
    }
}

type Active = fn(&mut Ask);

/// What makes each guard refuse, and no other one.
const SCENES: &[(&str, Active)] = &[
    ("protected_subject", |ask| {
        ask.world.protected_pids.push(700);
    }),
    ("observe_only", |ask| {
        let mut service = Service::new("shop");
        service.process = Some(key(700));
        service.observe_only = true;
        ask.world.services.insert(service);
    }),
    ("identity", |ask| ask.approved = Some(plan(701))),
    ("journal", |ask| {
        ask.halted = Some("no space left on device");
    }),
    ("early_boot", |ask| {
        ask.config.boot_grace = smart_monitor::config::units::Span::seconds(10_001);
    }),
    ("silence", |ask| {
        ask.silences.push(Silence {
            id: 1,
            on: "shop".to_owned(),
            detector: None,
            until: now().after(Duration::from_secs(1)),
            by: "ann".to_owned(),
            reason: "moving house".to_owned(),
        });
    }),
    ("maintenance", |ask| {
        let window = "[[maintenance]]\nname = \"always\"\non = [\"shop\"]\nschedule = \"* * * * *\"\nduration = \"5m\"\n";
        ask.config.calendar = super::settings(&format!("{SERVICE}{window}"))
            .policy
            .calendar;
    }),
    ("evidence_lost", |ask| ask.lost = Some(ago(5))),
    ("other_healer", |ask| {
        let healer = Healer {
            name: "systemd".to_owned(),
            patience: Duration::from_secs(30),
        };
        let named = Named {
            dry_run: false,
            healer: Some(healer),
        };
        ask.world.named.insert("shop".to_owned(), named);
    }),
    ("host_load", |ask| {
        ask.world.load = Some(HostLoad {
            memory_full: 9_000,
            ..HostLoad::default()
        });
    }),
    ("in_flight", |ask| {
        ask.busy.push((Subject::service("shop"), IncidentId(9)));
    }),
    ("limit", |ask| {
        ask.config.limit = 1;
        ask.past.push(("shop", 700, None));
    }),
    ("host_limit", |ask| ask.config.host_limit_per_hour = 0),
    ("cooldown", |ask| {
        ask.config.backoff_initial = smart_monitor::config::units::Span::seconds(60);
        ask.past.push(("shop", 10, None));
    }),
    ("blast_radius", |ask| {
        ask.config.groups.push(Group {
            name: "all".to_owned(),
            members: ["shop", "database"].map(str::to_owned).into(),
            max_acts: None,
            within: Duration::from_hours(1),
            max_share: Some(0.5),
        });
    }),
    ("circuit_breaker", |ask| {
        ask.config.breaker_after = 1;
        ask.past.push(("database", 10, Some(Outcome::NoEffect)));
    }),
    ("approval", |ask| {
        ask.rung.approval = Some(Duration::from_mins(1));
    }),
    ("dry_run", |ask| ask.remedy.dry_run = true),
];

fn refused(active: &[Active]) -> Option<String> {
    let mut ask = Ask::new();
    for active in active {
        active(&mut ask);
    }
    ask.refused_by()
}

#[test]
fn every_guard_refuses_alone_where_without_it_the_act_is_permitted() {
    assert_eq!(refused(&[]), None);
    for (name, active) in SCENES {
        assert_eq!(refused(&[*active]).as_deref(), Some(*name));
    }
    let shown: BTreeSet<&str> = SCENES.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = guards::ALL.iter().map(|guard| guard.name).collect();
    assert_eq!(
        shown, all,
        "a guard without a scene here, or a scene without a guard"
    );
}

#[test]
fn of_two_guards_the_first_refuses_and_each_still_does_without_the_other() {
    let place = |name: &str| guards::ALL.iter().position(|guard| guard.name == name);
    for (i, (name, active)) in SCENES.iter().enumerate() {
        for (later, after) in &SCENES[i + 1..] {
            assert!(
                place(name) < place(later),
                "scenes stand in the order of the guards"
            );
            // Nobody is asked to allow what would not be done.
            let unasked = (*name, *later) == (guards::APPROVAL, guards::DRY_RUN);
            let first = if unasked { later } else { name };
            let both = refused(&[*active, *after]);
            assert_eq!(both.as_deref(), Some(*first), "{name} and {later}");
            let turned = refused(&[*after, *active]);
            assert_eq!(turned, both, "whichever is brought about first");
        }
    }
}

#[test]
fn all_guards_but_one_still_refuse() {
    for (without, _) in SCENES {
        let others = SCENES.iter().filter(|(name, _)| name != without);
        let active: Vec<Active> = others.map(|(_, active)| *active).collect();
        let refused = refused(&active).expect("it is refused");
        let first = SCENES.iter().find(|(name, _)| name != without);
        assert_eq!(Some(&*refused), first.map(|(name, _)| *name));
    }
}

#[test]
fn an_overloaded_cpu_or_storage_stands_in_the_way_of_symptoms_only() {
    let mut ask = Ask::new();
    ask.world.load = Some(HostLoad {
        cpu_some: 9_900,
        io_full: 9_900,
        ..HostLoad::default()
    });
    assert_eq!(ask.refused_by(), None, "it is no symptom");
}

#[test]
fn most_actions_under_way_are_counted_whatever_they_are_for() {
    for (under_way, refused) in [(3, None), (4, Some("in_flight"))] {
        let mut ask = Ask::new();
        ask.busy = (0..under_way)
            .map(|n| (Subject::service(&format!("other-{n}")), IncidentId(n)))
            .collect();
        assert_eq!(ask.refused_by().as_deref(), refused);
    }
}

#[test]
fn a_host_limit_that_is_larger_than_a_targets_memory_holds_all_the_same() {
    let mut ask = Ask::new();
    ask.config.host_limit_per_hour = 2_000;
    ask.past = (0..2_000)
        .map(|n| ("database", 2_000 - n / 2, None))
        .collect();
    assert_eq!(ask.refused_by().as_deref(), Some("host_limit"));
    ask.past.pop();
    assert_eq!(ask.refused_by(), None);
}

#[test]
fn a_member_that_is_being_ended_counts_as_out_of_service() {
    let mut ask = Ask::new();
    SCENES
        .iter()
        .find(|(name, _)| *name == "blast_radius")
        .expect("it is there")
        .1(&mut ask);
    let started = ask
        .world
        .services
        .change("database", |database| database.process = Some(key(800)));
    assert!(started.is_some());
    assert_eq!(
        ask.refused_by(),
        None,
        "both serve: one of them may be ended"
    );
    ask.busy.push((Subject::service("database"), IncidentId(9)));
    assert_eq!(ask.refused_by().as_deref(), Some("blast_radius"));
}
