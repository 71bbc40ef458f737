//! Starts programs. The only place that does.

#![expect(
    unsafe_code,
    reason = "the child of a service may have to enter its cgroup by itself"
)]

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};

use super::capture::Bounds;
use super::limits::Limits;
use super::notify::Notify;
use super::service_cgroup::ServiceCgroup;
use super::signals::Held;
use super::spawn::{self, Refused};
use super::{HostError, own, procfs};
use crate::model::command::StopSignal;

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments. A first word of `smart-monitor` is this very binary.
    pub command: Vec<String>,
    /// Added to the daemon's environment.
    pub environment: Vec<(String, String)>,
    /// Where it starts; the daemon's own folder when none.
    pub folder: Option<std::path::PathBuf>,
    /// Numeric user and group; the daemon's own when none.
    pub user: Option<(u32, u32)>,
    /// Groups that it is in beside that of its user; none but that one unless given.
    pub groups: Vec<u32>,
    /// How it tells of itself, where it does.
    pub notify: Option<Notify>,
    /// How much is kept of what it writes.
    pub log: Bounds,
    /// File with more of its environment: read at every start.
    pub environment_file: Option<std::path::PathBuf>,
    /// Permissions that files it makes do not get.
    pub umask: Option<u32>,
    /// How much it may use.
    pub limits: Limits,
    /// What it is asked to end with; SIGTERM when none.
    pub stop_signal: Option<StopSignal>,
    /// How long it may take for that; as long as whoever asks says when none.
    pub stop_timeout: Option<Duration>,
}

