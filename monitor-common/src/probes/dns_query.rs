//! A question to a DNS server over UDP, port 53, and what became of it.
//!
//! The question is noted where its packet leaves ([`Pending`]), in the context of whoever asks; the answer is seen where its packet
//! arrives. The two are matched by the ends of the packet and the id of the question, so that it makes no difference whether the socket
//! is connected. What stays without an answer is swept up by userspace. Not seen: DNS over TCP, TLS or HTTPS, or on another port.

use core::fmt;

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP};
use crate::probes::run_queue_latency::HISTOGRAM;
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "dns_query",
    summary: "a DNS question over UDP: who asked which server for what, the answer's code and latency, or that none came",
    mode: Mode::Optional,
    programs: &[
        // First, so that no question is noted whose answer would not be seen.
        ProgramSpec {
            name: "dns_query_answered",
            attach: Attach::tracepoint("netif_receive_skb"),
        },
        ProgramSpec {
            name: "dns_query_sent",
            attach: Attach::tracepoint("net_dev_queue"),
        },
    ],
    offsets: &[
        CURRENT,
        FLOW,
        &[
            offsets::SKB_SOCKET,
            offsets::SKB_DEVICE,
            offsets::SKB_HEAD,
            offsets::SKB_DATA,
            offsets::SKB_TAIL,
            offsets::SKB_LENGTH,
            offsets::SKB_PAGED,
            offsets::SKB_PROTOCOL,
            offsets::SKB_NETWORK,
            offsets::SKB_TRANSPORT,
        ],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[offsets::SOCK_SOCKET, offsets::SOCKET_INODE_NUMBER],
    ],
};

/// The port of DNS servers.
pub const PORT: u16 = 53;

/// Questions that can wait for their answer at a time; one more is counted as lost.
pub const PENDING: u32 = 4_096;

/// Bytes of a name that an event holds; the longest name has 255.
pub const NAME_LEN: usize = 64;

/// Failures that one CPU may report at once in a second; more of them wait with the successes.
pub const URGENT_PER_SECOND: u64 = 100;

/// [`DnsQuery::outcome`]: it was answered, whatever the answer says.
pub const ANSWERED: u16 = 0;
/// [`DnsQuery::outcome`]: no answer came within the time for it.
pub const UNANSWERED: u16 = 1;
/// [`DnsQuery::outcome`]: it was answered after it had been told that no answer came.
pub const LATE: u16 = 2;

/// [`DnsQuery::rcode`]: all went well; there may be nothing of this type.
pub const NOERROR: u16 = 0;
/// [`DnsQuery::rcode`]: the server could not find out.
pub const SERVFAIL: u16 = 2;
/// [`DnsQuery::rcode`]: there is no such name.
pub const NXDOMAIN: u16 = 3;
/// [`DnsQuery::rcode`]: the server does not answer such questions, or not to us.
pub const REFUSED: u16 = 5;

/// Emitted when the answer arrives, and by userspace when none did.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DnsQuery {
    /// First bytes of every record.
    pub header: Header,
    /// Who asked; process 0 when the packet left in somebody else's context. Its cgroup is the socket's then.
    pub task: Task,
    /// Its own end and the server, as the socket has them when it is connected, else as the packet has them.
    pub flow: Flow,
    /// Nanoseconds from the first sending to the answer's arrival at this host; without an answer, to the event.
    pub latency_ns: u64,
    /// Number of the socket's inode, by which its process can be found; 0 when unknown.
    pub inode: u64,
    /// How often the question was sent.
    pub sendings: u32,
    /// The id of question and answer.
    pub id: u16,
    /// The type asked for: 1 is A, 28 is AAAA; 0 when the name has too many labels.
    pub qtype: u16,
    /// The answer's code; 0 without an answer.
    pub rcode: u16,
    /// Records in the answer.
    pub answers: u16,
    /// [`ANSWERED`], [`UNANSWERED`] or [`LATE`].
    pub outcome: u16,
    /// 1 when the answer did not fit: the asker is to ask again over TCP.
    pub truncated: u16,
    /// The name, as in the packet: labels, each behind its length, up to one of length 0; cut where that does not fit.
    #[cfg_attr(feature = "serde", serde(with = "crate::bytes"))]
    pub name: [u8; NAME_LEN],
}

/// A question that waits for its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Address of the network device that its first packet left by: only there its sendings are counted, since devices on top of each
    /// other show each packet again.
    pub device: u64,
    /// The event that comes of it. Its time is that of the first sending; [`UNANSWERED`] once that was told.
    pub query: DnsQuery,
}

/// Words of 8 bytes in a [`Pending`].
pub const PENDING_WORDS: usize = size_of::<Pending>() / 8;

/// All answers on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsTotals {
    /// Latencies, see `run_queue_latency::bucket`.
    pub latency: [u64; HISTOGRAM],
    /// By code.
    pub rcodes: [u64; RCODES as usize],
    /// Nanoseconds of all of them.
    pub latency_ns: u64,
    /// Answers whose content lies where programs cannot read, since the network card keeps it apart from the headers.
    pub unreadable: u64,
}

/// Words of 8 bytes in [`DnsTotals`].
pub const TOTALS_WORDS: usize = size_of::<DnsTotals>() / 8;

impl DnsQuery {
    /// The server, as an address and a port.
    pub fn server(&self) -> core::net::SocketAddr {
        self.flow.peer()
    }

    /// Whether an answer came, in time or late.
    pub const fn is_answered(&self) -> bool {
        self.outcome != UNANSWERED
    }

