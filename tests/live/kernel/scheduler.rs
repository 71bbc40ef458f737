//! Waits for a CPU: how long, who had it meanwhile, and why.
//!
//! A victim and its hogs are nailed to CPU 0. Others may run there too, so that shares are compared within bounds.

use std::time::{Duration, Instant};

use monitor_common::probes::run_queue_latency::{Cause, RunQueueLatency};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::Options;

use super::stage::{Actor, Group, run_delay, switches};
use super::support::{Live, alone, load, total, wait_for};

/// A longer wait is an event.
const THRESHOLD: Duration = Duration::from_millis(20);

fn options() -> Options {
    Options {
        run_queue_threshold: THRESHOLD,
        ..Options::default()
    }
}

/// Has CPU 0 for 200 of 250 ms, with precedence over whatever else the host does there, and at the same time as others of its kind.
const HOG: &str = "
os.sched_setaffinity(0, {0}); os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
while True:
    now = time.monotonic(); spin(now - now % 0.25 + 0.2)
    time.sleep(0.25 - time.monotonic() % 0.25)";

/// Sleeps and wakes on CPU 0.
const VICTIM: &str = "
os.sched_setaffinity(0, {0})
say('moved'); hear()
end = time.monotonic() + 3
while time.monotonic() < end: time.sleep(0.02)
say('done'); hear()";

/// What a victim suffers: the events, and what `/proc` says of the time and of how often it was given the CPU.
struct Suffered {
    waits: Vec<RunQueueLatency>,
    delay_ns: u64,
    turns: u64,
}

fn suffer(live: &mut Live, victim: &mut Actor, hogs: &mut [&mut Actor]) -> Suffered {
    victim.go();
    assert_eq!(victim.line(), "moved");
    victim.asleep();
    for hog in hogs {
        hog.go();
    }
    // From here on the hogs are there, and nobody can forget what was before them.
    live.read_for(Duration::from_millis(300));
    let pid = victim.pid();
    let before = (run_delay(pid), switches(pid), live.seen.len());
    victim.go();
    assert_eq!(victim.line(), "done");
    victim.asleep();
    live.read_for(Duration::from_millis(50));
    let events = live.seen.iter().skip(before.2);
    let waits = events.filter_map(|(_, event)| match event {
        Event::RunQueueLatency(wait) if wait.task.pid == pid => Some(*wait),
        _ => None,
    });
    Suffered {
        waits: waits.collect(),
        delay_ns: run_delay(pid) - before.0,
        turns: switches(pid) - before.1,
    }
}

/// Nanoseconds of a wait that are accounted for.
fn accounted(wait: &RunQueueLatency) -> u64 {
    let held: u64 = wait.culprits.iter().map(|culprit| culprit.held_ns).sum();
    held + wait.idle_ns + wait.others_ns + wait.forgotten_ns
}

impl Suffered {
    /// The events tell of the time that `/proc` tells of, save what is below the threshold; and of who had it.
    fn check(&self, hogs: &[u32], cause: Cause) {
        let total: u64 = self.waits.iter().map(|wait| wait.wait_ns).sum();
        let told: u64 = self.waits.iter().map(accounted).sum();
        let by_hogs: u64 = self
            .waits
            .iter()
            .flat_map(|wait| &wait.culprits)
            .filter(|culprit| hogs.contains(&culprit.pid))
            .map(|culprit| culprit.held_ns)
            .sum();
        println!(
            "{} waits of {total} ns, {told} accounted for, {by_hogs} by the hogs; /proc: {} ns in {} turns",
            self.waits.len(),
            self.delay_ns,
            self.turns
        );
        assert!(self.waits.len() >= 5, "{} waits", self.waits.len());
        assert!(
            total <= self.delay_ns + self.delay_ns / 50,
            "{total} ns of waits, {} in /proc",
            self.delay_ns
        );
        let short = self.turns * u64::try_from(THRESHOLD.as_nanos()).expect("small");
        assert!(
            total + short >= self.delay_ns,
            "{total} ns of waits, {} in /proc",
            self.delay_ns
        );
        assert!(
            told.abs_diff(total) <= total / 10,
            "{told} of {total} ns accounted for"
        );
        assert!(by_hogs >= total / 2, "the hogs had {by_hogs} of {total} ns");
        let first = self
            .waits
            .iter()
            .filter(|wait| hogs.contains(&wait.ranked()[0].pid));
        assert!(
            first.count() * 4 >= self.waits.len() * 3,
            "a hog leads the list"
        );
        let causes = self.waits.iter().filter(|wait| wait.cause() == cause);
        assert!(
            causes.count() * 4 >= self.waits.len() * 3,
            "the cause is {cause:?}"
        );
    }
}

