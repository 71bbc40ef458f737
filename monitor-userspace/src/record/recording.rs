//! The file format of recordings: signals with their times, in blocks that are compressed and checked one by one.
//!
//! A file begins with [`MAGIC`], the number of the format, the [`layout`] of kernel records, and a [`Header`] in JSON with its length
//! and checksum. Then come blocks of some 64 KiB before compression (`block`), each of which can be read without the others.
//! Kernel events stand in them as the kernel's own bytes, everything else as JSON (`entry`). The last block holds [`Note::End`];
//! a file without it was cut short. Leaves out threads and times of writing: see `recorder`.

mod block;
mod entry;
mod reader;
mod writer;

use std::path::PathBuf;

use monitor_common::Kind;
use serde::{Deserialize, Serialize};

use crate::model::{IncidentId, Signal, Subject, Time};

pub use reader::{Ending, ReadError, Reader};
pub use writer::{Totals, Writer, create};

/// First bytes of a recording. No text begins so, and a transfer that changes line ends destroys it visibly.
pub const MAGIC: [u8; 8] = *b"\x89SMREC\r\n";

/// Number of the format.
const FORMAT: u16 = 1;

/// Largest header that is read, bytes: a configuration and a little more.
const HEADER: usize = 16 << 20;

/// What a replay must know besides the signals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version that recorded.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`: times of another boot mean something else.
    pub boot: String,
    /// Name of the host.
    pub host: String,
    /// `CLOCK_MONOTONIC` at the beginning, nanoseconds.
    pub monotonic_ns: i64,
    /// `CLOCK_REALTIME` at the same moment, nanoseconds since 1970.
    pub unix_ns: i64,
    /// The number that the next incident gets.
    pub next: IncidentId,
    /// What the core was built from.
    pub in_force: InForce,
}

/// What the core was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Text of the configuration; none for the defaults, and for recordings that do not carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Where that text stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// `--dry-run` was given.
    #[serde(default)]
    pub dry_run: bool,
    /// The daemon and its ancestors.
    #[serde(default)]
    pub protected_pids: Vec<u32>,
    /// Probes that were off, and why.
    #[serde(default)]
    pub probes_off: Vec<(Kind, String)>,
}

/// A recorded signal, as a line of JSON. Recordings were files of such lines once, and [`Reader`] still reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it happened.
    pub at: Time,
    /// When it arrived at the core.
    pub now: Time,
    /// What it was.
    #[serde(flatten)]
    pub signal: Signal,
}

/// One thing in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When it happened.
    pub at: Time,
    /// When it arrived at the core.
    pub now: Time,
    /// What it was.
    pub what: What,
}

/// See [`Entry`].
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "kernel events are the most frequent: a box for each would be an allocation on the hot path"
)]
pub enum What {
    /// The core was given this.
    Signal(Signal),
    /// Something else that a replay must know.
    Note(Box<Note>),
}

/// What a replay must know between signals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// Here, entries are missing: there was no room for them.
    Lost {
        /// How many.
        entries: u64,
    },
    /// From here on, the core goes by this.
    InForce {
        /// By what.
        in_force: Box<InForce>,
    },
    /// What an incident is about. Comes before anything that speaks of it by its number.
    Incident {
        /// Its number.
        incident: IncidentId,
        /// The detector that raised it.
        detector: String,
        /// What it is about.
        subject: Subject,
    },
    /// An action was ordered; its effect is a signal.
    Act {
        /// The incident it is for.
        incident: IncidentId,
        /// Its name.
        action: String,
    },
    /// Nothing may act from here on, or may again.
    Halt {
        /// Why; none when it may again.
        reason: Option<String>,
    },
    /// The end. Nothing comes after it.
    End {
        /// Signals that were written.
        signals: u64,
        /// Entries that were not.
        lost: u64,
    },
}

/// A number that changes when any kernel record does: of the number, name and size of each, the version, and the byte order.
pub const fn layout() -> u64 {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, env!("CARGO_PKG_VERSION").as_bytes());
    hash = fnv(hash, &0x0102_u16.to_ne_bytes());
    let mut kinds = Kind::ALL;
    while let [kind, rest @ ..] = kinds {
        hash = fnv(hash, &kind.number().to_le_bytes());
        hash = fnv(hash, &(kind.size() as u64).to_le_bytes());
        hash = fnv(hash, kind.name().as_bytes());
        kinds = rest;
    }
    hash
}

/// FNV-1a.
const fn fnv(mut hash: u64, mut bytes: &[u8]) -> u64 {
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u64).wrapping_mul(0x0100_0000_01b3);
        bytes = rest;
    }
    hash
}

#[cfg(test)]
mod tests;
