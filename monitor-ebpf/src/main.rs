//! The kernel programs: a file per probe, of the same stem as in `monitor-common`, and what they share.
//!
//! A program is a thin attribute function around `try_x`, which reads its arguments and hands a record to [`emit`]. It reads
//! kernel structures by direct loads at offsets that userspace injects ([`offsets`]); the verifier checks each of them.
//! Built for the BPF target only: `cargo xtask build`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "adding at once what several CPUs add to has no other name for this target"
)]
#![expect(
    clippy::inline_always,
    reason = "the verifier knows what a pointer is only within one function"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the attribute macros hand the context over by value"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of CPUs, sizes of records and halves of pid_tgid fit, and a check that can fail does not load"
)]

mod emit;
mod maps;
mod offsets;
mod packet;
mod probes;
mod settings;
mod socket;
mod task;

/// The helpers used need a licence that the kernel counts as compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so that a reachable panic does not load.
    loop {}
}
