//! The child of a command: from `clone3` to `execve`. As in [`crate::host::spawn`]: between the two it has a copy of our memory and none
//! of our threads, so it allocates nothing, takes no lock, and calls nothing but the kernel.

#![expect(
    unsafe_code,
    reason = "clone3 and what its child does have no safe form"
)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::{c_char, c_int, c_long};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::Order;
use super::executable::{Executable, search_path};
use crate::host::spawn::{CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, pointers, text};

/// A child that has become the program.
pub(super) struct Child {
    pub(super) pid: u32,
    /// What it writes to its standard output; reading waits for nothing.
    pub(super) output: OwnedFd,
    /// What it writes to its standard error.
    pub(super) errors: OwnedFd,
}

/// What the child could not do, by the number that it says.
const STEPS: [&str; 9] = [
    "prepare it",
    "give it its output",
    "begin its session",
    "give it a network of its own (needs CAP_SYS_ADMIN; leave out `network = false` to run it with the host's)",
    "become its user and group (needs CAP_SETUID and CAP_SETGID)",
    "drop its rights",
    "confine it",
    "go to its folder",
    "execute it",
];

/// What the child needs, made before it is.
struct Part<'a> {
    order: &'a Order,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    folder: CString,
    /// Executed by its path.
    script: Option<CString>,
    program: c_int,
    null: c_int,
    output: c_int,
    errors: c_int,
    fence: Option<c_int>,
    parent: c_int,
}

/// Starts the program; returns when its `exec` is done. An error says what could not be done.
pub(super) fn start(
    order: &Order,
    executable: &Executable,
    fence: Option<&OwnedFd>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Child, String> {
    let why = |error: Error| format!("{}: {error}", STEPS[0]);
    let words = |words: Vec<String>| {
        let words = words.iter().map(|word| text(OsStr::new(word)));
        words.collect::<Result<Vec<_>, _>>().map_err(why)
    };
    let arguments = words(order.command.clone())?;
    let variables = words(environment(order))?;
    let null = File::open("/dev/null").map_err(why)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| why(error.into()));
    let (said, say) = pipe()?;
    let (output, to_output) = pipe()?;
    let (errors, to_errors) = pipe()?;
    for ours in [&output, &errors] {
        fcntl_setfl(ours, OFlags::NONBLOCK).map_err(|error| why(error.into()))?;
    }
    let folder = order
        .folder
        .as_ref()
        .map_or(OsStr::new("/"), |it| it.as_os_str());
    let script = executable
        .script
        .as_ref()
        .map(|path| text(path.as_os_str()));
    let part = Part {
        order,
        argv: &pointers(&arguments),
        envp: &pointers(&variables),
        folder: text(folder).map_err(why)?,
        script: script.transpose().map_err(why)?,
        program: executable.file.as_raw_fd(),
        null: null.as_raw_fd(),
        output: to_output.as_raw_fd(),
        errors: to_errors.as_raw_fd(),
        fence: fence.map(AsRawFd::as_raw_fd),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
    };
    // SAFETY: all zeros is what clone3 takes for "not asked for".
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = CLONE_CLEAR_SIGHAND;
    how.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    if let Some(cgroup) = cgroup {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(0);
    }
    // SAFETY: the structure lives through the call and is as long as said. Without CLONE_VM the child gets a copy of our memory and of
    // this stack, as with fork; it runs `become_it` alone, and leaves by `_exit`.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how));
        if pid == 0 {
            let (step, number) = become_it(&part);
            let told = [step, number].map(c_int::to_ne_bytes);
            libc::write(say.as_raw_fd(), told.as_ptr().cast(), size_of_val(&told));
            libc::_exit(127)
        }
        pid
    };
    let known = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    let Some(pid) = known.and_then(Pid::from_raw) else {
        return Err(format!("make a process for it: {}", Error::last_os_error()));
    };
    drop((say, to_output, to_errors));
    let mut told = [0; 8];
    // It closes at exec, with nothing said.
    if File::from(said).read_exact(&mut told).is_err() {
        return Ok(Child {
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            output,
            errors,
        });
    }
    let _reaped = waitpid(Some(pid), WaitOptions::empty());
    let (step, number) = told.split_at(4);
    let number_in = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_ne_bytes);
    let step = usize::try_from(number_in(step)).unwrap_or(0);
    let error = Error::from_raw_os_error(number_in(number));
    Err(format!(
        "cannot {}: {error}",
        STEPS.get(step).copied().unwrap_or(STEPS[0])
    ))
}

