//! From a configuration to what the core is built from.

use monitor_common::Kind;

use crate::config::Config;
use crate::engine::Settings;
use crate::kernel::{ProbeState, ProbeStatus};

/// Probes that are off, and why.
pub(super) fn probes_off(probes: &[ProbeStatus]) -> Vec<(Kind, String)> {
    let off = probes.iter().filter_map(|probe| match &probe.state {
        ProbeState::On { .. } => None,
        ProbeState::Off { reason, .. } => Some((probe.kind, reason.clone())),
    });
    off.collect()
}

pub(super) fn settings(
    config: &Config,
    dry_run: bool,
    protected_pids: &[u32],
    probes_off: &[(Kind, String)],
) -> Settings {
    let mut policy = config.policy.clone();
    policy.dry_run |= dry_run;
    Settings {
        detectors: config.detectors.clone(),
        policy,
        remedies: config.remedies.clone(),
        conditions: config.conditions.clone(),
        services: config.services.clone(),
        named: config.named.clone(),
        groups: config.groups.clone(),
        protected_pids: protected_pids.to_vec(),
        probes_off: probes_off.to_vec(),
    }
}
