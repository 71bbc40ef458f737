//! Orders to systemd, each a job whose end is awaited.

use std::time::Duration;

use super::link::Failed;
use super::unit::Unit;
use super::{Asked, Look, Systemd, failed};
use crate::host::HostError;
use crate::supervisors::Phase;

/// What is ordered.
pub(super) struct Order {
    method: &'static str,
    /// What becomes of a job of somebody else that says otherwise: `fail` leaves it alone and refuses ours.
    mode: &'static str,
    stops: bool,
    starts: bool,
}

pub(super) const RESTART: Order = Order {
    method: "RestartUnit",
    mode: "fail",
    stops: true,
    starts: true,
};

pub(super) const START: Order = Order {
    method: "StartUnit",
    mode: "fail",
    stops: false,
    starts: true,
};

pub(super) const STOP: Order = Order {
    method: "StopUnit",
    mode: "replace",
    stops: true,
    starts: false,
};

impl Systemd {
    fn looked(service: &str, asked: &Asked) -> Result<Unit, HostError> {
        match Self::unit(service, asked)? {
            Look::At(unit, _) => Ok(*unit),
            Look::Changing => Err(failed(service, "it is changing just now: nothing was done")),
        }
    }

    /// Gives an order and waits for its end.
    pub(super) fn order(
        &self,
        service: &str,
        order: &Order,
        term_grace: Duration,
    ) -> Result<(), HostError> {
        let asked = self.asked(service)?;
        let unit = Self::looked(service, &asked)?;
        let (phase, _) = asked.known.memory().judge(&unit);
        if let Some(why) = refuse(order, &unit, &phase) {
            return Err(failed(service, why));
        }
        // A restart would restart those that require it along with it, which have run on without it. What has ended needs only a start.
        let order = if order.starts && matches!(phase, Phase::Failed { .. }) {
            &START
        } else {
            order
        };
        let name = asked.known.unit.clone();
        if order.starts {
            // Their limit of starts would have a restart of ours end in a stop; how often we may is for policy to say.
            let reset = asked.link.manager("ResetFailedUnit", name.clone());
            reset.map_err(|why| failed(service, format!("ResetFailedUnit: {why}")))?;
        }
        asked.known.memory().is_ordered();
        let within = unit.limit(order.stops, order.starts) + term_grace;
        let body = (name.clone(), order.mode);
        let ended = asked.link.job(order.method, body, within);
        let (why, theirs) = match ended {
            Ok(result) if result == "done" => return Ok(()),
            Ok(result) => (Self::told(service, &asked, &result), result != "canceled"),
            Err(Failed::Refused(why)) => (format!("{}: {why}", order.method), true),
            Err(Failed::Lost(why)) => (format!("{}: {why}", order.method), false),
        };
        if order.starts && theirs {
            asked.known.memory().refused = Some(why.clone());
        }
        Err(failed(service, why))
    }

    /// What the result of a job means.
    fn told(service: &str, asked: &Asked, result: &str) -> String {
        let unit = &asked.known.unit;
        let meaning = match result {
            "canceled" => "somebody else's order took its place".to_owned(),
            "dependency" => "a unit that it needs did not start".to_owned(),
            "skipped" => "it does not apply to the unit as it is".to_owned(),
            "timeout" => "it took longer than systemd lets it".to_owned(),
            _ => match Self::looked(service, asked) {
                Ok(seen) => seen.why(),
                Err(error) => error.to_string(),
            },
        };
        format!("the job of {unit} ended with `{result}`: {meaning}; see `journalctl -u {unit}`")
    }

    /// Has it reload: what went wrong.
    pub(super) fn reloads(&self, service: &str) -> Result<Option<String>, HostError> {
        let asked = self.asked(service)?;
        let unit = Self::looked(service, &asked)?;
        let name = asked.known.unit.clone();
        if !unit.can_reload {
            let why = format!("{name} has no `ExecReload=`, so systemd cannot have it reload");
            return Err(failed(service, why));
        }
        let within = unit.limit(false, true);
        match asked.link.job("ReloadUnit", (name, "fail"), within) {
            Ok(result) if result == "done" => Ok(None),
            Ok(result) => Ok(Some(Self::told(service, &asked, &result))),
            Err(Failed::Refused(why)) => Ok(Some(why)),
            Err(Failed::Lost(why)) => Err(failed(service, why)),
        }
    }
}

/// Why nothing is ordered.
fn refuse(order: &Order, unit: &Unit, phase: &Phase) -> Option<String> {
    if !order.starts {
        return None;
    }
    let state = format!("{}, {}", unit.active_state, unit.sub_state);
    if unit.load_state == "masked" {
        return Some("it is masked, so it is not to be started: `systemctl unmask`".to_owned());
    }
    if unit.kind == "oneshot" {
        let why = "it is a oneshot, which leaves no process that would show that it helped";
        return Some(why.to_owned());
    }
    match phase {
        Phase::Starting => Some(format!("systemd is starting it by itself ({state})")),
        Phase::Stopping if unit.has_main() && !unit.by_themselves() => {
            Some(format!("it is being stopped ({state})"))
        }
        // A start is how a stop is ended; a restart is not.
        Phase::Stopped if order.stops => Some(format!("it was stopped ({state})")),
        _ => None,
    }
}
