//! A packet was thrown away: counted by reason, noted for the connection it belonged to, and told of if something is wrong.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::probes::packet_drop::{
    NOTED_PER_SECOND, PER_SECOND, PacketDrop, REASONS, SUBSYSTEM,
};
use monitor_common::{DropClass, Kind};

use crate::emit::{Lane, count, emit, has_share, now_ns};
use crate::maps::{DROP_EVENTS, DROP_REASONS, DROPPED, DROPS_NOTED, Dropped};
use crate::offsets::{KernelPtr, SKB_LENGTH};
use crate::packet::{Packet, interface, is_outgoing, owner, socket};
use crate::settings::{DROP_ARGUMENTS, drop_class, refuse_if_asked};

/// `kfree_skb(skb, location, reason)`, since 6.11 also `rx_sk`
#[btf_tracepoint(function = "kfree_skb")]
fn packet_drop(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::PacketDrop);
    let reason = ctx.arg::<u32>(2).min(u32::from(SUBSYSTEM));
    if let Some(number) = DROP_REASONS.get_ptr_mut(reason) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        unsafe { *number += 1 };
    }
    let class = drop_class(reason as usize & (REASONS - 1));
    if class != DropClass::Unknown as u16 {
        thrown_away(&ctx, reason, class);
    }
    0
}

#[inline(always)]
fn thrown_away(ctx: &BtfTracePointContext, reason: u32, class: u16) {
    let now_ns = now_ns();
    let skb = KernelPtr::new(ctx.arg(0));
    let packet = Packet::read(skb);
    let harmless = (class == DropClass::NoListener as u16 && !packet.asks())
        || (class == DropClass::NoRoute as u16 && !packet.is_addressed());
    if harmless {
        return;
    }
    if packet.family != 0 && class != DropClass::Protocol as u16 {
        note(&packet, class, now_ns);
    }
    let passes = DROP_EVENTS
        .get_ptr_mut(u32::from(class))
        // SAFETY: a slot of this CPU, valid while the program runs.
        .is_some_and(|limit| unsafe { (*limit).admit(now_ns, PER_SECOND) });
    if !passes {
        count(Kind::PacketDrop, |counters| counters.suppressed += 1);
        return;
    }
    let refused_by = if DROP_ARGUMENTS.load() >= 4 {
        KernelPtr::new(ctx.arg(3))
    } else {
        KernelPtr::new(core::ptr::null())
    };
    let (task, inode) = owner(socket(skb, refused_by));
    if !has_share(Kind::PacketDrop, Lane::Bulk, &task, now_ns) {
        return;
    }
    let outgoing = is_outgoing(skb);
    emit(Lane::Bulk, now_ns, |header| PacketDrop {
        header,
        task,
        flow: packet.flow(outgoing),
        inode,
        length: skb.load(&SKB_LENGTH),
        interface: interface(skb),
        reason: reason as u16,
        class,
        tcp_flags: packet.tcp_flags,
        outgoing: u16::from(outgoing),
    });
}

/// Leaves word for whoever asks what became of the packets between these ends. What fits no state of a connection is not noted: it would
/// hide why the connection got there.
#[inline(always)]
fn note(packet: &Packet, class: u16, now_ns: u64) {
    let way = packet.way();
    if let Some(before) = DROPPED.get_ptr_mut(way) {
        // SAFETY: two CPUs that write at once lose one of the counts, and both tell the truth.
        let before = unsafe { &mut *before };
        before.at_ns = now_ns;
        before.class = u32::from(class);
        before.count += 1;
        return;
    }
    let passes = DROPS_NOTED
        .get_ptr_mut(0)
        // SAFETY: a slot of this CPU, valid while the program runs.
        .is_some_and(|limit| unsafe { (*limit).admit(now_ns, NOTED_PER_SECOND) });
    if passes {
        let first = Dropped {
            at_ns: now_ns,
            class: u32::from(class),
            count: 1,
        };
        // No room: a connection that failed for it will not know why.
        let _ = DROPPED.insert(way, first, u64::from(BPF_ANY));
    }
}
