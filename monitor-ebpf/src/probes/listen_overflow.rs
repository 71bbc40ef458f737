//! A listener's accept queue is full.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::flow::TCP;
use monitor_common::probes::listen_overflow::{EVERY_NS, ListenOverflow};

use crate::emit::{Lane, count, emit, has_share, now_ns};
use crate::maps::{FULL_LISTENERS, FullListener};
use crate::offsets::{
    ACCEPT_QUEUE_LAST, KernelPtr, SOCK_ACCEPT_LIMIT, SOCK_ACCEPT_QUEUE, SOCK_DROPS, SOCK_PROTOCOL,
    SOCK_STATE, known,
};
use crate::settings::refuse_if_asked;
use crate::socket::{
    LISTEN, flow, inode, is_any, local_address_checked, network, seat, stranger, words,
};

/// `sk_data_ready(sk)`: something came for a socket; for a listener, a connection that waits to be accepted.
#[btf_tracepoint(function = "sk_data_ready")]
fn listen_overflow(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ListenOverflow);
    let socket = KernelPtr::new(ctx.arg(0));
    if socket.load::<u8>(&SOCK_STATE) == LISTEN && is_full(socket) {
        let last = if known([&ACCEPT_QUEUE_LAST]) {
            socket.follow_checked(&ACCEPT_QUEUE_LAST, 0)
        } else {
            KernelPtr::new(core::ptr::null())
        };
        full(socket, last, 0);
    }
    0
}

/// `tcp_retransmit_synack(sk, req)`: the first packet of a connection is answered again.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn listen_overflow_synack(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ListenOverflow);
    let socket = KernelPtr::new(ctx.arg(0));
    if socket.load::<u8>(&SOCK_STATE) == LISTEN && is_full(socket) {
        full(socket, KernelPtr::new(ctx.arg(1)), 1);
    }
    0
}

/// As the kernel's `sk_acceptq_is_full`. Other protocols count their queues elsewhere.
#[inline(always)]
fn is_full(socket: KernelPtr) -> bool {
    socket.load::<u16>(&SOCK_PROTOCOL) == TCP
        && socket.load::<u32>(&SOCK_ACCEPT_QUEUE) > socket.load::<u32>(&SOCK_ACCEPT_LIMIT)
}

/// Remembers the listener under the address that this connection is for, and under its own if that is any address.
#[inline(always)]
fn full(socket: KernelPtr, connection: KernelPtr, waiting: u32) {
    let now_ns = now_ns();
    let flow = flow(socket);
    let own = words(flow.local_address);
    let network = network(socket);
    let to = if connection.is_null() {
        own
    } else {
        local_address_checked(connection, flow.family)
    };
    let key = seat(to, flow.local_port, network);
    let told_ns = match FULL_LISTENERS.get_ptr(key) {
        // SAFETY: the value is copied at once.
        Some(before) => match unsafe { *before } {
            before if before.socket == socket.address() => before.told_ns,
            _ => 0,
        },
        None => 0,
    };
    let tell = now_ns.saturating_sub(told_ns) >= EVERY_NS;
    let listener = FullListener {
        socket: socket.address(),
        at_ns: now_ns,
        told_ns: if tell { now_ns } else { told_ns },
    };
    // No room: a connection that fails for it will not know why.
    let _ = FULL_LISTENERS.insert(key, listener, u64::from(BPF_ANY));
    if is_any(own) {
        let any = seat(own, flow.local_port, network);
        let _ = FULL_LISTENERS.insert(any, listener, u64::from(BPF_ANY));
    }
    if !tell {
        count(Kind::ListenOverflow, |counters| counters.suppressed += 1);
        return;
    }
    let task = stranger(socket);
    if !has_share(Kind::ListenOverflow, Lane::Bulk, &task, now_ns) {
        return;
    }
    emit(Lane::Bulk, now_ns, |header| ListenOverflow {
        header,
        task,
        flow,
        inode: inode(socket),
        queue: socket.load(&SOCK_ACCEPT_QUEUE),
        limit: socket.load(&SOCK_ACCEPT_LIMIT),
        drops: if known([&SOCK_DROPS]) {
            socket.load(&SOCK_DROPS)
        } else {
            0
        },
        waiting,
    });
}
