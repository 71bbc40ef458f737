//! What a host has that actions need: read once by `host::abilities`, judged by the actions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::action::Risk;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Effective capabilities of the daemon, a bit each (`CapEff` of `/proc/self/status`).
    pub capabilities: u64,
    /// Version of the kernel: 6.12 is `(6, 12)`.
    pub kernel: (u32, u32),
    /// Where cgroup v2 is mounted.
    pub cgroup2: Option<PathBuf>,
    /// Controllers that cgroup v2 has.
    pub controllers2: BTreeSet<String>,
    /// Controllers that cgroup v1 has.
    pub controllers1: BTreeSet<String>,
    /// Programs that were looked for and found: their names.
    pub programs: BTreeSet<String>,
}

/// An action, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRow {
    /// Its name.
    pub name: String,
    /// What it does, in one line.
    pub summary: String,
    /// How much it can destroy.
    pub risk: Risk,
    /// What it can be done to: `service`, `process`, `folder`, `network`.
    pub on: Vec<String>,
    /// Whether what it does can be undone.
    pub reversible: bool,
    /// The rights and tools that it needs, in words.
    pub needs: String,
    /// Why this host cannot do it, and what to do about that; none when it can.
    pub unable: Option<String>,
}

/// Programs that actions may need, looked for in `PATH`.
pub const PROGRAMS: &[&str] = &["git", "docker", "podman", "systemctl", "resolvectl"];

/// Number of a capability (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(pub u32, pub &'static str);

/// Signals to anybody's processes.
pub const KILL: Capability = Capability(5, "CAP_KILL");
/// Links, addresses, routes; the end of anybody's connections.
pub const NET_ADMIN: Capability = Capability(12, "CAP_NET_ADMIN");
/// Limits of cgroups, mounts, and much else.
pub const SYS_ADMIN: Capability = Capability(21, "CAP_SYS_ADMIN");
/// Lower nice values, and anybody's priority.
pub const SYS_NICE: Capability = Capability(23, "CAP_SYS_NICE");
/// A lower `oom_score_adj`.
pub const SYS_RESOURCE: Capability = Capability(24, "CAP_SYS_RESOURCE");

impl Abilities {
    /// Whether the daemon has this capability; the error says what to do.
    pub fn has(&self, capability: Capability) -> Result<(), String> {
        let Capability(number, name) = capability;
        if self.capabilities & (1_u64 << number.min(63)) == 0 {
            return Err(format!(
                "{name} is missing: run as root, or add it to CapabilityBoundingSet= and AmbientCapabilities= of the unit"
            ));
        }
        Ok(())
    }

    /// Whether a program is there; the error says what to do.
    pub fn has_program(&self, name: &str) -> Result<(), String> {
        if self.programs.contains(name) {
            return Ok(());
        }
        Err(format!("there is no `{name}` in PATH: install it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let mut abilities = Abilities::default();
        let missing = abilities.has(NET_ADMIN).expect_err("it has none");
        assert!(missing.starts_with("CAP_NET_ADMIN is missing"), "{missing}");
        abilities.capabilities = 1 << 12;
        assert_eq!(abilities.has(NET_ADMIN), Ok(()));
        assert!(abilities.has(KILL).is_err());
        assert!(abilities.has_program("git").is_err());
        abilities.programs.insert("git".to_owned());
        assert_eq!(abilities.has_program("git"), Ok(()));
    }
}
