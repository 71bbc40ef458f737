//! Starts a program inside a cgroup, from its first instruction on (`CLONE_INTO_CGROUP`, 5.7).
//!
//! The standard library can only let the child move itself, and a move waits until every CPU has passed a quiet point: 8 to 12 ms,
//! several times what a restart takes. Does what `std::process::Command` does in [`super::exec`], in the same order.
//!
//! Between `clone3` and `execve` the child has our memory, or a copy of it, and none of our threads: locks may be held for ever, so it
//! allocates nothing and calls nothing but the kernel. `setuid` and its like by their numbers: libc's would wait for threads.
//! It shares our memory as a child of `vfork` does, since a copy takes 1 to 3 ms; not where it becomes another user, who could
//! then look into it.

#![expect(unsafe_code, reason = "clone3 and execve have no safe form")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use libc::{c_char, c_int, c_long};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::exec::Program;

/// Why nothing was started.
pub(super) enum Refused {
    /// No process could be made there: an old kernel, or no right to. Another way may be open.
    Clone,
    /// The program could not be started.
    Exec(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Exec(error)
    }
}

/// What the child needs, made before it is.
struct Prepared {
    paths: Vec<CString>,
    folder: Option<CString>,
    user: Option<(u32, u32)>,
    groups: Vec<u32>,
    limits: Vec<(u32, u64)>,
    nice: Option<i32>,
    umask: Option<u32>,
    null: File,
    /// Where its output goes; where ours does when none.
    output: Option<RawFd>,
    /// Where its process id goes in its environment, where that is to be told: room for its digits.
    pid: Option<*mut u8>,
}

/// Tells whose the watchdog is, so that what a service starts does not take it for its own (`sd_watchdog_enabled(3)`).
const WATCHDOG_PID: &[u8] = b"WATCHDOG_PID=";
/// Room for the digits of a process id, and the end of a string.
const DIGITS: usize = 12;

/// Starts a program in this cgroup; its process id, once its `exec` is done. `path` is the program where it is not looked up.
pub(super) fn start(
    program: &Program,
    path: Option<&Path>,
    cgroup: BorrowedFd<'_>,
    output: Option<&File>,
) -> Result<u32, Refused> {
    let first = program.command.first().map(OsStr::new).unwrap_or_default();
    let environment = environment(program);
    let mut watchdog = WATCHDOG_PID.to_vec();
    watchdog.resize(WATCHDOG_PID.len() + DIGITS, 0);
    let tells_pid = program.notify.is_some_and(|it| it.watchdog.is_some());
    let digits = watchdog.as_mut_ptr().wrapping_add(WATCHDOG_PID.len());
    let prepared = Prepared {
        pid: tells_pid.then_some(digits),
        paths: match path {
            Some(path) => vec![text(path.as_os_str())?],
            None => look_up(first, environment.get(OsStr::new("PATH")))?,
        },
        folder: program
            .folder
            .as_ref()
            .map(|folder| text(folder.as_os_str()))
            .transpose()?,
        user: program.user,
        groups: program.groups.clone(),
        limits: program.limits.numbers(),
        nice: program.limits.nice,
        umask: program.umask,
        null: File::open("/dev/null")?,
        output: output.map(AsRawFd::as_raw_fd),
    };
    let arguments = program.command.iter().map(|word| text(OsStr::new(word)));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let variables = environment.into_iter().map(|(name, value)| {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        text(&pair)
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    let (argv, mut envp) = (pointers(&arguments), pointers(&variables));
    if tells_pid {
        envp.insert(0, watchdog.as_ptr().cast());
    }
    let (said, say) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::from)?;

    // SAFETY: all zeros is what clone3 takes for "not asked for".
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    // Handlers of ours must not run in the child: they would write into pipes that it shares with us.
    how.flags = CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND;
    how.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    how.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(0);
    let part = Part {
        prepared: &prepared,
        argv: &argv,
        envp: &envp,
        say: say.as_raw_fd(),
    };
    // SAFETY: the arrays end with a null, and point to strings that live on.
    let pid = unsafe {
        match program.user {
            None => clone_sharing(&mut how, &part),
            Some(_) => clone_copying(&mut how, &part),
        }
    };
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .filter(|_| pid > 0)
    else {
        return Err(Refused::Clone);
    };
    drop(say);
    let mut number = [0; 4];
    // It closes at exec, with nothing said.
    if File::from(said).read_exact(&mut number).is_err() {
        return Ok(pid.as_raw_nonzero().get().unsigned_abs());
    }
    let _ = waitpid(Some(pid), WaitOptions::empty());
    Err(Error::from_raw_os_error(i32::from_ne_bytes(number)).into())
}

/// What the child is to do.
struct Part<'a> {
    prepared: &'a Prepared,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    say: c_int,
}

