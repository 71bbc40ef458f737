//! The kernel programs: a file per probe, of the same stem as in `monitor-common`, and what they share.
//!
//! A program is a thin attribute function around `try_x`, which reads its arguments and hands a record to [`emit`]. It reads
//! kernel structures by direct loads at offsets that userspace injects ([`offsets`]); the verifier checks each of them.
//! Built for the BPF target only: `cargo xtask build`.
#![no_std]
#![no_main]

mod emit;
mod maps;
mod offsets;
mod probes;
mod settings;
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