/// Starts a program in a session of its own. Returns when its `exec` is done, with the process held by its pidfd. Its output goes
/// to `output`, or else where the daemon's does. It lives on when the daemon is killed, and is found again at the next start. It is in `cgroup` from its
/// first instruction on, unless it could not be put there: see [`ServiceCgroup::holds`].
pub fn start(
    program: &Program,
    cgroup: Option<&ServiceCgroup>,
    output: Option<&File>,
) -> Result<Held, HostError> {
    let first = program.command.first().ok_or_else(|| HostError::Spawn {
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
    let folder = cgroup.and_then(ServiceCgroup::fresh);
    program.limits.can_be(first)?;
    let path = path.as_deref();
    let spawned = match folder.map(|folder| spawn::start(program, path, folder, output)) {
        Some(Ok(pid)) => Ok(pid),
        Some(Err(Refused::Exec(error))) => Err(error),
        Some(Err(Refused::Clone)) | None => spawn(program, path, cgroup, output),
    };
    // Not reaped before `Held::bury`, so its PID cannot be used again until then.
    let pid = spawned.map_err(|source| HostError::Spawn {
        program: first.clone(),
        source,
    })?;
    own::expose(pid);
    program.limits.mark(pid);
    let key = procfs::stat(pid)
        .map(|stat| stat.key)
        .ok_or_else(|| HostError::System {
            what: format!("read /proc/{pid}/stat"),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
    Held::open(key)
}

/// By the standard library: without a cgroup, or with one that the child enters by itself. There is nobody to tell when it cannot:
/// it goes on without, and who started it looks.
fn spawn(
    program: &Program,
    path: Option<&Path>,
    cgroup: Option<&ServiceCgroup>,
    output: Option<&File>,
) -> std::io::Result<u32> {
    let mut words = program.command.iter();
    let first = words.next().map(String::as_str).unwrap_or_default();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    let mut command = Command::new(path.unwrap_or(Path::new(first)));
    for own in spawn::OWN {
        command.env_remove(own);
    }
    command
        .args(words)
        .envs(program.environment.iter().cloned())
        .stdin(Stdio::null());
    if let Some(output) = output {
        command
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
    }
    if path.is_some() {
        command.arg0(first);
    }
    let folder = program.folder.as_ref();
    let folder = folder.map(|folder| spawn::text(folder.as_os_str()));
    let folder = folder.transpose()?;
    if let (Some(_), [_, ..]) = (program.user, &*program.groups) {
        return Err(std::io::Error::other(
            "groups need a cgroup for services, which there is none of here: see `smart-monitor doctor`",
        ));
    }
    let (limits, nice) = (program.limits.numbers(), program.limits.nice);
    let (umask, user) = (program.umask, program.user);
    let detach = move || {
        // SAFETY: this process is to become the service.
        unsafe {
            spawn::detach();
            spawn::limit(&limits, nice, umask)?;
            settle(user, folder.as_deref())
        }
    };
    // SAFETY: see `detach`: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(detach) };
    if let Some(door) = cgroup.and_then(|cgroup| cgroup.door().ok()) {
        let enter = move || {
            // SAFETY: async-signal-safe: one system call on a file that is open, and one byte that lives for ever. The kernel asks for
            // the rights of who opened the file (5.16, and stable kernels since), so it does not matter that the user is set by now.
            unsafe { libc::write(door.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            Ok(())
        };
        // SAFETY: see `enter`: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
    }
    Ok(command.spawn()?.id())
}

/// Becomes this user, in no group but that of it, and goes to this folder as such. The standard library would do that first, and a user
/// cannot raise limits.
///
/// # Safety
///
/// To be called in a process that is to become another program.
unsafe fn settle(user: Option<(u32, u32)>, folder: Option<&CStr>) -> std::io::Result<()> {
    // SAFETY: plain system calls, by their numbers since libc's would wait for threads; they allocate nothing, and read one string.
    let done = unsafe {
        let became = user.is_none_or(|(user, group)| {
            let none = std::ptr::null::<libc::gid_t>();
            // As the standard library does: without the right to, the groups stay.
            (libc::getuid() != 0 || libc::syscall(libc::SYS_setgroups, 0_usize, none) == 0)
                && libc::syscall(libc::SYS_setgid, group) == 0
                && libc::syscall(libc::SYS_setuid, user) == 0
        });
        became && folder.is_none_or(|folder| libc::chdir(folder.as_ptr()) == 0)
    };
    if done {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

impl Held {
    /// Takes the exit status of an ended child, as `wait` gives it; none when it is not our child (any more).
    pub fn reap(&self) -> Option<u32> {
        wait_status(&self.try_clone_fd().ok()?, WaitIdOptions::EXITED)
    }

    /// The exit status of an ended child, which stays a zombie: its PID, and so its group's number, cannot come to mean another.
    pub fn peek_fd(pidfd: &OwnedFd) -> Option<u32> {
        wait_status(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    }

    /// Ends what is left of an ended child's process group (workers that would hold its port), then takes its exit status. Does
    /// nothing for a process that is not our unreaped child: only then is the group's number certain.
    pub fn bury(&self) {
        let Ok(pidfd) = self.try_clone_fd() else {
            return;
        };
        let group = i32::try_from(self.process().pid)
            .ok()
            .and_then(Pid::from_raw);
        let (Some(_), Some(group)) = (Self::peek_fd(&pidfd), group) else {
            return;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the zombie holds the group's number"
        )]
        let _ = kill_process_group(group, Signal::KILL);
        self.reap();
        // The dying ones hold the number from here on; they are few and fast, and past this bound the next start will say what it misses.
        for _ in 0..LEFT_OVER {
            if test_kill_process_group(group).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::warn!(group = %self.process(), "processes of an ended service are still dying");
    }
}

/// Milliseconds that what is left of a service may take to die of SIGKILL.
const LEFT_OVER: u32 = 1000;

fn wait_status(pidfd: &OwnedFd, how: WaitIdOptions) -> Option<u32> {
    let ended = waitid(WaitId::PidFd(pidfd.as_fd()), how | WaitIdOptions::NOHANG).ok()??;
    let number = |status: i32| u32::try_from(status).unwrap_or(0);
    let code = ended.exit_status().map(|status| number(status) << 8);
    code.or_else(|| ended.terminating_signal().map(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Opened as _;

    #[test]
    fn without_a_cgroup_a_user_gets_what_only_root_can_give() {
        let program = Program {
            command: vec!["sleep".to_owned(), "100".to_owned()],
            folder: Some("/".into()),
            user: Some((65534, 65534)),
            limits: Limits {
                nice: Some(-3),
                ..Limits::default()
            },
            ..Program::default()
        };
        let end = |held: &Held| {
            held.kill().expect("it is ours");
            assert!(held.wait(Duration::from_secs(10)).expect("it is ours"));
            held.bury();
        };
        let ours = Program {
            user: None,
            ..program.clone()
        };
        let Ok(held) = start(&ours, None, None) else {
            // Nobody here may: it is refused as well.
            assert!(start(&program, None, None).is_err());
            return;
        };
        end(&held);
        let held = start(&program, None, None).expect("it starts");
        let pid = held.process().pid;
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (status, stat) = (read("status"), read("stat"));
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd"));
        end(&held);
        let status = status.expect("it is read");
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let all = "\t65534\t65534\t65534\t65534";
        assert_eq!((line("Uid:"), line("Gid:")), (Some(all), Some(all)));
        assert_eq!(line("Groups:").map(str::trim), Some(""));
        let stat = stat.expect("it is read");
        // The 19th field of proc(5); the second is the name, in parentheses.
        assert_eq!(stat.split(' ').nth(18), Some("-3"), "{stat}");
        assert_eq!(folder.expect("it is read"), Path::new("/"));
    }
}
