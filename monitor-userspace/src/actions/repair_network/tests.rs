use super::*;
use crate::model::network::IpFamily;
use crate::model::way::{Address, Baseline, Device, Endpoint, FOREVER, Prefix, Route, Seen};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn way() -> Way {
    Way {
        name: "uplink".to_owned(),
        device: "wire".to_owned(),
        backup_gateways: vec![ip("10.0.0.9")],
        backup_resolvers: vec![ip("10.0.0.54")],
        resolv_conf: "/etc/resolv.conf".into(),
        ..Way::default()
    }
}

fn network(way: Way, fault: NetworkFault, change: impl FnOnce(&mut Seen)) -> Network {
    let address = Address {
        prefix: Prefix::parse("10.0.0.2/24").expect("it reads"),
        valid: FOREVER,
        preferred: FOREVER,
    };
    let route = Route {
        family: IpFamily::Ipv4,
        to: None,
        via: Some(ip("10.0.0.1")),
        device: 3,
        metric: 0,
        source: None,
        protocol: 4,
        onlink: false,
    };
    let before = Baseline {
        device: 3,
        addresses: vec![address],
        routes: vec![route],
        gateway: Some(ip("10.0.0.1")),
        gateway_link: vec![1, 2, 3, 4, 5, 6],
        resolv_conf: Some("nameserver 10.0.0.53\n".to_owned()),
    };
    let mut seen = Seen {
        device: Device {
            index: 3,
            name: "wire".to_owned(),
        },
        up: true,
        carrier: true,
        addresses: vec![address],
        routes: vec![route],
        resolv_conf: before.resolv_conf.clone(),
        ..Seen::default()
    };
    change(&mut seen);
    let diagnosis = Diagnosis {
        network: "uplink".to_owned(),
        fault: Some(fault),
        seen,
        before,
        ..Diagnosis::default()
    };
    Network {
        way,
        diagnosis: Some(Box::new(diagnosis)),
    }
}

fn words(network: &Network) -> Vec<String> {
    let tries = tries(network).expect("there is something to do");
    tries.iter().map(ToString::to_string).collect()
}

#[test]
fn all_that_went_with_the_link_is_brought_back_in_one() {
    let off = network(way(), NetworkFault::LinkOff, |seen| {
        seen.up = false;
        seen.addresses.clear();
        seen.routes.clear();
    });
    assert_eq!(
        words(&off),
        ["switch wire on, give 10.0.0.2/24 to wire, add the route default via 10.0.0.1 over wire"]
    );
}

#[test]
fn a_lease_is_asked_for_before_an_address_is_taken() {
    let mut way = way();
    way.renew = vec!["dhclient".to_owned(), "wire".to_owned()];
    way.restart_network = vec!["restart".to_owned()];
    let fault = NetworkFault::AddressLost {
        addresses: Vec::new(),
    };
    let lost = network(way, fault, |seen| seen.addresses.clear());
    assert_eq!(
        words(&lost),
        [
            "run `dhclient wire`",
            "give 10.0.0.2/24 to wire",
            "run `restart`"
        ]
    );
}

#[test]
fn only_a_gateway_that_answers_stands_in_for_one_that_does_not() {
    let fault = NetworkFault::GatewaySilent {
        gateway: ip("10.0.0.1"),
    };
    let silent = network(way(), fault.clone(), |seen| {
        seen.gateways = vec![ip("10.0.0.9")];
    });
    let found = tries(&silent).expect("there is a backup");
    assert_eq!(
        words(&silent),
        [
            "remove the route default via 10.0.0.1 over wire, add the route default via 10.0.0.9 over wire"
        ]
    );
    let primary = found[0].stopgap.as_ref().map(ToString::to_string);
    assert_eq!(primary.as_deref(), Some("the gateway 10.0.0.1"));
    let nobody = network(way(), fault, |_| ());
    let why = tries(&nobody).expect_err("nobody answers");
    assert!(why.contains("no backup that answers"), "{why}");
}

