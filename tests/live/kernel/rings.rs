//! Shares and accounts: what a cgroup may put into the rings, and that no record is missing without being counted.

use std::collections::BTreeMap;
use std::time::Duration;

use monitor_common::probes::event_throttle::EventThrottle;
use monitor_common::probes::process_exit::Ending;
use monitor_common::{Event, Kind};
use smart_monitor::kernel::Options;

use super::stage::{Actor, Group};
use super::support::{Lane, Live, shell, total};

/// Runs so many programs on one CPU, with a pause after each.
const BUSY: &str = "
os.sched_setaffinity(0, {0})
while True:
    count, pause = hear().split()
    for _ in range(int(count)):
        os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0); time.sleep(float(pause))
    say('done')";

fn execs(live: &mut Live, group: &Group) -> u64 {
    let id = group.id();
    let execs = live.all(|event| match event {
        Event::ProcessExec(exec) if exec.task.cgroup_id == id => Some(()),
        _ => None,
    });
    u64::try_from(execs.len()).expect("few")
}

#[test]
fn a_cgroup_that_makes_more_than_its_share_is_held_back_and_another_is_not() {
    const SHARE: u32 = 40;
    const MADE: u64 = 400;
    let mut live = Live::new(&Options {
        cgroup_events_per_second: SHARE,
        ..Options::default()
    });
    let (noisy, quiet) = (Group::new(), Group::new());
    let mut loud = Actor::new(&[&noisy], BUSY);
    let mut calm = Actor::new(&[&quiet], BUSY);
    for actor in [&mut loud, &mut calm] {
        actor.go();
    }
    calm.tell("20 0.1");
    loud.tell(&format!("{MADE} 0"));
    assert_eq!(loud.line(), "done");
    assert_eq!(calm.line(), "done");
    // A second without them ends it, and the next one says so.
    live.read_for(Duration::from_millis(2_100));
    loud.tell("1 0");
    assert_eq!(loud.line(), "done");
    let id = noisy.id();
    let throttles = |live: &mut Live, began| -> Vec<EventThrottle> {
        live.all(|event| match event {
            Event::EventThrottle(throttle)
                if throttle.task.cgroup_id == id
                    && throttle.probe == Kind::ProcessExec.number()
                    && throttle.began == began =>
            {
                Some(*throttle)
            }
            _ => None,
        })
    };
    let (began, ended) = (throttles(&mut live, 1), throttles(&mut live, 0));
    let seen = execs(&mut live, &noisy);
    assert!(!began.is_empty() && began.len() == ended.len());
    assert!(
        began
            .iter()
            .chain(&ended)
            .all(|throttle| throttle.per_second == SHARE)
    );
    let held_back: u64 = ended.iter().map(|throttle| throttle.suppressed).sum();
    assert!(held_back > 0);
    assert_eq!(seen + held_back, MADE + 1, "all are seen or held back");
    assert_eq!(
        execs(&mut live, &quiet),
        20,
        "the calm one has lost nothing"
    );
    let counters = total(&live.kernel, Kind::ProcessExec);
    assert!(counters.suppressed >= held_back, "{counters:?}");
    assert_eq!(counters.lost, 0);
    let every = live.all(|event| (event.kind() == Kind::ProcessExec).then_some(()));
    assert_eq!(every.len() as u64, counters.emitted);
}

/// What came of the load: only counted, since there are tens of millions.
#[derive(Default)]
struct Records {
    seen: u64,
    /// Number of the last record of each CPU.
    last: BTreeMap<u16, u64>,
    in_order: bool,
}

impl Records {
    /// Reads what there is, but not without end: the load goes on.
    fn take(&mut self, live: &mut Live) {
        const MOST: usize = 200_000;
        self.in_order |= self.seen == 0;
        let (rings, kept) = live.parts();
        for (lane, ring) in [
            (Lane::Urgent, &mut rings.urgent),
            (Lane::Bulk, &mut rings.bulk),
        ] {
            ring.drain(MOST, |event| match event {
                Event::BenchLoad(record) => {
                    self.seen += 1;
                    let last = self.last.insert(record.header.cpu, record.sequence);
                    self.in_order &= last.is_none_or(|last| last < record.sequence);
                }
                _ => kept.push((lane, event)),
            });
        }
    }
}

#[test]
fn under_a_load_that_the_ring_cannot_hold_every_record_is_seen_or_counted_and_urgent_ones_arrive() {
    let mut live = Live::new(&Options {
        bench: true,
        ..Options::default()
    });
    let mut load = Actor::new(&[], "while True: os.getppid()");
    let pid = load.pid();
    live.kernel.bench().set(pid, 8).expect("it is set");
    live.kernel
        .programs()
        .attach(Kind::BenchLoad)
        .expect("it attaches");
    load.go();
    let mut ended = Vec::new();
    let mut records = Records::default();
    for round in 0..30 {
        let mut child = shell("exit 3");
        child.wait().expect("it ends");
        ended.push(child.id());
        // Late in every third round, so that the ring overflows.
        std::thread::sleep(Duration::from_millis(if round % 3 == 0 { 250 } else { 10 }));
        records.take(&mut live);
    }
    live.kernel.bench().set(0, 0).expect("it is set");
    drop(load);
    live.kernel.programs().detach(Kind::BenchLoad);
    records.take(&mut live);
    let counters = total(&live.kernel, Kind::BenchLoad);
    let made = live.kernel.bench().made();
    println!("{} seen, {} lost of {made}", records.seen, counters.lost);
    assert!(counters.lost > 0 && records.seen > 0);
    assert_eq!(records.seen, counters.emitted);
    assert_eq!(records.seen + counters.lost, made);
    assert!(records.in_order, "none came twice");
    for pid in ended {
        let told = live.seen.iter().filter(|(lane, event)| {
            matches!(event, Event::ProcessExit(exit) if exit.task.pid == pid && exit.ending() == Ending::Code(3))
                && *lane == Lane::Urgent
        });
        assert_eq!(told.count(), 1, "the end of process {pid}");
    }
}
