//! From the configuration in force to what the core is built from, and to what a recording must carry to build it again.

use monitor_common::Kind;

use crate::config::Config;
use crate::engine::Settings;
use crate::kernel::{ProbeState, ProbeStatus};
use crate::record::recording::InForce;

/// Probes that are off, and why.
pub(super) fn probes_off(probes: &[ProbeStatus]) -> Vec<(Kind, String)> {
    let off = probes.iter().filter_map(|probe| match &probe.state {
        ProbeState::On { .. } => None,
        ProbeState::Off { reason, .. } => Some((probe.kind, reason.clone())),
    });
    off.collect()
}

/// Both, so that they cannot differ.
pub(super) fn settings(
    config: &Config,
    dry_run: bool,
    protected_pids: &[u32],
    probes_off: &[(Kind, String)],
) -> (Settings, InForce) {
    let in_force = InForce {
        config: config.text.clone(),
        file: config.file.clone(),
        dry_run,
        protected_pids: protected_pids.to_vec(),
        probes_off: probes_off.to_vec(),
    };
    let settings = config.settings(dry_run, protected_pids, probes_off);
    (settings, in_force)
}
