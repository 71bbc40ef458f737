//! Ends TCP connections of a service or a process that are stale: left over from a peer that is gone, or that nobody reads any more.
//!
//! Both ends are told (a reset); the program sees an error at its next call. The plan names the filter, the effect what was ended. Never done to
//! connections of the daemon, of those above it, and of processes without which nobody gets in.

use std::net::IpAddr;
use std::time::Duration;

use super::kill_process::still_called;
use super::{Executed, Spec, Struck, Target, check, process_of, refused};
use crate::config::units::Span;
use crate::host::{Dropped, Host};
use crate::model::abilities::{Abilities, NET_ADMIN};
use crate::model::action::Risk;
use crate::model::connections::{Connection, ConnectionFilter, TcpState};
use crate::model::way::Prefix;
use crate::model::{EffectResult, Incident, Plan, Subject, World};
use crate::policy::{PROTECTED, Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "drop_connections",
    summary: "ends TCP connections of a service or a process: by peer, port, state or idle time",
    risk: Risk::Destructive,
    reversible: false,
    on: &[Target::Service, Target::Process],
    needs: "CAP_NET_ADMIN; a kernel with CONFIG_INET_DIAG_DESTROY (as distributions build it)",
    able,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// Connections that are named one by one in what was done.
const NAMED: usize = 10;
/// Most that may be ended at once, whatever is configured.
const MOST: u32 = 100_000;

/// `with` of this action.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Address of the other end, or a network: `10.0.0.5`, `10.0.0.0/8`.
    peer: Option<String>,
    /// Its port.
    peer_port: Option<u16>,
    /// Port of this end.
    local_port: Option<u16>,
    /// States; any when empty.
    states: Vec<TcpState>,
    /// No data for so long.
    idle: Span,
    /// Most that are ended; where there are more, none is.
    at_most: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            peer: None,
            peer_port: None,
            local_port: None,
            states: Vec::new(),
            idle: Span(Duration::ZERO),
            at_most: 100,
        }
    }
}

impl Settings {
    fn peer(&self) -> Result<Option<Prefix>, String> {
        let Some(text) = &self.peer else {
            return Ok(None);
        };
        let alone = text.parse::<IpAddr>().ok().map(|address| Prefix {
            address,
            bits: if address.is_ipv4() { 32 } else { 128 },
        });
        let peer = alone.or_else(|| Prefix::parse(text));
        let peer = peer.ok_or_else(|| {
            format!("`peer` is `{text}`: it must be an address or a network, such as \"10.0.0.5\" or \"10.0.0.0/8\"")
        })?;
        Ok(Some(peer))
    }

    fn filter(&self) -> Result<ConnectionFilter, String> {
        Ok(ConnectionFilter {
            peer: self.peer()?,
            peer_port: self.peer_port,
            local_port: self.local_port,
            states: self.states.clone(),
            idle: self.idle.0,
            at_most: self.at_most,
        })
    }
}

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        if self.at_most == 0 || self.at_most > MOST {
            return Err(format!("`at_most` must be 1 to {MOST}"));
        }
        self.peer().map(|_| ())
    }
}

fn able(abilities: &Abilities) -> Result<(), String> {
    abilities.has(NET_ADMIN)
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    let settings: Settings = super::settings(&rung.with)?;
    Ok(Plan::DropConnections {
        process,
        comm,
        filter: Box::new(settings.filter()?),
        spare: world.protected_names.clone(),
        named: matches!(incident.subject, Subject::Process { .. }),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::DropConnections {
        process,
        comm,
        filter,
        spare,
        named,
    } = permit.plan()
    else {
        return Executed::not_mine(SPEC.name);
    };
    let dropped = (|| {
        let target = host.open(*process)?;
        still_called(target.as_ref(), *process, comm, *named)?;
        let began = host.now();
        let dropped = host.drop_connections(*process, !*named, &spared(spare), filter)?;
        Ok((began, dropped))
    })();
    match dropped {
        Ok((began, dropped)) => Executed {
            acted: (!dropped.ended.is_empty()).then_some(began),
            result: result(comm, &dropped),
            undo: None,
        },
        Err(error) => Executed::nothing(refused(&error)),
    }
}

/// Whose connections are left alone: by the names that are never touched, and those of the configuration.
fn spared(more: &[String]) -> Vec<&str> {
    let more = more.iter().map(String::as_str);
    PROTECTED.into_iter().chain(more).collect()
}

fn result(comm: &str, dropped: &Dropped) -> EffectResult {
    let count = dropped.ended.len();
    let what = format!(
        "{count} connections of {comm} ended{}",
        names(&dropped.ended)
    );
    if let Some(error) = &dropped.stopped {
        let reason = format!("{error}; {what}");
        return EffectResult::Failed { reason };
    }
    match (count, dropped.left) {
        (0, _) => EffectResult::Failed {
            reason: format!("{comm} has no connection that is meant"),
        },
        (_, 0) => EffectResult::Done { detail: what },
        (_, left) => EffectResult::Failed {
            reason: format!("{what}, and {left} of them are still there"),
        },
    }
}

fn names(ended: &[Connection]) -> String {
    if ended.is_empty() {
        return String::new();
    }
    let words = ended.iter().take(NAMED).map(|it| {
        let Connection {
            local, peer, state, ..
        } = it;
        format!("{local} to {peer} ({})", state.name())
    });
    let words: Vec<String> = words.collect();
    let more = match ended.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(": {}{more}", words.join(", "))
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::DropConnections {
        process,
        comm,
        filter,
        spare,
        named,
    } = plan
    else {
        return Err("it is not a plan to end connections".to_owned());
    };
    match host.count_connections(*process, !*named, &spared(spare), filter) {
        Ok(0) => Ok(format!("{comm} has none left that is meant")),
        // That those that were ended are gone is known: these came after.
        Ok(new) if filter.idle.is_zero() => {
            Ok(format!("those are gone; {comm} has {new} new ones"))
        }
        Ok(left) => Err(format!("{comm} has {left} more that are meant")),
        Err(error) => match refused(&error) {
            EffectResult::Refused { .. } => Ok(format!("{comm} has ended since")),
            _ => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
