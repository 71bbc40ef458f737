//! What the loader must know of a probe, stated beside the event it emits.

use crate::offsets::Offset;

/// A probe: one or more kernel programs and the event (or snapshot) they produce.
#[derive(Debug)]
pub struct ProbeSpec {
    /// File stem, configuration key and metric label, all at once.
    pub name: &'static str,
    /// What it sees, in one line, for `doctor` and the reference.
    pub summary: &'static str,
    /// When its programs are attached.
    pub mode: Mode,
    /// All of them must attach for the probe to be on, but those at an [`Attach::IfThere`] that is not there.
    pub programs: &'static [ProgramSpec],
    /// Structure members it cannot do without: one that this kernel lacks turns the probe off.
    pub offsets: &'static [&'static [Offset]],
    /// Structure members that only add to its event; missing ones read as 0.
    pub optional: &'static [&'static [Offset]],
}

impl ProbeSpec {
    /// The members it cannot do without, one by one.
    pub fn required(&self) -> impl Iterator<Item = &'static Offset> {
        self.offsets.iter().copied().flatten()
    }
}

/// When a probe's programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From start to end: what acts rest on, at next to no cost.
    Essential,
    /// From start to end, unless the programs cost more than their budget: then the costliest of these goes first.
    Optional,
    /// While a cgroup is watched, unless the programs cost more than their budget, as above.
    Watched,
    /// While somebody asks for it.
    Demand,
    /// By the benchmarks only.
    Bench,
}

/// One kernel program and where it is attached.
#[derive(Debug)]
pub struct ProgramSpec {
    /// Its function name in `monitor-ebpf`.
    pub name: &'static str,
    /// Where it attaches.
    pub attach: Attach,
}

/// Kinds of hook that need no kprobes and no function tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A raw tracepoint with BTF-typed arguments (since 5.5).
    BtfTracepoint {
        /// Its name; of several with `|` between them, the first that the kernel has.
        name: &'static str,
        /// Structure that the first argument must point to, where kernels differ in it; empty when they do not.
        first_argument: &'static str,
        /// How many arguments it must hand over, where kernels differ in that; 0 when they do not.
        arguments: usize,
    },
    /// Such a tracepoint of this name where the kernel has it; elsewhere the probe goes without the program.
    IfThere(&'static str),
    /// The task iterator (since 5.8).
    TaskIterator,
}

impl Attach {
    /// A tracepoint whose arguments are the same in every kernel that has it.
    pub const fn tracepoint(name: &'static str) -> Self {
        Self::BtfTracepoint {
            name,
            first_argument: "",
            arguments: 0,
        }
    }
}