#[test]
fn the_file_of_resolvers_is_put_back_or_gets_those_that_answer() {
    let changed = network(way(), NetworkFault::ResolversChanged, |seen| {
        seen.resolv_conf = Some("nameserver 10.0.0.99\n".to_owned());
        seen.resolvers = vec![ip("10.0.0.53")];
    });
    assert_eq!(
        words(&changed),
        ["write /etc/resolv.conf: nameserver 10.0.0.53"]
    );
    let mut way = way();
    way.restart_resolver = vec!["restart".to_owned()];
    let silent = network(way, NetworkFault::ResolversSilent, |seen| {
        seen.resolvers = vec![ip("10.0.0.54")];
    });
    assert_eq!(
        words(&silent),
        [
            "run `restart`",
            "write /etc/resolv.conf: nameserver 10.0.0.54; nameserver 10.0.0.53"
        ]
    );
    let found = tries(&silent).expect("there is a backup");
    assert!(found[0].stopgap.is_none() && found[1].stopgap.is_some());
}

#[test]
fn an_endpoint_is_reached_where_it_answers() {
    let mut way = way();
    let addresses = ["10.1.0.1:80", "10.1.0.2:80"]
        .iter()
        .filter_map(|it| it.parse().ok());
    way.endpoints = vec![Endpoint {
        name: "api".to_owned(),
        addresses: addresses.collect(),
    }];
    way.hosts = "/etc/hosts".into();
    let first = way.endpoints[0].addresses[0];
    let fault = NetworkFault::EndpointSilent {
        name: "api".to_owned(),
        address: first,
    };
    let silent = network(way, fault, |seen| {
        seen.hosts = Some("127.0.0.1 localhost\n".to_owned());
        seen.endpoints = vec!["10.1.0.2:80".parse().expect("an address")];
    });
    assert_eq!(
        words(&silent),
        ["write /etc/hosts: 127.0.0.1 localhost; 10.1.0.2 api # smart-monitor: backup"]
    );
    let found = tries(&silent).expect("there is a backup");
    assert_eq!(found[0].stopgap, Some(Primary::Endpoint(first)));
}

#[test]
fn what_nothing_here_can_repair_has_no_plan() {
    for fault in [
        NetworkFault::Upstream,
        NetworkFault::NoCarrier,
        NetworkFault::NoDevice,
    ] {
        let why = tries(&network(way(), fault, |_| ())).expect_err("there is nothing to do");
        assert!(
            why.starts_with("nothing on this host can repair it"),
            "{why}"
        );
    }
}

/// A network whose file somebody else may have edited.
#[derive(Debug)]
struct Edited(bool);

impl NetworkHand for Edited {
    fn look(&self) -> Result<Diagnosis, HostError> {
        Ok(Diagnosis::default())
    }

    fn confirm(&self, _: Duration) -> Result<Diagnosis, HostError> {
        self.look()
    }

    fn apply(&self, step: &NetworkStep) -> Result<bool, HostError> {
        let edited = self.0 && matches!(step, NetworkStep::File { .. });
        if edited {
            return Err(HostError::OtherNetwork("it was written to".to_owned()));
        }
        Ok(true)
    }

    fn has(&self, step: &NetworkStep) -> Result<bool, HostError> {
        self.apply(step)
    }

    fn left_alone(&self, _: &NetworkStep) -> Option<String> {
        self.0
            .then(|| "the file was changed by somebody else since: left as it is".to_owned())
    }

    fn answers(&self, _: &Primary) -> Result<bool, HostError> {
        Ok(true)
    }
}

#[test]
fn an_undo_says_what_it_leaves_as_somebody_else_made_it() {
    let file = NetworkStep::File {
        path: "/etc/resolv.conf".into(),
        before: Some("nameserver 10.0.0.54\n".to_owned()),
        after: Some("nameserver 10.0.0.53\n".to_owned()),
    };
    let link = NetworkStep::Link {
        device: Device {
            index: 3,
            name: "wire".to_owned(),
        },
        up: true,
    };
    let undone = |edited: bool, steps: &[NetworkStep]| {
        let back = change_back(&Edited(edited), steps);
        finished("uplink", Time::from_nanos(1), back)
    };
    let left = "uplink: the file was changed by somebody else since: left as it is".to_owned();
    let only = undone(true, std::slice::from_ref(&file));
    assert_eq!(
        only.result,
        EffectResult::Refused {
            reason: left.clone()
        }
    );
    assert!(only.undo.is_none() && only.acted.is_none());
    let both = undone(true, &[file.clone(), link]);
    assert_eq!(both.result, EffectResult::Done { detail: left });
    let detail = "uplink is as it was before".to_owned();
    assert_eq!(undone(false, &[file]).result, EffectResult::Done { detail });
}
