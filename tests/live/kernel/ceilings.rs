//! Ceilings on memory: who is killed at the crossing, who is not, and how far over it the culprit got.

use monitor_common::probes::memory_ceiling::{
    KILLED, MemoryCeiling, OBSERVED, SCOPE_CGROUP, SCOPE_PROCESS,
};
use monitor_common::{Event, Kind};
use smart_monitor::host::procfs;
use smart_monitor::kernel::{Guard, Guarded, Options};
use smart_monitor::model::ProcessKey;

use super::stage::{Actor, Group};
use super::support::Live;

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 200 * MIB;
const CEILING: Guard = Guard {
    limit: LIMIT,
    enforce: true,
};

/// Has a child that takes memory at full speed, with a thread for each CPU, in small pieces.
const FAMILY: &str = "
def take(size):
    held = []
    def part():
        memory = mmap.mmap(-1, size // os.cpu_count(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        libc.memset((ctypes.c_char * len(memory)).from_buffer(memory), 1, ctypes.c_size_t(len(memory)))
        held.append(memory)
    threads = [threading.Thread(target=part) for _ in range(os.cpu_count())]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
pid, write = child(lambda: take(400 << 20))
say(pid); hear()
os.write(write, b'x')
end(pid); hear()";

fn crossings(live: &mut Live, pid: u32) -> Vec<MemoryCeiling> {
    live.all(|event| match event {
        Event::MemoryCeiling(crossing) if crossing.task.pid == pid => Some(*crossing),
        _ => None,
    })
}

/// The first number an actor says is a process, which is told with its start.
fn announced(actor: &mut Actor) -> ProcessKey {
    let pid = actor.line().parse().expect("a process id");
    procfs::stat(pid).expect("it runs").key
}

/// What an actor says of the end of its child: its status, a signal as a negative number, and the most memory it held, in KiB.
fn ended(actor: &mut Actor) -> (i64, u64) {
    let line = actor.line();
    let (status, most_kib) = line.split_once(' ').expect("two numbers");
    let most_kib = most_kib.parse().expect("a number");
    (status.parse().expect("a number"), most_kib)
}

#[test]
fn a_process_dies_at_its_ceiling_and_not_far_above_it() {
    let mut live = Live::new(&Options::default());
    let guards = live.kernel.guards();
    assert!(!live.kernel.programs().is_attached(Kind::MemoryCeiling));
    let mut actor = Actor::new(&[], FAMILY);
    actor.go();
    let process = announced(&mut actor);
    guards
        .arm(Guarded::ProcessMemory(process), CEILING)
        .expect("it is armed");
    assert!(live.kernel.programs().is_attached(Kind::MemoryCeiling));
    actor.go();
    let (status, most_kib) = ended(&mut actor);
    assert!(status == -9, "killed, not {status}");
    assert!(most_kib < (LIMIT + MIB) >> 10, "{most_kib} KiB at most");
    let crossings = crossings(&mut live, process.pid);
    let crossing = crossings.first().expect("it is told");
    assert_eq!((crossing.verdict, crossing.scope), (KILLED, SCOPE_PROCESS));
    assert_eq!(crossing.limit_pages, LIMIT >> 12);
    assert!((1..256).contains(&(crossing.used_pages - crossing.limit_pages)));
    guards.disarm(Guarded::ProcessMemory(process));
    assert!(!live.kernel.programs().is_attached(Kind::MemoryCeiling));
}

#[test]
fn a_ceiling_that_only_reports_reports_once_and_kills_nobody() {
    let mut live = Live::new(&Options::default());
    let guards = live.kernel.guards();
    let reports = Guard {
        enforce: false,
        ..CEILING
    };
    for (guard, hold_fire) in [(reports, false), (CEILING, true)] {
        guards.hold_fire(hold_fire);
        let mut actor = Actor::new(&[], FAMILY);
        actor.go();
        let process = announced(&mut actor);
        guards
            .arm(Guarded::ProcessMemory(process), guard)
            .expect("it is armed");
        actor.go();
        let (status, most_kib) = ended(&mut actor);
        assert!(status == 0, "it lived, not {status}");
        assert!(most_kib > (LIMIT + 100 * MIB) >> 10, "{most_kib} KiB");
        let verdicts: Vec<u32> = crossings(&mut live, process.pid)
            .iter()
            .map(|crossing| crossing.verdict)
            .collect();
        // Two threads that cross at once both tell.
        assert!((1..=2).contains(&verdicts.len()), "{verdicts:?}");
        assert!(verdicts.iter().all(|verdict| *verdict == OBSERVED));
        guards.disarm(Guarded::ProcessMemory(process));
    }
}

#[test]
fn the_ceiling_of_a_process_is_not_for_another_with_its_number() {
    let mut live = Live::new(&Options::default());
    let guards = live.kernel.guards();
    let mut actor = Actor::new(&[], FAMILY);
    actor.go();
    let process = announced(&mut actor);
    let former = ProcessKey {
        start_ticks: process.start_ticks - 1,
        ..process
    };
    guards
        .arm(Guarded::ProcessMemory(former), CEILING)
        .expect("it is armed");
    actor.go();
    let (status, most_kib) = ended(&mut actor);
    assert!(status == 0 && most_kib > (LIMIT + 100 * MIB) >> 10);
    assert_eq!(crossings(&mut live, process.pid), []);
}

#[test]
fn a_ceiling_is_not_inherited_and_outlives_an_exec() {
    let mut live = Live::new(&Options::default());
    let guards = live.kernel.guards();
    // Holds 150 MiB, has a child that takes 100 more, gives all up for another program, takes 150 there, and then 100 more.
    let program = "
import mmap, sys
def take(size):
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, size, 4096): memory[at] = 1
    return memory
one = take(150 << 20); print('program', flush=True); sys.stdin.readline()
two = take(100 << 20); print('lived', flush=True); sys.stdin.readline()";
    let part = format!(
        "
memory = touch(150 << 20)
pid, write = child(lambda: touch(100 << 20))
say(pid); hear()
os.write(write, b'x'); end(pid); hear()
os.execv(sys.executable, [sys.executable, '-c', '''{program}'''])"
    );
    let mut actor = Actor::new(&[], &part);
    let own = actor.key();
    guards
        .arm(Guarded::ProcessMemory(own), CEILING)
        .expect("it is armed");
    actor.go();
    let child = announced(&mut actor);
    actor.go();
    let (status, most_kib) = ended(&mut actor);
    assert!(status == 0, "the child lived, not {status}");
    assert!(most_kib > (240 * MIB) >> 10, "{most_kib} KiB");
    actor.go();
    assert_eq!(actor.line(), "program");
    assert_eq!(crossings(&mut live, own.pid), []);
    assert_eq!(crossings(&mut live, child.pid), []);
    actor.go();
    let status = actor.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    let crossing = crossings(&mut live, own.pid);
    assert_eq!(
        crossing.first().map(|crossing| crossing.verdict),
        Some(KILLED)
    );
}

