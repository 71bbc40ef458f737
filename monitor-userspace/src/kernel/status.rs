//! What a probe can do on this kernel, in words for a person.

use monitor_common::Kind;

/// A probe, on or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Which.
    pub kind: Kind,
    /// On, or off and why.
    pub state: ProbeState,
    /// Members (`structure.member`) that this kernel lacks and that only make the events poorer: they read as 0.
    pub without: Vec<String>,
}

/// On, or off and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// Its programs run.
    On {
        /// Where they are attached.
        attached: String,
    },
    /// It sees nothing.
    Off {
        /// Why.
        reason: String,
        /// What to do about it.
        fix: String,
    },
}

impl ProbeState {
    pub(super) fn off(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Off {
            reason: reason.into(),
            fix: fix.into(),
        }
    }

    /// Whether its programs run.
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}
