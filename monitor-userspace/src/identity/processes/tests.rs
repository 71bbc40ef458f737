use super::*;

const BOUNDS: Bounds = Bounds {
    entries: 1024,
    bytes: 1 << 20,
    grace: Duration::from_mins(1),
};

fn at(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

/// PIDs beyond the kernel's limit (2^22), so that `/proc` never has them.
fn key(number: u32, start_ticks: u64) -> ProcessKey {
    ProcessKey {
        pid: 0x4000_0000 + number,
        start_ticks,
    }
}

fn processes() -> Processes {
    Processes::new(None, Path::new("/etc/passwd"), BOUNDS)
}

fn exec<'a>(argv: &'a [u8], comm: &'a [u8]) -> Exec<'a> {
    Exec {
        uid: Some(0),
        argv,
        argv_cut: false,
        cgroup_id: 5,
        parent_pid: 1,
        comm,
    }
}

#[test]
fn what_an_exec_tells_is_known_beyond_the_end() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"ls\0-l\0", b"ls\0\0junk"), at(0));
    processes.exit(key(1, 10), at(0));
    let found = processes.get(key(1, 10), at(60)).expect("it was told");
    assert_eq!(
        (&found.argv[..], found.comm.as_str()),
        (&b"ls\0-l\0"[..], "ls")
    );
    assert_eq!(
        (found.user.as_deref(), found.cgroup_id, found.parent_pid),
        (Some("root"), 5, 1)
    );
    processes.collect(at(61));
    assert_eq!(processes.get(key(1, 10), at(61)), None);
    assert_eq!(processes.len(), 0);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"old\0", b"old"), at(0));
    processes.exit(key(1, 10), at(1));
    assert_eq!(processes.get(key(1, 11), at(1)), None);
    processes.exec(key(1, 11), &exec(b"new\0", b"new"), at(1));
    assert_eq!(processes.get(key(1, 10), at(1)).expect("kept").comm, "old");
    assert_eq!(processes.get(key(1, 11), at(1)).expect("told").comm, "new");
    // Our own number at another time: somebody else's, and never ours.
    let own = crate::host::procfs::stat(std::process::id())
        .expect("we run")
        .key;
    let start_ticks = own.start_ticks + 1;
    assert_eq!(
        processes.get(ProcessKey { start_ticks, ..own }, at(1)),
        None
    );
    assert!(processes.get(own, at(1)).is_some());
}

#[test]
fn a_child_is_what_its_parent_is_until_it_is_known_better() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"sh\0", b"sh"), at(0));
    processes.fork(key(2, 20), key(1, 10), None, at(1));
    processes.fork(key(3, 20), key(1, 10), Some(9), at(1));
    processes.exit(key(1, 10), at(1));
    for (child, cgroup_id) in [(key(2, 20), 5), (key(3, 20), 9)] {
        // It is not there to be read: what it inherited is all there will ever be.
        let found = processes.get(child, at(2)).expect("inherited");
        assert_eq!((found.comm.as_str(), &found.argv[..]), ("sh", &b"sh\0"[..]));
        assert_eq!(
            (found.parent_pid, found.cgroup_id),
            (key(1, 10).pid, cgroup_id)
        );
    }
    processes.exec(key(2, 20), &exec(b"ls\0", b"ls"), at(2));
    assert_eq!(processes.get(key(2, 20), at(2)).expect("told").comm, "ls");
    processes.fork(key(5, 1), key(4, 1), None, at(2));
    assert_eq!(processes.get(key(5, 1), at(2)), None);
}

#[test]
fn a_parent_that_ran_before_is_read_when_it_forks() {
    let mut processes = processes();
    let own = crate::host::procfs::stat(std::process::id()).expect("we run");
    processes.fork(key(1, 10), own.key, None, at(0));
    processes.exit(key(1, 10), at(0));
    let found = processes.get(key(1, 10), at(0)).expect("inherited");
    assert_eq!(
        (found.comm.as_str(), found.parent_pid),
        (own.comm.as_str(), own.key.pid)
    );
    assert!(!found.argv.is_empty());
}

#[test]
fn events_may_come_in_any_order() {
    let mut processes = processes();
    processes.exit(key(1, 10), at(0));
    assert_eq!(processes.get(key(1, 10), at(0)), None);
    processes.exec(key(1, 10), &exec(b"ls\0", b"ls"), at(0));
    assert!(processes.get(key(1, 10), at(0)).is_some());
    processes.collect(at(100));
    assert_eq!(processes.len(), 0);
}

