//! Who did it, on the real kernel: thousands of real cgroups that come and go, real processes with strange command lines.
//!
//! Needs root and a mounted cgroup v2 hierarchy; without them the tests fail, they are never skipped. Everything is made in folders of
//! the test's own, which go away with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smart_monitor::host::cgroupfs::{CgroupFs, Lookup};
use smart_monitor::host::{clock, procfs};
use smart_monitor::identity::{CGROUPS, Cgroups, Exec, PROCESSES, Who};
use smart_monitor::model::{ProcessKey, Time};
use smart_monitor_tests::{PATIENCE, program, wait_until};

fn tree() -> Arc<CgroupFs> {
    let tree = CgroupFs::open().expect("mountinfo reads");
    Arc::new(tree.expect("the live tests need a mounted cgroup v2 hierarchy"))
}

/// A folder in the v2 hierarchy; it and what is in it go away with it, also when a test fails.
struct Folder {
    tree: Arc<CgroupFs>,
    name: String,
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("smart-monitor-test-{}-{number}", std::process::id());
        let own = Self { tree: tree(), name };
        fs::create_dir(own.path("")).expect("the live tests need root");
        own
    }

    fn path(&self, below: &str) -> PathBuf {
        self.tree.mount().join(&self.name).join(below)
    }

    /// The path that the kernel tells of a cgroup in here.
    fn told(&self, below: &str) -> String {
        format!("/{}/{below}", self.name)
    }

    fn make(&self, below: &str) -> u64 {
        let path = self.path(below);
        fs::create_dir(&path).expect("a cgroup can be made");
        fs::metadata(path).expect("it is there").ino()
    }

    fn remove(&self, below: &str) {
        fs::remove_dir(self.path(below)).expect("an empty cgroup can be removed");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fn remove(folder: &Path) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // The kernel takes a moment to empty the cgroup of a process that was just killed.
            let _ = wait_until(PATIENCE, "an empty cgroup", || {
                let _ = fs::remove_dir(folder);
                (!folder.exists()).then_some(())
            });
        }
        remove(&self.path(""));
    }
}

