//! Wiring, supervision, shutdown: the one place that sees every stage. Nothing imports it but the command line.
//!
//! Threads: `hot` (rings, core, strikes; never waits for anything slow), `sampler`, a few `hand`s that carry out what may wait,
//! `journal` (forces entries to the disk), `recorder` while signals are recorded, and the main thread with tokio (API, checks, signals). Everything reaches the core through the
//! inbox, which blocks its senders rather than lose anything.

mod budget;
mod checking;
mod daemon;
mod diagnosing;
mod exported;
mod folders;
mod guarding;
mod half_done;
mod hands;
mod hot;
mod inbox;
mod kernel_view;
mod knowing;
mod live_host;
mod logs;
mod observing;
mod once;
mod options;
mod people;
mod recording;
mod releases;
mod sampling;
mod settings;
mod start;
mod starting;
mod teller;
mod watched;

pub use options::{DaemonError, Options};
pub use start::run;
