//! What a way is to be like, and what of that is not there.

use std::net::{IpAddr, SocketAddr};

use super::{Address, Baseline, FOREVER, Prefix, Route, Seen, Way};
use crate::model::network::IpFamily;

/// Metric of a route of IPv6 that names none.
const IPV6_METRIC: u32 = 1024;
/// `RTPROT_STATIC`
const STATIC: u8 = 4;

impl Way {
    /// The gateway, as configured or as it was.
    pub fn primary(&self, before: &Baseline) -> Option<IpAddr> {
        self.gateway.or(before.gateway)
    }

    /// Every gateway that may be used, the first one first.
    pub fn gateways(&self, before: &Baseline) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.primary(before).into_iter().collect();
        for backup in &self.backup_gateways {
            if !all.contains(backup) {
                all.push(*backup);
            }
        }
        all
    }

    /// The gateway in use, of those that may be.
    pub fn current(&self, before: &Baseline, seen: &Seen) -> Option<IpAddr> {
        let allowed = self.gateways(before);
        let family = self.primary(before).map(family);
        let mut defaults: Vec<&Route> = seen.routes.iter().filter(|it| it.to.is_none()).collect();
        defaults.retain(|route| family.is_none_or(|family| route.family == family));
        defaults.sort_by_key(|route| route.metric);
        let first = defaults.first()?;
        let mine = first.device == seen.device.index;
        first.via.filter(|via| mine && allowed.contains(via))
    }

    /// Whether the gateway in use stands in for another.
    pub fn on_backup(&self, before: &Baseline, seen: &Seen) -> bool {
        let current = self.current(before, seen);
        current.is_some() && current != self.primary(before)
    }

    /// Addresses that are to be there and are not.
    pub fn lost_addresses(&self, before: &Baseline, seen: &Seen) -> Vec<Address> {
        let there = |prefix: Prefix| seen.addresses.iter().any(|it| it.prefix == prefix);
        let configured = self.addresses.iter().map(|prefix| {
            let known = before.addresses.iter().find(|it| it.prefix == *prefix);
            known.copied().unwrap_or(Address {
                prefix: *prefix,
                valid: FOREVER,
                preferred: FOREVER,
            })
        });
        let learned = before.addresses.iter().copied();
        let learned = learned.filter(|_| self.addresses.is_empty());
        let wanted = configured.chain(learned);
        wanted.filter(|it| !there(it.prefix)).collect()
    }

    /// The route to everywhere by this gateway.
    pub fn default_route(&self, gateway: IpAddr, before: &Baseline, device: u32) -> Route {
        let family = family(gateway);
        let mut known = before.routes.iter();
        let known = known.find(|it| it.to.is_none() && it.family == family);
        let metric = if family == IpFamily::Ipv6 {
            IPV6_METRIC
        } else {
            0
        };
        Route {
            family,
            to: None,
            via: Some(gateway),
            device,
            metric: known.map_or(metric, |known| known.metric),
            source: known.and_then(|known| known.source),
            protocol: known.map_or(STATIC, |known| known.protocol),
            onlink: known.is_some_and(|known| known.onlink),
        }
    }

    fn wanted_routes(&self, before: &Baseline, seen: &Seen) -> Vec<Route> {
        let device = seen.device.index;
        let current = self.current(before, seen);
        let default = current.or(self.primary(before));
        let default = default.map(|gateway| self.default_route(gateway, before, device));
        let is_default = |route: &Route| {
            route.to.is_none() && default.is_some_and(|default| default.family == route.family)
        };
        let others = before.routes.iter().filter(|route| !is_default(route));
        let others = others.map(|route| Route { device, ..*route });
        default.into_iter().chain(others).collect()
    }

    /// Routes that are to be there and are not.
    pub fn lost_routes(&self, before: &Baseline, seen: &Seen) -> Vec<Route> {
        let there = |route: &Route| seen.routes.iter().any(|it| it.same(route));
        let mut wanted = self.wanted_routes(before, seen);
        wanted.retain(|route| !there(route));
        wanted
    }

    /// Routes to everywhere that are used in the place of the one that is to be used.
    pub fn wrong_routes(&self, before: &Baseline, seen: &Seen) -> Vec<Route> {
        let wanted = self.wanted_routes(before, seen);
        let wrong = seen.routes.iter().filter(|route| {
            let mut defaults = wanted.iter().filter(|it| it.to.is_none());
            let same = |it: &&Route| it.family == route.family;
            let of_family = defaults.find(same);
            let instead = of_family.is_some_and(|it| !it.same(route) && route.metric <= it.metric);
            route.to.is_none() && instead && !wanted.iter().any(|it| it.same(route))
        });
        wrong.copied().collect()
    }

    /// The address of an endpoint that stands in the file, or the first.
    pub fn used_endpoint(
        addresses: &[SocketAddr],
        in_file: Option<&SocketAddr>,
    ) -> Option<SocketAddr> {
        in_file.or_else(|| addresses.first()).copied()
    }
}