/// Nothing of the daemon's but where programs are and which language it speaks. What is given later counts.
fn environment(order: &Order) -> Vec<String> {
    let language = std::env::var("LANG").unwrap_or_else(|_| "C.UTF-8".to_owned());
    let own = [("PATH", search_path()), ("LANG", language)];
    let given = |name: &str| order.environment.iter().any(|(given, _)| given == name);
    let own = own.into_iter().filter(|(name, _)| !given(name));
    let own = own.map(|(name, value)| format!("{name}={value}"));
    let pair = |(name, value): &(String, String)| format!("{name}={value}");
    own.chain(order.environment.iter().map(pair)).collect()
}

/// Becomes the program; returns only with the step that failed, and the error's number.
///
/// # Safety
///
/// To be called in a process of its own. The arrays end with a null, and point to strings.
unsafe fn become_it(part: &Part<'_>) -> (c_int, c_int) {
    // SAFETY: every call is async-signal-safe and allocates nothing; all pointers are to strings and arrays of the caller, which live in
    // this copy of its memory until exec or exit.
    unsafe {
        match each_step(part) {
            Ok(()) => {}
            Err(step) => return (step, number()),
        }
        // What was ignored by us, or by who started us, is not by it.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // After the change of user, which forgets it. It may have been too late for our death: then the parent is another one.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != part.parent {
            return (8, libc::ESRCH);
        }
        match &part.script {
            Some(path) => {
                libc::execve(path.as_ptr(), part.argv.as_ptr(), part.envp.as_ptr());
            }
            None => {
                libc::syscall(
                    libc::SYS_execveat,
                    part.program,
                    c"".as_ptr(),
                    part.argv.as_ptr(),
                    part.envp.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        (8, number())
    }
}

/// `errno`, without a heap.
fn number() -> c_int {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The number of the step that failed.
///
/// # Safety
///
/// As [`become_it`].
unsafe fn each_step(part: &Part<'_>) -> Result<(), c_int> {
    let done = |result: c_long, step: c_int| if result < 0 { Err(step) } else { Ok(()) };
    // SAFETY: as in `become_it`.
    unsafe {
        for (from, to) in [(part.null, 0), (part.output, 1), (part.errors, 2)] {
            done(libc::dup2(from, to).into(), 1)?;
        }
        // All of ours have it by themselves; this is for what the daemon may have been started with. Before 5.11 it stays as it is.
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        done(libc::setsid().into(), 2)?;
        if part.order.no_network {
            done(libc::unshare(libc::CLONE_NEWNET).into(), 3)?;
        }
        let no_dump = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        done(
            libc::setrlimit(libc::RLIMIT_CORE, &raw const no_dump).into(),
            5,
        )?;
        if let Some((user, group)) = part.order.user {
            // Fails behind the last one, and without the right to: then there is no capability to be had anyway.
            for capability in 0..64 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            let none = std::ptr::null::<u32>();
            done(libc::syscall(libc::SYS_setgroups, 0, none), 4)?;
            done(libc::syscall(libc::SYS_setresgid, group, group, group), 4)?;
            done(libc::syscall(libc::SYS_setresuid, user, user, user), 4)?;
            done(
                libc::syscall(libc::SYS_capset, &raw const VERSION3, &raw const NONE),
                5,
            )?;
        }
        if part.order.user.is_some() || part.fence.is_some() {
            done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into(), 5)?;
        }
        // By its own rights, and before it is confined: where it starts gives it no way to what is there.
        done(libc::chdir(part.folder.as_ptr()).into(), 7)?;
        if let Some(fence) = part.fence {
            done(libc::syscall(libc::SYS_landlock_restrict_self, fence, 0), 6)?;
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct` with `_LINUX_CAPABILITY_VERSION_3`, for the process itself (`include/uapi/linux/capability.h`).
static VERSION3: [u32; 2] = [0x2008_0522, 0];
/// Two `struct __user_cap_data_struct`: no capability in any set.
static NONE: [u32; 6] = [0; 6];
