//! `kind = "none"`: what nobody on this host runs. Its checks alone say how it is, and nothing can be done to it.

use super::Spec;
use crate::model::service::NONE;

/// See the module.
pub const SPEC: Spec = Spec {
    name: NONE,
    summary: "nobody on this host runs it: it is only checked",
    read: None,
    source: None,
    discover: None,
};
