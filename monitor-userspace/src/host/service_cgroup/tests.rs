use super::*;

const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

#[test]
fn the_own_cgroup_is_found() {
    let at = |mounts: &str, own: &str| locate(mounts, &format!("4:memory:/x\n0::{own}\n"));
    let unified = Path::new("/sys/fs/cgroup/unified");
    assert_eq!(at(MOUNTS, "/"), Some(unified.to_owned()));
    assert_eq!(at(MOUNTS, "/a.slice/b"), Some(unified.join("a.slice/b")));
    // A part of the hierarchy is mounted.
    let part = MOUNTS.replace("0:38 /", "0:38 /a.slice");
    assert_eq!(at(&part, "/a.slice/b"), Some(unified.join("b")));
    assert_eq!(at(&part, "/b"), None);
    assert_eq!(at(MOUNTS, "/../b"), None, "outside of our namespace");
    assert_eq!(at("", "/"), None);
    assert_eq!(locate(MOUNTS, "4:memory:/x\n"), None);
}

#[test]
fn no_name_leads_elsewhere() {
    let names = ["web", "a@b-1"];
    assert_eq!(names.map(file_name), names);
    let odd = [".", "..", "cgroup.procs", "_web", "memory.max"];
    assert_eq!(
        odd.map(file_name),
        ["_.", "_..", "_cgroup.procs", "__web", "_memory.max"]
    );
}

#[test]
fn only_a_cgroup_is_taken_for_one() {
    let refused = ServiceCgroup::open(&std::env::temp_dir());
    assert!(matches!(refused, Err(HostError::Cgroup { .. })));
}

#[test]
fn instances_are_told_apart_and_stay_the_same() {
    assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c, "published test vector");
    assert_ne!(hash(b"/var/lib/a"), hash(b"/var/lib/b"));
}
