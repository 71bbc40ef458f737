//! Figures of watched cgroups: waits for a CPU, and where their threads wait otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::Kind;
use monitor_common::probes::off_cpu::{Wait, WaitTotals};
use monitor_common::probes::run_queue_latency::CgroupFilter;
use rustix::process::Signal;
use smart_monitor::kernel::{CgroupWatch, Options};

use super::stage::{Actor, Group, send, switches};
use super::support::Live;

/// Sleeps and wakes as often as told, on one CPU.
const RESTLESS: &str = "
os.sched_setaffinity(0, {0})
while True:
    for _ in range(int(hear())): time.sleep(0.0002)
    say('done')";

/// A switch can happen between two readings, and a wait that cannot be true is not counted.
fn few(turns: u64) -> u64 {
    3 + turns / 50
}

fn waits_of(watch: &CgroupWatch, id: u64) -> u64 {
    let figures = watch.read();
    figures
        .get(&id)
        .expect("it is watched")
        .run_queue
        .iter()
        .sum()
}

/// Has it sleep so often; how often it was given the CPU meanwhile, as `/proc` says.
fn stir(actor: &mut Actor, times: u32) -> u64 {
    actor.asleep();
    let before = switches(actor.pid());
    actor.tell(&times.to_string());
    assert_eq!(actor.line(), "done");
    actor.asleep();
    switches(actor.pid()) - before
}

#[test]
fn the_waits_of_a_watched_cgroup_are_as_many_as_its_turns() {
    let live = Live::new(&Options::default());
    let watch = live.kernel.cgroups();
    let (group, quiet) = (Group::new(), Group::new());
    let mut actor = Actor::new(&[&group], RESTLESS);
    actor.go();
    stir(&mut actor, 10);
    assert!(watch.read().is_empty(), "nobody is watched yet");
    watch.watch(group.id()).expect("a slot");
    watch.watch(quiet.id()).expect("a slot");
    for _ in 0..3 {
        let before = waits_of(&watch, group.id());
        let turns = stir(&mut actor, 1_000);
        let waits = waits_of(&watch, group.id()) - before;
        assert!(turns >= 1_000, "{turns} turns");
        assert!(
            waits.abs_diff(turns) <= few(turns),
            "{waits} waits in {turns} turns"
        );
    }
    assert_eq!(waits_of(&watch, quiet.id()), 0);
    watch.unwatch(group.id()).expect("it is watched");
    assert!(!watch.read().contains_key(&group.id()));
    stir(&mut actor, 500);
    watch.watch(group.id()).expect("a slot");
    assert_eq!(
        waits_of(&watch, group.id()),
        0,
        "from 0, nothing from before"
    );
    let turns = stir(&mut actor, 200);
    assert!(waits_of(&watch, group.id()).abs_diff(turns) <= few(turns));
}

#[test]
fn cgroups_whose_ids_look_alike_to_the_filter_are_not_mixed_up() {
    let live = Live::new(&Options::default());
    let watch = live.kernel.cgroups();
    let group = Group::new();
    let place = CgroupFilter::place(group.id());
    let twin = (0..50_000).find_map(|number| {
        let folder = group.folder().join(number.to_string());
        fs::create_dir(&folder).expect("root may");
        let id = fs::metadata(&folder).expect("it is there").ino();
        if CgroupFilter::place(id) == place {
            return Some((id, folder));
        }
        fs::remove_dir(&folder).expect("it is empty");
        None
    });
    let (twin, folder) = twin.expect("one of 50,000 has the same place");
    let mut actor = Actor::new(&[&group], RESTLESS);
    actor.go();
    watch.watch(twin).expect("a slot");
    stir(&mut actor, 300);
    assert_eq!(waits_of(&watch, twin), 0, "only the other one is watched");
    watch.watch(group.id()).expect("a slot");
    let turns = stir(&mut actor, 300);
    assert!(waits_of(&watch, group.id()).abs_diff(turns) <= few(turns));
    assert_eq!(waits_of(&watch, twin), 0);
    fs::remove_dir(folder).expect("it is empty");
}

/// Totals of a watched cgroup, by kind of wait.
fn off_cpu(watch: &CgroupWatch, id: u64) -> [Duration; 4] {
    let figures = watch.read();
    let WaitTotals { wait_ns, .. } = figures.get(&id).expect("it is watched").waits;
    wait_ns.map(Duration::from_nanos)
}

/// The disk that holds the temporary folder, as the block controller names it.
fn disk() -> String {
    let device = fs::metadata(std::env::temp_dir())
        .expect("it is there")
        .dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let own = format!("{major}:{minor}");
    let part = std::path::PathBuf::from(format!("/sys/dev/block/{own}"));
    let whole = part.join("../dev");
    if part.join("partition").exists() {
        return fs::read_to_string(whole)
            .expect("its disk")
            .trim()
            .to_owned();
    }
    assert!(
        part.exists(),
        "the temporary folder is not on a disk, but on {own}"
    );
    own
}

