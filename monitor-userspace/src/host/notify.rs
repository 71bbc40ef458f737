//! What services say of themselves to the socket in their `NOTIFY_SOCKET`, as `sd_notify(3)` has it: the socket, and its words.
//!
//! A datagram is read as far as [`LONGEST`]; a longer one is refused as a whole. The kernel tells who has sent it
//! (`SCM_CREDENTIALS`, unix(7)); whose word counts is decided by who asks. Files that come with a datagram are closed unseen: that is
//! all that `BARRIER=1` waits for.

#![expect(
    unsafe_code,
    reason = "the safe reader of credentials cannot hold a sender without a process id"
)]

pub mod notices;

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{getegid, geteuid};

use super::HostError;

/// Most bytes of one datagram; systemd takes as many.
pub const LONGEST: usize = 4096;
/// Most characters of a `STATUS=` that are kept.
const STATUS: usize = 200;
/// The longest time that a service can ask for at once.
const MOST_TIME: Duration = Duration::from_hours(1);

/// How a service is to tell of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// At least so often it says that it is alive; none where it need not.
    pub watchdog: Option<Duration>,
}

/// The socket of one service.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    path: PathBuf,
    /// What was made there: another one may have taken the path when this one is given up.
    made: Option<(u64, u64)>,
}

/// What is at a path: device and inode.
fn at(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of it are in the buffer.
    pub length: usize,
    /// It was longer than the buffer.
    pub cut: bool,
    /// Who sent it: its process id and user. None where the kernel does not say, or cannot name it here.
    pub sender: Option<(u32, u32)>,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> HostError {
    let what = format!("make {}", path.display());
    move |source| HostError::System {
        what: what.clone(),
        source,
    }
}

impl Socket {
    /// A new one in place of what an earlier daemon left there. It is `owner`'s, numeric user and group, and nobody else's; without
    /// one anybody can write to it, since who starts as root may become anybody: what others write is refused when it is read.
    pub fn bind(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, HostError> {
        let failed = failed(path);
        let address = SocketAddrUnix::new(path).map_err(|error| {
            failed(io::Error::other(format!(
                "{error}: a socket's path has at most 107 bytes; give `socket` in [daemon] a shorter one"
            )))
        })?;
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o711).create(folder);
            made.map_err(&failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(failed(io::Error::other("what is there is no socket")));
            }
            Ok(_) => std::fs::remove_file(path).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let fd = fd.map_err(|error| failed(error.into()))?;
        set_socket_passcred(&fd, true).map_err(|error| failed(error.into()))?;
        bind(&fd, &address).map_err(|error| failed(error.into()))?;
        let socket = Self {
            fd,
            path: path.to_owned(),
            made: at(path),
        };
        socket.give(owner)?;
        Ok(socket)
    }

    /// Changes whose it is, as [`Socket::bind`] has it.
    pub fn give(&self, owner: Option<(u32, u32)>) -> Result<(), HostError> {
        let own = || (geteuid().as_raw(), getegid().as_raw());
        let (user, group) = owner.unwrap_or_else(own);
        let mode = if owner.is_some() { 0o600 } else { 0o666 };
        // In this order nobody can write to it in between who could neither before nor after.
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o600))
            .and_then(|()| chown(&self.path, Some(user), Some(group)))
            .and_then(|()| std::fs::set_permissions(&self.path, Permissions::from_mode(mode)))
            .map_err(|source| HostError::System {
                what: format!("give {} to user {user}", self.path.display()),
                source,
            })
    }

    /// Where it is: what stands in `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Readable when something has come.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next datagram; none when there is none. Never waits.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<Datagram> {
        let mut control = [0_u64; 4];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zeros is an empty message.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // Room for credentials alone: files find none, and the kernel closes them.
        message.msg_controllen = size_of::<[u64; 4]>();
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to a buffer and to room for its control data, both as long as said, which live through the call.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, flags) };
        let length = usize::try_from(length).ok()?;
        Some(Datagram {
            length,
            cut: message.msg_flags & libc::MSG_TRUNC != 0,
            sender: sender(&message),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.made == at(&self.path) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// Who has sent a message, as the kernel says.
fn sender(message: &libc::msghdr) -> Option<(u32, u32)> {
    // SAFETY: the kernel has filled in the control data and its length; the macros stay within it. Plain numbers are read, from a
    // place that need not be aligned for them.
    let credentials = unsafe {
        let first = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let is_it = first.cmsg_level == libc::SOL_SOCKET
            && first.cmsg_type == libc::SCM_CREDENTIALS
            && first.cmsg_len >= size_of::<libc::cmsghdr>() + size_of::<libc::ucred>();
        is_it.then(|| {
            libc::CMSG_DATA(first)
                .cast::<libc::ucred>()
                .read_unaligned()
        })?
    };
    let pid = u32::try_from(credentials.pid).ok()?;
    (pid != 0).then_some((pid, credentials.uid))
}

/// What a datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word that a datagram has or has not"
)]
pub struct Said {
    /// `READY=1`
    pub ready: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `WATCHDOG=1`
    pub alive: bool,
    /// `WATCHDOG=trigger`: it says of itself that it hangs.
    pub hangs: bool,
    /// `WATCHDOG_USEC=`: another time than was agreed.
    pub watchdog: Option<Duration>,
    /// `STATUS=`, cut, without control characters.
    pub status: Option<String>,
    /// `ERRNO=`
    pub errno: Option<i32>,
    /// `MAINPID=`
    pub main: Option<u32>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub more_time: Option<Duration>,
    /// Lines that mean nothing here; those of systemd that we have no use for are none of them.
    pub unknown: u32,
}

