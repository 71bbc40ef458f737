//! What must never be touched, and what is not known well enough.

use std::time::Duration;

use super::{Asked, Refused, refuse};
use crate::model::action::Risk;
use crate::model::{Plan, Subject, Time, World};
use crate::policy::Config;

pub(super) fn protected_subject(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    untouched(&ask.plan, &ask.incident.subject, ask.world, asked.config)
}

/// Refuses what is never touched, whatever for.
pub(super) fn untouched(
    plan: &Plan,
    subject: &Subject,
    world: &World,
    config: &Config,
) -> Result<(), Refused> {
    // A restart ends nothing but the service's own process, which is compared with what runs at the last moment.
    let Some((process, comm)) = plan.protects() else {
        return Ok(());
    };
    if process.pid <= 2 || world.protected_pids.contains(&process.pid) {
        return refuse(
            format!(
                "{comm} [{}] is never touched: it is init, a kernel thread, or the monitor itself or its parent",
                process.pid
            ),
            None,
        );
    }
    // A service is run by us, as the configuration says, whatever its program is called.
    let ours = matches!(subject, Subject::Service { .. });
    if !ours && super::super::PROTECTED.contains(&comm) {
        return refuse(
            format!("{comm} is never touched: without it nobody gets in, or nothing runs"),
            None,
        );
    }
    if !ours && config.protected.iter().any(|name| name == comm) {
        return refuse(format!("{comm} is protected by [policy] protected"), None);
    }
    Ok(())
}

pub(super) fn observe_only(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    match only_observed(&ask.incident.subject, Some(&ask.plan), ask.world) {
        Some(why) => refuse(why, None),
        None => Ok(()),
    }
}

/// Why nothing is done to what is only observed: a service, or a process that is one and has no `[[process]]` entry of its own.
pub(super) fn only_observed(
    subject: &Subject,
    plan: Option<&Plan>,
    world: &World,
) -> Option<String> {
    let service = if let Some(name) = subject.configured_name() {
        world.services.get(name)
    } else {
        let (process, _) = plan.and_then(Plan::protects)?;
        world.service_of(process)
    };
    let name = &service.filter(|service| service.observe_only)?.name;
    Some(format!(
        "{name} is only observed: to have something done to it, write it into the configuration (`smart-monitor discover` proposes how) without `observe_only`"
    ))
}

pub(super) fn identity(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    match ask.approved {
        Some(approved) if *approved.plan != ask.plan => refuse(
            format!(
                "what {} allowed is not what would be done by now: look at it, and allow it anew",
                approved.by
            ),
            None,
        ),
        _ => Ok(()),
    }
}

pub(super) fn journal(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    halted(asked.proposal.halted, now)
}

pub(super) fn halted(halted: Option<&str>, now: Time) -> Result<(), Refused> {
    match halted {
        Some(why) => refuse(why, Some(now.after(Duration::from_secs(5)))),
        None => Ok(()),
    }
}

pub(super) fn evidence_lost(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
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
