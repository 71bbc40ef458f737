//! Processes that do what they are told, in cgroups of the test's own. All of it ends with the test, also when the test fails.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor::host::procfs;
use smart_monitor::model::ProcessKey;
use smart_monitor_tests::wait_until;

use super::support::{PATIENCE, command};

/// A cgroup of the test's own. Dropping it kills its members and removes it.
pub(super) struct Group {
    folder: PathBuf,
}

impl Group {
    /// In the v2 hierarchy.
    pub(super) fn new() -> Self {
        let tree = CgroupFs::open().expect("mountinfo reads");
        Self::below(tree.expect("a mounted cgroup v2 hierarchy").mount())
    }

    /// In the v1 hierarchy of a controller.
    pub(super) fn v1(controller: &str) -> Self {
        Self::below(&Path::new("/sys/fs/cgroup").join(controller))
    }

    fn below(root: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("smart-monitor-live-{}-{number}", std::process::id());
        let folder = root.join(name);
        let made = fs::create_dir(&folder).map_err(|error| (folder.clone(), error));
        made.expect("the live tests need root and this hierarchy");
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its path from the root of its hierarchy.
    pub(super) fn path(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }

    pub(super) fn id(&self) -> u64 {
        fs::metadata(&self.folder).expect("it is there").ino()
    }

    pub(super) fn set(&self, file: &str, value: &str) {
        let path = self.folder.join(file);
        let written = fs::write(&path, value).map_err(|error| (path, error));
        written.expect("the kernel takes it");
    }

    pub(super) fn get(&self, file: &str) -> String {
        let text = fs::read_to_string(self.folder.join(file)).expect("it reads");
        text.trim().to_owned()
    }

    /// A number in a file of lines of a name and a number.
    pub(super) fn number(&self, file: &str, name: &str) -> u64 {
        let text = self.get(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("its line").trim().parse().expect("a number")
    }

    pub(super) fn members(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = wait_until(PATIENCE, "an empty cgroup", || {
            if fs::write(self.folder.join("cgroup.kill"), "1").is_err() {
                self.members().into_iter().for_each(kill);
            }
            let below = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(&self.folder);
            (!self.folder.exists()).then_some(())
        });
        if removed.is_err() {
            println!("{} is left behind", self.folder.display());
        }
    }
}

/// Kills a process of the test's own.
pub(super) fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Sends a signal to a process of the test's own; nothing happens to one that is gone.
pub(super) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(pidfd) = pidfd {
        #[expect(
            clippy::disallowed_methods,
            reason = "the tests end and stop what they made"
        )]
        let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
    }
}

/// What every actor can do: `say` and `hear`; `touch` so much memory; `spin`; have a `child`, and tell
/// its `end`: its status, and the most memory it held, in KiB.
const WORDS: &str = r"
import ctypes, mmap, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9)
for group in sys.argv[1:]:
    with open(group + '/cgroup.procs', 'w') as file: file.write('0')
def say(*words): print(*words, flush=True)
def hear(): return sys.stdin.readline().strip()
def touch(size):
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc.memset((ctypes.c_char * size).from_buffer(memory), 1, ctypes.c_size_t(size))
    return memory
def spin(until):
    while time.monotonic() < until: pass
def child(body):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, 9)
        os.close(write)
        os.read(read, 1)
        try: body()
        finally: os._exit(0)
    os.close(read)
    return pid, write
def end(pid):
    _, status, usage = os.wait4(pid, 0)
    say(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
say('ready')
hear()
";

/// A Python process with a part to play. It waits for [`Self::go`] before it begins, and is killed when dropped.
pub(super) struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// In these cgroups; returns once it is there.
    pub(super) fn new(groups: &[&Group], part: &str) -> Self {
        let mut python = command("python3");
        python.arg("-c").arg(format!("{WORDS}\n{part}"));
        python.args(groups.iter().map(|group| group.folder()));
        let python = python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 is there");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut actor = Self {
            child,
            input,
            output,
        };
        assert_eq!(actor.line(), "ready");
        actor
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn key(&self) -> ProcessKey {
        procfs::stat(self.pid()).expect("it runs").key
    }

    /// Lets it go on from where it hears.
    pub(super) fn go(&mut self) {
        self.tell("go");
    }

    pub(super) fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("it reads");
    }

    /// The next line it says.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes text");
        assert!(line.ends_with('\n'), "it ended, after {line:?}");
        line.trim().to_owned()
    }

    /// The next line it says, as numbers.
    pub(super) fn numbers(&mut self) -> Vec<f64> {
        let line = self.line();
        let numbers = line.split(' ').map(|word| word.parse().expect("a number"));
        numbers.collect()
    }

    /// Once it sleeps.
    pub(super) fn asleep(&self) {
        wait_until(PATIENCE, "an actor that sleeps", || {
            (procfs::stat(self.pid())?.state == 'S').then_some(())
        })
        .expect("it sleeps");
    }

    pub(super) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is ours")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often a process's first thread has been switched away from.
pub(super) fn switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let counts = status.lines().filter_map(|line| {
        let (name, count) = line.split_once(':')?;
        name.ends_with("_ctxt_switches").then_some(count)
    });
    counts
        .map(|count| count.trim().parse::<u64>().expect("a number"))
        .sum()
}

/// Nanoseconds that a process's first thread has waited for a CPU.
pub(super) fn run_delay(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
    let field = text.split_ascii_whitespace().nth(1);
    field.expect("three fields").parse().expect("a number")
}
