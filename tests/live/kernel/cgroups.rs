//! Cgroups that come and go: each is told of by the path that it had.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use monitor_common::probes::cgroup_change::{CgroupChange, MADE, REMOVED, RENAMED};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::Options;

use super::stage::Group;
use super::support::{Live, total};

const CGROUPS: usize = 4_000;

fn changes(live: &mut Live, below: &str) -> Vec<CgroupChange> {
    live.all(|event| match event {
        Event::CgroupChange(change) => {
            let path = change.path().unwrap_or_default();
            path.starts_with(below.as_bytes()).then_some(*change)
        }
        _ => None,
    })
}

/// Makes and removes cgroups; their ids as the file system has them, and their paths as the kernel has.
fn come_and_go(live: &mut Live, group: &Group) -> BTreeMap<u64, String> {
    let mut made = BTreeMap::new();
    for number in 0..CGROUPS {
        let name = format!("docker-{number:064x}.scope");
        let folder = group.folder().join(&name);
        fs::create_dir(&folder).expect("root may");
        let id = fs::metadata(&folder).expect("it is there").ino();
        fs::remove_dir(&folder).expect("it is empty");
        let former = made.insert(id, format!("{}/{name}", group.path()));
        assert_eq!(former, None, "an id came twice");
        if number % 100 == 0 {
            live.drain();
        }
    }
    made
}

#[test]
fn thousands_of_cgroups_come_and_go_and_each_is_told_with_its_path() {
    let group = Group::new();
    for (per_second, all) in [(u32::MAX, true), (100, false)] {
        let mut live = Live::new(&Options {
            cgroup_events_per_second: per_second,
            ..Options::default()
        });
        let made = come_and_go(&mut live, &group);
        let told = changes(&mut live, &format!("{}/", group.path()));
        let counters = total(&live.kernel, Kind::CgroupChange);
        for change in &told {
            let path = made.get(&change.cgroup_id).expect("an id of ours");
            assert_eq!(change.path(), Some(path.as_bytes()));
            assert_eq!((change.hierarchy, change.task.pid), (0, std::process::id()));
        }
        for kind in [MADE, REMOVED] {
            let ids = told.iter().filter(|told| told.change == kind);
            let ids: std::collections::BTreeSet<u64> = ids.map(|told| told.cgroup_id).collect();
            assert!(
                ids.len() <= CGROUPS && (!all || ids.len() == CGROUPS),
                "{}",
                ids.len()
            );
        }
        let held_back = usize::try_from(counters.suppressed + counters.lost).expect("few");
        assert!(
            told.len() + held_back >= 2 * CGROUPS,
            "{} and {held_back}",
            told.len()
        );
        assert_eq!(all, held_back == 0);
        let every = live.all(|event| (event.kind() == Kind::CgroupChange).then_some(()));
        assert_eq!(every.len() as u64, counters.emitted);
    }
}

#[test]
fn a_cgroup_of_another_hierarchy_is_told_as_such_and_a_new_name_too() {
    let mut live = Live::new(&Options::default());
    let group = Group::v1("memory");
    let inner = group.folder().join("before");
    fs::create_dir(&inner).expect("root may");
    let id = fs::metadata(&inner).expect("it is there").ino();
    let renamed = group.folder().join("after");
    fs::rename(&inner, &renamed).expect("cgroups of v1 can be renamed");
    fs::remove_dir(&renamed).expect("it is empty");
    let hierarchies = fs::read_to_string("/proc/cgroups").expect("/proc is mounted");
    let memory = hierarchies
        .lines()
        .find_map(|line| line.strip_prefix("memory\t"));
    let memory = memory.and_then(|line| line.split('\t').next()?.parse::<u32>().ok());
    let told: Vec<_> = live
        .all(|event| match event {
            Event::CgroupChange(change)
                if change.cgroup_id == id && change.hierarchy == memory.expect("memory") =>
            {
                Some(*change)
            }
            _ => None,
        })
        .iter()
        .map(|change| (change.change, change.path().map(<[u8]>::to_vec)))
        .collect();
    let path = |name: &str| Some(format!("{}/{name}", group.path()).into_bytes());
    let expected = [
        (MADE, path("before")),
        (RENAMED, path("after")),
        (REMOVED, path("after")),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_path_that_does_not_fit_is_no_path() {
    let mut live = Live::new(&Options::default());
    let group = Group::new();
    let room = 253 - group.path().len();
    for (length, fits) in [(room, true), (room + 1, false)] {
        let folder = group.folder().join("n".repeat(length));
        fs::create_dir(&folder).expect("root may");
        let id = fs::metadata(&folder).expect("it is there").ino();
        fs::remove_dir(&folder).expect("it is empty");
        let told = live.wait_for("a cgroup", |event| match event {
            Event::CgroupChange(change) if change.cgroup_id == id => Some(*change),
            _ => None,
        });
        assert_eq!(told.path().is_some(), fits, "{told:?}");
    }
}
