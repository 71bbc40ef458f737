//! What people have said: not now, not without asking, not for real.

use super::{Asked, Refused, refuse};
use crate::model::{Incident, Time};
use crate::policy::Schedules;

pub(super) fn silence(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    silenced(asked.schedules, asked.proposal.incident, now)
}

/// Refuses while a silence is in force that the incident falls under.
pub(super) fn silenced(
    schedules: &Schedules,
    incident: &Incident,
    now: Time,
) -> Result<(), Refused> {
    let Some(silence) = schedules.silence(incident, now) else {
        return Ok(());
    };
    refuse(
        format!(
            "silence {} by {}: {}",
            silence.id, silence.by, silence.reason
        ),
        Some(silence.until),
    )
}

pub(super) fn maintenance(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    maintained(asked.schedules, asked.proposal.incident)
}

/// Refuses while a maintenance window is open that the incident falls under.
pub(super) fn maintained(schedules: &Schedules, incident: &Incident) -> Result<(), Refused> {
    let Some((window, until)) = schedules.maintenance(incident) else {
        return Ok(());
    };
    refuse(format!("maintenance window {window} is open"), until)
}

pub(super) fn approval(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let (ask, config) = (asked.proposal, asked.config);
    // Nobody is asked to allow what would not be done.
    if ask.approved.is_some() || dry_run(asked, now).is_err() {
        return Ok(());
    }
    if let Some(within) = ask.rung.approval {
        return Err(Refused {
            reason: format!("{} waits for a person's word", ask.action),
            retry_at: None,
            ask: Some(within),
        });
    }
    let rate = asked.history.rate(asked.way);
    let enough = usize::try_from(config.propose_after).unwrap_or(usize::MAX);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is made of a few outcomes"
    )]
    let seldom = (rate.helped as f64) < config.propose_below.share() * rate.of as f64;
    if rate.of >= enough.max(1) && seldom {
        return Err(Refused {
            reason: format!(
                "{} has helped {} of the last {} times: it is only proposed",
                asked.way, rate.helped, rate.of
            ),
            retry_at: None,
            ask: Some(config.approval_within.0),
        });
    }
    Ok(())
}

pub(super) fn dry_run(asked: &Asked<'_>, _: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    let name = ask.incident.subject.configured_name();
    let named = name.and_then(|name| ask.world.named.get(name));
    let whose = if asked.config.dry_run {
        ""
    } else if ask.remedy.dry_run {
        " of the rule"
    } else if named.is_some_and(|named| named.dry_run) {
        " of the subject"
    } else {
        return Ok(());
    };
    refuse(
        format!("dry run{whose}: would have done {}", ask.action),
        None,
    )
}
