//! Policy decides what may be done about an incident. It is the only maker of a [`Permit`].
//!
//! Consumes an incident, a proposal (action, plan, risk) and the time; emits a permit or a refusal. Pure: no I/O, no
//! clock. Every reason to refuse is a guard in `guards.rs`, asked in order; the first refusal counts. What it remembers of past actions
//! is rebuilt from the journal at start, so that restarting the daemon does not reset a cooldown.

pub mod calendar;
pub mod condition;
pub mod guards;
pub mod history;
pub mod permit;
pub mod rules;
pub mod schedules;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::{Percent, Span};
use crate::model::action::Risk;
use crate::model::{Incident, IncidentId, Outcome, Plan, Refusal, Subject, Time, World};
use calendar::Calendar;
use guards::{Asked, Refused};
pub use history::History;
pub use permit::{Grounds, Permit};
pub use rules::{ConditionRule, Remedy, Rules, Rung, With};
pub use schedules::Schedules;

/// `[policy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Only say what would have been done.
    pub dry_run: bool,
    /// Names of processes that are never touched, besides [`PROTECTED`], PID 1, kernel threads, the daemon and its ancestors.
    pub protected: Vec<String>,
    /// Nothing is destroyed before the machine has been up for so long.
    pub boot_grace: Span,
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
    /// A rule's action that did not help so often in a row, on whatever it was done to, rests.
    pub breaker_after: u32,
    /// How long it rests before it is tried once more.
    pub breaker_open: Span,
    /// A rule's action that helped less often than this is only proposed.
    pub propose_below: Percent,
    /// Outcomes that are known before `propose_below` counts; of the last 32.
    pub propose_after: u32,
    /// How long a proposal waits for a person's word, where the rule does not say.
    pub approval_within: Span,
    /// Share of the time in which tasks wait for a CPU over which a symptom is the host's own trouble (`cpu some avg10`).
    pub busy_cpu: Percent,
    /// Share of the time in which all tasks wait for memory over which nothing is started (`memory full avg10`).
    pub busy_memory: Percent,
    /// Share of the time in which all tasks wait for storage over which a symptom is the host's own trouble (`io full avg10`).
    pub busy_io: Percent,
    /// After the kernel, systemd-oomd, earlyoom or nohang killed for lack of memory, nothing more is killed for that for so long.
    pub relief_wait: Span,
    /// How long an incident of a service that depends on others waits for word of their failure.
    pub root_wait: Span,
    /// The same where the incident is a symptom, such as slow answers.
    pub root_wait_symptom: Span,
    /// How long what followed from a failure has to recover by itself when that is over.
    pub root_settle: Span,
    /// Take a service that another one connects to for something that one depends on.
    pub learn_dependencies: bool,
    /// `[[group]]` entries.
    #[serde(skip)]
    pub groups: Vec<Group>,
    /// `[[maintenance]]` entries.
    #[serde(skip)]
    pub calendar: Calendar,
}

/// Names of processes that are never touched, whatever the configuration says: init, D-Bus, the ways in, and ourselves.
pub const PROTECTED: [&str; 14] = [
    "systemd",
    "init",
    "sshd",
    "sshd-session",
    "sshd-auth",
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

impl Default for Config {
    fn default() -> Self {
        Self {
            dry_run: false,
            protected: Vec::new(),
            boot_grace: Span::seconds(120),
            backoff_initial: Span::seconds(1),
            backoff_max: Span::seconds(600),
            backoff_reset: Span::seconds(600),
            limit: 5,
            limit_window: Span::seconds(900),
            half_open_after: Span::seconds(3600),
            host_limit_per_hour: 60,
            concurrent: 4,
            breaker_after: 6,
            breaker_open: Span::seconds(600),
            propose_below: Percent(25.0),
            propose_after: 8,
            approval_within: Span::seconds(900),
            busy_cpu: Percent(98.0),
            busy_memory: Percent(40.0),
            busy_io: Percent(80.0),
            relief_wait: Span::seconds(3),
            root_wait: Span::millis(50),
            root_wait_symptom: Span::seconds(2),
            root_settle: Span::seconds(10),
            learn_dependencies: true,
            groups: Vec::new(),
            calendar: Calendar::default(),
        }
    }
}

/// A `[[group]]`: subjects that must not all be touched at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Names of services and `[[process]]` entries.
    pub members: BTreeSet<String>,
    /// Most actions on all of them within `within`.
    pub max_acts: Option<u32>,
    /// See `max_acts`.
    pub within: Duration,
    /// Most of them that may be out of service at once, 0 to 1.
    pub max_share: Option<f64>,
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
    /// The detector may just as well have seen the trouble of something else.
    pub symptom: bool,
    /// The rule that allows it.
    pub remedy: &'a Remedy,
    /// The rung of that rule.
    pub rung: &'a Rung,
    /// What a person allowed, if one did.
    pub approved: Option<Approved<'a>>,
    /// Other incidents with an action under way, that this one does not follow from: target and number.
    pub busy: &'a [(&'a Subject, IncidentId)],
    /// When events of the incident's probe were last lost.
    pub lost: Option<Time>,
    /// Everything the configuration names.
    pub world: &'a World,
    /// Why nothing may act now, when that is so.
    pub halted: Option<&'a str>,
}