fn at(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

/// An id as a container runtime makes them.
fn hex(number: u64) -> String {
    format!("{number:064x}")
}

#[test]
fn four_thousand_cgroups_come_and_go_and_none_is_taken_for_another() {
    const AT_ONCE: u64 = 100;
    let folder = Folder::new();
    let mut cgroups = Cgroups::new(Some(Arc::clone(&folder.tree)), CGROUPS);
    let mut paths = BTreeMap::new();
    for round in 0..40 {
        let now = at(round);
        let mut ids = Vec::new();
        for number in 0..AT_ONCE {
            let unique = u64::try_from(round).expect("small") * AT_ONCE + number;
            let name = format!("docker-{}.scope", hex(unique));
            let id = folder.make(&name);
            // Half of them are told of by events, the other half has to be asked for while it is there.
            if number % 2 == 0 {
                cgroups.made(id, folder.told(&name).as_bytes(), now);
            } else {
                let found = cgroups.get(id, now).expect("it is there");
                assert_eq!(found.path, folder.told(&name));
            }
            assert_eq!(
                paths.insert(id, (name.clone(), unique)),
                None,
                "an id came twice"
            );
            ids.push((id, name));
        }
        for (id, name) in &ids {
            folder.remove(name);
            if id % 3 != 0 {
                cgroups.removed(*id, now);
            }
        }
    }
    // All are gone; every one of them is still known as what it was, and as nothing else.
    for (id, (name, unique)) in &paths {
        assert_eq!(folder.tree.path_of(*id), Lookup::Gone);
        let found = cgroups
            .get(*id, at(40))
            .expect("it is kept for its grace time");
        assert_eq!(found.path, folder.told(name));
        assert_eq!(
            found.place.container.as_ref().expect("docker").id,
            hex(*unique)
        );
    }
    // Their time is over, also of those whose end nobody told: a look notices it.
    for id in paths.keys() {
        cgroups.get(*id, at(200));
    }
    // A second has a budget of questions: two more rounds are for what it left over.
    for later in [400, 401, 402, 600] {
        for id in paths.keys() {
            cgroups.get(*id, at(later));
        }
        cgroups.collect(at(later));
    }
    (0..4).for_each(|_| cgroups.collect(at(700)));
    assert_eq!(cgroups.len(), 0, "{:?}", cgroups.stats());
    assert!(paths.keys().all(|id| cgroups.get(*id, at(700)).is_none()));
}

#[test]
fn the_tree_says_the_same_by_id_by_path_and_by_walking() {
    let folder = Folder::new();
    let tree = &folder.tree;
    assert!(
        tree.by_handle(),
        "the kernel opens cgroups by their ids for root"
    );
    let mut made = BTreeMap::new();
    for name in [
        "a",
        "a/b.service",
        "a/b.service/c (deleted)",
        "with blank",
        "é",
    ] {
        made.insert(folder.make(name), folder.told(name));
    }
    let walked: BTreeMap<u64, String> = tree.walk(100_000).into_iter().collect();
    for (id, path) in &made {
        assert_eq!(tree.path_of(*id), Lookup::Found(path.clone()));
        assert_eq!((tree.id_of(path), walked.get(id)), (Some(*id), Some(path)));
    }
    assert_eq!(tree.path_of(tree.root_id()), Lookup::Found("/".to_owned()));
    assert_eq!(tree.walk(2).len(), 2);
    for unknown in [0, u64::MAX, u64::from(u32::MAX)] {
        assert_eq!(tree.path_of(unknown), Lookup::Gone);
    }
}

/// A process of the test's own, ended with it.
struct Running(Child);

impl Running {
    /// Starts a command that ends when its input does.
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("it starts"))
    }

    /// `cat` with this for its `argv[0]`, once it runs as such.
    fn cat(arg0: &[u8], argument: Option<&[u8]>) -> Self {
        let mut command = program("cat");
        command.arg0(OsStr::from_bytes(arg0)).arg("-");
        command.args(argument.map(OsStr::from_bytes));
        let mut own = Self::start(&mut command);
        // Its answer proves that the program is in place.
        let input = own.0.stdin.as_mut().expect("piped");
        input.write_all(b"x").expect("it reads");
        let output = own.0.stdout.as_mut().expect("piped");
        output.read_exact(&mut [0]).expect("it answers");
        own
    }

    fn key(&self) -> ProcessKey {
        procfs::stat(self.0.id()).expect("it runs").key
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn any_command_line_is_read_and_shown_safely() {
    let strange = Running::cat(b"a b\xff\x1b[31m", Some(b"/dev/null"));
    let long = Running::cat(&[b'n'; 32], None);
    let longest = Running::cat(b"cat", Some(&vec![b'/'; 100_000]));
    let mut who = Who::open();
    let now = clock::now();

    let found = who.of(strange.key(), 0, now);
    assert_eq!(
        found.argv.as_deref(),
        Some("$'a b\\xff\\x1b[31m' - /dev/null")
    );
    assert_eq!(found.user.as_deref(), Some("root"));
    let process = found.process.expect("it runs");
    assert_eq!(
        (process.parent_pid, process.uid),
        (std::process::id(), Some(0))
    );

    let found = who.of(long.key(), 0, now);
    assert_eq!(found.argv, Some(format!("{} -", "n".repeat(32))));

    let argv = who.of(longest.key(), 0, now).argv.expect("it runs");
    assert!(argv.starts_with("cat - ///") && argv.ends_with('…'));
    assert!(argv.chars().count() <= 514, "{}", argv.len());

    // The same number at another time is somebody else.
    let former = ProcessKey {
        start_ticks: strange.key().start_ticks - 1,
        ..strange.key()
    };
    assert_eq!(who.of(former, 0, now).process, None);
}

#[test]
fn a_pid_that_the_kernel_uses_again_is_not_the_former_process() {
    let mut who = Who::open();
    let now = clock::now();
    let former = Running::cat(b"former", None);
    let old = former.key();
    assert_eq!(who.of(old, 0, now).argv.as_deref(), Some("former -"));
    drop(former);
    // The kernel is told to begin its search for a free number there; others may be quicker.
    let again = wait_until(PATIENCE, "the same number once more", || {
        let last = (old.pid - 1).to_string();
        fs::write("/proc/sys/kernel/ns_last_pid", last).expect("the live tests need root");
        let running = Running::cat(b"latter", None);
        let key = running.key();
        (key.pid == old.pid && key != old).then_some(running)
    })
    .expect("a number can be had again");
    let new = again.key();
    let latter = who.of(new, 0, now);
    assert_eq!(latter.argv.as_deref(), Some("latter -"));
    assert_eq!(latter.process.expect("it runs").key, new);
    // Its end was never told: what was known of it stands, and is never what runs there now.
    for seconds in [0, 30, 60] {
        let found = who.of(old, 0, now.after(Duration::from_secs(seconds)));
        assert_eq!(found.argv.as_deref(), Some("former -"));
    }
    assert_eq!(Who::open().of(old, 0, now).process, None);
}

#[test]
fn a_name_that_is_no_text_hides_nobody() {
    let mut own = Running::start(
        program("sh").args(["-c", "printf '\\377 x)' >/proc/$$/comm; echo; read _"]),
    );
    own.0
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut [0])
        .expect("it answers");
    let line = fs::read(format!("/proc/{}/stat", own.0.id())).expect("it runs");
    let line = String::from_utf8_lossy(&line).into_owned();
    let fields = line.rsplit_once(')').expect("a name").1;
    let start = fields.split_ascii_whitespace().nth(19).expect("a start");
    let key = ProcessKey {
        pid: own.0.id(),
        start_ticks: start.parse().expect("a number"),
    };
    let process = Who::open()
        .of(key, 0, clock::now())
        .process
        .expect("it runs");
    assert_eq!(process.comm, "\u{fffd} x)");
}

