//! Priorities of threads for disks (`ioprio_set(2)`): a class, and a level within it. Only some schedulers of disks heed them (bfq,
//! mq-deadline).

#![expect(unsafe_code, reason = "ioprio_get and ioprio_set have no wrapper")]

use rustix::io::Errno;
use rustix::process::Pid;

use super::priority::Kind;

/// `IOPRIO_WHO_PROCESS` of the kernel's `include/uapi/linux/ioprio.h`: one thread, whatever its name says.
const THREAD: libc::c_int = 1;

/// See [`super::Opened::change_io_priority`].
pub(super) const DISKS: Kind = Kind {
    name: "priority for disks",
    get,
    set,
};

fn get(thread: Pid) -> Result<i32, Errno> {
    // SAFETY: the call takes numbers and touches no memory of ours.
    let answer =
        unsafe { libc::syscall(libc::SYS_ioprio_get, THREAD, thread.as_raw_nonzero().get()) };
    i32::try_from(answer)
        .ok()
        .filter(|answer| *answer >= 0)
        .ok_or_else(last)
}

fn set(thread: Pid, ioprio: i32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers and touches no memory of ours.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            THREAD,
            thread.as_raw_nonzero().get(),
            ioprio,
        )
    };
    if answer == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
