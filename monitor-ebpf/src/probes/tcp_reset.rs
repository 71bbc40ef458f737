//! A TCP connection was ended by a reset.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::flow::TCP;
use monitor_common::probes::tcp_reset::{RECEIVED, SENT, TcpReset};

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::maps::tcp_totals;
use crate::offsets::{KernelPtr, SOCK_PROTOCOL, SOCK_STATE};
use crate::settings::refuse_if_asked;
use crate::socket::{flow, inode, owner, retransmits, rtt_us};

const SYN_SENT: u16 = 2;
const LISTEN: u16 = 10;
const NEW_SYN_RECV: u16 = 12;
const TIME_WAIT: u16 = 6;

/// `tcp_receive_reset(sk)`
#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_reset_received(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpReset);
    tcp_totals(|totals| totals.resets_received += 1);
    told(KernelPtr::new(ctx.arg(0)), RECEIVED);
    0
}

/// `tcp_send_reset(sk, skb)`, since 6.11 also `reason`
#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_reset_sent(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpReset);
    tcp_totals(|totals| totals.resets_sent += 1);
    let socket = KernelPtr::new(ctx.arg(0));
    // None where no socket has the port.
    if !socket.is_null() {
        told(socket, SENT);
    }
    0
}

#[inline(always)]
fn told(socket: KernelPtr, sent: u16) {
    let state = u16::from(socket.load::<u8>(&SOCK_STATE));
    // Of these the kernel keeps less than a `struct sock`, or another probe tells.
    if matches!(state, SYN_SENT | LISTEN | NEW_SYN_RECV | TIME_WAIT)
        || socket.load::<u16>(&SOCK_PROTOCOL) != TCP
    {
        return;
    }
    let now_ns = now_ns();
    let who = owner(socket);
    if !has_share(Kind::TcpReset, Lane::Bulk, &who, now_ns) {
        return;
    }
    // Before the record is reserved: what reads much in there becomes a function of its own, which the verifier refuses.
    let flow = flow(socket);
    let (inode, rtt_us, retransmits) = (inode(socket), rtt_us(socket), retransmits(socket));
    emit(Lane::Bulk, now_ns, |header| TcpReset {
        header,
        task: who,
        flow,
        inode,
        rtt_us,
        retransmits,
        sent,
        state,
        padding: 0,
    });
}
