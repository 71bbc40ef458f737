//! A call of `connect` that failed at once, whatever the reason, with its exact errno.
//!
//! Attached only while somebody asks: a tracepoint of system calls makes every system call of the host some 25 ns longer. Not seen are
//! calls of 32-bit programs, whose numbers and registers are others, and connections that `io_uring` makes.

use core::net::{IpAddr, SocketAddr};

use crate::event::{Header, Task};
use crate::flow::{AF_INET, AF_INET6};
use crate::offsets::{self, CGROUP, CURRENT, Offset};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "connect_error",
    summary: "a call of connect that failed at once, with its errno and the address asked for; unix sockets and UDP too",
    mode: Mode::Demand,
    programs: &[ProgramSpec {
        name: "connect_error",
        attach: Attach::tracepoint("sys_exit"),
    }],
    offsets: &[
        CURRENT,
        &[
            offsets::REGISTERS_CALL,
            offsets::REGISTERS_SECOND,
            offsets::REGISTERS_THIRD,
        ],
        COMPATIBLE,
    ],
    optional: &[CGROUP],
};

/// What tells a 32-bit call from one of 64 bits.
const COMPATIBLE: &[Offset] = if cfg!(target_arch = "aarch64") {
    &[offsets::REGISTERS_STEP, offsets::REGISTERS_STATE]
} else {
    &[offsets::TASK_CALL_STATUS]
};

/// Bytes of an address that an event holds: that of a unix socket is the longest.
pub const ADDRESS_LEN: usize = 112;

/// `AF_UNIX`, as in [`ConnectError::family`].
pub const AF_UNIX: u16 = 1;

const EINTR: i64 = 4;
const EISCONN: i64 = 106;
const EALREADY: i64 = 114;
const EINPROGRESS: i64 = 115;
/// From here on, numbers are the kernel's own: the call is made again.
const ERESTARTSYS: i64 = 512;

/// Whether this result of `connect` says that it failed: not that it goes on, or that it is done already.
#[inline]
pub const fn is_failure(result: i64) -> bool {
    let error = -result;
    error > 0 && error < ERESTARTSYS && !matches!(error, EINTR | EISCONN | EALREADY | EINPROGRESS)
}

/// Emitted when the call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectError {
    /// First bytes of every record.
    pub header: Header,
    /// The task that called.
    pub task: Task,
    /// The errno.
    pub error: u32,
    /// The family of the address, as the caller wrote it; 0 when the address cannot be read.
    pub family: u16,
    /// Bytes of `address` that count.
    pub address_len: u16,
    /// The caller's `struct sockaddr`, its family included.
    #[cfg_attr(feature = "serde", serde(with = "crate::bytes"))]
    pub address: [u8; ADDRESS_LEN],
}

/// What the caller wanted to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// An address of the internet.
    Internet(SocketAddr),
    /// A unix socket in the file system.
    Path(&'a [u8]),
    /// A unix socket with a name of its own, without the leading NUL.
    Abstract(&'a [u8]),
    /// An address of this family that is not understood, or is too short.
    Family(u16),
}

impl ConnectError {
    /// The address asked for.
    pub fn asked(&self) -> Asked<'_> {
        let bytes = self.address.get(..usize::from(self.address_len));
        let bytes = bytes.unwrap_or(&self.address);
        let asked = match self.family {
            AF_INET => internet(bytes, 4),
            AF_INET6 => internet(bytes, 8),
            AF_UNIX => unix(bytes),
            _ => None,
        };
        asked.unwrap_or(Asked::Family(self.family))
    }
}

/// Family (2 bytes), port (2), and the address at `place`: `struct sockaddr_in` and `sockaddr_in6`.
fn internet(bytes: &[u8], place: usize) -> Option<Asked<'_>> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let address = bytes.get(place..)?;
    let address = if place == 4 {
        IpAddr::from(*address.first_chunk::<4>()?)
    } else {
        IpAddr::from(*address.first_chunk::<16>()?)
    };
    Some(Asked::Internet(SocketAddr::new(
        address.to_canonical(),
        port,
    )))
}

/// Family and a path up to its NUL or the end; or a NUL and a name that goes to the end, whatever its bytes: unix(7).
fn unix(bytes: &[u8]) -> Option<Asked<'_>> {
    match bytes.get(2..)? {
        [] => None,
        [0, name @ ..] => Some(Asked::Abstract(name)),
        path => path.split(|byte| *byte == 0).next().map(Asked::Path),
    }
}

const _: () = assert!(size_of::<ConnectError>() == 176);

#[cfg(test)]
mod tests {
    use super::*;

    fn to(family: u16, rest: &[u8]) -> ConnectError {
        let mut address = [0; ADDRESS_LEN];
        address[..2].copy_from_slice(&family.to_ne_bytes());
        address[2..2 + rest.len()].copy_from_slice(rest);
        ConnectError {
            header: Header::of::<ConnectError>(0, 0),
            task: Task {
                pid: 1,
                tid: 1,
                start_time_ns: 1,
                cgroup_id: 1,
                comm: [0; 16],
            },
            error: 2,
            family,
            address_len: u16::try_from(rest.len() + 2).expect("short"),
            address,
        }
    }

    #[test]
    fn addresses_of_every_kind_are_read() {
        let v4 = to(AF_INET, &[0, 80, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(v4.asked(), Asked::Internet(([10, 1, 2, 3], 80).into()));
        let mut v6 = [0; 26];
        v6[1] = 81;
        v6[21] = 1;
        let v6 = to(AF_INET6, &v6);
        assert_eq!(
            v6.asked(),
            Asked::Internet(([0, 0, 0, 0, 0, 0, 0, 1], 81).into())
        );
        assert_eq!(to(AF_UNIX, b"/run/x\0junk").asked(), Asked::Path(b"/run/x"));
        let longest = [b'x'; 108];
        assert_eq!(to(AF_UNIX, &longest).asked(), Asked::Path(&longest));
        assert_eq!(to(AF_UNIX, b"\0a\0b").asked(), Asked::Abstract(b"a\0b"));
    }

    #[test]
    fn what_is_too_short_or_unknown_is_its_family_alone() {
        assert_eq!(to(AF_UNIX, b"").asked(), Asked::Family(AF_UNIX));
        assert_eq!(to(AF_INET, &[0, 80, 10]).asked(), Asked::Family(AF_INET));
        assert_eq!(to(AF_INET6, &[0; 14]).asked(), Asked::Family(AF_INET6));
        assert_eq!(to(40, &[1; 14]).asked(), Asked::Family(40));
        let mut garbage = to(AF_INET, &[0; 14]);
        garbage.address_len = u16::MAX;
        assert_eq!(garbage.asked(), Asked::Internet(([0, 0, 0, 0], 0).into()));
    }

    #[test]
    fn what_goes_on_is_no_failure() {
        for fine in [0, 1, -4, -106, -114, -115, -512, -516] {
            assert!(!is_failure(fine), "{fine}");
        }
        for failed in [-1, -2, -13, -99, -101, -111, -113] {
            assert!(is_failure(failed), "{failed}");
        }
    }
}