#[test]
fn an_end_that_nobody_told_is_noticed() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"ls\0", b"ls"), at(0));
    processes.collect(at(1_000));
    assert!(processes.get(key(1, 10), at(1_000)).is_some());
    processes.collect(at(1_061));
    assert_eq!(processes.len(), 0);
}

#[test]
fn what_the_event_cut_is_read_in_whole() {
    let mut processes = processes();
    let own = crate::host::procfs::stat(std::process::id()).expect("we run");
    let mut cut = exec(b"x\0", b"x");
    cut.argv_cut = true;
    processes.exec(own.key, &cut, at(0));
    let found = processes.get(own.key, at(0)).expect("we run");
    assert!(found.argv.len() > 2 && !found.argv_cut && found.comm == own.comm);
    // What an event told in whole is believed for its time.
    processes.exec(own.key, &exec(b"told\0", own.comm.as_bytes()), at(0));
    let told = |processes: &mut Processes, seconds| {
        let found = processes.get(own.key, at(seconds)).expect("we run");
        (found.argv.to_vec(), found.parent_pid)
    };
    assert_eq!(told(&mut processes, 1), (b"told\0".to_vec(), 1));
    // Later its parent is read, its command line still is as told.
    assert_eq!(told(&mut processes, 11), (b"told\0".to_vec(), own.parent));
}

#[test]
fn long_and_strange_bytes_are_bounded() {
    let mut processes = processes();
    let long = vec![0xff; 10_000];
    processes.exec(key(1, 10), &exec(&long, &long), at(0));
    let found = processes.get(key(1, 10), at(0)).expect("it was told");
    assert_eq!((found.argv.len(), found.argv_cut), (4096, true));
    assert_eq!(found.comm.chars().count(), COMM_MAX);
    let name = "n".repeat(32);
    processes.exec(key(2, 10), &exec(name.as_bytes(), name.as_bytes()), at(0));
    assert_eq!(processes.get(key(2, 10), at(0)).expect("told").comm, name);
}

#[test]
fn a_hundred_thousand_are_not_kept() {
    let mut processes = processes();
    let argv = vec![b'x'; 3000];
    for number in 0..100_000 {
        processes.exec(key(number, 1), &exec(&argv, b"x"), at(0));
        if number % 3 == 0 {
            processes.exit(key(number, 1), at(0));
        }
        let stats = processes.stats();
        assert!(stats.entries <= BOUNDS.entries && stats.bytes <= BOUNDS.bytes);
    }
    let stats = processes.stats();
    assert_eq!(
        stats.evicted + u64::try_from(stats.entries).unwrap_or(0),
        100_000
    );
}

#[test]
fn a_storm_of_unknown_ones_is_not_read_from_proc() {
    let mut processes = processes();
    for number in 0..100_000 {
        assert_eq!(processes.get(key(number, 1), at(0)), None);
    }
    let stats = processes.stats();
    assert_eq!((stats.entries, stats.unresolved), (0, 100_000));
    assert_eq!(stats.deferred, 100_000 - u64::from(READS_PER_SECOND));
}

#[test]
fn a_user_that_the_event_does_not_tell_is_the_one_of_before() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"sh\0", b"sh"), at(0));
    let untold = Exec {
        uid: None,
        ..exec(b"ls\0", b"ls")
    };
    processes.exec(key(1, 10), &untold, at(0));
    let user_of = |processes: &mut Processes, key| {
        let found = processes.get(key, at(0)).expect("it was told");
        (found.uid, found.user.as_deref().map(str::to_owned))
    };
    let root = (Some(0), Some("root".to_owned()));
    assert_eq!(user_of(&mut processes, key(1, 10)), root);
    processes.exec(key(2, 10), &untold, at(0));
    assert_eq!(user_of(&mut processes, key(2, 10)), (None, None));
}

#[test]
fn a_fork_that_its_exec_overtook_changes_nothing() {
    let mut processes = processes();
    processes.exec(key(1, 10), &exec(b"parent\0", b"parent"), at(0));
    processes.exec(key(2, 11), &exec(b"child\0", b"child"), at(0));
    processes.fork(key(2, 11), key(1, 10), Some(5), at(0));
    let child = processes.get(key(2, 11), at(0)).expect("it was told");
    assert_eq!(&child.argv[..], b"child\0");
}
