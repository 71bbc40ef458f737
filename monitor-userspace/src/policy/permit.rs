//! Proof that policy allowed exactly this plan for exactly this incident.
//!
//! Its fields are private and it is not `Clone`: only `policy` can make one, and an execution uses it up.
//!
//! ```compile_fail,E0451
//! use smart_monitor::model::{IncidentId, Plan, Time};
//! use smart_monitor::policy::Permit;
//! fn forge(incident: IncidentId, plan: Plan, granted: Time) -> Permit {
//!     Permit { incident, action: "kill_process", plan, granted }
//! }
//! ```
//!
//! ```compile_fail,E0599
//! use smart_monitor::policy::Permit;
//! fn twice(permit: &Permit) -> Permit {
//!     Permit::clone(permit)
//! }
//! ```

use crate::model::{IncidentId, Plan, Time};

/// See the module.
#[derive(Debug)]
pub struct Permit {
    incident: IncidentId,
    action: &'static str,
    plan: Plan,
    granted: Time,
    grounds: Grounds,
}

/// On whose word a permit was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// The `[[remedy]]`.
    pub rule: String,
    /// The person who was asked.
    pub by: Option<String>,
    /// It changes back what an action before it changed.
    pub undo: bool,
}

impl Permit {
    pub(in crate::policy) const fn new(
        incident: IncidentId,
        action: &'static str,
        plan: Plan,
        granted: Time,
        grounds: Grounds,
    ) -> Self {
        Self {
            incident,
            action,
            plan,
            granted,
            grounds,
        }
    }

    /// The incident it was granted for.
    pub const fn incident(&self) -> IncidentId {
        self.incident
    }

    /// The action it allows.
    pub const fn action(&self) -> &'static str {
        self.action
    }

    /// What exactly it allows.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// On whose word.
    pub const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// When it was granted.
    pub const fn granted(&self) -> Time {
        self.granted
    }
}