/// What the core would like to change back.
#[derive(Debug)]
pub struct Undoing<'a> {
    /// The action that is undone.
    pub action: &'static str,
    /// The rule that allowed it.
    pub rule: &'a str,
    /// The person who asks for it, if one does.
    pub by: Option<&'a str>,
    /// What changes it back.
    pub plan: Plan,
    /// The incident it was done for.
    pub incident: &'a Incident,
    /// Everything the configuration names.
    pub world: &'a World,
    /// Why nothing may act now, when that is so.
    pub halted: Option<&'a str>,
}

/// A person's word.
#[derive(Clone, Copy, Debug)]
pub struct Approved<'a> {
    /// Whose.
    pub by: &'a str,
    /// What they allowed.
    pub plan: &'a Plan,
}

/// One action on one subject, as the history counts it. Processes that the configuration names count under that name: another
/// one of the same kind is not a fresh start.
pub fn target(action: &str, incident: &Incident) -> String {
    match incident.subject.configured_name() {
        Some(name) => format!("{action} of {name}"),
        None => format!("{action} of {}", incident.subject),
    }
}

/// One action of one rule, as the history counts it.
pub fn way(rule: &str, action: &str) -> String {
    format!("{rule}/{action}")
}

/// A refusal, and whether a person may allow it all the same.
#[derive(Debug)]
pub struct Refusing {
    /// The refusal.
    pub refusal: Refusal,
    /// A person may allow it, within this time.
    pub ask: Option<Duration>,
}

/// The decision maker.
#[derive(Debug)]
pub struct Policy {
    config: Config,
    history: History,
    schedules: Schedules,
}

impl Policy {
    /// A policy that remembers nothing yet.
    pub fn new(config: Config) -> Self {
        let mut policy = Self {
            config: Config::default(),
            history: History::default(),
            schedules: Schedules::default(),
        };
        policy.reconfigure(config);
        policy
    }

    /// Takes a new configuration; what was done before still counts.
    pub fn reconfigure(&mut self, config: Config) {
        self.schedules.set_calendar(config.calendar.clone());
        self.history.set_reset(config.backoff_reset.0);
        self.config = config;
    }

    /// Limits.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Past actions.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Maintenance windows and silences.
    pub const fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// The same, to change.
    pub const fn schedules_mut(&mut self) -> &mut Schedules {
        &mut self.schedules
    }

    /// Whether it only says what it would have done.
    pub const fn dry_run(&self) -> bool {
        self.config.dry_run
    }

    /// Remembers an action; at start, one from the journal. `opened` is when the trouble that it was for began.
    pub fn remember(&mut self, action: &str, rule: &str, incident: &Incident, at: Time) {
        let (target, way) = (target(action, incident), way(rule, action));
        self.note(&target, &way, incident, at);
    }

    fn note(&mut self, target: &str, way: &str, incident: &Incident, at: Time) {
        let config = &self.config;
        let (window, reset) = (config.limit_window.0, config.backoff_reset.0);
        self.history
            .note(target, incident.opened, at, config.limit, window, reset);
        self.history.note_rule(way, at);
        let Some(name) = incident.subject.configured_name() else {
            return;
        };
        for group in &self.config.groups {
            if group.members.contains(name) {
                self.history.note_group(&group.name, at);
            }
        }
    }

    /// Remembers what an action was worth; at start, one from the journal.
    pub fn judged(
        &mut self,
        action: &str,
        rule: &str,
        incident: &Incident,
        outcome: Outcome,
        at: Time,
    ) {
        self.history.note_outcome(&way(rule, action), outcome);
        if outcome == Outcome::Fixed {
            self.history.note_fixed(&target(action, incident), at);
        }
    }