/// The child gets a copy of our memory. Its process id, or -1.
///
/// # Safety
///
/// As [`child`].
unsafe fn clone_copying(how: &mut libc::clone_args, part: &Part<'_>) -> c_long {
    // SAFETY: the structure lives through the call and is as long as said. Without CLONE_VM the child gets a copy of our memory and
    // of this stack, as with fork; it runs `child` alone, which returns never.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone3, std::ptr::from_mut(how), size_of_val(how));
        if pid == 0 {
            child(part.prepared, part.argv, part.envp, part.say)
        }
        pid
    }
}

/// The child shares our memory, and this thread waits until it is done with it (exec or exit). Its process id, or -1.
///
/// # Safety
///
/// As [`child`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone_sharing(how: &mut libc::clone_args, part: &Part<'_>) -> c_long {
    unsafe extern "C" fn run(part: *const Part<'_>) -> ! {
        // SAFETY: the parent waits, and with it everything that the pointer leads to.
        unsafe {
            let part = &*part;
            child(part.prepared, part.argv, part.envp, part.say)
        }
    }
    let both = libc::CLONE_VM | libc::CLONE_VFORK;
    how.flags |= u64::try_from(both).unwrap_or(0);
    let pid: c_long;
    // SAFETY: without a stack of its own the child goes on at ours, below everything that this thread has there; it returns from
    // nothing, so that what lies above stays as it was when the parent goes on. No register of the parent is changed but those of
    // the system call. Other threads go on meanwhile, and share nothing with what the child touches.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "and rsp, -16",
            "mov rdi, r12",
            "call {run}",
            "ud2",
            "2:",
            run = sym run,
            inlateout("rax") libc::SYS_clone3 => pid,
            in("rdi") std::ptr::from_mut(how),
            in("rsi") size_of_val(how),
            in("r12") std::ptr::from_ref(part),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    pid
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone_sharing(how: &mut libc::clone_args, part: &Part<'_>) -> c_long {
    // SAFETY: by the caller's word.
    unsafe { clone_copying(how, part) }
}

