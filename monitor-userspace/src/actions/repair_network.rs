//! Repairs a `[[network]]` bottom-up, and confirms it: what a look at it found broken is brought back to what it was while all was well, and
//! what does not have packets get through in time is changed back by itself.
//!
//! The plan is pure: exact steps, made of the last look. Each try's way back is in the journal before its first step. Packets that get through
//! before it begins are a reason not to begin. What is upstream of the gateway is never repaired here: there is nothing to plan.

use std::net::IpAddr;
use std::time::Duration;

use super::{Executed, Spec, Struck, Target, check, refused};
use crate::config::units::Span;
use crate::host::network::files;
use crate::host::{Host, HostError, NetworkHand};
use crate::model::abilities::{Abilities, NET_ADMIN};
use crate::model::action::Risk;
use crate::model::way::{Diagnosis, NetworkFault, NetworkStep, NetworkTry, Primary, Way};
use crate::model::{EffectResult, Incident, IncidentId, Network, Plan, Subject, Time, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "repair_network",
    summary: "brings link, address, route, neighbour, gateway or resolver of a network back, and reverts what does not help",
    risk: Risk::Restores,
    reversible: true,
    on: &[Target::Network],
    needs: "CAP_NET_ADMIN; CAP_NET_RAW to ping; for resolvers, to write the file that names them",
    able,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// `with` of this action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How long each try has to show that it helped.
    confirm_within: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            confirm_within: Span::seconds(5),
        }
    }
}

/// Longest time that a try may take to show that it helped.
const LONGEST: Duration = Duration::from_mins(1);

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        let within = self.confirm_within;
        if within.0.is_zero() || within.0 > LONGEST {
            return Err(format!(
                "`confirm_within` is {within}: it must be more than nothing, and at most 1m"
            ));
        }
        Ok(())
    }
}

fn able(abilities: &Abilities) -> Result<(), String> {
    abilities.has(NET_ADMIN)
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let Subject::Network { name } = &incident.subject else {
        return Err(format!("{} is not a network", incident.subject));
    };
    let settings: Settings = super::settings(&rung.with)?;
    let network = world.networks.get(name);
    let network = network.ok_or_else(|| format!("no network {name} is configured"))?;
    let tries = tries(network)?;
    Ok(Plan::RepairNetwork {
        network: name.clone(),
        tries,
        confirm_within: settings.confirm_within.0,
    })
}

/// What may repair what the last look found, or why nothing may.
fn tries(network: &Network) -> Result<Vec<NetworkTry>, String> {
    let Network { way, diagnosis } = network;
    let found = diagnosis.as_deref();
    let found = found.ok_or("nobody has looked at it yet")?;
    let fault = found.fault.as_ref().ok_or("all is well with it")?;
    let tries = match fault {
        NetworkFault::NoDevice | NetworkFault::NoCarrier | NetworkFault::Upstream => {
            return Err(format!("nothing on this host can repair it: {fault}"));
        }
        NetworkFault::LinkOff
        | NetworkFault::AddressLost { .. }
        | NetworkFault::RouteLost { .. }
        | NetworkFault::RouteWrong { .. } => local(way, found, fault),
        NetworkFault::NeighbourWrong { .. } => vec![forget(found)].into_iter().flatten().collect(),
        NetworkFault::GatewaySilent { gateway } => gateways(way, found, *gateway),
        NetworkFault::ResolversChanged | NetworkFault::ResolversSilent => resolvers(way, found),
        NetworkFault::EndpointSilent { name, .. } => endpoints(way, found, name),
    };
    if tries.is_empty() {
        return Err(format!("{fault}, and no backup that answers is configured"));
    }
    Ok(tries)
}

fn plain(steps: Vec<NetworkStep>) -> NetworkTry {
    NetworkTry {
        steps,
        stopgap: None,
    }
}

fn commands(all: &[&Vec<String>]) -> Vec<NetworkTry> {
    let given = all.iter().filter(|command| !command.is_empty());
    let steps = given.map(|command| NetworkStep::Command {
        command: (*command).clone(),
    });
    steps.map(|step| plain(vec![step])).collect()
}

