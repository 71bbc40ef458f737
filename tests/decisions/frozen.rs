//! What an incident keeps of the host as it was when it was raised.

use std::time::Duration;

use monitor_common::probes::memory_ceiling::{OBSERVED, SPARED};
use monitor_common::probes::process_signal::ProcessSignal;
use monitor_common::{Event, Kind};
use smart_monitor::detectors;
use smart_monitor::kernel::decode;
use smart_monitor::model::evidence::{Frozen, TopProcess};
use smart_monitor::model::{HostLoad, IncidentId, ProcessUsage, Sample, Severity, Signal};

use super::killed::crossed;
use super::{RESTART, SERVICE, Scene, key, task};

fn uses(pid: u32, cpu_ms: u64, resident: u64) -> ProcessUsage {
    ProcessUsage {
        process: key(pid),
        comm: format!("p{pid}"),
        cpu_ns: cpu_ms * 1_000_000,
        resident,
        major_faults: 0,
        run_delay_ns: 0,
        blocked: Vec::new(),
    }
}

fn sampled(scene: &mut Scene, sample: Sample) {
    scene.signal(&Signal::Sample { sample });
}

fn frozen(scene: &Scene, id: u64) -> Frozen {
    let frozen = scene.incident(id).evidence.frozen.clone();
    *frozen.expect("it was frozen")
}

#[test]
fn an_incident_keeps_the_host_as_it_was() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    let load = HostLoad {
        cpus: 2,
        load1: 120,
        ..HostLoad::default()
    };
    sampled(&mut scene, Sample::Load { load });
    let processes = vec![uses(700, 0, 5), uses(800, 0, 9)];
    sampled(&mut scene, Sample::Processes { processes });
    scene.pass(Duration::from_secs(1));
    let processes = vec![uses(700, 500, 5), uses(800, 0, 9)];
    sampled(&mut scene, Sample::Processes { processes });
    let signal = |pid: u32| {
        move |header| {
            Event::ProcessSignal(ProcessSignal {
                header,
                task: task(pid, "any"),
                signal: 9,
                result: 0,
                sender_pid: 9,
                padding: 0,
                sender_comm: task(9, "killer").comm,
            })
        }
    };
    scene.kernel(signal(700));
    scene.kernel(signal(900));
    scene.exits(700, 9);
    let first = frozen(&scene, 1);
    let kinds: Vec<Kind> = first.events.iter().map(Event::kind).collect();
    assert_eq!(
        kinds,
        [Kind::ProcessSignal, Kind::ProcessExit],
        "{first:#?}"
    );
    assert!(first.events.iter().all(|event| event.task().pid == 700));
    assert_eq!(first.load, Some(load));
    let top = first
        .top
        .iter()
        .map(|top| (top.process, top.cpu, top.resident));
    assert_eq!(
        top.collect::<Vec<_>>(),
        [(key(700), 5_000, 5), (key(800), 0, 9)]
    );

    // What comes later is not how it was.
    let load = HostLoad::default();
    sampled(&mut scene, Sample::Load { load });
    scene.exits(800, 0);
    assert_eq!(frozen(&scene, 1), first);

    // Its log is found out afterwards, once, and is bounded.
    let lines: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    scene.engine.attach_log(IncidentId(1), lines);
    let other = vec!["other".to_owned()];
    scene.engine.attach_log(IncidentId(1), other);
    scene.engine.attach_log(IncidentId(99), Vec::new());
    let log = frozen(&scene, 1).log;
    assert_eq!(
        (log.len(), log.first().map(String::as_str)),
        (Frozen::LOG, Some("0"))
    );
}

#[test]
fn worse_evidence_leaves_what_was_frozen_first() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    let mut severities = Vec::new();
    for (load1, verdict) in [(100, SPARED), (900, OBSERVED)] {
        let load = HostLoad {
            load1,
            ..HostLoad::default()
        };
        sampled(&mut scene, Sample::Load { load });
        crossed(&mut scene, 700, "shop", verdict, 1);
        let incident = scene.incident(1);
        severities.push(incident.severity);
        let kept = incident.evidence.frozen.as_ref().and_then(|it| it.load);
        assert_eq!(kept.map(|load| load.load1), Some(100));
    }
    assert_eq!(severities, [Severity::Warning, Severity::Critical]);
}

/// An event of this kind about process 700, of which every other byte is this one.
fn filled(kind: Kind, byte: u8, time_ns: u64) -> Event {
    let size = u32::try_from(kind.size()).expect("small");
    let mut bytes = kind.number().to_ne_bytes().to_vec();
    bytes.extend([byte; 2]);
    bytes.extend(size.to_ne_bytes());
    bytes.extend(time_ns.to_ne_bytes());
    bytes.resize(kind.size(), byte);
    let mut event = decode(&bytes).expect("well formed");
    let own = task(700, "shop");
    event.task_mut().pid = own.pid;
    event.task_mut().start_time_ns = own.start_time_ns;
    event
}

/// What is frozen at the end of process 700 after so many events of a kind.
fn after(kind: Kind, byte: u8, times: usize) -> Frozen {
    let mut text = String::new();
    for spec in detectors::ALL {
        if spec.name != "service_down" {
            text += "[detectors.";
            text += spec.name;
            text += "]\nenabled = false\n";
        }
    }
    let mut scene = Scene::new(&(text + SERVICE));
    scene.runs(700);
    let now = u64::try_from(scene.now.nanos()).expect("positive");
    for _ in 0..times {
        let event = filled(kind, byte, now);
        scene.signal(&Signal::Kernel { event });
    }
    scene.exits(700, 9);
    frozen(&scene, 1)
}

#[test]
fn what_says_nothing_of_trouble_is_not_kept() {
    let kept = |kind: Kind| after(kind, 0, 1).events.iter().any(|it| it.kind() == kind);
    // All zeros is a connection that was made.
    let not: Vec<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| !kept(*kind))
        .collect();
    let expected = [
        Kind::TaskSnapshot,
        Kind::TcpConnect,
        Kind::CgroupChange,
        Kind::EventThrottle,
        Kind::BenchLoad,
        Kind::BenchEmpty,
        Kind::TcpRetransmit,
        Kind::DnsQuery,
    ];
    assert_eq!(not, expected);
}

#[test]
fn the_longest_lines_of_a_journal_stay_short() {
    let length = |frozen: &Frozen| serde_json::to_string(frozen).expect("it serializes").len();
    let all = Kind::ALL.iter().map(|kind| after(*kind, 0xff, 64));
    let mut longest = all.max_by_key(length).expect("there are some");
    assert!(longest.events.len() > 4, "{longest:#?}");
    let process = TopProcess {
        process: key(u32::MAX),
        comm: "\u{1}".repeat(15),
        cpu: u32::MAX,
        resident: u64::MAX,
    };
    longest.top = vec![process; Frozen::TOP];
    longest.load = Some(HostLoad {
        cpus: u32::MAX,
        load1: u32::MAX,
        ..HostLoad::default()
    });
    longest.log = vec!["\\".repeat(256); Frozen::LOG];
    let length = length(&longest);
    assert!(length < 27 << 10, "{length} bytes");
}
