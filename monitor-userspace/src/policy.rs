//! Policy decides what may be done about an incident. It is the only maker of a [`Permit`].
//!
//! Consumes an incident, a proposal (action, plan, risk) and the time; emits a permit or a refusal. Pure: no I/O, no
//! clock. Every reason to refuse is a guard in `guards.rs`, asked in order; the first refusal counts. What it remembers of past actions
//! is rebuilt from the journal at start, so that restarting the daemon does not reset a cooldown.

pub mod guards;
pub mod history;
pub mod permit;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::Span;
use crate::model::action::Risk;
use crate::model::{Incident, IncidentId, Plan, Refusal, Severity, Time, World};
pub use history::History;
pub use permit::Permit;

/// `[policy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Only say what would have been done.
    pub dry_run: bool,
    /// Names of processes that are never ended, besides PID 1, kernel threads, the daemon and its ancestors.
    pub protected: Vec<String>,
    /// Wait before the second action on one target; doubles with each further one. The first is immediate.
    pub backoff_initial: Span,
    /// The wait never grows beyond this.
    pub backoff_max: Span,
    /// A target that needed no action for so long starts afresh.
    pub backoff_reset: Span,
    /// Most actions on one target within `limit_window`; after that a person is needed.
    pub limit: u32,
    /// See `limit`.
    pub limit_window: Span,
    /// A target that was given up is tried once more after this time, and again each time it has passed.
    pub half_open_after: Span,
    /// Most actions on the whole host within an hour.
    pub host_limit_per_hour: u32,
    /// Most actions under way at one time.
    pub concurrent: u32,
}

impl Default for Config {
    fn default() -> Self {
        let protected = [
            "systemd",
            "init",
            "sshd",
            "dbus-daemon",
            "dbus-broker",
            "dbus-broker-lau",
            "systemd-journal",
            "systemd-logind",
            "systemd-udevd",
            "systemd-network",
            "systemd-resolve",
            "smart-monitor",
        ];
        Self {
            dry_run: false,
            protected: protected.map(str::to_owned).to_vec(),
            backoff_initial: Span::seconds(1),
            backoff_max: Span::seconds(600),
            backoff_reset: Span::seconds(600),
            limit: 5,
            limit_window: Span::seconds(900),
            half_open_after: Span::seconds(3600),
            host_limit_per_hour: 60,
            concurrent: 4,
        }
    }
}

/// A `[[remedy]]`: consent to one action for one condition on named subjects.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// The detector.
    pub detector: String,
    /// Names of services and `[[process]]` entries; `*` for every one that the configuration names.
    pub on: Vec<String>,
    /// The action.
    pub action: String,
    /// The least severity.
    pub severity: Severity,
    /// How long the action has to show an effect.
    pub verify_within: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub term_grace: Duration,
}

impl Remedy {
    /// Whether it is meant for this incident.
    pub fn covers(&self, incident: &Incident) -> bool {
        let named = incident
            .subject
            .configured_name()
            .is_some_and(|name| self.on.iter().any(|on| on == "*" || on == name));
        named && self.detector == incident.detector && incident.severity >= self.severity
    }
}

/// What the core would like to do.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The action's name.
    pub action: &'static str,
    /// How much it can destroy.
    pub risk: Risk,
    /// What exactly.
    pub plan: Plan,
    /// The incident it is for.
    pub incident: &'a Incident,
    /// Other incidents with an action under way, that this one does not follow from: target and number.
    pub busy: &'a [(String, IncidentId)],
    /// When events of the incident's probe were last lost.
    pub lost: Option<Time>,
    /// Everything the configuration names.
    pub world: &'a World,
    /// Why nothing may act now, when that is so.
    pub halted: Option<&'a str>,
}

impl Proposal<'_> {
    /// What the history and the guards count: one action on one subject.
    pub fn target(&self) -> String {
        target(self.action, self.incident)
    }
}

/// One action on one subject, as the history counts it.
pub fn target(action: &str, incident: &Incident) -> String {
    format!("{action} of {}", incident.subject)
}

/// The decision maker.
#[derive(Debug)]
pub struct Policy {
    config: Config,
    history: History,
}

impl Policy {
    /// A policy that remembers nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            history: History::default(),
        }
    }

    /// Takes a new configuration; what was done before still counts.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Whether it only says what it would have done.
    pub fn dry_run(&self) -> bool {
        self.config.dry_run
    }

    /// Remembers an action; at start, one from the journal.
    /// `opened` is when the trouble that it was for began.
    pub fn remember(&mut self, target: &str, opened: Time, at: Time) {
        let config = &self.config;
        let (window, reset) = (config.limit_window.0, config.backoff_reset.0);
        self.history
            .note(target, opened, at, config.limit, window, reset);
    }

    /// Remembers that the last action on this target helped.
    pub fn remember_fixed(&mut self, target: &str, at: Time) {
        self.history.note_fixed(target, at);
    }

    /// Permits exactly this plan on exactly this subject, or says why not. A permit counts as an action at once.
    pub fn decide(&mut self, proposal: Proposal<'_>, now: Time) -> Result<Permit, Refusal> {
        for guard in guards::ALL {
            if let Err(refused) = (guard.ask)(&proposal, &self.config, &self.history, now) {
                if guard.name == guards::DRY_RUN {
                    // So that cooldowns and limits show in a dry run as they would for real.
                    self.remember(&proposal.target(), proposal.incident.opened, now);
                }
                return Err(Refusal {
                    guard: guard.name.to_owned(),
                    reason: refused.reason,
                    retry_at: refused.retry_at,
                });
            }
        }
        self.remember(&proposal.target(), proposal.incident.opened, now);
        Ok(Permit::new(
            proposal.incident.id,
            proposal.action,
            proposal.plan,
            now,
            permit::Grounds::default(),
        ))
    }
}
