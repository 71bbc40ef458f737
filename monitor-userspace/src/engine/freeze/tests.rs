use monitor_common::probes::oom_kill::OomKill;
use monitor_common::probes::process_exec::{ARGV_LEN, ProcessExec};
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::probes::process_fork::ProcessFork;
use monitor_common::probes::process_signal::ProcessSignal;
use monitor_common::probes::run_queue_latency::{self, RunQueueLatency};
use monitor_common::{Header, Kind, Task};

use super::*;
use crate::engine::Settings;
use crate::model::{Evidence, IncidentId, Service, Severity};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_000 * SECOND;

fn task(pid: u32, cgroup_id: u64) -> Task {
    Task {
        pid,
        tid: pid,
        start_time_ns: u64::from(pid) * 10_000_000,
        cgroup_id,
        comm: *b"shop\0\0\0\0\0\0\0\0\0\0\0\0",
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey::from_task(&task(pid, 0))
}

fn exit(task: Task, at: u64, status: u32) -> Event {
    Event::ProcessExit(ProcessExit {
        header: Header::of::<ProcessExit>(0, at),
        task,
        parent_pid: 1,
        status,
        lifetime_ns: 5,
    })
}

fn fork(task: Task, at: u64, parent_pid: u32) -> Event {
    Event::ProcessFork(ProcessFork {
        header: Header::of::<ProcessFork>(0, at),
        task,
        parent_pid,
        padding: 0,
        parent_start_time_ns: 0,
    })
}

fn signal(task: Task, at: u64) -> Event {
    Event::ProcessSignal(ProcessSignal {
        header: Header::of::<ProcessSignal>(0, at),
        task,
        signal: 15,
        result: 0,
        sender_pid: 9,
        padding: 0,
        sender_comm: [0; 16],
    })
}

fn oom(task: Task, at: u64) -> Event {
    Event::OomKill(OomKill {
        header: Header::of::<OomKill>(0, at),
        task,
        anon_pages: 1,
        file_pages: 0,
        shmem_pages: 0,
        trigger_pid: 3,
        oom_score_adj: 0,
        trigger_comm: [0; 16],
        cause: 1,
        padding: 0,
    })
}

fn engine(events: &[Event]) -> Engine {
    let mut service = Service::new("shop");
    service.last_process = Some(key(7));
    service.cgroup_id = 70;
    let settings = Settings {
        services: vec![service],
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, IncidentId(1));
    for event in events {
        engine.recent.take(&Signal::Kernel { event: *event });
    }
    engine
}

fn frozen(engine: &Engine, subject: Subject) -> Vec<Event> {
    let evidence = Evidence::at(Time::from_kernel(NOW));
    let seen = evidence.seen;
    let incident = Incident::new(
        IncidentId(1),
        "d",
        subject,
        Severity::Critical,
        evidence,
        seen,
    );
    engine.freeze(&incident).events
}

#[test]
fn only_what_is_about_the_subject_and_not_long_ago_is_kept_oldest_first() {
    let before = |seconds: u64| NOW - seconds * SECOND;
    let own = [
        fork(task(7, 5), before(50), 6),
        signal(task(6, 5), before(40)),
        exit(task(8, 70), before(30), 0),
        exit(task(7, 0), before(1), 9),
    ];
    let others = [
        exit(task(7, 70), before(61), 9),
        exit(task(6, 5), before(35), 9),
        exit(task(9, 71), before(20), 9),
        exit(task(10, ROOT), before(10), 9),
        exit(
            Task {
                start_time_ns: 1,
                ..task(7, 0)
            },
            before(5),
            9,
        ),
    ];
    let engine = engine(&[
        own[1], others[0], own[0], others[1], own[3], others[2], others[3], others[4], own[2],
    ]);
    // Process 7 is last told to be in cgroup 5 by its fork: that makes `others[1]` one of the same cgroup.
    let expected = [own[0], own[1], others[1], own[2], own[3]];
    assert_eq!(frozen(&engine, Subject::service("shop")), expected);
    assert_eq!(frozen(&engine, Subject::service("other")), []);
}

#[test]
fn a_flood_of_one_sort_leaves_room_for_the_others() {
    let mut events = vec![oom(task(8, 70), NOW - 40 * SECOND)];
    for number in 0..500 {
        events.push(exit(
            task(100 + number, 70),
            NOW - SECOND + u64::from(number),
            0,
        ));
    }
    let engine = engine(&events);
    assert!(engine.recent.sorts.iter().all(|ring| ring.len() <= KEPT));
    let found = frozen(&engine, Subject::service("shop"));
    assert_eq!(found.len(), Frozen::EVENTS);
    assert_eq!(found.first().map(Event::kind), Some(Kind::OomKill));
    assert_eq!(found.last(), events.last());
    assert!(found.is_sorted_by_key(Event::time_ns));
    // The same of the whole host: only what is everybody's trouble.
    assert_eq!(frozen(&engine, Subject::Host), events[..1]);
}

#[test]
fn what_is_left_out_of_a_long_event_is_told() {
    let exec = ProcessExec {
        header: Header::of::<ProcessExec>(0, 1),
        task: task(1, 1),
        parent_pid: 1,
        uid: 0,
        argv_total: 300,
        argv_len: u32::try_from(ARGV_LEN).expect("small"),
        argv: [b'a'; ARGV_LEN],
    };
    let Event::ProcessExec(exec) = short(Event::ProcessExec(exec)) else {
        panic!("another event");
    };
    assert!(exec.argv_cut() && exec.argv() == [b'a'; ARGUMENTS]);
    let mut wait = RunQueueLatency {
        header: Header::of::<RunQueueLatency>(0, 1),
        task: task(1, 1),
        wait_ns: 0,
        previous_pid: 0,
        quota: 0,
        previous_comm: [0; 16],
        throttled_ns: 0,
        idle_ns: 0,
        others_ns: 5,
        forgotten_ns: 0,
        culprits: [NOBODY; run_queue_latency::CULPRITS],
    };
    for (number, culprit) in (1..).zip(&mut wait.culprits) {
        culprit.held_ns = number;
    }
    let held = |wait: &RunQueueLatency| -> u64 {
        wait.others_ns
            + wait
                .culprits
                .iter()
                .map(|culprit| culprit.held_ns)
                .sum::<u64>()
    };
    let Event::RunQueueLatency(cut) = short(Event::RunQueueLatency(wait)) else {
        panic!("another event");
    };
    assert!(run_queue_latency::CULPRITS > CULPRITS && cut.culprits[CULPRITS].held_ns == 0);
    assert_eq!(held(&cut), held(&wait));
}
