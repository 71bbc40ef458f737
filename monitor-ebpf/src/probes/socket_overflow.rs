//! What came for a socket did not fit.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::socket_overflow::{
    LIMITS, PER_SECOND, RECEIVE_BUFFER, RECEIVE_MEMORY, SEND_MEMORY, SocketOverflow,
};

use crate::emit::{Lane, admitted, count, emit, has_share, now_ns};
use crate::maps::OVERFLOWS;
use crate::offsets::{
    KernelPtr, SOCK_RECEIVE_BUFFER, SOCK_RECEIVE_USED, SOCK_SEND_BUFFER, SOCK_SEND_USED,
};
use crate::settings::refuse_if_asked;
use crate::socket::{flow, inode, owner};

/// As the reason of a datagram that was not queued: the buffer is full (`-ENOMEM`). Any other means the protocol's memory.
const BUFFER_FULL: i32 = -12;
/// `SK_MEM_SEND`
const SENDING: i32 = 0;

/// `udp_fail_queue_rcv_skb(rc, sk)`, since 6.10 with `skb`
#[btf_tracepoint(function = "udp_fail_queue_rcv_skb")]
fn socket_overflow_udp(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::SocketOverflow);
    let limit = match ctx.arg::<i32>(0) {
        BUFFER_FULL => RECEIVE_BUFFER,
        _ => RECEIVE_MEMORY,
    };
    full(KernelPtr::new(ctx.arg(1)), limit, 0);
    0
}

/// `sock_rcvqueue_full(sk, skb)`
#[btf_tracepoint(function = "sock_rcvqueue_full")]
fn socket_overflow_queue(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::SocketOverflow);
    full(KernelPtr::new(ctx.arg(0)), RECEIVE_BUFFER, 0);
    0
}

/// `sock_exceed_buf_limit(sk, prot, allocated, kind)`
#[btf_tracepoint(function = "sock_exceed_buf_limit")]
fn socket_overflow_memory(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::SocketOverflow);
    let limit = match ctx.arg::<i32>(3) {
        SENDING => SEND_MEMORY,
        _ => RECEIVE_MEMORY,
    };
    full(KernelPtr::new(ctx.arg(0)), limit, ctx.arg(2));
    0
}

#[inline(always)]
fn full(socket: KernelPtr, limit: u32, protocol_pages: u64) {
    if let Some(number) = OVERFLOWS.get_ptr_mut(limit & (LIMITS as u32 - 1)) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        unsafe { *number += 1 };
    }
    let now_ns = now_ns();
    if !admitted(Kind::SocketOverflow.number(), now_ns, PER_SECOND) {
        count(Kind::SocketOverflow, |counters| counters.suppressed += 1);
        return;
    }
    let task = owner(socket);
    if !has_share(Kind::SocketOverflow, Lane::Bulk, &task, now_ns) {
        return;
    }
    let (used, buffer): (u32, u32) = if limit == SEND_MEMORY {
        (socket.load(&SOCK_SEND_USED), socket.load(&SOCK_SEND_BUFFER))
    } else {
        (
            socket.load(&SOCK_RECEIVE_USED),
            socket.load(&SOCK_RECEIVE_BUFFER),
        )
    };
    emit(Lane::Bulk, now_ns, |header| SocketOverflow {
        header,
        task,
        flow: flow(socket),
        inode: inode(socket),
        used,
        buffer,
        protocol_pages,
        limit,
        padding: 0,
    });
}