#[test]
fn a_wait_names_those_who_had_the_cpu_and_in_which_cgroup_they_are() {
    let mut live = Live::new(&options());
    let (here, there) = (Group::new(), Group::new());
    for (group, cause) in [(&there, Cause::Neighbour), (&here, Cause::OwnCgroup)] {
        let mut victim = Actor::new(&[&here], VICTIM);
        let mut hogs = [Actor::new(&[group], HOG), Actor::new(&[group], HOG)];
        let pids = [hogs[0].pid(), hogs[1].pid()];
        let [one, two] = &mut hogs;
        let suffered = suffer(&mut live, &mut victim, &mut [one, two]);
        suffered.check(&pids, cause);
        let ids = suffered.waits.iter().flat_map(|wait| wait.culprits.iter());
        for culprit in ids.filter(|culprit| pids.contains(&culprit.pid)) {
            assert_eq!(culprit.cgroup_id, group.id());
            assert_eq!(culprit.kernel_thread, 0);
        }
        assert!(
            suffered
                .waits
                .iter()
                .all(|wait| wait.task.cgroup_id == here.id())
        );
    }
}

#[test]
fn threads_of_the_same_process_that_take_the_cpu_are_told_apart() {
    let mut live = Live::new(&options());
    let mut actor = Actor::new(
        &[],
        "
os.sched_setaffinity(0, {0})
end = time.monotonic() + 3
def hog():
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    memory = (ctypes.c_char * (1 << 20))()
    while time.monotonic() < end:
        # Without the lock of the interpreter.
        while time.monotonic() % 0.25 < 0.2: libc.memfrob(memory, ctypes.c_size_t(1 << 20))
        time.sleep(0.25 - time.monotonic() % 0.25)
def victim():
    say(threading.get_native_id())
    while time.monotonic() < end: time.sleep(0.02)
for part in [hog, hog, victim]: threading.Thread(target=part).start()",
    );
    let pid = actor.pid();
    actor.go();
    let tid: u32 = actor.line().parse().expect("a thread id");
    live.until("the end of the process", || actor.try_wait().is_some());
    let waits = live.all(|event| match event {
        Event::RunQueueLatency(wait) if wait.task.tid == tid => Some(*wait),
        _ => None,
    });
    assert!(waits.len() >= 3, "{} waits", waits.len());
    let own = waits
        .iter()
        .filter(|wait| wait.cause() == Cause::OwnThreads);
    let causes: Vec<_> = waits.iter().map(RunQueueLatency::cause).collect();
    assert!(own.count() * 4 >= waits.len() * 3, "{causes:?}");
    assert!(waits.iter().all(|wait| wait.task.pid == pid));
}

#[test]
fn a_used_up_quota_is_the_cause_and_as_long_as_the_cgroup_says() {
    let mut live = Live::new(&options());
    let quota = Group::v1("cpu");
    quota.set("cpu.cfs_period_us", "100000");
    quota.set("cpu.cfs_quota_us", "20000");
    let mut actor = Actor::new(
        &[&quota],
        "os.sched_setaffinity(0, {0}); os.nice(-15); say('moved'); hear(); spin(time.monotonic() + 3); say('done'); hear()",
    );
    actor.go();
    assert_eq!(actor.line(), "moved");
    actor.asleep();
    live.drain();
    let before = quota.number("cpu.stat", "throttled_time");
    let delay = run_delay(actor.pid());
    actor.go();
    assert_eq!(actor.line(), "done");
    actor.asleep();
    let throttled = quota.number("cpu.stat", "throttled_time") - before;
    let delay = run_delay(actor.pid()) - delay;
    let pid = actor.pid();
    let waits = live.all(|event| match event {
        Event::RunQueueLatency(wait) if wait.task.pid == pid => Some(*wait),
        _ => None,
    });
    let told: u64 = waits.iter().map(|wait| wait.throttled_ns).sum();
    let waited: u64 = waits.iter().map(|wait| wait.wait_ns).sum();
    println!(
        "{} waits of {waited} ns, {told} throttled; the cgroup says {throttled}, /proc {delay}",
        waits.len()
    );
    assert!(waits.len() >= 10, "{} waits", waits.len());
    assert!(
        told.abs_diff(throttled) <= throttled / 5,
        "{told} ns throttled, {throttled} in cpu.stat"
    );
    assert!(
        waited <= delay + delay / 50,
        "{waited} ns of waits, {delay} in /proc"
    );
    let mut other = Vec::new();
    for wait in waits {
        assert_eq!(wait.quota, 1);
        assert!(wait.throttled_ns <= wait.wait_ns);
        if wait.wait_ns > 40_000_000 && wait.cause() != Cause::Quota {
            other.push(wait);
        }
    }
    // How long its queue had been throttled before it is not known at its first turn.
    assert!(other.len() <= 1, "{other:#?}");
}

