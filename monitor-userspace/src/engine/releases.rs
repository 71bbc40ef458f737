//! Which release each service runs, and which have proven themselves: well for long enough, with no incident.

use std::collections::BTreeMap;

use super::{Engine, Order};
use crate::model::release::Known;
use crate::model::{
    Effect, Plan, ProcessKey, Release, Sample, Service, ServiceState, Services, Signal, Time,
};

/// Services whose releases are known, and those of them that are well.
#[derive(Debug, Default)]
pub(super) struct Proving {
    released: Vec<String>,
    well: BTreeMap<String, Well>,
}

impl Proving {
    /// These are the services now.
    pub(super) fn apply(&mut self, services: &Services) {
        let released = services.values().filter(|it| it.release.is_some());
        self.released = released.map(|service| service.name.clone()).collect();
        let released = &self.released;
        self.well.retain(|name, _| released.contains(name));
    }
}

/// What is configured now, with what is known already, where that is of the same place.
pub(super) fn apply(known: &mut Option<Box<Release>>, configured: Option<&Release>) {
    match (known, configured) {
        (Some(known), Some(configured)) if known.how.source == configured.how.source => {
            known.how.clone_from(&configured.how);
        }
        (known, configured) => *known = configured.cloned().map(Box::new),
    }
}

/// Since when a service has been well, as which process, without a break.
#[derive(Clone, Copy, Debug)]
struct Well {
    process: ProcessKey,
    since: Time,
}

impl Engine {
    /// What earlier runs of the daemon learned. Of services that are configured; what has been learned since stays.
    pub fn know_releases(&mut self, known: BTreeMap<String, Known>) {
        for (name, known) in known {
            self.change_service(&name, |service| {
                if let Some(release) = &mut service.release
                    && release.known == Known::default()
                {
                    release.known = known;
                }
            });
        }
    }

    /// What is known of the releases of each service, for a new file of the journal.
    pub fn known_releases(&self) -> impl Iterator<Item = (String, Known)> {
        let services = self.world.services.values();
        services.filter_map(|service| {
            let known = &service.release.as_ref()?.known;
            (*known != Known::default()).then(|| (service.name.clone(), known.clone()))
        })
    }

    /// A service was started with a release.
    pub(super) fn take_release(&mut self, sample: &Sample, at: Time, orders: &mut Vec<Order>) {
        let Sample::Release {
            service: name,
            process,
            release: found,
            why,
        } = sample
        else {
            return;
        };
        let Some(service) = self.world.services.get(name) else {
            return;
        };
        // It was read for the process before.
        if service.process != Some(*process) {
            return;
        }
        let began = service.started.unwrap_or(at);
        self.change_release(name, orders, |release| {
            release.unknown.clone_from(why);
            if let Some(found) = found {
                return release.known.started_with(*process, found, began);
            }
            // What runs is something else than what ran before, as far as is known.
            let stale = release.known.process != Some(*process);
            stale && release.known.runs.take().is_some()
        });
    }

    /// A roll-back has begun to change the host: there is no second one from that release.
    pub(super) fn rolled_back(&mut self, plan: &Plan, effect: &Effect, orders: &mut Vec<Order>) {
        if let Plan::SwitchRelease {
            service,
            from,
            forward: false,
            ..
        } = plan
            && effect.acted.is_some()
        {
            self.change_release(service, orders, |release| {
                release.known.left(from);
                true
            });
        }
    }

    /// What a service runs has proven itself, as a person says.
    pub(super) fn keep_release(&mut self, service: &str, orders: &mut Vec<Order>) {
        self.change_release(service, orders, |release| release.known.proven());
    }

    /// Changes what is known of a service's releases; where that is news, it is remembered.
    fn change_release(
        &mut self,
        name: &str,
        orders: &mut Vec<Order>,
        change: impl FnOnce(&mut Release) -> bool,
    ) {
        let mut news = None;
        self.change_service(name, |service| {
            if let Some(release) = &mut service.release
                && change(release)
            {
                news = Some(release.known.clone());
            }
        });
        if let Some(known) = news {
            orders.push(Order::Releases {
                service: name.to_owned(),
                known,
            });
        }
    }

    /// Whether a signal may change how well a service is.
    pub(super) fn tells_health(signal: &Signal) -> bool {
        !matches!(signal, Signal::Kernel { .. } | Signal::Loss { .. })
    }

    /// Looks which services are well, and since when: what has been so for long enough proves its release.
    pub(super) fn prove_releases(&mut self, now: Time, orders: &mut Vec<Order>) {
        if self.proving.released.is_empty() {
            return;
        }
        let mut proven = Vec::new();
        for name in &self.proving.released {
            let service = self.world.services.get(name);
            let well = service.and_then(|service| {
                let well = self.state_of(service) == ServiceState::Healthy;
                Some((service, service.process.filter(|_| well)?))
            });
            let Some((service, process)) = well else {
                self.proving.well.remove(name);
                continue;
            };
            let fresh = Well {
                process,
                since: now,
            };
            let well = self.proving.well.entry(name.clone()).or_insert(fresh);
            if well.process != process {
                *well = fresh;
            }
            let due = due(service, *well);
            if due.is_some_and(|due| now >= due) {
                proven.push(name.clone());
            }
        }
        for name in proven {
            self.change_release(&name, orders, |release| release.known.proven());
        }
    }

    /// When the next release has proven itself, if all stays well.
    pub(super) fn proves(&self) -> Option<Time> {
        let well = self.proving.well.iter();
        let due = well.filter_map(|(name, well)| due(self.world.services.get(name)?, *well));
        due.min()
    }
}

/// When the release of a service that has been well since then has proven itself; none when it has done so, or is not known.
fn due(service: &Service, well: Well) -> Option<Time> {
    let release = service.release.as_ref()?;
    let known = &release.known;
    let open = known.process == Some(well.process)
        && known.runs.is_some()
        && known.good.last() != known.runs.as_ref();
    open.then(|| well.since.after(release.how.proven_after))
}
