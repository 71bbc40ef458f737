//! A question to a DNS server left, and its answer arrived.
//!
//! Both programs run for every packet of the host, so that they leave at the first thing that is not DNS: the one on the way out by
//! direct loads from the packet's socket; the one on the way in at once while no question waits for its answer.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::flow::{AF_INET, AF_INET6, UDP};
use monitor_common::probes::dns_query::{
    ANSWERED, DnsQuery, LATE, NAME_LEN, PENDING_WORDS, PORT, Pending, UNANSWERED,
    URGENT_PER_SECOND, is_failure,
};
use monitor_common::probes::run_queue_latency::{HISTOGRAM, bucket};
use monitor_common::{Flow, Header, Kind, Task};

use crate::emit::{Lane, admitted, count_lost, emit_in_place, has_share, now_ns};
use crate::maps::{
    DNS_OUTSTANDING, DNS_PAYLOAD, DNS_PENDING, DNS_SCRATCH, DNS_SWEPT, DNS_TOTALS, DnsScratch,
};
use crate::offsets::{
    KernelPtr, SKB_DATA, SKB_DEVICE, SKB_HEAD, SKB_LENGTH, SKB_NETWORK, SKB_PAGED, SKB_PROTOCOL,
    SKB_SOCKET, SKB_TAIL, SKB_TRANSPORT, SOCK_FAMILY, SOCK_LOCAL_PORT, SOCK_PEER_PORT,
    SOCK_PROTOCOL,
};
use crate::settings::refuse_if_asked;
use crate::socket::{self, Address, addresses, bytes, flow, inode, way};
use crate::task::describe_current;