/// `include/uapi/linux/sched.h`; libc has them as signed numbers too small for them.
pub(super) const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
pub(super) const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Becomes the program, or says the error's number and ends.
///
/// # Safety
///
/// To be called in a process of its own. `argv` and `envp` end with a null, and point to strings.
unsafe fn child(
    prepared: &Prepared,
    argv: &[*const c_char],
    envp: &[*const c_char],
    say: c_int,
) -> ! {
    // SAFETY: every call is async-signal-safe and allocates nothing; all pointers are to strings and arrays of the caller, which
    // live in this copy of its memory until exec or exit.
    unsafe {
        let number = become_it(prepared, argv, envp).raw_os_error().unwrap_or(0);
        let number = number.to_ne_bytes();
        libc::write(say, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Returns only with an error.
///
/// # Safety
///
/// As [`child`].
unsafe fn become_it(prepared: &Prepared, argv: &[*const c_char], envp: &[*const c_char]) -> Error {
    let done = |result: c_long| result >= 0;
    // SAFETY: as in `child`.
    unsafe {
        if !done(libc::dup2(prepared.null.as_raw_fd(), 0).into()) {
            return Error::last_os_error();
        }
        if let Some(output) = prepared.output
            && !(done(libc::dup2(output, 1).into()) && done(libc::dup2(output, 2).into()))
        {
            return Error::last_os_error();
        }
        if let Err(error) = limit(&prepared.limits, prepared.nice, prepared.umask) {
            return error;
        }
        if let Some((user, group)) = prepared.user {
            // As Command does: without the right to, the groups stay.
            let groups = libc::getuid() != 0
                || done(libc::syscall(
                    libc::SYS_setgroups,
                    prepared.groups.len(),
                    prepared.groups.as_ptr(),
                ));
            let became = groups
                && done(libc::syscall(libc::SYS_setgid, group))
                && done(libc::syscall(libc::SYS_setuid, user));
            if !became {
                return Error::last_os_error();
            }
        }
        if let Some(folder) = &prepared.folder
            && !done(libc::chdir(folder.as_ptr()).into())
        {
            return Error::last_os_error();
        }
        if let Some(digits) = prepared.pid {
            write_number(libc::getpid().unsigned_abs(), digits);
        }
        detach();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        let mut denied = None;
        for path in &prepared.paths {
            libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr());
            let error = Error::last_os_error();
            match error.raw_os_error() {
                // As execvp: the next folder may have one that can be run, and a denial is told rather than "no such file".
                Some(libc::EACCES) => denied = Some(error),
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                _ => return error,
            }
        }
        denied.unwrap_or_else(|| Error::from_raw_os_error(libc::ENOENT))
    }
}

/// A session of its own, signals as programs expect them, and no file of ours but what it is given.
///
/// # Safety
///
/// To be called in a process that is to become another program.
pub(super) unsafe fn detach() {
    // SAFETY: plain system calls, which allocate nothing.
    unsafe {
        // A Ctrl-C at the daemon's terminal is not meant for it. It fails only for one that leads a group already.
        libc::setsid();
        // What Rust programs ignore (SIGPIPE), and what who started us had us ignore, others do not expect to be ignored. It fails for
        // those that cannot be.
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        // All of ours are closed by exec; what we were given by who started us may not be. Before 5.11, it is as it was.
        let close = libc::CLOSE_RANGE_CLOEXEC;
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, close);
    }
}

/// Sets limits (resource and value), niceness, and which permissions files do not get.
///
/// # Safety
///
/// To be called in a process that is to become another program.
pub(super) unsafe fn limit(
    limits: &[(u32, u64)],
    nice: Option<i32>,
    umask: Option<u32>,
) -> Result<(), Error> {
    for (resource, value) in limits {
        let limit = libc::rlimit64 {
            rlim_cur: *value,
            rlim_max: *value,
        };
        let none = std::ptr::null_mut::<libc::rlimit64>();
        // SAFETY: a system call that reads one structure; 0 is this very process.
        let set =
            unsafe { libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const limit, none) };
        if set != 0 {
            return Err(Error::last_os_error());
        }
    }
    if let Some(nice) = nice {
        // SAFETY: it takes numbers; 0 is this very process.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        if set != 0 {
            return Err(Error::last_os_error());
        }
    }
    if let Some(umask) = umask {
        // SAFETY: it takes a number, and cannot fail.
        unsafe { libc::umask(umask) };
    }
    Ok(())
}

/// The digits of a number, with a null after them.
///
/// # Safety
///
/// `to` leads to room for [`DIGITS`] bytes.
unsafe fn write_number(mut number: u32, to: *mut u8) {
    let mut length = 1;
    while number / 10_u32.pow(length) > 0 && length < 9 {
        length += 1;
    }
    for place in (0..length).rev() {
        // SAFETY: a process id has at most 7 digits (PID_MAX_LIMIT).
        unsafe {
            let digit = u8::try_from(number % 10).unwrap_or(0);
            to.add(place as usize).write(b'0' + digit);
        }
        number /= 10;
    }
}

pub(super) fn text(word: &OsStr) -> Result<CString, Error> {
    CString::new(word.as_bytes()).map_err(Error::from)
}

pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr());
    pointers.chain([std::ptr::null()]).collect()
}

/// What is meant for the daemon itself, by who runs it: a service that believed it would speak in the daemon's name.
pub(super) const OWN: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "INVOCATION_ID",
    "CREDENTIALS_DIRECTORY",
];

/// Ours, and what the service adds.
fn environment(program: &Program) -> BTreeMap<OsString, OsString> {
    let added = program.environment.iter();
    std::env::vars_os()
        .filter(|(name, _)| !OWN.iter().any(|own| name == own))
        .chain(added.map(|(name, value)| (name.into(), value.into())))
        .collect()
}

/// Where a program may be: as written when there is a slash in it, else in every folder of `PATH`.
fn look_up(program: &OsStr, path: Option<&OsString>) -> Result<Vec<CString>, Error> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![text(program)?]);
    }
    let folders = path.map_or(b"/bin:/usr/bin".as_slice(), |path| path.as_bytes());
    let paths = folders.split(|byte| *byte == b':').map(|folder| {
        let path = Path::new(OsStr::from_bytes(folder)).join(program);
        text(&OsString::from_vec(path.into_os_string().into_vec()))
    });
    paths.collect()
}
