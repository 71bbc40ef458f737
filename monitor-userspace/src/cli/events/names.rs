//! Names of signals, of what can be wrong with a connection or a disk, and of system calls in which threads wait.

use crate::kernel::DropReasons;

/// Names of signals 1 to 31, as on every architecture that we build for (signal(7)).
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal; real-time signals have none.
pub(super) fn signal(number: u32) -> Option<&'static str> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    SIGNALS.get(at).copied()
}

macro_rules! named {
    ($what:ident in $module:ident: $($name:ident)*) => {
        &[$(($module::$name as i64, stringify!($name)),)*]
    };
}

/// What the kernel leaves on a socket or answers to `connect`, and what it makes of the status of a request to a disk.
const ERRORS: &[(i64, &str)] = named! { errno in libc:
    EPERM EINTR EIO EAGAIN ENOMEM EACCES EINVAL EPIPE EPROTO EMSGSIZE ENOPROTOOPT EOPNOTSUPP EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED EHOSTDOWN
    EHOSTUNREACH EALREADY EINPROGRESS ECANCELED EKEYREJECTED
    ENOSPC ENOLINK EREMOTEIO EBADE ENODATA EILSEQ EREMCHG EBUSY ETIME ENODEV ENOENT EBADF EFAULT ENOTDIR ELOOP
    ENAMETOOLONG ENOTSOCK EDESTADDRREQ EPROTOTYPE EPROTONOSUPPORT EAFNOSUPPORT
};

/// The running kernel's name of why a packet was dropped; none where it gives no reasons.
pub(super) fn drop_reason(number: u16) -> Option<&'static str> {
    if number == 0 {
        return None;
    }
    DropReasons::of_kernel()?.name(number)
}

/// The name of an error number, if a connection or a request to a disk can end in it.
pub(super) fn error(number: u32) -> Option<&'static str> {
    find(ERRORS, i64::from(number))
}

/// System calls that wait, with names as in `syscalls(2)`.
const CALLS: &[(i64, &str)] = named! { syscall in libc:
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_sendfile SYS_splice SYS_copy_file_range SYS_vmsplice SYS_openat SYS_openat2 SYS_close SYS_fsync SYS_fdatasync SYS_sync
    SYS_syncfs SYS_sync_file_range SYS_msync SYS_fallocate SYS_ftruncate SYS_truncate SYS_readahead SYS_getdents64 SYS_statx
    SYS_newfstatat SYS_fstat SYS_statfs SYS_mkdirat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_ioctl SYS_fcntl
    SYS_flock SYS_futex SYS_futex_waitv SYS_ppoll SYS_pselect6 SYS_epoll_pwait SYS_nanosleep SYS_clock_nanosleep SYS_wait4
    SYS_waitid SYS_accept SYS_accept4 SYS_connect SYS_recvfrom SYS_recvmsg SYS_sendto SYS_sendmsg SYS_mmap SYS_munmap
    SYS_mprotect SYS_mremap SYS_madvise SYS_brk SYS_clone SYS_clone3 SYS_execve SYS_execveat SYS_exit SYS_exit_group
    SYS_io_getevents SYS_io_uring_enter SYS_mount SYS_umount2 SYS_semtimedop SYS_msgrcv SYS_rt_sigtimedwait SYS_rt_sigsuspend
    SYS_process_vm_readv SYS_getrandom SYS_setxattr SYS_getxattr SYS_faccessat SYS_fchmodat SYS_fchownat SYS_utimensat
};

/// Those that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[(i64, &str)] = named! { syscall in libc:
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_mkdir SYS_rmdir SYS_unlink SYS_rename SYS_link SYS_symlink SYS_readlink
    SYS_getdents SYS_poll SYS_select SYS_epoll_wait SYS_pause SYS_fork SYS_vfork SYS_chmod SYS_chown SYS_renameat
};
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[(i64, &str)] = &[];

/// The name of a system call, if it is one of those in which threads wait for long.
pub(super) fn syscall(number: i64) -> Option<&'static str> {
    let name = find(CALLS, number).or_else(|| find(OLDER_CALLS, number))?;
    name.strip_prefix("SYS_")
}

fn find(table: &[(i64, &'static str)], number: i64) -> Option<&'static str> {
    let found = table.iter().find(|(own, _)| *own == number);
    found.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_names() {
        assert_eq!(
            (signal(9), signal(31), signal(1)),
            (Some("SIGKILL"), Some("SIGSYS"), Some("SIGHUP"))
        );
        assert_eq!(
            (signal(0), signal(34), signal(u32::MAX)),
            (None, None, None)
        );
        assert_eq!(
            (error(111), error(110), error(0)),
            (Some("ECONNREFUSED"), Some("ETIMEDOUT"), None)
        );
        assert_eq!(syscall(libc::SYS_fsync), Some("fsync"));
        assert_eq!((syscall(-1), syscall(i64::MAX)), (None, None));
    }
}
