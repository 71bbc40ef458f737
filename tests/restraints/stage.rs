//! Processes and cgroups of a scene's own, which end with it, and the hands that hold them back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::cgroup::{Hierarchy, place};
use smart_monitor::host::restrain::{Restrained, is_lifted, is_restrained, lift, restrain};
use smart_monitor::host::{HostError, procfs};
use smart_monitor::model::{Lift, ProcessKey, Restraint, Whole};

use crate::{PATIENCE, program, send, wait_until};

/// Two processes that take what CPU they get, below one that waits for them.
pub(super) const SPIN: &str = "(while :; do :; done) & (while :; do :; done) & wait";

/// A cgroup (v2) of the scene's own.
pub(super) struct Group(pub(super) PathBuf);

impl Group {
    pub(super) fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let above = place(Hierarchy::V2, std::process::id()).context("no cgroup v2 is mounted")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = above.join(format!(
            "smart-monitor-scene-{}-{number}",
            std::process::id()
        ));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    pub(super) fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }

    pub(super) fn says(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join(file)).ok()?;
        Some(text.trim_end().to_owned())
    }

    pub(super) fn pids(&self) -> usize {
        self.says("cgroup.procs")
            .unwrap_or_default()
            .lines()
            .count()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ended = fs::write(self.0.join("cgroup.freeze"), "0");
        let left = wait_until(PATIENCE, "an empty cgroup", || {
            for pid in self.says("cgroup.procs").unwrap_or_default().lines() {
                kill(pid.parse().ok()?);
            }
            // One that is gone already is what is wanted.
            (fs::remove_dir(&self.0).is_ok() || !self.0.exists()).then_some(())
        });
        if left.is_err() {
            eprintln!("{} is left behind", self.0.display());
        }
    }
}

pub(super) fn kill(pid: u32) {
    if let Some(stat) = procfs::stat(pid) {
        let _gone = send(stat.key, rustix::process::Signal::KILL);
    }
}

/// A script, and all that comes of it. Ends with its owner.
pub(super) struct Actor {
    child: Child,
    pub(super) whole: Whole,
}

impl Actor {
    /// In this cgroup, or in that of the scenes.
    pub(super) fn new(script: &str, group: Option<&Group>) -> Result<Self> {
        let mut command = program("sh");
        let enter = group.map_or_else(String::new, |group| {
            format!("echo $$ >{}/cgroup.procs || exit 1; ", group.0.display())
        });
        // A process group of its own, by which all of it is ended.
        command
            .arg("-c")
            .arg(format!("{enter}echo ready; {script}"))
            .process_group(0);
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let mut ready = [0_u8; 6];
        let output = child.stdout.as_mut().context("it has an output")?;
        std::io::Read::read_exact(output, &mut ready).context("it is ready")?;
        let stat = procfs::stat(pid).context("it runs")?;
        Ok(Self {
            child,
            whole: Whole {
                process: stat.key,
                comm: stat.comm,
                cgroup_id: 0,
                named: true,
                spared: Vec::new(),
            },
        })
    }

    pub(super) fn process(&self) -> ProcessKey {
        self.whole.process
    }

    /// Like [`Self::whole`] of a service whose cgroup this is.
    pub(super) fn service(&self, group: &Group) -> Result<Whole> {
        Ok(Whole {
            cgroup_id: group.id()?,
            named: false,
            ..self.whole.clone()
        })
    }

    pub(super) fn end(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        #[expect(
            clippy::disallowed_methods,
            reason = "the scene's own, and not reaped yet"
        )]
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _reaped = self.child.wait();
    }

    /// CPU time of it and of all that came of it, ticks of 10 ms.
    pub(super) fn ticks(&self) -> u64 {
        let all = procfs::processes().unwrap_or_default();
        let of_it = all.iter().filter(|stat| stat.group == self.process().pid);
        of_it.map(|stat| stat.cpu_ticks).sum()
    }

    /// Whether it, or what came of it, takes CPU time.
    pub(super) fn runs_on(&self) -> Result<()> {
        let before = self.ticks();
        wait_until(PATIENCE, "it goes on", || {
            (self.ticks() > before + 2).then_some(())
        })
    }

    pub(super) fn stands_still(&self) -> Result<()> {
        let before = self.ticks();
        // As long as somebody else needs to get some CPU time for certain.
        let other = Self::new(SPIN, None)?;
        let until = Instant::now() + PATIENCE;
        while other.ticks() < 20 && Instant::now() < until {
            std::thread::yield_now();
        }
        ensure!(other.ticks() >= 20, "the other one got no time");
        ensure!(
            self.ticks() <= before + 1,
            "it ran on: {} ticks",
            self.ticks() - before
        );
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end();
    }
}

/// Holds it back with a word that is taken, and gives what takes it away, too.
pub(super) fn hold(whole: &Whole, restraint: Restraint) -> Result<Restrained, HostError> {
    let mut word = None;
    let done = restrain(whole, restraint, &[], &mut |lift: &Lift| {
        word = Some(lift.clone());
        Ok(())
    })?;
    assert_eq!(
        word.as_ref(),
        Some(&done.lift),
        "what was said is what is left"
    );
    Ok(done)
}

pub(super) fn whole_hold(whole: &Whole, restraint: Restraint) -> Result<Restrained> {
    let done = hold(whole, restraint)?;
    if let Some(error) = done.stopped {
        anyhow::bail!("{}, but {error}", done.detail);
    }
    is_restrained(whole, restraint).context("read back")?;
    Ok(done)
}

pub(super) fn let_go(whole: &Whole, done: &Restrained) -> Result<()> {
    let (_, now) = lift(whole.process, &done.lift)?;
    is_lifted(whole.process, &done.lift).with_context(|| format!("read back after: {now}"))?;
    if let Lift::Made { folder, .. } = &done.lift {
        ensure!(!folder.exists(), "{} is left behind", folder.display());
    }
    Ok(())
}

impl Actor {
    /// Kills it while it is held back. What the freezer of v1 holds dies when it is let go.
    pub(super) fn end_held(&mut self, done: &Restrained) {
        if matches!(&done.lift, Lift::Made { file, .. } if file == "freezer.state") {
            kill(self.process().pid);
        } else {
            self.end();
        }
    }
}

/// As a user who may do nothing: of this thread alone.
pub(super) fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    const NOBODY: libc::c_long = 65_534;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the system call takes numbers, and unlike the function of the same name changes this thread alone.
            let set = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            ensure!(set == 0, "cannot become another user");
            Ok(act())
        });
        thread.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    })
}
