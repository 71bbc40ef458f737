//! An outgoing TCP connection was made or failed.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::flow::TCP;
use monitor_common::probes::run_queue_latency::{HISTOGRAM, bucket};
use monitor_common::probes::tcp_connect::{
    EADDRNOTAVAIL, ECONNABORTED, ETIMEDOUT, TOLD_AFTER_FAILURE_NS, TcpConnect, URGENT_PER_SECOND,
};
use monitor_common::{DropClass, Flow, Kind};

use crate::emit::{Lane, admitted, emit, has_share, now_ns};
use crate::maps::{Dropped, LAST_FAILURE, Owner, tcp_totals};
use crate::offsets::{
    KernelPtr, NETWORK_NUMBER, SOCK_ERROR, SOCK_NETWORK, SOCK_PROTOCOL, SOCK_SOURCE_PORT,
    SOCK_STATE, known,
};
use crate::settings::{DAEMON_NETWORK, refuse_if_asked};
use crate::socket::{
    dropped, flow, peer, peer_queue_full, place, remembered, retransmits, rtt_us, stranger,
};
use crate::task::describe_current;

const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const CLOSE: i32 = 7;

/// `inet_sock_set_state(sk, oldstate, newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn tcp_connect(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpConnect);
    let socket = KernelPtr::new(ctx.arg(0));
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        (_, SYN_SENT) => begun(socket),
        (SYN_SENT, ESTABLISHED) => made(socket),
        (SYN_SENT, CLOSE) => failed(socket),
        _ => {}
    }
    0
}

/// `tcp_receive_reset(sk)`
#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_connect_reset(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpConnect);
    let socket = KernelPtr::new(ctx.arg(0));
    if i32::from(socket.load::<u8>(&SOCK_STATE)) == SYN_SENT
        && let Some(owner) = remembered(socket)
    {
        // SAFETY: the socket is locked, and the slot valid while the program runs.
        unsafe { (*owner).reset = 1 };
    }
    0
}

/// Notes whose it is, since what follows happens in the context of anyone.
#[inline(always)]
fn begun(socket: KernelPtr) {
    // Other protocols borrow the states of TCP.
    if socket.load::<u16>(&SOCK_PROTOCOL) != TCP {
        return;
    }
    let Some(owner) = place(socket) else {
        return;
    };
    let task = describe_current();
    // SAFETY: a slot of the map. Another CPU may write it for another socket, or read it: it is nobody's until all of it is written.
    unsafe {
        core::ptr::write_volatile(&raw mut (*owner).socket, 0);
        (*owner).peer = peer(socket);
        (*owner).task = task;
        (*owner).since_ns = now_ns();
        (*owner).reset = 0;
        core::ptr::write_volatile(&raw mut (*owner).socket, socket.address());
    }
}

#[inline(always)]
fn made(socket: KernelPtr) {
    if socket.load::<u16>(&SOCK_PROTOCOL) != TCP {
        return;
    }
    let now_ns = now_ns();
    let owner = begun_by(socket, now_ns);
    let latency_ns = now_ns.saturating_sub(owner.since_ns);
    // Of one whose beginning is not known, the time is not, either.
    if owner.socket != 0 {
        let number = bucket(latency_ns) & (HISTOGRAM - 1);
        // SAFETY: the mask keeps the number in bounds.
        tcp_totals(|totals| unsafe { *totals.made.get_unchecked_mut(number) += 1 });
    }
    if !failed_lately(now_ns) && !has_share(Kind::TcpConnect, Lane::Bulk, &owner.task, now_ns) {
        return;
    }
    let flow = flow(socket);
    let retransmits = retransmits(socket);
    let elsewhere = elsewhere(socket);
    let dropped = if retransmits == 0 {
        Dropped::NONE
    } else {
        dropped_or_unheard(socket, &flow, owner.since_ns)
    };
    emit(Lane::Bulk, now_ns, |header| TcpConnect {
        header,
        task: owner.task,
        flow,
        latency_ns,
        error: 0,
        retransmits,
        rtt_us: rtt_us(socket),
        drops: dropped.count,
        drop_class: dropped.class as u16,
        reset: 0,
        elsewhere,
    });
}

#[inline(always)]
fn failed(socket: KernelPtr) {
    if socket.load::<u16>(&SOCK_PROTOCOL) != TCP {
        return;
    }
    tcp_totals(|totals| totals.failed += 1);
    let now_ns = now_ns();
    if let Some(last) = LAST_FAILURE.get_ptr_mut(0) {
        // SAFETY: a slot of the map; all CPUs write the same, to within what they disagree about the time.
        unsafe { last.write_volatile(now_ns) };
    }
    let owner = begun_by(socket, now_ns);
    let flow = flow(socket);
    let error = match socket.load::<u32>(&SOCK_ERROR) {
        0 if flow.local_port == 0 && known([&SOCK_SOURCE_PORT]) => EADDRNOTAVAIL,
        0 => ECONNABORTED,
        error => error,
    };
    let urgent = admitted(Kind::TcpConnect.number(), now_ns, URGENT_PER_SECOND);
    let lane = if urgent { Lane::Urgent } else { Lane::Bulk };
    let elsewhere = elsewhere(socket);
    let dropped = if error == ECONNABORTED || error == ETIMEDOUT {
        dropped_or_unheard(socket, &flow, owner.since_ns)
    } else {
        dropped(&flow, owner.since_ns)
    };
    emit(lane, now_ns, |header| TcpConnect {
        header,
        task: owner.task,
        flow,
        latency_ns: now_ns.saturating_sub(owner.since_ns),
        error,
        retransmits: retransmits(socket),
        rtt_us: rtt_us(socket),
        drops: dropped.count,
        drop_class: dropped.class as u16,
        reset: owner.reset as u16,
        elsewhere,
    });
}

/// Who began it. Also of one whose beginning is not known, since no end is to be passed over: its process is 0 then.
#[inline(always)]
fn begun_by(socket: KernelPtr, now_ns: u64) -> Owner {
    match remembered(socket) {
        // SAFETY: the socket is locked while its state changes, and the slot is copied at once.
        Some(owner) => unsafe { *owner },
        None => Owner {
            socket: 0,
            peer: 0,
            task: stranger(socket),
            since_ns: now_ns,
            reset: 0,
        },
    }
}

/// Whether a connection of this host failed not long ago.
#[inline(always)]
fn failed_lately(now_ns: u64) -> bool {
    let Some(last) = LAST_FAILURE.get_ptr(0) else {
        return true;
    };
    // SAFETY: a slot of the map, valid while the program runs.
    let last = unsafe { last.read_volatile() };
    last != 0 && now_ns.wrapping_sub(last) < TOLD_AFTER_FAILURE_NS
}

/// 1 when the socket is in another network namespace than the daemon.
#[inline(always)]
fn elsewhere(socket: KernelPtr) -> u32 {
    if !known([&SOCK_NETWORK, &NETWORK_NUMBER]) || DAEMON_NETWORK.load() == 0 {
        return 0;
    }
    let number: u32 = socket.follow(&SOCK_NETWORK).load(&NETWORK_NUMBER);
    u32::from(number != DAEMON_NETWORK.load())
}

/// What this host is known to have thrown away; a listener with a full queue drops without a word, so that nothing is counted for it.
#[inline(always)]
fn dropped_or_unheard(socket: KernelPtr, flow: &Flow, since_ns: u64) -> Dropped {
    let mut dropped = dropped(flow, since_ns);
    if dropped.count == 0 && peer_queue_full(socket, flow, since_ns) {
        dropped.class = DropClass::AcceptQueueFull as u32;
    }
    dropped
}
