//! What both sides of the kernel boundary share: events and their layout, per-probe specifications, and the pure
//! decisions (thresholds, buckets, classification) that are tested on the host and run in the kernel.
//!
//! Consumes nothing, emits nothing, does no I/O, allocates nothing. Leaf of the workspace.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "serde")]
mod bytes;
pub mod counters;
pub mod drops;
pub mod event;
pub mod flow;
pub mod offsets;
pub mod probes;
pub mod spec;

pub use drops::DropClass;
pub use event::{Header, Task};
pub use flow::Flow;
pub use probes::{Event, Kind};