    /// Whether the server failed: no answer, or one that says that it could not. That there is no such name is an answer like others.
    pub const fn failed(&self) -> bool {
        !self.is_answered() || is_failure(self.rcode)
    }

    /// The name, to be shown.
    pub const fn domain(&self) -> Domain<'_> {
        Domain { query: self }
    }

    /// Whether the name is longer than what the event holds of it.
    pub fn is_cut(&self) -> bool {
        let mut at = 0;
        while let Some(length) = self.name.get(at) {
            if *length == 0 {
                return false;
            }
            at += 1 + usize::from(*length);
        }
        true
    }

    /// The labels of the name that are whole.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.name.get(..).unwrap_or_default();
        core::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (label, more) = behind.split_at_checked(usize::from(*length))?;
            rest = more;
            (!label.is_empty()).then_some(label)
        })
    }

    /// What came of it, in a word: the answer's code, or that there is none.
    pub fn result(&self) -> &'static str {
        if self.is_answered() {
            rcode_name(self.rcode).unwrap_or("unknown code")
        } else {
            "no answer"
        }
    }
}

/// A name as DNS writes it (RFC 1035, 5.1): `\.` is a dot within a label, `\NNN` a byte that is not printable. What was cut is left out.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    query: &'a DnsQuery,
}

impl fmt::Display for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.query.name.first() == Some(&0) {
            return f.write_str(".");
        }
        for (number, label) in self.query.labels().enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

/// Whether a code says that the server failed.
#[inline]
pub const fn is_failure(rcode: u16) -> bool {
    rcode != NOERROR && rcode != NXDOMAIN
}

macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $($number:literal $text:literal,)*) => {
        $(#[$doc])*
        pub const fn $name(number: u16) -> Option<&'static str> {
            match number {
                $($number => Some($text),)*
                _ => None,
            }
        }
    };
}

numbers! {
    /// Name of a type of records, of those that are asked for often; IANA keeps the list.
    qtype_name:
    1 "A", 2 "NS", 5 "CNAME", 6 "SOA", 12 "PTR", 15 "MX", 16 "TXT", 28 "AAAA", 29 "LOC", 33 "SRV", 35 "NAPTR", 39 "DNAME",
    43 "DS", 44 "SSHFP", 46 "RRSIG", 47 "NSEC", 48 "DNSKEY", 52 "TLSA", 64 "SVCB", 65 "HTTPS", 252 "AXFR", 255 "ANY", 257 "CAA",
}

numbers! {
    /// Name of an answer's code (RFC 1035, 2136).
    rcode_name:
    0 "NOERROR", 1 "FORMERR", 2 "SERVFAIL", 3 "NXDOMAIN", 4 "NOTIMP", 5 "REFUSED", 6 "YXDOMAIN", 7 "YXRRSET", 8 "NXRRSET",
    9 "NOTAUTH", 10 "NOTZONE", 11 "DSOTYPENI", 12 "RCODE12", 13 "RCODE13", 14 "RCODE14", 15 "RCODE15",
}

/// Codes that the header of an answer can hold.
pub const RCODES: u16 = 16;

const _: () = assert!(size_of::<DnsQuery>() == 192);
const _: () = assert!(size_of::<Pending>() == 200);
const _: () = assert!(core::mem::offset_of!(Pending, query) == 8);
const _: () = assert!(core::mem::offset_of!(DnsQuery, name) % 8 == 0);
const _: () = assert!(size_of::<DnsTotals>() == 400);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::borrow::ToOwned as _;
    use std::string::ToString as _;

    use super::*;

    fn query(name: &[u8]) -> DnsQuery {
        let mut query = DnsQuery {
            header: Header::of::<DnsQuery>(0, 0),
            task: Task {
                pid: 1,
                tid: 1,
                start_time_ns: 1,
                cgroup_id: 1,
                comm: [0; 16],
            },
            flow: Flow::default(),
            latency_ns: 1,
            inode: 0,
            sendings: 1,
            id: 7,
            qtype: 1,
            rcode: 0,
            answers: 1,
            outcome: ANSWERED,
            truncated: 0,
            name: [0; NAME_LEN],
        };
        for (slot, byte) in query.name.iter_mut().zip(name) {
            *slot = *byte;
        }
        query
    }

    #[test]
    fn a_name_is_its_labels() {
        let show = |name: &[u8]| {
            let of = query(name);
            (of.domain().to_string(), of.is_cut())
        };
        let text = |text: &str, cut| (text.to_owned(), cut);
        assert_eq!(
            show(b"\x07example\x03com\0rest"),
            text("example.com", false)
        );
        assert_eq!(show(b""), text(".", false));
        assert_eq!(
            show(b"\x05a.b\\\x1b\x01\xff\0"),
            text("a\\.b\\\\\\027.\\255", false)
        );
        let mut long = [b'a'; NAME_LEN];
        (long[0], long[40]) = (39, 39);
        assert_eq!(show(&long), text(&"a".repeat(39), true));
        assert_eq!(show(&[0xff; NAME_LEN]), text("", true));
    }

    #[test]
    fn no_such_name_is_no_failure_of_the_server() {
        let with = |rcode, outcome| DnsQuery {
            rcode,
            outcome,
            ..query(b"")
        };
        assert!(!with(NOERROR, ANSWERED).failed());
        assert!(!with(NXDOMAIN, LATE).failed());
        assert!(with(SERVFAIL, ANSWERED).failed());
        assert!(with(REFUSED, ANSWERED).failed());
        assert!(with(NOERROR, UNANSWERED).failed());
    }
}
