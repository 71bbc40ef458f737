//! Starts programs. The only place that does.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::signals::Held;
use super::{HostError, own, procfs};

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments. A first word of `smart-monitor` is this very binary.
    pub command: Vec<String>,
    /// Added to the daemon's environment.
    pub environment: Vec<(String, String)>,
    /// Where it starts; the daemon's own folder when none.
    pub folder: Option<std::path::PathBuf>,
    /// Numeric user and group; the daemon's own when none.
    pub user: Option<(u32, u32)>,
}

/// Starts a program in a session of its own. Returns when its `exec` is done, with the process held by its pidfd. Its output goes
/// where the daemon's does. It lives on when the daemon is killed, and is found again at the next start.
pub fn start(program: &Program) -> Result<Held, HostError> {
    let (first, arguments) = program
        .command
        .split_first()
        .ok_or_else(|| HostError::Spawn {
            program: "(empty command)".to_owned(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
    let own = first == "smart-monitor";
    // By its path, not /proc/self/exe: the kernel names the process after the file's name.
    let path = if own {
        std::env::current_exe().ok()
    } else {
        None
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    let mut command = Command::new(path.as_deref().unwrap_or(Path::new(first)));
    command
        .args(arguments)
        .envs(program.environment.iter().cloned())
        .stdin(Stdio::null());
    if own {
        command.arg0(first);
    }
    if let Some(folder) = &program.folder {
        command.current_dir(folder);
    }
    if let Some((user, group)) = program.user {
        command.uid(user).gid(group);
    }
    // A group of its own: a Ctrl-C at the daemon's terminal is not meant for it.
    command.process_group(0);
    let spawned = command.spawn().map_err(|source| HostError::Spawn {
        program: first.clone(),
        source,
    })?;
    // Not reaped before `Held::reap`, so its PID cannot be used again until then.
    let pid = spawned.id();
    own::expose(pid);
    let key = procfs::stat(pid)
        .map(|stat| stat.key)
        .ok_or_else(|| HostError::System {
            what: format!("read /proc/{pid}/stat"),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
    Held::open(key)
}

impl Held {
    /// Takes the exit status of an ended child, as `wait` gives it; none when it is not our child (any more).
    pub fn reap(&self) -> Option<u32> {
        Self::reap_fd(&self.try_clone_fd().ok()?)
    }

    /// The same, for a pidfd of it.
    pub fn reap_fd(pidfd: &OwnedFd) -> Option<u32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let ended = waitid(WaitId::PidFd(pidfd.as_fd()), options).ok()??;
        let number = |status: i32| u32::try_from(status).unwrap_or(0);
        let code = ended.exit_status().map(|status| number(status) << 8);
        code.or_else(|| ended.terminating_signal().map(number))
    }
}
