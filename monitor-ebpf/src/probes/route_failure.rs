//! No route leads where a task wants to send. Nearly every look-up finds one, and then a comparison is all that is done.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::flow::{AF_INET, AF_INET6, TCP};
use monitor_common::probes::route_failure::{
    ENETUNREACH, RouteFailure, URGENT_PER_SECOND, error_of_type, has_ports,
};
use monitor_common::{Flow, Kind};

use crate::emit::{Lane, admitted, emit, has_share, now_ns};
use crate::offsets::{
    KernelPtr, NAMESPACES_NET, NET_V4_DEFAULT_TABLE, NET_V4_RULES, NET_V6_NULL_ROUTE, NET_V6_RULES,
    REGISTERS_SYSCALL, ROUTE_KEY_IN, ROUTE_KEY_OUT, ROUTE_KEY_PROTOCOL, ROUTE_KEY_V4_FROM,
    ROUTE_KEY_V4_PORTS, ROUTE_KEY_V4_TO, ROUTE_KEY_V6_FROM, ROUTE_KEY_V6_PORTS, ROUTE_KEY_V6_TO,
    ROUTE_TABLE_V6_ID, ROUTE_V6_FLAGS, ROUTE_V6_FOUND, ROUTE_V6_TYPE, RULE_ACTION, RULE_TABLE,
    RULES_LIST, TASK_NAMESPACES, known,
};
use crate::settings::{SENDING_CALLS, refuse_if_asked};
use crate::socket::{Address, bytes};
use crate::task::describe_current;

/// As the interface a packet comes from: none, it is made here (`LOOPBACK_IFINDEX`).
const MADE_HERE: i32 = 1;
/// The result of a table without an answer.
const EAGAIN: i32 = -11;
/// `RTF_REJECT` of IPv6: not a route to send by
const REJECT: u32 = 0x200;
/// `RT_TABLE_DEFAULT` and `RT_TABLE_MAIN`
const DEFAULT: u32 = 253;
const MAIN: u32 = 254;
/// `FR_ACT_TO_TBL`: a rule that asks a table
const ASKS: u8 = 1;
/// A rule begins with its place in the list: a pointer to the next one, and one back.
const BACK: u64 = 8;
/// Rules that are looked at, from the last one on.
const RULES: u32 = 24;

/// `fib_table_lookup(tb_id, flp, nhc, err)`
#[btf_tracepoint(function = "fib_table_lookup")]
fn route_failure_v4(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::RouteFailure);
    let error: i32 = ctx.arg(3);
    if error == 0 {
        return 0;
    }
    let key = KernelPtr::new(ctx.arg(1));
    // A socket bound to an interface sends through it, also where no route leads.
    if key.load::<i32>(&ROUTE_KEY_OUT) != 0 {
        return 0;
    }
    let [peer_port, local_port] = ports(key, &ROUTE_KEY_V4_PORTS);
    let Some(protocol) = sends(key, local_port) else {
        return 0;
    };
    let table: u32 = ctx.arg(0);
    let error = if error == EAGAIN {
        if !is_last_v4(table) {
            return 0;
        }
        ENETUNREACH
    } else {
        error.unsigned_abs()
    };
    failed(key, protocol, error, table, || Flow {
        local_address: bytes([key.load(&ROUTE_KEY_V4_FROM), 0, 0, 0]),
        peer_address: bytes([key.load(&ROUTE_KEY_V4_TO), 0, 0, 0]),
        local_port: if has_ports(protocol) { local_port } else { 0 },
        peer_port: if has_ports(protocol) { peer_port } else { 0 },
        family: AF_INET,
        protocol,
    });
    0
}

/// `fib6_table_lookup(net, res, table, flp)`
#[btf_tracepoint(function = "fib6_table_lookup")]
fn route_failure_v6(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::RouteFailure);
    let found = KernelPtr::new(ctx.arg(1));
    if found.load::<u32>(&ROUTE_V6_FLAGS) & REJECT == 0 {
        return 0;
    }
    let key = KernelPtr::new(ctx.arg(3));
    let from: Address = [0, 4, 8, 12].map(|past| key.load_past(&ROUTE_KEY_V6_FROM, past));
    // Without a source address the kernel looks for one first, and asks again with it.
    if from == [0; 4] {
        return 0;
    }
    let [peer_port, local_port] = ports(key, &ROUTE_KEY_V6_PORTS);
    let Some(protocol) = sends(key, local_port) else {
        return 0;
    };
    let net = KernelPtr::new(ctx.arg(0));
    let table: u32 = KernelPtr::new(ctx.arg(2)).load(&ROUTE_TABLE_V6_ID);
    let null: u64 = net.load(&NET_V6_NULL_ROUTE);
    let error = match error_of_type(found.load(&ROUTE_V6_TYPE)) {
        error if error != 0 && found.load::<u64>(&ROUTE_V6_FOUND) != null => error,
        _ if is_last_v6(net, table) => ENETUNREACH,
        _ => return 0,
    };
    failed(key, protocol, error, table, || Flow {
        local_address: bytes(from),
        peer_address: bytes([0, 4, 8, 12].map(|past| key.load_past(&ROUTE_KEY_V6_TO, past))),
        local_port: if has_ports(protocol) { local_port } else { 0 },
        peer_port: if has_ports(protocol) { peer_port } else { 0 },
        family: AF_INET6,
        protocol,
    });
    0
}

