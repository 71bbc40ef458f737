//! Reasons to refuse, asked in this order. A guard reads what an action declares (risk, target) and what is known, never its name.

mod calm;
mod held;
mod limits;
mod people;
mod safety;

use super::{Config, History, Proposal, Schedules};
use crate::model::{Incident, Refusal, Subject, Time, World};

/// A guard.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Its name: metric label, and what `explain` shows.
    pub name: &'static str,
    /// What it refuses, in one line.
    pub summary: &'static str,
    /// It is asked, too, when a person wants something done: what it guards against is not only what nobody asked for.
    pub people: bool,
    /// Refuses, or not.
    pub ask: fn(&Asked<'_>, Time) -> Result<(), Refused>,
}

/// What a guard may look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What the core would like to do.
    pub proposal: &'a Proposal<'a>,
    /// What cooldowns and limits count: one action on one subject.
    pub target: &'a str,
    /// What circuit breakers and success rates count: one action of one rule.
    pub way: &'a str,
    /// Limits.
    pub config: &'a Config,
    /// Past actions.
    pub history: &'a History,
    /// Maintenance windows and silences.
    pub schedules: &'a Schedules,
}

/// Why, and when to ask again.
#[derive(Debug)]
pub struct Refused {
    pub(super) reason: String,
    pub(super) retry_at: Option<Time>,
    /// A person may allow it, within this time.
    pub(super) ask: Option<std::time::Duration>,
}

fn refuse(reason: impl Into<String>, retry_at: Option<Time>) -> Result<(), Refused> {
    Err(Refused {
        reason: reason.into(),
        retry_at,
        ask: None,
    })
}

/// The guard that stands for dry runs.
pub const DRY_RUN: &str = "dry_run";
/// The guard that gives a target up: its refusal calls for a person.
pub const LIMIT: &str = "limit";
/// The guard that ends an act which another healer does.
pub const APPROVAL: &str = "approval";

/// Every guard, in order: what never changes first, what time changes last, dry run at the very end, so that it reports only
/// what really would have been done.
pub const ALL: &[Guard] = &[
    Guard {
        name: "protected_subject",
        summary: "PID 1, kernel threads, the daemon, its ancestors and the names in `protected` are never touched",
        people: true,
        ask: safety::protected_subject,
    },
    Guard {
        name: "observe_only",
        summary: "nothing is done to what is only observed: found by the daemon itself, or configured so",
        people: true,
        ask: safety::observe_only,
    },
    Guard {
        name: "identity",
        summary: "what a person allowed is refused when it would be done to something else by now",
        people: true,
        ask: safety::identity,
    },
    Guard {
        name: "journal",
        summary: "nothing acts while the audit journal cannot be written",
        people: true,
        ask: safety::journal,
    },
    Guard {
        name: "early_boot",
        summary: "nothing is destroyed before the machine has been up for `boot_grace`",
        people: false,
        ask: calm::early_boot,
    },
    Guard {
        name: "silence",
        summary: "nothing is done to a subject that a person has silenced",
        people: false,
        ask: people::silence,
    },
    Guard {
        name: "maintenance",
        summary: "nothing is done to a subject in its maintenance window",
        people: false,
        ask: people::maintenance,
    },
    Guard {
        name: "evidence_lost",
        summary: "a destructive act is refused when events of its probe were lost since its evidence began",
        people: false,
        ask: safety::evidence_lost,
    },
    Guard {
        name: "other_healer",
        summary: "who else repairs the subject is given time first; nothing is killed for lack of memory right after somebody else did",
        people: false,
        ask: calm::other_healer,
    },
    Guard {
        name: "host_load",
        summary: "a symptom on a host that is overloaded is not the service's fault; nothing is started on one that thrashes",
        people: false,
        ask: calm::host_load,
    },
    Guard {
        name: "in_flight",
        summary: "one action at a time on one target, and `concurrent` in all",
        people: true,
        ask: limits::in_flight,
    },
    Guard {
        name: LIMIT,
        summary: "a target that reached its limit is given up, and tried once more each `half_open_after`",
        people: false,
        ask: limits::limit,
    },
    Guard {
        name: "host_limit",
        summary: "no more actions in an hour than `host_limit_per_hour`, whatever they are for",
        people: false,
        ask: limits::host_limit,
    },
    Guard {
        name: "cooldown",
        summary: "the wait between actions on one target doubles from `backoff_initial` to `backoff_max`",
        people: false,
        ask: limits::cooldown,
    },
    Guard {
        name: "blast_radius",
        summary: "no more actions on a `[[group]]` than its `max_acts`, and never more of it out of service than `max_share`",
        people: true,
        ask: limits::blast_radius,
    },
    Guard {
        name: "circuit_breaker",
        summary: "a rule's action that did not help `breaker_after` times in a row rests for `breaker_open`, then is tried once",
        people: false,
        ask: limits::circuit_breaker,
    },
    Guard {
        name: APPROVAL,
        summary: "a person must allow it: the rule says so, or the action has helped too seldom (`propose_below`)",
        people: false,
        ask: people::approval,
    },
    Guard {
        name: DRY_RUN,
        summary: "only says what would have been done: everywhere, for the rule, or for the subject",
        people: true,
        ask: people::dry_run,
    },
];

/// What people have said against anything being done about an incident: a silence, a maintenance window.
pub(super) fn people_say(schedules: &Schedules, incident: &Incident, now: Time) -> Option<String> {
    let refused = people::silenced(schedules, incident, now).err();
    let refused = refused.or_else(|| people::maintained(schedules, incident).err());
    refused.map(|refused| refused.reason)
}

/// Why nothing is done to a subject that is only observed.
pub(super) fn only_observed(subject: &Subject, world: &World) -> Option<String> {
    safety::only_observed(subject, None, world)
}

/// Whether something may be changed back.
pub(super) fn may_be_undone(
    undoing: &super::Undoing<'_>,
    config: &Config,
    now: Time,
) -> Result<(), Refusal> {
    let say = |guard: &str| {
        let guard = guard.to_owned();
        move |refused: Refused| Refusal {
            guard,
            reason: refused.reason,
            retry_at: refused.retry_at,
        }
    };
    let subject = &undoing.incident.subject;
    safety::untouched(&undoing.plan, subject, undoing.world, config)
        .map_err(say("protected_subject"))?;
    safety::halted(undoing.halted, now).map_err(say("journal"))
}

#[cfg(test)]
mod tests;
