//! An error came to a socket from outside of any call on it.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::flow::TCP;
use monitor_common::probes::socket_error::{SocketError, URGENT_PER_SECOND, is_told_elsewhere};

use crate::emit::{Lane, admitted, emit, has_share, now_ns};
use crate::offsets::{KernelPtr, SOCK_ERROR, SOCK_PROTOCOL, SOCK_STATE, TCP_RECEIVED};
use crate::settings::refuse_if_asked;
use crate::socket::{flow, inode, owner, retransmits};

/// `inet_sk_error_report(sk)`
#[btf_tracepoint(function = "inet_sk_error_report")]
fn socket_error(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::SocketError);
    let socket = KernelPtr::new(ctx.arg(0));
    let error: u32 = socket.load(&SOCK_ERROR);
    // Also called when something that is no error waits in the socket's queue of errors: a time stamp, the end of a copy.
    if error == 0 {
        return 0;
    }
    let protocol: u16 = socket.load(&SOCK_PROTOCOL);
    let state = u16::from(socket.load::<u8>(&SOCK_STATE));
    let is_tcp = protocol == TCP;
    let received = if is_tcp {
        socket.load_checked(&TCP_RECEIVED, 0)
    } else {
        0
    };
    if is_told_elsewhere(protocol, state, received, error) {
        return 0;
    }
    let now_ns = now_ns();
    let who = owner(socket);
    let urgent = is_tcp && admitted(Kind::SocketError.number(), now_ns, URGENT_PER_SECOND);
    let lane = if urgent { Lane::Urgent } else { Lane::Bulk };
    if !has_share(Kind::SocketError, lane, &who, now_ns) {
        return 0;
    }
    emit(lane, now_ns, |header| SocketError {
        header,
        task: who,
        flow: flow(socket),
        inode: inode(socket),
        socket: socket.address(),
        error,
        retransmits: if is_tcp { retransmits(socket) } else { 0 },
        state,
        padding: [0; 3],
    });
    0
}
