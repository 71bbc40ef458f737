//! Fork storms: told, and ended where a guard is armed, without harm to anybody else.

use std::time::{Duration, Instant};

use monitor_common::Event;
use monitor_common::probes::fork_storm::ForkStorm;
use smart_monitor::kernel::{Guard, GuardError, Guarded, Options};

use super::stage::{Actor, Group};
use super::support::Live;

fn storms(live: &mut Live, group: &Group) -> Vec<ForkStorm> {
    let id = group.id();
    live.all(|event| match event {
        Event::ForkStorm(storm) if storm.task.cgroup_id == id => Some(*storm),
        _ => None,
    })
}

/// Makes so many children one after the other, at least as fast as one in 5 ms.
const FERTILE: &str = "
count, pause = int(hear()), float(hear())
for _ in range(count):
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0); time.sleep(pause)
say('done'); hear()";

#[test]
fn a_cgroup_that_forks_faster_than_the_limit_is_told_of_and_a_slow_one_is_not() {
    let options = Options {
        forks_per_second: 60,
        ..Options::default()
    };
    let mut live = Live::new(&options);
    let (fast, slow) = (Group::new(), Group::new());
    for (group, pause) in [(&fast, "0"), (&slow, "0.05")] {
        let mut actor = Actor::new(&[group], FERTILE);
        actor.go();
        actor.tell("100");
        actor.tell(pause);
        live.drain();
        assert_eq!(actor.line(), "done");
        let told = storms(&mut live, group);
        if pause == "0" {
            let storm = told.first().expect("it is told");
            assert_eq!((storm.limit, storm.forks), (60, 61));
            assert_eq!(
                (storm.task.pid, storm.killed, storm.guard),
                (actor.pid(), 0, 0)
            );
        } else {
            assert_eq!(told, []);
        }
    }
}

#[test]
fn a_guard_against_a_fork_bomb_shoots_nobody_else_and_slows_it_until_it_is_ended() {
    let mut live = Live::new(&Options {
        cgroup_events_per_second: u32::MAX,
        ..Options::default()
    });
    // Should the guard fail, the host does not. It also counts those who are dead and not yet reaped.
    let (net, bombed, other) = (Group::v1("pids"), Group::new(), Group::new());
    net.set("pids.max", "2000");
    let guard = Guard {
        limit: 100,
        enforce: true,
    };
    let guards = live.kernel.guards();
    guards
        .arm(Guarded::Forks(bombed.id()), guard)
        .expect("it is armed");
    guards
        .arm(Guarded::Forks(other.id()), guard)
        .expect("it is armed");
    let mut bystander = Actor::new(&[&other], FERTILE);
    bystander.go();
    bystander.tell("100");
    bystander.tell("0.03");
    let mut bomb = Actor::new(
        &[&bombed, &net],
        "
while True:
    try: os.fork()
    except OSError: pass",
    );
    bomb.go();
    let began = Instant::now();
    live.wait_for("a storm", |event| match event {
        Event::ForkStorm(storm) if storm.task.cgroup_id == bombed.id() => Some(()),
        _ => None,
    });
    // Whoever forks is killed, and the child that it has by then forks on: the guard slows the bomb, and only what kills the whole
    // cgroup ends it.
    let mut most = 0;
    while began.elapsed() < Duration::from_millis(900) {
        live.read_for(Duration::from_millis(10));
        most = most.max(bombed.members().len());
    }
    // CPUs that count at the same time lose a fork to each other now and then.
    assert!(
        most < 1_500,
        "{most} processes under a limit of 100 a second"
    );
    bombed.set("cgroup.kill", "1");
    live.until("the end of the bomb", || bombed.members().is_empty());
    let told = storms(&mut live, &bombed);
    assert!(
        told.iter()
            .any(|storm| storm.killed > 0 && storm.guard == 2),
        "{told:?}"
    );
    let shot = live.all(|event| match event {
        // A signal from the kernel is sent by whoever it is for.
        Event::ProcessSignal(kill) if kill.signal == 9 && kill.sender_pid == kill.task.pid => {
            Some(kill.task.cgroup_id)
        }
        _ => None,
    });
    assert!(
        !shot.is_empty() && shot.iter().all(|id| *id == bombed.id()),
        "{shot:?}"
    );
    assert_eq!(bystander.line(), "done");
    assert_eq!(storms(&mut live, &other), []);
}

#[test]
fn the_daemons_own_cgroup_cannot_have_a_guard_against_forks() {
    let live = Live::new(&Options::default());
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let path = own.lines().find_map(|line| line.strip_prefix("0::"));
    let group = Group::new();
    let root = group.folder().parent().expect("the mount");
    let folder = root.join(path.expect("cgroup v2").trim_start_matches('/'));
    let id = std::os::unix::fs::MetadataExt::ino(&folder.metadata().expect("it is there"));
    let guard = Guard {
        limit: 1_000_000,
        enforce: true,
    };
    let guards = live.kernel.guards();
    let refused = guards.arm(Guarded::Forks(id), guard);
    assert!(
        matches!(refused, Err(GuardError::Ourselves(own)) if own == id),
        "{refused:?}"
    );
    assert!(guards.armed().is_empty());
    guards
        .arm(Guarded::Forks(group.id()), guard)
        .expect("another can");
}