fn family(address: IpAddr) -> IpFamily {
    if address.is_ipv4() {
        IpFamily::Ipv4
    } else {
        IpFamily::Ipv6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::way::Device;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn way() -> Way {
        Way {
            name: "uplink".to_owned(),
            device: "wire".to_owned(),
            backup_gateways: vec![ip("10.0.0.9")],
            ..Way::default()
        }
    }

    fn default(via: &str, metric: u32, device: u32) -> Route {
        Route {
            family: family(ip(via)),
            to: None,
            via: Some(ip(via)),
            device,
            metric,
            source: None,
            protocol: STATIC,
            onlink: false,
        }
    }

    fn was() -> (Baseline, Seen) {
        let address = Address {
            prefix: Prefix::parse("10.0.0.2/24").expect("it reads"),
            valid: FOREVER,
            preferred: FOREVER,
        };
        let before = Baseline {
            device: 3,
            addresses: vec![address],
            routes: vec![default("10.0.0.1", 0, 3)],
            gateway: Some(ip("10.0.0.1")),
            ..Baseline::default()
        };
        let seen = Seen {
            device: Device {
                index: 3,
                name: "wire".to_owned(),
            },
            up: true,
            carrier: true,
            addresses: vec![address],
            routes: before.routes.clone(),
            ..Seen::default()
        };
        (before, seen)
    }

    #[test]
    fn what_is_gone_and_what_stands_in_its_place_is_found() {
        let (way, (before, well)) = (way(), was());
        assert!(way.lost_addresses(&before, &well).is_empty());
        assert!(way.lost_routes(&before, &well).is_empty());
        assert!(way.wrong_routes(&before, &well).is_empty());
        let mut seen = well.clone();
        seen.addresses.clear();
        seen.routes = vec![default("10.0.0.77", 0, 3)];
        assert_eq!(way.lost_addresses(&before, &seen), before.addresses);
        assert_eq!(way.lost_routes(&before, &seen), before.routes);
        assert_eq!(way.wrong_routes(&before, &seen), seen.routes);
        // One that counts less stands in nobody's way.
        seen.routes = vec![default("10.0.0.1", 0, 3), default("10.0.0.77", 50, 4)];
        assert!(way.wrong_routes(&before, &seen).is_empty());
    }

    #[test]
    fn a_backup_is_no_wrong_route() {
        let (way, (before, mut seen)) = (way(), was());
        assert!(!way.on_backup(&before, &seen));
        seen.routes = vec![default("10.0.0.9", 0, 3)];
        assert_eq!(way.current(&before, &seen), Some(ip("10.0.0.9")));
        assert!(way.on_backup(&before, &seen));
        assert!(way.lost_routes(&before, &seen).is_empty());
        assert!(way.wrong_routes(&before, &seen).is_empty());
    }

    #[test]
    fn a_device_that_was_made_anew_gets_its_routes_by_its_new_number() {
        let (way, (before, mut seen)) = (way(), was());
        seen.device.index = 8;
        seen.routes.clear();
        let lost = way.lost_routes(&before, &seen);
        assert_eq!(lost.first().map(|route| route.device), Some(8));
    }
}
