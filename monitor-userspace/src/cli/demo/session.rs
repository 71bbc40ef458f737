//! The demo's daemon and its folder, and the certainty that both go away.
//!
//! The demo makes itself the one that inherits orphans, so that even after a daemon that was killed it finds every process that
//! came of it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::setup::Setup;
use crate::cli::render;
use crate::host::signals::Held;
use crate::host::{Opened as _, procfs};

/// How long the daemon may take to end its services and itself.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long what is left may take to die of SIGKILL.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// Lines of the daemon's log that are shown when it failed.
const LAST_LINES: usize = 20;

/// A running daemon.
#[derive(Debug)]
pub(super) struct Session {
    folder: Folder,
    daemon: Child,
    stopped: bool,
}

/// A private folder that goes away with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        let stem = format!("smart-monitor-demo-{}", std::process::id());
        // A name that is taken is never shared: someone else may have made it.
        for attempt in 0..100 {
            let path = parent.join(format!("{stem}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot make the folder {}; set TMPDIR to one that can be written",
                            path.display()
                        )
                    });
                }
            }
        }
        bail!("{}/{stem}-* exist already; remove them", parent.display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            render::remark(format_args!(
                "smart-monitor: cannot remove {}: {error}",
                self.0.display()
            ));
        }
    }
}

impl Session {
    /// Starts the daemon.
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("cannot become the parent of orphans")?;
        let folder = Folder::new()?;
        std::fs::write(folder.file("demo.toml"), &setup.text)
            .with_context(|| format!("cannot write {}", folder.file("demo.toml").display()))?;
        let daemon = spawn(&folder)?;
        Ok(Self {
            folder,
            daemon,
            stopped: false,
        })
    }

    /// Socket of the daemon's API.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.file("api.sock")
    }

    /// Fails when the daemon has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.daemon.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended by itself ({status})"),
        }
    }

    /// The last lines that the daemon wrote.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.folder.file("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(LAST_LINES)..)
            .unwrap_or_default();
        if last.is_empty() {
            return "the daemon wrote nothing\n".to_owned();
        }
        let mut words = format!("last lines of the daemon's log:\n  {}", last.join("\n  "));
        words.push('\n');
        words
    }

    /// Ends the daemon, and whatever is left of what it started.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stopped = true;
        if self.daemon.try_wait()?.is_none() {
            let daemon = procfs::stat(self.daemon.id()).context("the daemon is not in /proc")?;
            let held = Held::open(daemon.key)?;
            held.terminate()?;
            if !held.wait(STOP_WITHIN)? {
                render::remark("smart-monitor: the daemon does not end; it is killed");
                held.kill()?;
            }
            self.daemon.wait()?;
        }
        sweep()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only on the way out of an error: otherwise it was stopped, with its errors told.
        if !self.stopped
            && let Err(error) = self.stop()
        {
            render::remark(format_args!(
                "smart-monitor: cannot stop what it started: {error:#}"
            ));
        }
    }
}

fn spawn(folder: &Folder) -> Result<Child> {
    let log = File::create(folder.file("daemon.log"))?;
    let program = own_program();
    #[expect(
        clippy::disallowed_methods,
        reason = "its own daemon, which it must be able to wait for; nothing of the host is touched"
    )]
    let mut command = Command::new(&program);
    command
        .arg("run")
        .arg("--config")
        .arg(folder.file("demo.toml"))
        .arg("--state-dir")
        .arg(folder.file("state"))
        .arg("--socket")
        .arg(folder.file("api.sock"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // The demo ends it in its own way: a Ctrl-C at the terminal is the demo's.
        .process_group(0);
    command
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// This binary; `/proc/self/exe` where its path is gone because it was built anew since.
fn own_program() -> PathBuf {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.unwrap_or_else(|| Path::new("/proc/self/exe").to_owned())
}

/// Kills and reaps every child, until there are none: when one dies, its own become ours.
fn sweep() -> Result<()> {
    let deadline = Instant::now() + KILL_WITHIN;
    loop {
        let own = std::process::id();
        let mut children = procfs::processes()?;
        children.retain(|process| process.parent == own);
        if children.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let names: Vec<String> = children
                .iter()
                .map(|child| format!("{} [{}]", child.comm, child.key.pid))
                .collect();
            bail!("these do not die: {}; kill them by hand", names.join(", "));
        }
        for child in children {
            // One that is gone by now is what was wanted.
            if let Ok(held) = Held::open(child.key) {
                let _gone = held.kill();
                let _later = held.wait(Duration::from_millis(500));
                held.reap();
            }
        }
    }
}
