//! Events for the tests beside this file.

use monitor_common::flow::{AF_INET, TCP, UDP};
use monitor_common::probes::Record;
use monitor_common::probes::cgroup_change::{CgroupChange, MADE, PATH_LEN};
use monitor_common::probes::dns_query::{DnsQuery, NAME_LEN, PORT};
use monitor_common::probes::process_exec::{ARGV_LEN, ProcessExec};
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::probes::process_signal::ProcessSignal;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::{Event, Flow, Header, Kind, Task};

use crate::kernel::decode;

/// The process that they are about.
pub(super) const PID: u32 = 4_242;

/// An event of this kind of which every other byte is this one.
pub(super) fn filled(kind: Kind, byte: impl FnMut() -> u8) -> Event {
    let size = kind.size();
    let mut bytes: Vec<u8> = std::iter::repeat_with(byte).take(size).collect();
    let size = u32::try_from(size).expect("small");
    bytes[..2].copy_from_slice(&kind.number().to_ne_bytes());
    bytes[4..8].copy_from_slice(&size.to_ne_bytes());
    decode(&bytes).expect("well formed")
}

/// An event of this kind, all zeros.
pub(super) fn any(kind: Kind) -> Event {
    filled(kind, || 0)
}

pub(super) fn bytes<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (slot, byte) in bytes.iter_mut().zip(text) {
        *slot = *byte;
    }
    bytes
}

pub(super) fn header<T: Record>() -> Header {
    Header::of::<T>(1, 5_000_000_000)
}

pub(super) fn name(text: &[u8]) -> [u8; 16] {
    let mut name = bytes(text);
    name[15] = 0;
    name
}

pub(super) fn task() -> Task {
    Task {
        pid: PID,
        tid: PID + 1,
        start_time_ns: 4_000_000_000,
        cgroup_id: 77,
        comm: name(b"web"),
    }
}

pub(super) fn exec(argv: &[u8], total: u32) -> Event {
    Event::ProcessExec(ProcessExec {
        header: header::<ProcessExec>(),
        task: task(),
        parent_pid: 1,
        uid: 0,
        argv_total: total,
        argv_len: u32::try_from(argv.len().min(ARGV_LEN)).expect("small"),
        argv: bytes(argv),
    })
}

pub(super) fn exit(status: u32) -> Event {
    Event::ProcessExit(ProcessExit {
        header: header::<ProcessExit>(),
        task: task(),
        parent_pid: 1,
        status,
        lifetime_ns: 12_300_000,
    })
}

pub(super) fn signal(signal: u32, sender_pid: u32, sender: &[u8]) -> Event {
    Event::ProcessSignal(ProcessSignal {
        header: header::<ProcessSignal>(),
        task: task(),
        signal,
        result: 0,
        sender_pid,
        padding: 0,
        sender_comm: name(sender),
    })
}

pub(super) fn connect(error: u32) -> Event {
    Event::TcpConnect(TcpConnect {
        header: header::<TcpConnect>(),
        task: task(),
        flow: Flow {
            local_address: bytes(&[127, 0, 0, 1]),
            peer_address: bytes(&[127, 0, 0, 1]),
            local_port: 0,
            peer_port: 80,
            family: AF_INET,
            protocol: TCP,
        },
        latency_ns: 43_000,
        error,
        retransmits: 0,
        rtt_us: 0,
        drops: 0,
        drop_class: 0,
        reset: 1,
        elsewhere: 0,
    })
}

/// A question for this name, as it stands in the packet, that came to this.
pub(super) fn dns(name: &[u8], outcome: u16, rcode: u16, sendings: u32) -> Event {
    Event::DnsQuery(DnsQuery {
        header: header::<DnsQuery>(),
        task: task(),
        flow: Flow {
            local_address: bytes(&[192, 0, 2, 7]),
            peer_address: bytes(&[192, 0, 2, 53]),
            local_port: 40_000,
            peer_port: PORT,
            family: AF_INET,
            protocol: UDP,
        },
        latency_ns: 12_000_000,
        inode: 99,
        sendings,
        id: 7,
        qtype: 1,
        rcode,
        answers: 1,
        outcome,
        truncated: 0,
        name: bytes::<NAME_LEN>(name),
    })
}

pub(super) fn cgroup_made(path: &[u8]) -> Event {
    Event::CgroupChange(CgroupChange {
        header: header::<CgroupChange>(),
        task: task(),
        cgroup_id: 78,
        change: MADE,
        hierarchy: 0,
        path_len: u32::try_from(path.len().min(PATH_LEN)).expect("small"),
        padding: 0,
        path: bytes(path),
    })
}
