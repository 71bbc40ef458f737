//! A TCP segment was sent again.

use aya_ebpf::Global;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::tcp_retransmit::TcpRetransmit;

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::maps::tcp_totals;
use crate::offsets::{
    KernelPtr, SKB_CB, SOCK_STATE, TCP_BYTES_ACKED, TCP_SEGMENT_SIZE, TCP_SELECTIVE_ACKS,
    TCP_TIMEOUTS, known,
};
use crate::settings::refuse_if_asked;
use crate::socket::{flow, inode, owner, retransmits, rtt_us};

/// `tcp_retransmit_skb(sk, skb)`, since 6.17 also `err`
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpRetransmit);
    tcp_totals(|totals| totals.retransmits += 1);
    told(KernelPtr::new(ctx.arg(0)), KernelPtr::new(ctx.arg(1)));
    0
}

/// `tcp_retransmit_synack(sk, req)`: the answer to the first packet of a connection that came in. Only counted.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn tcp_retransmit_answer(_: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpRetransmit);
    tcp_totals(|totals| totals.answers_retransmitted += 1);
    0
}

#[inline(always)]
fn told(socket: KernelPtr, packet: KernelPtr) {
    let now_ns = now_ns();
    let who = owner(socket);
    if !has_share(Kind::TcpRetransmit, Lane::Bulk, &who, now_ns) {
        return;
    }
    // Before the record is reserved: what reads much in there becomes a function of its own, which the verifier refuses.
    let flow = flow(socket);
    let (inode, rtt_us, retransmits) = (inode(socket), rtt_us(socket), retransmits(socket));
    // The control block begins with the first sequence number and the one after the last.
    let start: u32 = optional(packet, &SKB_CB, 0);
    let end: u32 = optional(packet, &SKB_CB, 4);
    let bytes_acked: u64 = optional(socket, &TCP_BYTES_ACKED, 0);
    let segment_size: u32 = optional(socket, &TCP_SEGMENT_SIZE, 0);
    let arrived_behind: u32 = optional(socket, &TCP_SELECTIVE_ACKS, 0);
    let timeouts: u8 = optional(socket, &TCP_TIMEOUTS, 0);
    emit(Lane::Bulk, now_ns, |header| TcpRetransmit {
        header,
        task: who,
        flow,
        inode,
        rtt_us,
        retransmits,
        bytes: end.wrapping_sub(start),
        bytes_acked: bytes_acked.min(u64::from(u32::MAX)) as u32,
        segment_size: segment_size as u16,
        arrived_behind: arrived_behind.min(u32::from(u16::MAX)) as u16,
        timeouts,
        state: socket.load(&SOCK_STATE),
        padding: 0,
    });
}

/// A member that this kernel may lack; 0 then.
#[inline(always)]
fn optional<T: Copy + Default>(from: KernelPtr, offset: &Global<u32>, past: usize) -> T {
    if known([offset]) {
        from.load_checked(offset, past)
    } else {
        T::default()
    }
}
