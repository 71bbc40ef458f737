//! A test, as it is meant: every name is known to exist.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use monitor_common::Kind;

use crate::model::{CheckFailure, HostLoad, Outcome, ServiceState, Severity, State, Subject};

/// One test.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    /// The wall clock at its begin, nanoseconds since 1970.
    pub(super) start: i64,
    /// How long the machine has been up then.
    pub(super) uptime: Duration,
    pub(super) effects: Becomes,
    /// In place of the configuration's.
    pub(super) dry_run: Option<bool>,
    pub(super) steps: Vec<Step>,
    /// How many acts there are in all, and where that is written.
    pub(super) acts: Option<(u32, Range<usize>)>,
}

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// Since the begin of the test.
    pub(super) at: Duration,
    /// Where it is written.
    pub(super) span: Range<usize>,
    pub(super) what: What,
    /// What becomes of acts from here on.
    pub(super) effects: Option<Becomes>,
}

#[derive(Debug)]
pub(super) enum What {
    Input(Input),
    Expect(Expect),
    /// Nothing but a change of what becomes of acts.
    Effects,
}

/// What becomes of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// It is carried out.
    Done,
    /// It cannot be carried out.
    Failed,
    /// Its target is another by then.
    Refused,
    /// Nobody ever hears of it again.
    Nothing,
}

impl Becomes {
    /// As they are written.
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("done", Self::Done),
        ("failed", Self::Failed),
        ("refused", Self::Refused),
        ("none", Self::Nothing),
    ];
}

/// What a step is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// A service of the configuration.
    Service(String),
    /// A made-up process of a `[[process]]` entry: the entry, and the process's name.
    Entry(String, String),
    /// The host, a peer, a device.
    Other(Subject),
}

impl On {
    /// Whether an incident with this subject is meant.
    pub(super) fn is(&self, subject: &Subject) -> bool {
        match self {
            Self::Service(name) => {
                matches!(subject, Subject::Service { name: other } if other == name)
            }
            Self::Entry(entry, _) => {
                matches!(subject, Subject::Process { group: Some(group), .. } if group == entry)
            }
            Self::Other(other) => other == subject,
        }
    }
}

impl std::fmt::Display for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) | Self::Entry(name, _) => f.write_str(name),
            Self::Other(subject) => subject.fmt(f),
        }
    }
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Approve,
    Reject,
    Acknowledge,
}

#[derive(Debug)]
pub(super) enum Input {
    Started(String),
    /// With a wait status.
    Exited(String, u32),
    StartFailed(String, String),
    Raised {
        detector: String,
        on: On,
        severity: Severity,
        facts: BTreeMap<String, String>,
    },
    Cleared {
        detector: String,
        on: On,
        because: String,
    },
    Check {
        service: String,
        /// Which of its checks: none is the first that shows that it serves.
        check: String,
        failure: Option<CheckFailure>,
        latency: Duration,
    },
    Load(HostLoad),
    Lost(Kind, u64),
    /// Nanoseconds since 1970.
    Clock(i64),
    Word {
        word: Word,
        on: On,
        detector: Option<String>,
        by: String,
    },
    /// A person wants it done.
    Asked {
        action: String,
        on: On,
        rule: Option<String>,
        by: String,
    },
    /// A person wants what is in force changed back.
    Lifted {
        on: On,
        detector: Option<String>,
        by: String,
    },
    Silence {
        on: String,
        time: Duration,
        detector: Option<String>,
        by: String,
        reason: String,
    },
    /// What for, and who asks.
    Unsilence(String, String),
}

#[derive(Debug)]
pub(super) enum Expect {
    Act {
        on: Option<On>,
        action: Option<String>,
        rule: Option<String>,
        detector: Option<String>,
        undo: bool,
    },
    Refused {
        on: On,
        guard: Option<String>,
        detector: Option<String>,
    },
    Proposed {
        on: On,
        action: Option<String>,
        detector: Option<String>,
    },
    /// No act besides those that steps before expected.
    Nothing { on: Option<On> },
    Incident {
        on: On,
        detector: Option<String>,
        state: Option<State>,
        outcome: Option<Outcome>,
        severity: Option<Severity>,
    },
    Service {
        service: String,
        state: ServiceState,
    },
}
