//! What is known of the namespace's network, and what of a message is a change of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::message::{Link, Message, Neighbour};
use crate::model::network::{IpFamily, LinkState, NetworkChange};

/// Most links that are followed; of further ones, nothing is told.
const LINKS: usize = 4_096;
/// Most neighbours that are remembered as failed; of further ones, nothing is told.
const FAILED: usize = 256;

impl Link {
    const fn works(&self) -> bool {
        self.up && self.carrier
    }

    fn is(&self, state: LinkState) -> NetworkChange {
        NetworkChange::Link {
            name: self.name.clone(),
            kind: self.kind.clone(),
            state,
        }
    }

    const fn state(&self) -> LinkState {
        match (self.up, self.carrier) {
            (true, true) => LinkState::Up,
            (true, false) => LinkState::NoCarrier,
            (false, _) => LinkState::Off,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    links: BTreeMap<u32, Link>,
    /// The device of a default route of each family that has one.
    routes: BTreeMap<IpFamily, u32>,
    /// Devices that are gone may still be named as those of a route that went with them.
    last_removed: Option<Link>,
    failed: BTreeSet<(u32, IpAddr)>,
}

impl State {
    /// Takes news; true when default routes may have changed with it, also those that the kernel removes without a word.
    pub(super) fn news(&mut self, message: Message, out: &mut Vec<NetworkChange>) -> bool {
        match message {
            Message::Link(link) => self.link(link, out),
            Message::LinkRemoved(index) => {
                self.removed(index, out);
                true
            }
            Message::DefaultRoute { .. } | Message::AddressRemoved => true,
            Message::Neighbour {
                device,
                address,
                state,
            } => {
                self.neighbour((device, address), state, out);
                false
            }
            Message::Done => false,
        }
    }

    fn link(&mut self, link: Link, out: &mut Vec<NetworkChange>) -> bool {
        let known = self.links.get(&link.index);
        if known.is_none() && self.links.len() >= LINKS {
            return false;
        }
        let renamed = known.filter(|known| known.name != link.name);
        if let Some(known) = renamed {
            out.push(known.is(LinkState::Renamed));
        }
        let worked = renamed.is_none() && known.is_some_and(Link::works);
        if worked != link.works() {
            out.push(link.is(link.state()));
        }
        // Also when it did not work before: its routes go only when it is switched off.
        let changed = known.is_none_or(|known| known.state() != link.state());
        self.links.insert(link.index, link);
        changed
    }

    fn removed(&mut self, index: u32, out: &mut Vec<NetworkChange>) {
        self.failed.retain(|(device, _)| *device != index);
        if let Some(link) = self.links.remove(&index) {
            if link.works() {
                // The kernel switches off what it removes; that news was lost.
                out.push(link.is(LinkState::Off));
            }
            out.push(link.is(LinkState::Removed));
            self.last_removed = Some(link);
        }
    }

    fn neighbour(&mut self, who: (u32, IpAddr), state: Neighbour, out: &mut Vec<NetworkChange>) {
        let changed = match state {
            Neighbour::Failed => self.failed.len() < FAILED && self.failed.insert(who),
            Neighbour::Valid => self.failed.remove(&who),
            Neighbour::Forgotten => {
                self.failed.remove(&who);
                false
            }
            Neighbour::Asked => false,
        };
        if changed {
            out.push(NetworkChange::Neighbour {
                address: who.1,
                device: self.name(who.0),
                reachable: state == Neighbour::Valid,
            });
        }
    }

    /// All links, as they are: what is not among them is gone.
    pub(super) fn all_links(&mut self, all: Vec<Message>, out: &mut Vec<NetworkChange>) {
        let mut gone: BTreeSet<u32> = self.links.keys().copied().collect();
        for message in all {
            if let Message::Link(link) = message {
                gone.remove(&link.index);
                self.link(link, out);
            }
        }
        for index in gone {
            self.removed(index, out);
        }
    }

    /// All default routes, as they are.
    pub(super) fn all_routes(&mut self, all: &[Message], out: &mut Vec<NetworkChange>) {
        let mut now = BTreeMap::new();
        for message in all {
            if let Message::DefaultRoute { family, device } = message {
                now.entry(*family).or_insert(*device);
            }
        }
        for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
            let (device, present) = match (self.routes.get(&family), now.get(&family)) {
                (Some(gone), None) => (*gone, false),
                (None, Some(come)) => (*come, true),
                _ => continue,
            };
            out.push(NetworkChange::DefaultRoute {
                family,
                present,
                device: self.name(device),
            });
        }
        self.routes = now;
    }

    /// All neighbours, as they are: of those that are not among them, nothing is known any more.
    pub(super) fn all_neighbours(&mut self, all: Vec<Message>, out: &mut Vec<NetworkChange>) {
        let mut there = BTreeSet::new();
        for message in all {
            if let Message::Neighbour {
                device,
                address,
                state,
            } = message
            {
                there.insert((device, address));
                self.neighbour((device, address), state, out);
            }
        }
        self.failed.retain(|who| there.contains(who));
    }

    fn name(&self, index: u32) -> String {
        let removed = self.last_removed.as_ref();
        let link = self.links.get(&index);
        let link = link.or_else(|| removed.filter(|link| link.index == index));
        link.map_or_else(|| format!("device {index}"), |link| link.name.clone())
    }
}
