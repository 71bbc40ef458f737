//! From a configuration to what the core is built from: for the daemon, and for whoever lets the core decide without one.

use monitor_common::Kind;

use super::Config;
use crate::engine::Settings;

impl Config {
    /// What the core is built from. A dry run is one when the configuration or `dry_run` says so.
    pub fn settings(
        &self,
        dry_run: bool,
        protected_pids: &[u32],
        probes_off: &[(Kind, String)],
    ) -> Settings {
        let mut policy = self.policy.clone();
        policy.dry_run |= dry_run;
        Settings {
            detectors: self.detectors.clone(),
            policy,
            remedies: self.remedies.clone(),
            conditions: self.conditions.clone(),
            services: self.services.clone(),
            named: self.named.clone(),
            groups: self.groups.clone(),
            folders: self.folders.clone(),
            protected_pids: protected_pids.to_vec(),
            probes_off: probes_off.to_vec(),
            networks: self.networks.clone(),
        }
    }
}
