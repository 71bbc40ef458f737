//! How much, how often, how many at once.

use std::time::Duration;

use super::{Asked, Refused, refuse};
use crate::model::action::Risk;
use crate::model::{Service, Time};
use crate::policy::history::HOST_WINDOW;
use crate::policy::{Config, History};

pub(super) fn in_flight(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    let soon = Some(now.after(Duration::from_millis(100)));
    let target = &ask.incident.subject;
    if let Some((_, other)) = ask.busy.iter().find(|(busy, _)| *busy == target) {
        return refuse(
            format!("incident {other} has an action under way on {target}"),
            soon,
        );
    }
    if ask.busy.len() >= usize::try_from(asked.config.concurrent).unwrap_or(usize::MAX) {
        return refuse(
            format!("{} actions are under way, the most allowed", ask.busy.len()),
            soon,
        );
    }
    Ok(())
}

pub(super) fn limit(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let opened = asked.proposal.incident.opened;
    given_up(asked.config, asked.history, asked.target, opened, now)
}

/// Refuses a target that was given up and whose next try is not due, for trouble that began at `opened`.
pub(super) fn given_up(
    config: &Config,
    history: &History,
    target: &str,
    opened: Time,
    now: Time,
) -> Result<(), Refused> {
    // Whether it stayed well is a matter of when this trouble began, not of how long it has been waiting since.
    let reached = history.given_up(target, config.backoff_reset.0, opened);
    // Whoever has raised the limit since wants it to go on.
    let Some(reached) = reached.filter(|reached| config.limit <= *reached) else {
        return Ok(());
    };
    let retry = history
        .last(target)
        .map(|last| last.after(config.half_open_after.0));
    if retry.is_some_and(|retry| now >= retry) {
        return Ok(());
    }
    let reason = format!(
        "given up after {reached} actions within {}: a person is needed (one more try every {})",
        config.limit_window, config.half_open_after
    );
    refuse(reason, retry)
}

pub(super) fn host_limit(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let most = usize::try_from(asked.config.host_limit_per_hour).unwrap_or(usize::MAX);
    if asked.history.host_within(HOST_WINDOW, now) < most {
        return Ok(());
    }
    let retry = asked
        .history
        .host_nth_last(most.saturating_sub(1))
        .map(|at| at.after(HOST_WINDOW));
    refuse(
        format!("{most} actions within an hour on this host, the most allowed"),
        retry,
    )
}

pub(super) fn cooldown(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let (ask, config, history) = (asked.proposal, asked.config, asked.history);
    let target = asked.target;
    let streak = history.streak(target, config.backoff_reset.0, ask.incident.opened);
    let Some(last) = history.last(target).filter(|_| streak > 0) else {
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

pub(super) fn blast_radius(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    let Some(name) = ask.incident.subject.configured_name() else {
        return Ok(());
    };
    for group in &asked.config.groups {
        if !group.members.contains(name) {
            continue;
        }
        if let Some(most) = group.max_acts {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let (acts, first) =
                asked
                    .history
                    .group_within(&group.name, group.within, most.saturating_sub(1), now);
            if acts >= most {
                return refuse(
                    format!(
                        "{acts} actions on group {} within {:?}, the most allowed",
                        group.name, group.within
                    ),
                    first.map(|at| at.after(group.within)),
                );
            }
        }
        let Some(share) = group.max_share else {
            continue;
        };
        // Bringing back what does not serve takes nothing away.
        let serves = |service: &Service| service.serves() && !service.in_action;
        let own = ask.world.services.get(name);
        if ask.risk == Risk::Restores && !own.is_some_and(serves) {
            continue;
        }
        let others = group.members.iter().filter(|member| *member != name);
        let out = others
            .filter(|member| {
                let busy = ask.busy.iter();
                let acted_upon = busy
                    .filter_map(|(busy, _)| busy.configured_name())
                    .any(|busy| busy == member.as_str());
                acted_upon || !ask.world.services.get(*member).is_some_and(serves)
            })
            .count();
        #[expect(
            clippy::cast_precision_loss,
            reason = "groups are small: their members are bounded"
        )]
        let after = (out + 1) as f64 / group.members.len() as f64;
        if after > share {
            return refuse(
                format!(
                    "{out} of {} members of group {} do not serve: with this one it would be more than {:.0} %",
                    group.members.len(),
                    group.name,
                    share * 100.0
                ),
                Some(now.after(Duration::from_secs(1))),
            );
        }
    }
    Ok(())
}

pub(super) fn circuit_breaker(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let config = asked.config;
    let (in_vain, last) = asked.history.in_vain(asked.way);
    if in_vain < config.breaker_after {
        return Ok(());
    }
    let until = last.after(config.breaker_open.0);
    if now >= until {
        return Ok(());
    }
    refuse(
        format!(
            "{} has not helped {in_vain} times in a row: it rests for {}, then is tried once",
            asked.way, config.breaker_open
        ),
        Some(until),
    )
}
