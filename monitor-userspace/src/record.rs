//! What is written down: the audit journal (who did what, why, and what came of it), and recordings of signals for replay.

pub mod journal;
pub mod recorder;
pub mod recording;
pub mod recovery;

pub use journal::{Entry, Journal, JournalError};