#[test]
fn where_a_cgroup_waits_is_as_long_as_it_was_made_to_wait() {
    let options = Options {
        run_queue_threshold: Duration::from_millis(50),
        ..Options::default()
    };
    let mut live = Live::new(&options);
    let (watch, programs) = (live.kernel.cgroups(), live.kernel.programs());
    let (disk_limit, group) = (Group::v1("blkio"), Group::new());
    disk_limit.set(
        "blkio.throttle.write_bps_device",
        &format!("{} 4194304", disk()),
    );
    let mut actor = Actor::new(
        &[&group, &disk_limit],
        "
import tempfile
def timed(part):
    began = time.monotonic(); part(); return time.monotonic() - began
def lock():
    thread = threading.Thread(target=time.sleep, args=(0.9,))
    thread.start(); thread.join()
def write():
    for _ in range(16): os.write(file, memory)
with tempfile.NamedTemporaryFile() as named:
    memory = mmap.mmap(-1, 1 << 18); memory.write(b'x' * (1 << 18))
    file = os.open(named.name, os.O_WRONLY | os.O_DIRECT)
    # Once for its place on the disk.
    os.write(file, memory)
    while True:
        say(timed(lambda: time.sleep(0.7)), timed(lock), timed(write),
            timed(lambda: os.kill(os.getpid(), signal.SIGSTOP)))
        hear()",
    );
    watch.watch(group.id()).expect("a slot");
    assert!(!programs.is_attached(Kind::OffCpu));
    let play = |live: &mut Live, actor: &mut Actor| {
        actor.go();
        live.until("a stopped process", || {
            smart_monitor::host::procfs::stat(actor.pid()).is_some_and(|stat| stat.state == 'T')
        });
        live.read_for(Duration::from_millis(600));
        send(actor.pid(), Signal::CONT);
        let times = actor.numbers();
        actor.asleep();
        times
    };
    play(&mut live, &mut actor);
    assert_eq!(
        off_cpu(&watch, group.id()),
        [Duration::ZERO; 4],
        "nobody has asked"
    );
    for _ in 0..2 {
        programs.attach(Kind::OffCpu).expect("it attaches");
        let before = off_cpu(&watch, group.id());
        let times = play(&mut live, &mut actor);
        let after = off_cpu(&watch, group.id());
        let [sleep, lock, io, stopped] = times[..] else {
            panic!("{times:?}")
        };
        let told = |wait: Wait| {
            after[wait as usize]
                .saturating_sub(before[wait as usize])
                .as_secs_f64()
        };
        println!("{times:?} {:?}", Wait::ALL.map(told));
        for (wait, expected) in [
            (Wait::Io, io),
            (Wait::Lock, lock),
            // The thread that was waited for slept.
            (Wait::Sleep, sleep + lock),
            (Wait::Stopped, stopped),
        ] {
            let told = told(wait);
            assert!(
                (told - expected).abs() < expected * 0.15,
                "{wait:?}: {told} s of {expected}"
            );
        }
        programs.detach(Kind::OffCpu);
        // The wait that is under way ends unseen, and must not be taken for a long one later.
        let resting = off_cpu(&watch, group.id());
        play(&mut live, &mut actor);
        assert_eq!(off_cpu(&watch, group.id()), resting, "nobody asks any more");
    }
    let pid = actor.pid();
    let told = live.all(|event| match event {
        Event::OffCpu(wait) if wait.task.pid == pid => {
            Some((Wait::from_number(wait.wait), wait.wait_ns))
        }
        _ => None,
    });
    assert!(
        told.iter()
            .any(|(wait, ns)| *wait == Some(Wait::Lock) && *ns > 700_000_000),
        "{told:?}"
    );
    assert!(
        told.iter()
            .all(|(wait, _)| matches!(wait, Some(Wait::Io | Wait::Lock))),
        "{told:?}"
    );
}

#[test]
fn a_wait_that_began_unseen_is_not_counted_later() {
    let live = Live::new(&Options::default());
    let (watch, programs) = (live.kernel.cgroups(), live.kernel.programs());
    let group = Group::new();
    watch.watch(group.id()).expect("a slot");
    programs.attach(Kind::OffCpu).expect("it attaches");
    let mut actor = Actor::new(
        &[&group],
        "os.sched_setaffinity(0, {0}); os.nice(10); say('sleeps'); hear(); spin(time.monotonic() + 4); say('done'); hear()",
    );
    actor.go();
    assert_eq!(actor.line(), "sleeps");
    actor.asleep();
    // It falls asleep while somebody asks, wakes while nobody does, and is then preempted while somebody asks again.
    programs.detach(Kind::OffCpu);
    let before = off_cpu(&watch, group.id());
    std::thread::sleep(Duration::from_secs(1));
    actor.go();
    std::thread::sleep(Duration::from_millis(200));
    programs.attach(Kind::OffCpu).expect("it attaches");
    let mut rival = Actor::new(
        &[],
        "os.sched_setaffinity(0, {0})\nfor _ in range(100): spin(time.monotonic() + 0.005); time.sleep(0.005)\nsay('done')",
    );
    rival.go();
    assert_eq!(rival.line(), "done");
    let after = off_cpu(&watch, group.id());
    let told: Duration = after
        .iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before))
        .sum();
    assert!(
        told < Duration::from_millis(100),
        "{told:?} of waiting, of a process that never slept"
    );
    assert_eq!(actor.line(), "done");
}
