//! Other tools that measure the same: those of bcc (the libbpf ones), and `runqlat` as a script for bpftrace.
//!
//! Each is started as a child, which the kernel ends with the bench, and is ended by its own handle. Its own folder for tracepoints is
//! mounted where nobody else sees it. Missing ones are installed on demand only, and are never left out in silence.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::programs::loaded_programs;

use crate::daemon::program;
use crate::report::progress;

/// How long one may take to attach its programs, or to be rid of them.
const PATIENCE: Duration = Duration::from_secs(20);
/// The last program is loaded; that it is attached, too, cannot be seen.
const ATTACHED: Duration = Duration::from_millis(250);

/// The same as `runqlat`, of all tasks: a stamp by thread at wake-up and preemption, a look-up at the switch.
const SCRIPT: &str = "
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @queued[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
    if (args->prev_state == 0) { @queued[args->prev_pid] = nsecs; }
    $queued = @queued[args->next_pid];
    if ($queued) { @usecs = hist((nsecs - $queued) / 1000); }
    delete(@queued[args->next_pid]);
}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Bcc,
    Bpftrace,
    TcpLife,
    TcpStates,
    BioLatency,
}

impl Tool {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bcc => "bcc libbpf runqlat",
            Self::Bpftrace => "bpftrace runqlat",
            Self::TcpLife => "bcc libbpf tcplife",
            Self::TcpStates => "bcc libbpf tcpstates",
            Self::BioLatency => "bcc libbpf biolatency",
        }
    }

    /// The distribution's package, and the names of its executable.
    const fn package(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Bcc => ("libbpf-tools", &["bpf-runqlat", "runqlat"]),
            Self::Bpftrace => ("bpftrace", &["bpftrace"]),
            Self::TcpLife => ("libbpf-tools", &["bpf-tcplife", "tcplife"]),
            Self::TcpStates => ("libbpf-tools", &["bpf-tcpstates", "tcpstates"]),
            Self::BioLatency => ("libbpf-tools", &["bpf-biolatency", "biolatency"]),
        }
    }

    /// The program that it loads last, as far as the kernel keeps its name.
    const fn last_program(self) -> &'static str {
        match self {
            Self::Bcc | Self::Bpftrace => "sched_switch",
            Self::TcpLife => "inet_sock_set_s",
            Self::TcpStates => "handle_set_stat",
            Self::BioLatency => "block_rq_comple",
        }
    }

    /// What it is to be told.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Bcc | Self::BioLatency => &["3600"],
            Self::Bpftrace | Self::TcpLife | Self::TcpStates => &[],
        }
    }

    fn find(self) -> Option<PathBuf> {
        let (_, names) = self.package();
        find(names)
    }
}

/// The first of these that is installed.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&paths)
        .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// What is there.
#[derive(Debug)]
pub(super) struct Tools {
    install: bool,
}

impl Tools {
    /// Installs what is missing, if that is wanted.
    pub(super) fn find(install: bool) -> Self {
        let missing = [Tool::Bcc, Tool::Bpftrace, Tool::TcpLife, Tool::TcpStates]
            .into_iter()
            .chain([Tool::BioLatency])
            .filter(|tool| tool.find().is_none());
        let mut packages: Vec<&str> = missing.map(|tool| tool.package().0).collect();
        packages.dedup();
        if install && !packages.is_empty() {
            progress(&format!("kernel: installing {}", packages.join(", ")));
            let mut apt = program("apt-get");
            apt.args(["install", "-y"]).args(packages);
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            // What did not work shows when the tool is started.
            let _shows_later = apt.stdin(Stdio::null()).output();
        }
        Self { install }
    }

    /// Starts one, and waits until it is attached.
    pub(super) fn start(&self, tool: Tool) -> Result<Running> {
        let Some(path) = tool.find() else {
            let (package, _) = tool.package();
            if self.install {
                bail!("not installed, and apt-get install {package} did not help");
            }
            bail!("not installed; --peers installs {package}");
        };
        let before = programs(tool);
        let mut command = match tool {
            Tool::Bcc | Tool::TcpLife | Tool::TcpStates | Tool::BioLatency => {
                let mut command = program("setpriv");
                command.args(["--pdeathsig", "KILL"]).arg(path);
                command.args(tool.arguments());
                command
            }
            Tool::Bpftrace => {
                let mut command = program("unshare");
                command.args(["--mount", "setpriv", "--pdeathsig", "KILL", "sh", "-c"]);
                command.arg("mount -t tracefs tracefs /sys/kernel/tracing; exec \"$0\" -e \"$1\"");
                command.arg(path).arg(SCRIPT);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {}", tool.name()))?;
        let mut running = Running {
            tool,
            child,
            before,
        };
        running.wait_until_attached()?;
        Ok(running)
    }
}

/// A running one; ended, with its programs gone, when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    tool: Tool,
    child: Child,
    /// Programs of the name that were there before.
    before: BTreeSet<u32>,
}

impl Running {
    fn wait_until_attached(&mut self) -> Result<()> {
        let begin = Instant::now();
        while programs(self.tool).is_subset(&self.before) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}) before it had attached anything");
            }
            if begin.elapsed() > PATIENCE {
                bail!("it has attached nothing within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(ATTACHED);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let begin = Instant::now();
        while !programs(self.tool).is_subset(&self.before) {
            if begin.elapsed() > PATIENCE {
                eprintln!(
                    "bench: programs of another tool are still there; what follows is measured with them"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Programs with the name of what this tool loads last, by id.
fn programs(tool: Tool) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for info in loaded_programs() {
        // One that went away while it was looked at is none.
        let Ok(info) = info else { continue };
        if info.name_as_str() == Some(tool.last_program()) {
            found.insert(info.id());
        }
    }
    found
}