/// Everything of this side that is not as it was; then what the configuration has for it.
fn local(way: &Way, found: &Diagnosis, fault: &NetworkFault) -> Vec<NetworkTry> {
    let (seen, before) = (&found.seen, &found.before);
    let device = &seen.device;
    let mut steps = Vec::new();
    if !seen.up {
        steps.push(NetworkStep::Link {
            device: device.clone(),
            up: true,
        });
    }
    let addresses = way.lost_addresses(before, seen);
    steps.extend(addresses.into_iter().map(|address| NetworkStep::Address {
        device: device.clone(),
        address,
        add: true,
    }));
    let mut route = |route, add| {
        steps.push(NetworkStep::Route {
            device: device.clone(),
            route,
            add,
        });
    };
    for wrong in way.wrong_routes(before, seen) {
        // One over another device is another network's.
        if wrong.device == device.index {
            route(wrong, false);
        }
    }
    let mut lost = way.lost_routes(before, seen);
    // What is on the wire first: gateways are reached by it.
    lost.sort_by_key(|route| (route.via.is_some(), route.to.is_none()));
    for lost in lost {
        route(lost, true);
    }
    let restore = (!steps.is_empty()).then(|| plain(steps));
    let renew = matches!(fault, NetworkFault::AddressLost { .. });
    let nothing = Vec::new();
    let renew = if renew { &way.renew } else { &nothing };
    // A lease is asked for anew rather than taken for granted.
    let mut tries = commands(&[renew]);
    tries.extend(restore);
    tries.extend(commands(&[&way.restart_network]));
    tries
}

/// The gateway is asked anew where it is.
fn forget(found: &Diagnosis) -> Option<NetworkTry> {
    let entry = found.seen.neighbour.clone()?;
    let step = NetworkStep::Neighbour {
        device: found.seen.device.clone(),
        entry,
        forget: true,
    };
    Some(plain(vec![step]))
}

fn gateways(way: &Way, found: &Diagnosis, silent: IpAddr) -> Vec<NetworkTry> {
    let (seen, before) = (&found.seen, &found.before);
    let device = &seen.device;
    let primary = way.primary(before);
    let answering = seen.gateways.iter().filter(|gateway| **gateway != silent);
    let mut tries: Vec<NetworkTry> = answering
        .map(|gateway| {
            let change = |gateway, add| NetworkStep::Route {
                device: device.clone(),
                route: way.default_route(gateway, before, device.index),
                add,
            };
            let stopgap = primary.filter(|primary| primary != gateway);
            NetworkTry {
                steps: vec![change(silent, false), change(*gateway, true)],
                stopgap: stopgap.map(|primary| Primary::Gateway(device.clone(), primary)),
            }
        })
        .collect();
    if tries.is_empty() {
        tries.extend(forget(found));
    }
    tries
}

fn resolvers(way: &Way, found: &Diagnosis) -> Vec<NetworkTry> {
    let (seen, before) = (&found.seen, &found.before);
    let write = |after: String| NetworkStep::File {
        path: way.resolv_conf.clone(),
        before: seen.resolv_conf.clone(),
        after: Some(after),
    };
    let mut tries = Vec::new();
    let was = before.resolv_conf.clone().unwrap_or_default();
    let known = files::resolvers(&was);
    if known.iter().any(|it| seen.resolvers.contains(it)) {
        tries.push(plain(vec![write(was.clone())]));
    }
    tries.extend(commands(&[&way.restart_resolver]));
    let backups: Vec<IpAddr> = way
        .backup_resolvers
        .iter()
        .filter(|backup| seen.resolvers.contains(backup))
        .copied()
        .collect();
    if !backups.is_empty() {
        let text = seen
            .resolv_conf
            .as_deref()
            .filter(|text| !files::resolvers(text).is_empty());
        let text = files::with_resolvers(text.unwrap_or(&was), &backups);
        tries.push(NetworkTry {
            steps: vec![write(text)],
            stopgap: (!known.is_empty()).then_some(Primary::Resolvers(known)),
        });
    }
    tries
}

