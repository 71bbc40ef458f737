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
}

impl Permit {
    pub(in crate::policy) const fn new(
        incident: IncidentId,
        action: &'static str,
        plan: Plan,
        granted: Time,
    ) -> Self {
        Self {
            incident,
            action,
            plan,
            granted,
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

    /// When it was granted.
    pub const fn granted(&self) -> Time {
        self.granted
    }
}
