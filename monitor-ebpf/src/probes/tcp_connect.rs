//! An outgoing TCP connection was made or failed.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use monitor_common::Kind;
use monitor_common::probes::tcp_connect::{
    AF_INET6, EADDRNOTAVAIL, ECONNABORTED, TcpConnect, URGENT_PER_SECOND,
};

use crate::emit::{Lane, admitted, emit, now_ns};
use crate::maps::{CONNECTING, Connecting};
use crate::offsets::{
    KernelPtr, SOCK_ERROR, SOCK_FAMILY, SOCK_LOCAL_PORT, SOCK_LOCAL_V4, SOCK_LOCAL_V6,
    SOCK_PEER_PORT, SOCK_PEER_V4, SOCK_PEER_V6, SOCK_PROTOCOL, SOCK_SOURCE_PORT, known,
};
use crate::settings::refuse_if_asked;
use crate::task::describe_current;

const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const CLOSE: i32 = 7;
const IPPROTO_TCP: u16 = 6;

/// `inet_sock_set_state(sk, oldstate, newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn tcp_connect(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::TcpConnect);
    let socket = KernelPtr::new(ctx.arg(0));
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        (_, SYN_SENT) => begun(&ctx, socket),
        (SYN_SENT, state) => {
            // No start: the connection was begun before the program was attached, or was evicted.
            let _ = try_tcp_connect(socket, state);
        }
        _ => {}
    }
    0
}

/// Notes whose it is, since what follows happens in the context of anyone.
fn begun(ctx: &BtfTracePointContext, socket: KernelPtr) {
    // Other protocols borrow the states of TCP.
    if socket.load::<u16>(&SOCK_PROTOCOL) != IPPROTO_TCP {
        return;
    }
    let connecting = Connecting {
        task: describe_current(),
        since_ns: now_ns(),
    };
    if let Err(error) = CONNECTING.insert(socket.address(), connecting, u64::from(BPF_ANY)) {
        debug!(
            ctx,
            "a connection of process {} is not followed: error {}", connecting.task.pid, error
        );
    }
}

fn try_tcp_connect(socket: KernelPtr, state: i32) -> Option<()> {
    let address = socket.address();
    // SAFETY: the socket is locked while its state changes, and the value is copied at once.
    let begun = unsafe { CONNECTING.get(address).copied() }?;
    let _ = CONNECTING.remove(address);
    let error = match state {
        ESTABLISHED => 0,
        CLOSE => match socket.load::<u32>(&SOCK_ERROR) {
            0 => unsaid(socket),
            error => error,
        },
        // Both sides called each other at once: rare, and not an answer yet.
        _ => return None,
    };
    let now_ns = now_ns();
    let lane = if error != 0 && admitted(Kind::TcpConnect.number(), now_ns, URGENT_PER_SECOND) {
        Lane::Urgent
    } else {
        Lane::Bulk
    };
    let family: u16 = socket.load(&SOCK_FAMILY);
    let (peer_address, local_address) = addresses(socket, family);
    emit(lane, now_ns, |header| TcpConnect {
        header,
        task: begun.task,
        latency_ns: now_ns.saturating_sub(begun.since_ns),
        socket: address,
        error,
        family,
        peer_port: u16::from_be(socket.load(&SOCK_PEER_PORT)),
        peer_address,
        local_address,
        local_port: socket.load(&SOCK_LOCAL_PORT),
        padding: [0; 3],
    });
    Some(())
}

/// What happened when the kernel left no error: before a local port was found, or after.
fn unsaid(socket: KernelPtr) -> u32 {
    if !known([&SOCK_SOURCE_PORT]) {
        return ECONNABORTED;
    }
    // The port is given back by now, but its copy for the packets stays. It lies behind the `struct sock` that the verifier
    // knows of.
    match socket.load_checked::<u16>(&SOCK_SOURCE_PORT, 0) {
        0 => EADDRNOTAVAIL,
        _ => ECONNABORTED,
    }
}

/// Peer's and local address, in network byte order.
#[inline(always)]
fn addresses(socket: KernelPtr, family: u16) -> ([u8; 16], [u8; 16]) {
    let (peer, local): ([u32; 4], [u32; 4]) =
        if family == AF_INET6 && known([&SOCK_PEER_V6, &SOCK_LOCAL_V6]) {
            let words = |offset| [0, 4, 8, 12].map(|past| socket.load_past(offset, past));
            (words(&SOCK_PEER_V6), words(&SOCK_LOCAL_V6))
        } else {
            (
                [socket.load(&SOCK_PEER_V4), 0, 0, 0],
                [socket.load(&SOCK_LOCAL_V4), 0, 0, 0],
            )
        };
    // SAFETY: both are 16 bytes of which every value is valid.
    unsafe {
        (
            core::mem::transmute::<[u32; 4], [u8; 16]>(peer),
            core::mem::transmute::<[u32; 4], [u8; 16]>(local),
        )
    }
}
