//! Reasons to refuse, asked in this order. A guard reads what an action declares (risk, target), never its name.

use std::time::Duration;

use super::{Config, History, Proposal};
use crate::model::action::Risk;
use crate::model::{Plan, Subject, Time};

/// A guard.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Its name: metric label, and what `explain` shows.
    pub name: &'static str,
    /// What it refuses, in one line.
    pub summary: &'static str,
    /// Refuses, or not.
    pub ask: fn(&Proposal<'_>, &Config, &History, Time) -> Result<(), Refused>,
}

/// Why, and when to ask again.
#[derive(Debug)]
pub struct Refused {
    pub(super) reason: String,
    pub(super) retry_at: Option<Time>,
}

fn refuse(reason: impl Into<String>, retry_at: Option<Time>) -> Result<(), Refused> {
    Err(Refused {
        reason: reason.into(),
        retry_at,
    })
}

/// The guard that stands for `[policy] dry_run`.
pub const DRY_RUN: &str = "dry_run";
/// The guard that gives a target up: its refusal calls for a person.
pub const LIMIT: &str = "limit";

/// Every guard, in order: what never changes first, what time changes last, dry run at the very end, so that it reports only
/// what really would have been done.
pub const ALL: &[Guard] = &[
    Guard {
        name: "protected_subject",
        summary: "PID 1, the daemon, its ancestors and the names in `protected` are never ended",
        ask: protected_subject,
    },
    Guard {
        name: "journal",
        summary: "nothing acts while the audit journal cannot be written",
        ask: journal,
    },
    Guard {
        name: "evidence_lost",
        summary: "a destructive act is refused when events of its probe were lost since its evidence began",
        ask: evidence_lost,
    },
    Guard {
        name: "in_flight",
        summary: "one action at a time on one target, and `concurrent` in all",
        ask: in_flight,
    },
    Guard {
        name: LIMIT,
        summary: "a target that reached its limit is given up, and tried once more each `half_open_after`",
        ask: limit,
    },
    Guard {
        name: "host_limit",
        summary: "no more actions in an hour than `host_limit_per_hour`, whatever they are for",
        ask: host_limit,
    },
    Guard {
        name: "cooldown",
        summary: "the wait between actions on one target doubles from `backoff_initial` to `backoff_max`",
        ask: cooldown,
    },
    Guard {
        name: DRY_RUN,
        summary: "only says what would have been done",
        ask: dry_run,
    },
];

fn protected_subject(
    ask: &Proposal<'_>,
    config: &Config,
    _: &History,
    _: Time,
) -> Result<(), Refused> {
    let Plan::KillProcess { process, comm, .. } = &ask.plan else {
        return Ok(());
    };
    if process.pid <= 2 || ask.world.protected_pids.contains(&process.pid) {
        return refuse(
            format!(
                "{comm} [{}] is never ended: it is init, a kernel thread, or the monitor itself or its parent",
                process.pid
            ),
            None,
        );
    }
    // A service is run by us, as the configuration says, whatever its program is called.
    let ours = matches!(ask.incident.subject, Subject::Service { .. });
    if !ours && config.protected.iter().any(|name| name == comm) {
        return refuse(format!("{comm} is protected by [policy] protected"), None);
    }
    Ok(())
}

fn journal(ask: &Proposal<'_>, _: &Config, _: &History, now: Time) -> Result<(), Refused> {
    match ask.halted {
        Some(why) => refuse(why, Some(now.after(Duration::from_secs(5)))),
        None => Ok(()),
    }
}

fn evidence_lost(ask: &Proposal<'_>, _: &Config, _: &History, _: Time) -> Result<(), Refused> {
    let evidence = &ask.incident.evidence;
    let doubtful = ask.lost.is_some_and(|lost| lost >= evidence.since);
    if ask.risk == Risk::Destructive && doubtful && evidence.since < evidence.seen {
        let probe = evidence.probe.map_or("?", monitor_common::Kind::name);
        return refuse(
            format!("events of {probe} were lost while the evidence was gathered"),
            None,
        );
    }
    Ok(())
}

fn in_flight(ask: &Proposal<'_>, config: &Config, _: &History, now: Time) -> Result<(), Refused> {
    let soon = Some(now.after(Duration::from_millis(100)));
    let target = ask.incident.subject.to_string();
    if let Some((_, other)) = ask.busy.iter().find(|(busy, _)| *busy == target) {
        return refuse(
            format!("incident {other} has an action under way on {target}"),
            soon,
        );
    }
    if ask.busy.len() >= usize::try_from(config.concurrent).unwrap_or(usize::MAX) {
        return refuse(
            format!("{} actions are under way, the most allowed", ask.busy.len()),
            soon,
        );
    }
    Ok(())
}

fn limit(ask: &Proposal<'_>, config: &Config, history: &History, now: Time) -> Result<(), Refused> {
    let target = ask.target();
    // Whether it stayed well is a matter of when this trouble began, not of how long it has been waiting since.
    if !history.given_up(&target, config.backoff_reset.0, ask.incident.opened) {
        return Ok(());
    }
    let retry = history
        .last(&target)
        .map(|last| last.after(config.half_open_after.0));
    if retry.is_some_and(|retry| now >= retry) {
        return Ok(());
    }
    let reason = format!(
        "given up after {} actions within {}: a person is needed (one more try every {})",
        config.limit, config.limit_window, config.half_open_after
    );
    refuse(reason, retry)
}

fn host_limit(
    _: &Proposal<'_>,
    config: &Config,
    history: &History,
    now: Time,
) -> Result<(), Refused> {
    const HOUR: Duration = Duration::from_hours(1);
    let most = usize::try_from(config.host_limit_per_hour).unwrap_or(usize::MAX);
    if history.host_within(HOUR, now) < most {
        return Ok(());
    }
    let retry = history
        .host_nth_last(most.saturating_sub(1))
        .map(|at| at.after(HOUR));
    refuse(
        format!("{most} actions within an hour on this host, the most allowed"),
        retry,
    )
}

fn cooldown(
    ask: &Proposal<'_>,
    config: &Config,
    history: &History,
    now: Time,
) -> Result<(), Refused> {
    let target = ask.target();
    let streak = history.streak(&target, config.backoff_reset.0, ask.incident.opened);
    let Some(last) = history.last(&target).filter(|_| streak > 0) else {
        return Ok(());
    };
    let doubled = config
        .backoff_initial
        .0
        .saturating_mul(1 << (streak - 1).min(20));
    let wait = doubled.min(config.backoff_max.0);
    let until = last.after(wait);
    if now >= until {
        return Ok(());
    }
    refuse(
        format!("waits {wait:?} after action {streak} in a row on this target"),
        Some(until),
    )
}

fn dry_run(ask: &Proposal<'_>, config: &Config, _: &History, _: Time) -> Result<(), Refused> {
    if config.dry_run {
        return refuse(format!("dry run: would have done {}", ask.action), None);
    }
    Ok(())
}