#[test]
fn two_that_hand_the_cpu_to_each_other_all_the_time_are_both_named() {
    let mut live = Live::new(&options());
    let (here, there) = (Group::new(), Group::new());
    let mut victim = Actor::new(&[&here], VICTIM);
    // In turns of 200 ms, so that the fair ones have theirs.
    let mut pair = Actor::new(
        &[&there],
        "
os.sched_setaffinity(0, {0}); os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
a, b = os.pipe(); c, d = os.pipe()
def other():
    while True: os.write(d, os.read(a, 1))
pid, write = child(other)
os.write(write, b'x')
say(pid)
while True:
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        os.write(b, b'x'); os.read(c, 1)
    time.sleep(0.06)",
    );
    pair.go();
    let other: u32 = pair.line().parse().expect("a process id");
    let pids = [pair.pid(), other];
    let suffered = suffer(&mut live, &mut victim, &mut []);
    suffered.check(&pids, Cause::Neighbour);
    for pid in pids {
        let naming = suffered
            .waits
            .iter()
            .filter(|wait| wait.culprits.iter().any(|culprit| culprit.pid == pid));
        assert!(
            naming.count() * 10 >= suffered.waits.len() * 9,
            "process {pid} is named"
        );
    }
    let forgotten: u64 = suffered.waits.iter().map(|wait| wait.forgotten_ns).sum();
    let total: u64 = suffered.waits.iter().map(|wait| wait.wait_ns).sum();
    assert!(
        forgotten <= total / 10,
        "{forgotten} of {total} ns forgotten"
    );
}

#[test]
fn a_long_wait_for_a_cpu_is_an_event_and_every_wait_is_counted() {
    let _alone = alone();
    let options = Options {
        run_queue_threshold: Duration::from_micros(500),
        ..Options::default()
    };
    let mut kernel = load(&options);
    let mut rings = kernel.take_rings().expect("the rings");
    let before: u64 = kernel.counters().run_queue_histogram().iter().sum();
    let stop = Instant::now() + Duration::from_millis(400);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut one = rustix::thread::CpuSet::new();
                one.set(0);
                rustix::thread::sched_setaffinity(None, &one).expect("CPU 0 is there");
                while Instant::now() < stop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it ends");
    }
    let wait = wait_for(
        &mut rings,
        &mut Vec::new(),
        "a wait",
        |_, event| match event {
            // Elsewhere, a thread may have waited before it pinned itself.
            Event::RunQueueLatency(wait)
                if wait.task.pid == std::process::id() && wait.header.cpu == 0 =>
            {
                Some(*wait)
            }
            _ => None,
        },
    );
    assert!(
        wait.wait_ns > 500_000 && wait.wait_ns < 2_000_000_000,
        "{}",
        wait.wait_ns
    );
    let after: u64 = kernel.counters().run_queue_histogram().iter().sum();
    assert!(after > before + 10, "{before} waits, then {after}");
    let counters = total(&kernel, Kind::RunQueueLatency);
    // A task moved between CPUs can carry a stamp of the other CPU's clock: seldom, counted, and not in the histogram.
    assert!(
        counters.implausible * 100 <= after,
        "{} implausible waits of {after}",
        counters.implausible
    );
    assert!(counters.emitted > 0);
}
