//! How long watched services take to answer. Attached only while a cgroup is watched.

#![expect(
    clippy::indexing_slicing,
    reason = "loops over the few places of a set; an index that could be out of bounds does not load"
)]

use aya_ebpf::Global;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::flow::{AF_INET, AF_INET6, TCP};
use monitor_common::probes::service_latency::{
    PendingSet, SAME_REQUEST_NS, SERVICES, ServiceLatency, Stamp, WAYS, bucket, key, set,
};
use monitor_common::{Kind, Task};

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::maps::{CGROUP_LATENCY, REQUESTS};
use crate::offsets::{
    KernelPtr, SKB_CB, SKB_DATA, SKB_HEAD, SKB_LENGTH, SKB_SOCKET, SKB_TRANSPORT,
    SOCK_ACCEPT_LIMIT, SOCK_FAMILY, SOCK_HASH, SOCK_PORTS, SOCK_PROTOCOL, SOCK_STATE, TCP_CB_END,
    TCP_CB_FLAGS, TCP_CB_SEQUENCE,
};
use crate::settings::{ARRIVALS_ARE_SEGMENTS, SLOW_REQUEST_NS, refuse_if_asked};
use crate::socket::{cgroup_id, flow};
use crate::task::{any_watched, slot_of};

/// `TCP_ESTABLISHED`: the end of the peer's data (FIN) is ready to be read, too, but in another state.
const ESTABLISHED: u8 = 1;
/// `TCP_SYN_RECV`
const SYN_RECV: i32 = 3;
/// `TCPHDR_FIN`
const FIN: u8 = 1;
/// Bytes of a TCP header: at least, and at most.
const TCP_HEADER: [u64; 2] = [20, 60];

/// `sk_data_ready(sk)`, or `tcp_probe(sk, skb)` on kernels without it
#[btf_tracepoint(function = "sk_data_ready")]
fn service_request(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ServiceLatency);
    if any_watched() {
        let _ = arrived(&ctx);
    }
    0
}

/// `inet_sock_set_state(sk, oldstate, newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn service_connection(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ServiceLatency);
    let accepted = ctx.arg::<i32>(1) == SYN_RECV && ctx.arg::<i32>(2) == i32::from(ESTABLISHED);
    if accepted && any_watched() {
        let _ = begins(KernelPtr::new(ctx.arg(0)));
    }
    0
}

/// `net_dev_queue(skb)`
#[btf_tracepoint(function = "net_dev_queue")]
fn service_response(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ServiceLatency);
    if any_watched() {
        let _ = leaves(KernelPtr::new(ctx.arg(0)));
    }
    0
}

#[inline(always)]
fn arrived(ctx: &BtfTracePointContext) -> Option<()> {
    let socket = KernelPtr::new(ctx.arg(0));
    let family: u16 = socket.load(&SOCK_FAMILY);
    if socket.load::<u8>(&SOCK_STATE) != ESTABLISHED
        || (family != AF_INET && family != AF_INET6)
        || socket.load::<u16>(&SOCK_PROTOCOL) != TCP
        // Connections that were accepted have their listener's.
        || socket.load::<u32>(&SOCK_ACCEPT_LIMIT) == 0
        || (ARRIVALS_ARE_SEGMENTS.load() != 0 && is_bare(KernelPtr::new(ctx.arg(1))))
    {
        return None;
    }
    let slot = slot_of(cgroup_id(socket))?;
    if slot >= SERVICES {
        return None;
    }
    let key = key(socket.load(&SOCK_HASH), socket.load(&SOCK_PORTS));
    let pending = REQUESTS.get_ptr_mut(set(key))?;
    // SAFETY: valid while the program runs. Another CPU may write to it for another connection, and one of two that take the same
    // place is then not counted.
    let pending = unsafe { &mut *pending };
    for way in 0..WAYS {
        if pending.keys[way] == key {
            let since_ns = Stamp(pending.stamps[way]).since_ns();
            if now_ns().saturating_sub(since_ns) >= SAME_REQUEST_NS {
                pending.stamps[way] |= Stamp::OVERLAPS;
            }
            return None;
        }
    }
    let way = place(pending);
    if pending.keys[way] != 0 {
        // SAFETY: a slot of this CPU, valid while the program runs.
        let totals = unsafe { &mut *CGROUP_LATENCY.get_ptr_mut(slot)? };
        totals.displaced += 1;
    }
    pending.stamps[way] = Stamp::new(now_ns(), slot).0;
    pending.keys[way] = key;
    None
}