/// The peer's port and the local one. Two loads, since older verifiers let none go across two members.
#[inline(always)]
fn ports(key: KernelPtr, offset: &Global<u32>) -> [u16; 2] {
    [0, 2].map(|past| u16::from_be(key.load_past(offset, past)))
}

/// The protocol, if the current task wants to send something. Many look-ups are made for a packet that came, by whoever was interrupted.
#[inline(always)]
fn sends(key: KernelPtr, local_port: u16) -> Option<u16> {
    // Look-ups without a protocol check where a packet came from.
    let protocol = u16::from(key.load::<u8>(&ROUTE_KEY_PROTOCOL));
    if protocol == 0 || key.load::<i32>(&ROUTE_KEY_IN) != MADE_HERE {
        return None;
    }
    // Only a connection that is asked for has no local port yet.
    if protocol == TCP && local_port == 0 {
        return Some(protocol);
    }
    if !known([&REGISTERS_SYSCALL]) {
        return None;
    }
    // SAFETY: the helpers hand over the current task and its registers.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) };
    let call: u32 = KernelPtr::new(registers as *const u8).load(&REGISTERS_SYSCALL);
    let sending = SENDING_CALLS.load();
    sending.contains(&call).then_some(protocol)
}

/// Whether no other table of IPv4 is asked after this one.
#[inline(always)]
fn is_last_v4(table: u32) -> bool {
    if !known([
        &TASK_NAMESPACES,
        &NAMESPACES_NET,
        &NET_V4_RULES,
        &NET_V4_DEFAULT_TABLE,
    ]) {
        return table == MAIN;
    }
    // SAFETY: the helper takes nothing and returns an address.
    let task = KernelPtr::new(unsafe { bpf_get_current_task() } as *const u8);
    let net = task
        .follow_checked(&TASK_NAMESPACES, 0)
        .follow_checked(&NAMESPACES_NET, 0);
    let no_default = net.follow_checked(&NET_V4_DEFAULT_TABLE, 0).is_null();
    is_last(net.follow_checked(&NET_V4_RULES, 0), table, no_default)
}

/// Whether no other table of IPv6 is asked after this one.
#[inline(always)]
fn is_last_v6(net: KernelPtr, table: u32) -> bool {
    if !known([&NET_V6_RULES]) {
        return table == MAIN;
    }
    is_last(net.follow_checked(&NET_V6_RULES, 0), table, false)
}

/// Whether the last of these rules asks the table, and no rule before it does too: otherwise it is not known which of them it was.
#[inline(always)]
fn is_last(rules: KernelPtr, table: u32, no_default: bool) -> bool {
    if rules.is_null() || !known([&RULES_LIST, &RULE_TABLE, &RULE_ACTION]) {
        return table == MAIN;
    }
    let end = rules.address() + u64::from(RULES_LIST.load());
    let mut rule: u64 = peek(end + BACK);
    // The rule that asks a table which nobody has made.
    if no_default && peek::<u32>(rule + u64::from(RULE_TABLE.load())) == DEFAULT {
        rule = peek(rule + BACK);
    }
    let does: u8 = peek(rule + u64::from(RULE_ACTION.load()));
    let asks: u32 = peek(rule + u64::from(RULE_TABLE.load()));
    if does != ASKS || asks != table {
        return false;
    }
    for _ in 0..RULES {
        rule = peek(rule + BACK);
        if rule == end {
            break;
        }
        let asks: u32 = peek(rule + u64::from(RULE_TABLE.load()));
        if asks == table {
            return false;
        }
    }
    true
}

/// What lies at an address of the kernel's; 0 when nothing does, as the helper leaves it. Without a branch, since each would double what
/// the verifier has to walk through.
#[inline(always)]
fn peek<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: room for one value; the helper checks the address.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
    }
    value
}

#[inline(always)]
fn failed(key: KernelPtr, protocol: u16, error: u32, table: u32, flow: impl FnOnce() -> Flow) {
    let who = describe_current();
    let now_ns = now_ns();
    let urgent =
        protocol == TCP && admitted(Kind::RouteFailure.number(), now_ns, URGENT_PER_SECOND);
    let lane = if urgent { Lane::Urgent } else { Lane::Bulk };
    if !has_share(Kind::RouteFailure, lane, &who, now_ns) {
        return;
    }
    emit(lane, now_ns, |header| RouteFailure {
        header,
        task: who,
        flow: flow(),
        error,
        table,
        interface: key.load(&ROUTE_KEY_OUT),
        padding: 0,
    });
}
