//! What the loader must know of a probe, stated beside the event it emits.

/// A probe: one or more kernel programs and the event (or snapshot) they produce.
#[derive(Debug)]
pub struct ProbeSpec {
    /// File stem, configuration key and metric label, all at once.
    pub name: &'static str,
    /// What it sees, in one line, for `doctor` and the reference.
    pub summary: &'static str,
    /// All of them must attach for the probe to be on.
    pub programs: &'static [ProgramSpec],
    /// Structure members whose offsets are injected before loading; one that this kernel lacks turns the probe off.
    pub offsets: &'static [&'static str],
}

/// One kernel program and where it may be attached, best first.
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
    BtfTracepoint(&'static str),
    /// The task iterator (since 5.8).
    TaskIterator,
}