#[test]
fn a_process_in_a_pod_is_told_of_while_it_runs_and_after() {
    let folder = Folder::new();
    let uid = "c0a80001-5a00-11e9-b385-42010a80018d";
    let pod = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    let scope = format!("{pod}/cri-containerd-{}.scope", hex(7));
    folder.make(&pod);
    let cgroup_id = folder.make(&scope);
    let running = Running::cat(b"nginx", None);
    let key = running.key();
    fs::write(
        folder.path(&scope).join("cgroup.procs"),
        key.pid.to_string(),
    )
    .expect("root may");

    let mut who = Who::open();
    let expected = format!("pod {uid}/container {}", &hex(7)[..12]);
    let now = clock::now();
    let found = who.of(key, 0, now);
    assert_eq!(
        (found.describe(), found.cgroup),
        (expected.clone(), Some(folder.told(&scope)))
    );

    drop(running);
    wait_until(PATIENCE, "the end of the process", || {
        (!procfs::runs(key)).then_some(())
    })
    .expect("it ends");
    wait_until(PATIENCE, "the empty cgroup", || {
        fs::remove_dir(folder.path(&scope)).ok()
    })
    .expect("it is empty");
    who.exit(key, now);
    who.cgroup_removed(cgroup_id, now);
    let later = now.after(Duration::from_secs(59));
    who.collect(later);
    let found = who.of(key, cgroup_id, later);
    assert_eq!(
        (found.describe(), found.argv.as_deref()),
        (expected, Some("nginx -"))
    );

    // The end that nobody told of: a fresh look at what was once told finds it gone, and forgets it in time.
    let mut who = Who::open();
    let exec = Exec {
        uid: Some(0),
        argv: b"nginx\0",
        argv_cut: false,
        cgroup_id,
        parent_pid: 1,
        comm: b"nginx",
    };
    who.cgroup_made(cgroup_id, folder.told(&scope).as_bytes(), now);
    who.exec(key, &exec, now);
    let later = now.after(Duration::from_mins(2));
    assert!(who.of(key, 0, later).process.is_some());
    who.collect(later.after(Duration::from_mins(2)));
    let stats = who.stats();
    assert_eq!((stats.cgroups.entries, stats.processes.entries), (0, 0));
}

#[test]
fn without_handles_the_walk_finds_what_is_there() {
    let folder = Folder::new();
    let id = folder.make("a.service");
    let walked = folder.tree.walk(100_000);
    assert!(walked.contains(&(id, folder.told("a.service"))));
    // And without any tree there is what events tell, and nothing else.
    let mut who = Who::with(None, CGROUPS, PROCESSES);
    assert_eq!(who.of_cgroup(id, at(0)).cgroup, None);
    who.cgroup_made(id, folder.told("a.service").as_bytes(), at(0));
    assert_eq!(
        who.of_cgroup(id, at(0)).cgroup,
        Some(folder.told("a.service"))
    );
}