#[test]
fn at_the_ceiling_of_a_cgroup_the_hog_dies_and_its_small_neighbour_does_not() {
    let mut live = Live::new(&Options::default());
    let guards = live.kernel.guards();
    let group = Group::v1("memory");
    let mut neighbour = Actor::new(
        &[&group],
        "
end = time.monotonic() + 8
while time.monotonic() < end: touch(1 << 18)
say('lives'); hear()",
    );
    let mut hog = Actor::new(&[&group], FAMILY);
    hog.go();
    let process = announced(&mut hog);
    let of = Guarded::CgroupMemory(group.id());
    guards.arm(of, CEILING).expect("it is armed");
    neighbour.go();
    live.drain();
    hog.go();
    let (status, _) = ended(&mut hog);
    let told = live.all(|event| match event {
        Event::MemoryCeiling(crossing) if crossing.memory_cgroup_id == group.id() => {
            Some(*crossing)
        }
        _ => None,
    });
    assert!(status == -9, "killed, not {status}");
    let most: u64 = group
        .get("memory.max_usage_in_bytes")
        .parse()
        .expect("a number");
    assert!(most < LIMIT + 4 * MIB, "the cgroup held {most} bytes");
    assert!(told.iter().all(|crossing| crossing.scope == SCOPE_CGROUP));
    let killed: Vec<u32> = told
        .iter()
        .filter(|crossing| crossing.verdict == KILLED)
        .map(|crossing| crossing.task.pid)
        .collect();
    assert!(
        !killed.is_empty() && killed.iter().all(|pid| *pid == process.pid),
        "{killed:?}"
    );
    assert_eq!(neighbour.line(), "lives");
}

/// Holds half again as much as the ceiling, gives a part back when told to, then takes it again and more.
const GIVER: &str = "
held = [touch(10 << 20) for _ in range(30)]
say('full'); hear()
while len(held) > 22: held.pop().close()
say('gave'); hear()
while len(held) < 60: held.append(touch(10 << 20))
say('took')";

#[test]
fn who_is_over_a_new_ceiling_may_give_back_and_dies_when_it_takes_more() {
    let mut live = Live::new(&Options::default());
    let mut actor = Actor::new(&[], GIVER);
    actor.go();
    assert_eq!(actor.line(), "full");
    let process = actor.key();
    let guards = live.kernel.guards();
    guards
        .arm(Guarded::ProcessMemory(process), CEILING)
        .expect("it is armed");
    actor.go();
    assert_eq!(actor.line(), "gave", "80 MiB less, and still over it");
    assert_eq!(crossings(&mut live, process.pid), []);
    actor.go();
    let status = actor.wait();
    assert!(!status.success(), "it took more, and ended: {status}");
    let verdicts: Vec<u32> = crossings(&mut live, process.pid)
        .iter()
        .map(|crossing| crossing.verdict)
        .collect();
    assert_eq!(verdicts, [KILLED]);
}