    /// Permits exactly this plan on exactly this subject, or says why not. A permit counts as an action at once.
    pub fn decide(&mut self, proposal: Proposal<'_>, now: Time) -> Result<Permit, Refusing> {
        let (action, rule) = (proposal.action, proposal.remedy.name.as_str());
        let (target, way) = (target(action, proposal.incident), way(rule, action));
        let asked = Asked {
            proposal: &proposal,
            target: &target,
            way: &way,
            config: &self.config,
            history: &self.history,
            schedules: &self.schedules,
        };
        let refused = guards::ALL
            .iter()
            .find_map(|guard| Some((guard.name, (guard.ask)(&asked, now).err()?)));
        if let Some((guard, refused)) = refused {
            let before = proposal.incident.outcome == Some(Outcome::WouldHave);
            if guard == guards::DRY_RUN && !before {
                // So that cooldowns and limits show in a dry run as they would for real; once, however often it is asked.
                self.note(&target, &way, proposal.incident, now);
            }
            return Err(refusing(guard, refused));
        }
        self.note(&target, &way, proposal.incident, now);
        let grounds = Grounds {
            rule: rule.to_owned(),
            by: proposal.approved.map(|approved| approved.by.to_owned()),
            undo: false,
        };
        Ok(Permit::new(
            proposal.incident.id,
            action,
            proposal.plan,
            now,
            grounds,
        ))
    }

    /// Permits what a person asks for, or says why not. Guards against what nobody asked for (cooldowns, limits, silences, windows, doubt)
    /// are not asked: see [`guards::Guard::people`]. It counts as an action all the same.
    pub fn decide_for_person(
        &mut self,
        proposal: Proposal<'_>,
        now: Time,
    ) -> Result<Permit, Refusing> {
        self.would(&proposal, now)?;
        let rule = proposal.remedy.name.as_str();
        let (target, way) = (
            target(proposal.action, proposal.incident),
            way(rule, proposal.action),
        );
        self.note(&target, &way, proposal.incident, now);
        let grounds = Grounds {
            rule: rule.to_owned(),
            by: proposal.approved.map(|approved| approved.by.to_owned()),
            undo: false,
        };
        Ok(Permit::new(
            proposal.incident.id,
            proposal.action,
            proposal.plan,
            now,
            grounds,
        ))
    }

    /// Whether a person's wish would be permitted. Changes nothing.
    pub fn would(&self, proposal: &Proposal<'_>, now: Time) -> Result<(), Refusing> {
        let asked = Asked {
            proposal,
            target: &target(proposal.action, proposal.incident),
            way: &way(&proposal.remedy.name, proposal.action),
            config: &self.config,
            history: &self.history,
            schedules: &self.schedules,
        };
        let mut asking = guards::ALL.iter().filter(|guard| guard.people);
        let refused = asking.find_map(|guard| Some((guard.name, (guard.ask)(&asked, now).err()?)));
        refused.map_or(Ok(()), |(guard, refused)| Err(refusing(guard, refused)))
    }

    /// Why an act that was permitted and is not done yet should not go on: what people have said since, and the configuration as it is by
    /// now. `remedy` is the rule that allowed it, where there still is one.
    pub fn no_longer(
        &self,
        incident: &Incident,
        remedy: Option<&Remedy>,
        world: &World,
        now: Time,
    ) -> Option<String> {
        let Some(remedy) = remedy else {
            return Some("its rule is no longer configured".to_owned());
        };
        let name = incident.subject.configured_name();
        let named = name.and_then(|name| world.named.get(name));
        if self.config.dry_run || remedy.dry_run || named.is_some_and(|named| named.dry_run) {
            return Some("dry run since then".to_owned());
        }
        let observed = guards::only_observed(&incident.subject, world);
        observed.or_else(|| guards::people_say(&self.schedules, incident, now))
    }

    /// Permits to change back what an action changed: because it did not help, because its time is over, because a person says so. Only what never
    /// may be touched and a journal that cannot be written stand in the way of that: the act that is undone was permitted.
    pub fn undo(&self, undoing: Undoing<'_>, now: Time) -> Result<Permit, Refusal> {
        guards::may_be_undone(&undoing, &self.config, now)?;
        let grounds = Grounds {
            rule: undoing.rule.to_owned(),
            by: undoing.by.map(str::to_owned),
            undo: true,
        };
        Ok(Permit::new(
            undoing.incident.id,
            undoing.action,
            undoing.plan,
            now,
            grounds,
        ))
    }
}

fn refusing(guard: &str, refused: Refused) -> Refusing {
    Refusing {
        refusal: Refusal {
            guard: guard.to_owned(),
            reason: refused.reason,
            retry_at: refused.retry_at,
        },
        ask: refused.ask,
    }
}