fn endpoints(way: &Way, found: &Diagnosis, name: &str) -> Vec<NetworkTry> {
    let seen = &found.seen;
    let endpoint = way.endpoints.iter().find(|endpoint| endpoint.name == name);
    let all = endpoint
        .map(|endpoint| endpoint.addresses.as_slice())
        .unwrap_or_default();
    let answering = all
        .iter()
        .filter(|address| seen.endpoints.contains(address));
    let text = seen.hosts.as_deref().unwrap_or_default();
    answering
        .map(|address| NetworkTry {
            steps: vec![NetworkStep::File {
                path: way.hosts.clone(),
                before: seen.hosts.clone(),
                after: Some(files::with_host(text, name, address.ip())),
            }],
            stopgap: all
                .first()
                .filter(|first| *first != address)
                .copied()
                .map(Primary::Endpoint),
        })
        .collect()
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let turn = |network: &String| host.network(network);
    match permit.plan() {
        Plan::RepairNetwork {
            network,
            tries,
            confirm_within,
        } => match turn(network) {
            Ok(hand) => repair(
                permit.incident(),
                hand.as_ref(),
                host,
                (network, tries, *confirm_within),
            ),
            Err(error) => Executed::nothing(refused(&error)),
        },
        Plan::RevertNetwork {
            network,
            steps,
            only_if,
        } => match turn(network) {
            Ok(hand) => revert(hand.as_ref(), host, (network, steps, only_if.as_ref())),
            Err(error) => Executed::nothing(refused(&error)),
        },
        _ => Executed::not_mine(SPEC.name),
    }
}

/// Tries in their order, until packets get through.
fn repair(
    incident: IncidentId,
    hand: &dyn NetworkHand,
    host: &dyn Host,
    (network, tries, within): (&str, &[NetworkTry], Duration),
) -> Executed {
    match hand.look() {
        Ok(found) if found.fault.is_none() => {
            let reason =
                format!("network {network} gets packets through by now: nothing was changed");
            return Executed::nothing(EffectResult::Refused { reason });
        }
        Ok(_) => {}
        Err(error) => return Executed::nothing(refused(&error)),
    }
    let mut acted = None;
    let mut failures = Vec::new();
    let mut kept = Vec::new();
    let mut gone = true;
    for attempt in tries {
        if let Some(why) = host.called_off(incident) {
            failures.push(why);
            break;
        }
        let undo = |steps| Plan::RevertNetwork {
            network: network.to_owned(),
            steps,
            only_if: attempt.stopgap.clone(),
        };
        if let Err(error) = host.will_change(incident, SPEC.name, &undo(attempt.inverse())) {
            failures.push(error.to_string());
            gone = false;
            break;
        }
        let began = host.now();
        let (changed, stopped) = apply_all(hand, &attempt.steps);
        if !changed.is_empty() {
            acted.get_or_insert(began);
        }
        let back: Vec<NetworkStep> = changed
            .iter()
            .rev()
            .filter_map(NetworkStep::inverse)
            .collect();
        let why = match stopped {
            Some(error) => {
                gone &= matches!(error, HostError::OtherNetwork(_));
                error.to_string()
            }
            None => match hand.confirm(within) {
                Ok(found) if found.fault.is_none() => {
                    return Executed {
                        acted: acted.or(Some(began)),
                        result: EffectResult::Done {
                            detail: format!("{network}: {attempt}; packets get through"),
                        },
                        undo: attempt.stopgap.is_some().then(|| undo(back)),
                    };
                }
                Ok(found) => {
                    gone = false;
                    let fault = found.fault.map(|fault| fault.to_string());
                    format!("{attempt}: {}", fault.unwrap_or_default())
                }
                Err(error) => {
                    gone = false;
                    error.to_string()
                }
            },
        };
        failures.push(why);
        let back = change_back(hand, &back);
        kept.extend(back.kept);
        if let Some((left, error)) = back.left {
            failures.extend(kept);
            failures.push(format!("and it could not be changed back: {error}"));
            let reason = failures.join("; ");
            return Executed {
                acted,
                result: EffectResult::Failed { reason },
                undo: Some(Plan::RevertNetwork {
                    network: network.to_owned(),
                    steps: left,
                    only_if: None,
                }),
            };
        }
    }
    if kept.is_empty() {
        kept.push("nothing is left changed".to_owned());
    }
    failures.extend(kept);
    let reason = format!("{network}: {}", failures.join("; "));
    let result = if gone && acted.is_none() {
        EffectResult::Refused { reason }
    } else {
        EffectResult::Failed { reason }
    };
    Executed {
        acted,
        result,
        undo: None,
    }
}