/// What an earlier connection of the same ends left without an answer is not this one's.
#[inline(always)]
fn begins(socket: KernelPtr) -> Option<()> {
    let key = key(socket.load(&SOCK_HASH), socket.load(&SOCK_PORTS));
    // SAFETY: valid while the program runs.
    let pending = unsafe { &mut *REQUESTS.get_ptr_mut(set(key))? };
    for way in 0..WAYS {
        if pending.keys[way] == key {
            pending.keys[way] = 0;
        }
    }
    None
}

/// A free place, or the one that waits longest.
#[inline(always)]
fn place(pending: &PendingSet) -> usize {
    let mut oldest = 0;
    for way in 0..WAYS {
        if pending.keys[way] == 0 {
            return way;
        }
        if pending.stamps[way] < pending.stamps[oldest] {
            oldest = way;
        }
    }
    oldest
}

/// Whether a received segment has no data.
#[inline(always)]
fn is_bare(packet: KernelPtr) -> bool {
    let part = |offset: &Global<u32>| -> u32 { packet.load_past(&SKB_CB, offset.load() as usize) };
    let end = packet.load_past::<u8>(&SKB_CB, TCP_CB_FLAGS.load() as usize) & FIN;
    part(&TCP_CB_END).wrapping_sub(part(&TCP_CB_SEQUENCE)) == u32::from(end)
}

#[inline(always)]
fn leaves(packet: KernelPtr) -> Option<()> {
    let socket = packet.follow(&SKB_SOCKET);
    if socket.is_null() {
        return None;
    }
    // A request socket or one in TIME_WAIT is shorter than a `struct sock`, but has these, too, and sends no data.
    let key = key(socket.load(&SOCK_HASH), socket.load(&SOCK_PORTS));
    let pending = REQUESTS.get_ptr_mut(set(key))?;
    // SAFETY: valid while the program runs, and the socket is locked by who sends.
    let pending = unsafe { &mut *pending };
    for way in 0..WAYS {
        if pending.keys[way] == key {
            if !has_data(packet) {
                return None;
            }
            pending.keys[way] = 0;
            return answered(socket, Stamp(pending.stamps[way]));
        }
    }
    None
}

/// Whether a TCP packet that leaves has more than headers.
#[inline(always)]
fn has_data(packet: KernelPtr) -> bool {
    let header = packet
        .load::<u64>(&SKB_HEAD)
        .wrapping_add(u64::from(packet.load::<u16>(&SKB_TRANSPORT)));
    let before = header.wrapping_sub(packet.load::<u64>(&SKB_DATA));
    let length = u64::from(packet.load::<u32>(&SKB_LENGTH)).saturating_sub(before);
    let [least, most] = TCP_HEADER;
    if length <= least || length > most {
        return length > most;
    }
    // The upper half of this byte is the header's length in words.
    let words: u8 = KernelPtr::new(header as *const u8).read_checked(12);
    length > u64::from(words >> 4) * 4
}

#[inline(always)]
fn answered(socket: KernelPtr, stamp: Stamp) -> Option<()> {
    let now_ns = now_ns();
    let latency_ns = now_ns.saturating_sub(stamp.since_ns());
    let totals = CGROUP_LATENCY.get_ptr_mut(stamp.slot())?;
    // SAFETY: a slot of this CPU, valid while the program runs.
    let totals = unsafe { &mut *totals };
    totals.requests += 1;
    totals.overlapping += u64::from(stamp.overlaps());
    totals.sum_ns += latency_ns;
    // The compiler knows the number to be in bounds and would leave the check out, which the verifier needs.
    let bucket = core::hint::black_box(bucket(latency_ns));
    *totals.buckets.get_mut(bucket)? += 1;
    if latency_ns < SLOW_REQUEST_NS.load() {
        return None;
    }
    let who = Task {
        pid: 0,
        tid: 0,
        start_time_ns: 0,
        cgroup_id: cgroup_id(socket),
        comm: [0; 16],
    };
    if !has_share(Kind::ServiceLatency, Lane::Bulk, &who, now_ns) {
        return None;
    }
    let flow = flow(socket);
    emit(Lane::Bulk, now_ns, |header| ServiceLatency {
        header,
        task: who,
        flow,
        latency_ns,
        overlapping: u32::from(stamp.overlaps()),
        padding: 0,
    });
    None
}