/// What systemd knows beside.
const UNUSED: [&str; 10] = [
    "BARRIER",
    "FDSTORE",
    "FDSTOREREMOVE",
    "FDNAME",
    "FDPOLL",
    "BUSERROR",
    "MONOTONIC_USEC",
    "NOTIFYACCESS",
    "EXIT_STATUS",
    "INVOCATION_ID",
];

impl Said {
    /// Reads a datagram: lines `NAME=VALUE`, the last of a name counts. An error says why nothing of it is taken.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
        let mut said = Self::default();
        for line in text.split('\n').map(|line| line.trim_end_matches('\0')) {
            if !line.is_empty() && !said.take(line) {
                said.unknown = said.unknown.saturating_add(1);
            }
        }
        Ok(said)
    }

    /// Whether a line means something.
    fn take(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.split_once('=') else {
            return false;
        };
        match (name, value) {
            ("READY", "1") => self.ready = true,
            ("RELOADING", "1") => self.reloading = true,
            ("STOPPING", "1") => self.stopping = true,
            ("WATCHDOG", "1") => self.alive = true,
            ("WATCHDOG", "trigger") => self.hangs = true,
            ("STATUS", text) => self.status = Some(words(text)),
            ("WATCHDOG_USEC", number) => self.watchdog = micros(number),
            ("EXTEND_TIMEOUT_USEC", number) => self.more_time = micros(number),
            ("ERRNO", number) => self.errno = number.parse().ok(),
            ("MAINPID", number) => self.main = number.parse().ok().filter(|pid| *pid > 1),
            (name, _) => return UNUSED.contains(&name) || name.starts_with("X_"),
        }
        match name {
            "WATCHDOG_USEC" => self.watchdog.is_some(),
            "EXTEND_TIMEOUT_USEC" => self.more_time.is_some(),
            "ERRNO" => self.errno.is_some(),
            "MAINPID" => self.main.is_some(),
            _ => true,
        }
    }
}

/// A time that is not nothing, an hour at most.
fn micros(number: &str) -> Option<Duration> {
    let time = Duration::from_micros(number.parse().ok()?);
    (!time.is_zero()).then(|| time.min(MOST_TIME))
}

/// One line that can be shown anywhere.
fn words(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(STATUS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