/// Steps in their order, until one cannot be done: those that changed something, and why it stopped.
fn apply_all(
    hand: &dyn NetworkHand,
    steps: &[NetworkStep],
) -> (Vec<NetworkStep>, Option<HostError>) {
    let mut changed = Vec::new();
    for step in steps {
        match hand.apply(step) {
            Ok(true) => changed.push(step.clone()),
            Ok(false) => {}
            Err(error) => return (changed, Some(error)),
        }
    }
    (changed, None)
}

/// What came of changing back.
#[derive(Default)]
struct Back {
    /// Something was changed.
    changed: bool,
    /// Files that somebody else has changed since: left as they are, in words.
    kept: Vec<String>,
    /// What could not be done, and why.
    left: Option<(Vec<NetworkStep>, HostError)>,
}

/// All of it, also where one cannot be done. What has gone with its device needs nothing back.
fn change_back(hand: &dyn NetworkHand, steps: &[NetworkStep]) -> Back {
    let mut back = Back::default();
    let mut left = Vec::new();
    for step in steps {
        match hand.apply(step) {
            Ok(changed) => back.changed |= changed,
            Err(HostError::OtherNetwork(_)) => back.kept.extend(hand.left_alone(step)),
            Err(error) => {
                left.push(step.clone());
                back.left = Some((Vec::new(), error));
            }
        }
    }
    if let Some((steps, _)) = &mut back.left {
        *steps = left;
    }
    back
}

/// What is true of a network once all was changed back that may be.
fn after_undo(network: &str, kept: &[String]) -> String {
    if kept.is_empty() {
        return format!("{network} is as it was before");
    }
    format!("{network}: {}", kept.join("; "))
}

fn revert(
    hand: &dyn NetworkHand,
    host: &dyn Host,
    (network, steps, only_if): (&str, &[NetworkStep], Option<&Primary>),
) -> Executed {
    // What was done by halves is no stopgap: that is changed back in any case.
    let whole = steps.iter().all(|step| matches!(hand.has(step), Ok(false)));
    if let Some(primary) = only_if.filter(|_| whole) {
        match hand.answers(primary) {
            Ok(true) => {}
            Ok(false) => {
                let reason = format!(
                    "{primary} does not answer yet: {network} stays with what stands in for it"
                );
                return Executed::nothing(EffectResult::Failed { reason });
            }
            Err(error) => return Executed::nothing(refused(&error)),
        }
    }
    let began = host.now();
    finished(network, began, change_back(hand, steps))
}

/// What an undo that began then has come to.
fn finished(network: &str, began: Time, back: Back) -> Executed {
    let said = after_undo(network, &back.kept);
    let Some((left, error)) = back.left else {
        if !back.changed && !back.kept.is_empty() {
            // What it was done to is another by now.
            return Executed::nothing(EffectResult::Refused { reason: said });
        }
        return Executed::at(began, EffectResult::Done { detail: said });
    };
    let mut reasons = back.kept;
    reasons.push(error.to_string());
    Executed {
        acted: Some(began),
        result: EffectResult::Failed {
            reason: reasons.join("; "),
        },
        undo: Some(Plan::RevertNetwork {
            network: network.to_owned(),
            steps: left,
            only_if: None,
        }),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    match plan {
        Plan::RepairNetwork { network, .. } => {
            let hand = host.network(network).map_err(|error| error.to_string())?;
            let found = hand
                .confirm(Duration::ZERO)
                .map_err(|error| error.to_string())?;
            match found.fault {
                None => Ok(format!("{network} gets packets through")),
                Some(fault) => Err(format!("it is broken again: {fault}")),
            }
        }
        Plan::RevertNetwork { network, steps, .. } => {
            let hand = host.network(network).map_err(|error| error.to_string())?;
            let mut kept = Vec::new();
            for step in steps {
                match hand.has(step) {
                    Ok(true) => {}
                    Err(HostError::OtherNetwork(_)) => kept.extend(hand.left_alone(step)),
                    Ok(false) => return Err(format!("it is not so that: {step}")),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(after_undo(network, &kept))
        }
        _ => Err("it is not a plan to repair a network".to_owned()),
    }
}

#[cfg(test)]
mod tests;
