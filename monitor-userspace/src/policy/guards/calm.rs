//! When somebody else is at it, or the host is not itself.

use std::time::Duration;

use super::{Asked, Refused, refuse};
use crate::model::action::Risk;
use crate::model::{Category, Plan, Time};

/// Tasks that run or wait for each CPU (load average of a minute) in a queue that counts as long.
const QUEUE: u32 = 4;
/// How often it is asked again whether the host has calmed down.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) fn early_boot(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    // The monotonic clock begins with the machine.
    let until = Time::default().after(asked.config.boot_grace.0);
    if asked.proposal.risk == Risk::Destructive && now < until {
        return refuse(
            format!(
                "the machine has been up for less than {}",
                asked.config.boot_grace
            ),
            Some(until),
        );
    }
    Ok(())
}

pub(super) fn other_healer(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    let name = ask.incident.subject.configured_name();
    let named = name.and_then(|name| ask.world.named.get(name));
    let service = name.and_then(|name| ask.world.services.get(name));
    let gave_up = service.is_some_and(|service| service.gave_up.is_some());
    // Who runs a service starts it anew when it has ended, and does nothing about other troubles of it.
    let runs_it = service.filter(|service| service.process.is_none());
    let healer = named.and_then(|named| named.healer.as_ref());
    let healer = healer.or_else(|| runs_it?.healer.as_ref());
    if let Some(healer) = healer.filter(|_| !gave_up) {
        // An incident may be older than the end that they are to repair.
        let opened = ask.incident.opened;
        let ended = service.and_then(|service| service.ended);
        let until = ended
            .map_or(opened, |ended| ended.max(opened))
            .after(healer.patience);
        if now < until {
            return refuse(
                format!(
                    "{} repairs it too, and has {:?} to do so",
                    healer.name, healer.patience
                ),
                Some(until),
            );
        }
    }
    let Some(killed) = &ask.world.relieved else {
        return Ok(());
    };
    let until = killed.at.after(asked.config.relief_wait.0);
    let for_memory =
        ask.incident.category == Category::System && ask.incident.detector.contains("memory");
    let kills = matches!(ask.plan, Plan::KillProcess { .. });
    if kills && for_memory && now < until {
        return refuse(
            format!(
                "{} has just killed {} for lack of memory: what that brings is awaited first",
                killed.by, killed.victim
            ),
            Some(until),
        );
    }
    Ok(())
}

pub(super) fn host_load(asked: &Asked<'_>, now: Time) -> Result<(), Refused> {
    let ask = asked.proposal;
    let Some(load) = ask.world.load else {
        return Ok(());
    };
    // What is done about the host's own trouble relieves it.
    if ask.incident.category == Category::System {
        return Ok(());
    }
    let over = |share: u32, most: crate::config::units::Percent| f64::from(share) / 100.0 >= most.0;
    let memory = over(load.memory_full, asked.config.busy_memory);
    // A small host that is put to use always has somebody wait for a CPU: only a long queue makes all of them slow.
    let queue = load.load1 / 100 >= load.cpus.saturating_mul(QUEUE);
    let cpu = queue && over(load.cpu_some, asked.config.busy_cpu);
    let io = over(load.io_full, asked.config.busy_io);
    let what = match (memory, cpu && ask.symptom, io && ask.symptom) {
        (true, _, _) => ("memory", load.memory_full),
        (_, true, _) => ("a CPU", load.cpu_some),
        (_, _, true) => ("storage", load.io_full),
        _ => return Ok(()),
    };
    refuse(
        format!(
            "the host itself is overloaded: tasks wait for {} {} % of the time",
            what.0,
            what.1 / 100
        ),
        Some(now.after(AGAIN)),
    )
}