/// `ETH_P_IP`
const IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`
const IPV6: u16 = 0x86dd;
/// `IPPROTO_FRAGMENT`
const FRAGMENT: u8 = 44;
/// Bytes of the header of UDP and that of DNS behind it.
const HEADERS: u64 = 20;
/// Labels of a name that are walked: those of an IPv6 address backwards are 34.
const LABELS: usize = 40;
/// A label that is longer is none, but a reference to another.
const LABEL_MAX: u8 = 63;

/// The headers of UDP and of DNS, in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Headers {
    from: u16,
    to: u16,
    length: u16,
    checksum: u16,
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
}

/// The header of IPv4.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv4 {
    length: u8,
    service: u8,
    total: u16,
    id: u16,
    fragment: u16,
    hops: u8,
    protocol: u8,
    checksum: u16,
    from: u32,
    to: u32,
}

/// The header of IPv6.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv6 {
    flow: u32,
    length: u16,
    next: u8,
    hops: u8,
    from: Address,
    to: Address,
}

/// The extension of IPv6 for what came in pieces.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fragment {
    next: u8,
    reserved: u8,
    offset: u16,
    id: u32,
}

/// `net_dev_queue(skb)`
#[btf_tracepoint(function = "net_dev_queue")]
fn dns_query_sent(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DnsQuery);
    let packet = KernelPtr::new(ctx.arg(0));
    let socket = packet.follow(&SKB_SOCKET);
    // None: forwarded, or an answer of the kernel itself.
    if socket.is_null() || socket.load::<u16>(&SOCK_PROTOCOL) != UDP {
        return 0;
    }
    let connected_to = u16::from_be(socket.load(&SOCK_PEER_PORT));
    if connected_to == 0 || connected_to == PORT {
        let _ = asked(packet, socket, connected_to == PORT);
    }
    0
}

/// `netif_receive_skb(skb)`
#[btf_tracepoint(function = "netif_receive_skb")]
fn dns_query_answered(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DnsQuery);
    if is_awaited() {
        let _ = arrived(KernelPtr::new(ctx.arg(0)));
    }
    0
}

/// Whether any question waits for its answer.
#[inline(always)]
fn is_awaited() -> bool {
    let (Some(outstanding), Some(swept)) = (DNS_OUTSTANDING.get_ptr(0), DNS_SWEPT.get_ptr(0))
    else {
        return false;
    };
    // SAFETY: both are as long as the object.
    unsafe { outstanding.read_volatile() != swept.read_volatile() }
}

/// Adds to the number of questions that wait; 1, or -1 in two's complement.
#[inline(always)]
fn add_outstanding(number: u64) {
    if let Some(outstanding) = DNS_OUTSTANDING.get_ptr_mut(0) {
        // SAFETY: it lives as long as the object, and is only ever added to. The types of `core::sync::atomic` cannot add here, since
        // the target has no compare-and-swap before 5.12.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(outstanding, number) };
    }
}

/// Reads through the helper that checks the address.
#[inline(always)]
fn read<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// By what question and answer find each other.
#[inline(always)]
fn key(way: u64, id: u16) -> u64 {
    way ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(always)]
fn v4(address: u32) -> Address {
    [address, 0, 0, 0]
}

#[inline(always)]
fn asked(packet: KernelPtr, socket: KernelPtr, connected: bool) -> Option<()> {
    let head: u64 = packet.load(&SKB_HEAD);
    let transport = u64::from(packet.load::<u16>(&SKB_TRANSPORT));
    let headers: Headers = read(head + transport)?;
    let to_port = u16::from_be(headers.to);
    let flags = u16::from_be(headers.flags);
    // Where the packet was sent to another port on its way out, only the socket knows.
    if (to_port != PORT && !connected) || flags >> 11 != 0 || headers.questions != 1_u16.to_be() {
        return None;
    }
    let linear = u64::from(packet.load::<u32>(&SKB_TAIL)).checked_sub(transport)?;
    let length = u64::from(u16::from_be(headers.length)).min(linear);
    let length = length.checked_sub(HEADERS)?.min(DNS_PAYLOAD as u64 - 1);
    let (family, local, server) = ends_of_sent(packet, head)?;
    let local_port = u16::from_be(headers.from);
    // SAFETY: a slot of this CPU, on which nothing else is sent meanwhile.
    let scratch = unsafe { &mut *DNS_SCRATCH.get_ptr_mut(0)? };
    let at = head + transport + HEADERS;
    question(scratch, at, length)?;
    let way = if to_port == PORT {
        way(local, local_port, server, PORT)
    } else {
        let (local, server) = addresses(socket, socket.load(&SOCK_FAMILY));
        way(local, socket.load(&SOCK_LOCAL_PORT), server, PORT)
    };
    let key = key(way, headers.id);
    let now_ns = now_ns();
    let pending = &mut scratch.pending;
    let device = packet.follow(&SKB_DEVICE).address();
    let known = DNS_PENDING.get_ptr_mut(key);
    if let Some(known) = known {
        // SAFETY: a slot of the map, of which the name never changes while the question waits.
        let known = unsafe { &mut *known };
        if is_same(&known.query, &pending.query) {
            if known.device == device {
                known.query.sendings += 1;
            }
            return None;
        }
    }
    let query = &mut pending.query;
    query.header = Header::of::<DnsQuery>(0, now_ns);
    query.task = asker(socket);
    query.flow = if connected {
        flow(socket)
    } else {
        Flow {
            local_address: bytes(local),
            peer_address: bytes(server),
            local_port,
            peer_port: to_port,
            family,
            protocol: UDP,
        }
    };
    query.inode = inode(socket);
    query.latency_ns = 0;
    query.sendings = 1;
    query.id = u16::from_be(headers.id);
    query.rcode = 0;
    query.answers = 0;
    query.outcome = ANSWERED;
    query.truncated = 0;
    pending.device = device;
    if known.is_some() {
        // Another question with the same id: the one before is not waited for any more.
        let _ = keep(key, pending, BPF_EXIST);
        return Some(());
    }
    // First, so that an answer that comes at once is looked at.
    add_outstanding(1);
    if keep(key, pending, BPF_NOEXIST).is_err() {
        add_outstanding(u64::MAX);
        count_lost(Kind::DnsQuery);
    }
    Some(())
}

#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, it would be copied to the stack, where there is no room"
)]
fn keep(key: u64, pending: &Pending, how: u32) -> Result<(), i32> {
    DNS_PENDING.insert(&key, pending, u64::from(how))
}

/// The ends of a packet that leaves, and of which family they are.
#[inline(always)]
fn ends_of_sent(packet: KernelPtr, head: u64) -> Option<(u16, Address, Address)> {
    let at = head + u64::from(packet.load::<u16>(&SKB_NETWORK));
    match u16::from_be(packet.load(&SKB_PROTOCOL)) {
        IPV4 => {
            let ip: Ipv4 = read(at)?;
            Some((AF_INET, v4(ip.from), v4(ip.to)))
        }
        IPV6 => {
            let ip: Ipv6 = read(at)?;
            Some((AF_INET6, ip.from, ip.to))
        }
        _ => None,
    }
}

/// Who asks: the current task, if the socket is of its cgroup; a packet can also leave in the context of somebody else.
#[inline(always)]
fn asker(socket: KernelPtr) -> Task {
    let cgroup_id = socket::cgroup_id(socket);
    let current = describe_current();
    if current.pid != 0 && (cgroup_id == 0 || cgroup_id == current.cgroup_id) {
        return current;
    }
    Task {
        pid: 0,
        tid: 0,
        start_time_ns: 0,
        cgroup_id,
        comm: [0; 16],
    }
}

/// Takes name and type of the first question of so many bytes.
#[inline(always)]
fn question(scratch: &mut DnsScratch, from: u64, length: u64) -> Option<()> {
    let payload = &raw mut scratch.payload;
    // SAFETY: no longer than the array; the helper checks the address.
    let failed = unsafe {
        generated::bpf_probe_read_kernel(
            payload.cast::<c_void>(),
            (length & (DNS_PAYLOAD as u64 - 1)) as u32,
            from as *const c_void,
        )
    };
    if failed != 0 {
        return None;
    }
    // Through memory, after which it is any number to the verifier: as one it follows, each label would be a case of its own.
    let place = &raw mut scratch.at;
    let (get, set) = (
        // SAFETY: a slot of this CPU, valid while the program runs.
        || unsafe { place.read_volatile() },
        // SAFETY: as above.
        |at| unsafe { place.write_volatile(at) },
    );
    set(0);
    let mut whole = false;
    for _ in 0..LABELS {
        let at = get();
        let label = byte(&scratch.payload, at as usize);
        if label == 0 {
            whole = true;
            break;
        }
        if label > LABEL_MAX {
            return None;
        }
        let next = at + 1 + u64::from(label);
        if next >= length {
            return None;
        }
        set(next);
    }
    let at = get() as usize;
    let query = &mut scratch.pending.query;
    query.qtype = if whole {
        u16::from_be_bytes([
            byte(&scratch.payload, at + 1),
            byte(&scratch.payload, at + 2),
        ])
    } else {
        0
    };
    let end = at + 1;
    let (from, to) = (
        words(payload.cast_const()),
        words(&raw const query.name).cast_mut(),
    );
    for number in 0..NAME_LEN / 8 {
        let kept = end.saturating_sub(number * 8);
        let mask = if kept >= 8 {
            u64::MAX
        } else {
            (1 << (kept * 8)) - 1
        };
        // SAFETY: both are longer than that and lie at a multiple of 8 bytes.
        unsafe {
            to.add(number)
                .write_volatile(from.add(number).read_volatile() & mask);
        }
    }
    Some(())
}

#[inline(always)]
fn byte(payload: &[u8; DNS_PAYLOAD], at: usize) -> u8 {
    // SAFETY: the mask keeps it in bounds, for the verifier too.
    unsafe { *payload.get_unchecked(core::hint::black_box(at) & (DNS_PAYLOAD - 1)) }
}

/// Whether it is the same question, sent again.
#[inline(always)]
fn is_same(one: &DnsQuery, other: &DnsQuery) -> bool {
    let (a, b) = (words(&raw const one.name), words(&raw const other.name));
    let mut differ = u64::from(one.qtype ^ other.qtype);
    for number in 0..NAME_LEN / 8 {
        // SAFETY: within the names, which lie at a multiple of 8 bytes.
        differ |= unsafe { a.add(number).read_volatile() ^ b.add(number).read_volatile() };
    }
    differ == 0
}

/// A packet came; perhaps the answer to a question.
#[inline(always)]
fn arrived(packet: KernelPtr) -> Option<()> {
    let data: u64 = packet.load(&SKB_DATA);
    let (behind, from, to) = match u16::from_be(packet.load(&SKB_PROTOCOL)) {
        IPV4 => {
            let ip: Ipv4 = read(data)?;
            // Only the first piece has the header of UDP.
            if u16::from(ip.protocol) != UDP || u16::from_be(ip.fragment) & 0x1fff != 0 {
                return None;
            }
            (u64::from(ip.length & 15) * 4, v4(ip.from), v4(ip.to))
        }
        IPV6 => {
            let ip: Ipv6 = read(data)?;
            let whole = size_of::<Ipv6>() as u64;
            if u16::from(ip.next) == UDP {
                (whole, ip.from, ip.to)
            } else if ip.next == FRAGMENT {
                let piece: Fragment = read(data + whole)?;
                if u16::from(piece.next) != UDP || u16::from_be(piece.offset) >> 3 != 0 {
                    return None;
                }
                (whole + size_of::<Fragment>() as u64, ip.from, ip.to)
            } else {
                return None;
            }
        }
        _ => return None,
    };
    let headers: Headers = read(data + behind)?;
    if u16::from_be(headers.from) != PORT {
        return None;
    }
    let linear = packet.load::<u32>(&SKB_LENGTH) - packet.load::<u32>(&SKB_PAGED);
    if u64::from(linear) < behind + HEADERS {
        if let Some(totals) = DNS_TOTALS.get_ptr_mut(0) {
            // SAFETY: a slot of this CPU, valid while the program runs.
            unsafe { (*totals).unreadable += 1 };
        }
        return None;
    }
    let flags = u16::from_be(headers.flags);
    if flags >> 15 == 0 {
        return None;
    }
    let way = way(to, u16::from_be(headers.to), from, PORT);
    answered(key(way, headers.id), flags, u16::from_be(headers.answers))
}

/// Takes the question out, and tells what came of it.
#[inline(always)]
fn answered(key: u64, flags: u16, answers: u16) -> Option<()> {
    let pending = DNS_PENDING.get_ptr(key)?.cast::<u64>();
    // SAFETY: a slot of this CPU, on which nothing else arrives meanwhile.
    let scratch = unsafe { &mut *DNS_SCRATCH.get_ptr_mut(1)? };
    copy(pending, (&raw mut scratch.pending).cast(), PENDING_WORDS);
    // Only one of several answers is the first.
    DNS_PENDING.remove(key).ok()?;
    add_outstanding(u64::MAX);
    let now_ns = now_ns();
    let query = &mut scratch.pending.query;
    query.latency_ns = now_ns.saturating_sub(query.header.time_ns);
    query.rcode = flags & 15;
    query.answers = answers;
    query.truncated = flags >> 9 & 1;
    query.outcome = if query.outcome == UNANSWERED {
        LATE
    } else {
        ANSWERED
    };
    if let Some(totals) = DNS_TOTALS.get_ptr_mut(0) {
        // SAFETY: a slot of this CPU, valid while the program runs; the masks keep the places in bounds, for the verifier too.
        unsafe {
            let totals = &mut *totals;
            *totals
                .latency
                .get_unchecked_mut(bucket(query.latency_ns) & (HISTOGRAM - 1)) += 1;
            *totals.rcodes.get_unchecked_mut(query.rcode as usize & 15) += 1;
            totals.latency_ns += query.latency_ns;
        }
    }
    let lane = if is_failure(query.rcode)
        && admitted(Kind::DnsQuery.number(), now_ns, URGENT_PER_SECOND)
    {
        Lane::Urgent
    } else {
        Lane::Bulk
    };
    if !has_share(Kind::DnsQuery, lane, &query.task, now_ns) {
        return None;
    }
    emit_in_place(lane, now_ns, |record: *mut DnsQuery, header| {
        copy(
            (&raw const *query).cast(),
            record.cast(),
            size_of::<DnsQuery>() / 8,
        );
        // SAFETY: room for one record, of which every byte was just written.
        unsafe { (&raw mut (*record).header).write(header) };
    });
    Some(())
}

/// The words of bytes that lie at a multiple of 8.
#[inline(always)]
const fn words<const N: usize>(bytes: *const [u8; N]) -> *const u64 {
    bytes.cast()
}

/// Copies so many words: as one copy, the compiler makes it a loop over bytes.
#[inline(always)]
fn copy(from: *const u64, to: *mut u64, words: usize) {
    for number in 0..words {
        // SAFETY: both are so long and lie at a multiple of 8 bytes, by the callers' types.
        unsafe {
            to.add(number)
                .write_volatile(from.add(number).read_volatile());
        }
    }
}
