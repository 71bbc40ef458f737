use super::*;
use crate::model::network::IpFamily;
use crate::model::way::{Address, Device, FOREVER, NeighbourEntry, Prefix, Route, Seen};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn found(gateway: &str) -> Diagnosis {
    let device = Device {
        index: 3,
        name: "wire".to_owned(),
    };
    Diagnosis {
        network: "uplink".to_owned(),
        seen: Seen {
            device,
            up: true,
            carrier: true,
            addresses: vec![Address {
                prefix: Prefix::parse("10.0.0.2/24").expect("it reads"),
                valid: FOREVER,
                preferred: FOREVER,
            }],
            routes: vec![Route {
                family: IpFamily::Ipv4,
                to: None,
                via: Some(ip(gateway)),
                device: 3,
                metric: 0,
                source: None,
                protocol: 4,
                onlink: false,
            }],
            neighbour: Some(NeighbourEntry {
                address: ip(gateway),
                link: vec![1, 2, 3, 4, 5, 6],
                permanent: false,
            }),
            resolv_conf: Some("nameserver 10.0.0.53\n".to_owned()),
            resolvers: vec![ip("10.0.0.53")],
            ..Seen::default()
        },
        ..Diagnosis::default()
    }
}

fn way() -> Way {
    Way {
        name: "uplink".to_owned(),
        device: "wire".to_owned(),
        backup_gateways: vec![ip("10.0.0.9")],
        timeout: Duration::from_secs(1),
        ..Way::default()
    }
}

#[test]
fn what_works_is_learned_and_kept_and_a_stopgap_is_not() {
    let folder = std::env::temp_dir().join(format!("sm-ways-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let ways = Ways::new(&folder);
    ways.configure(&[way()]).expect("it can be made");
    let known = ways.all().pop().expect("it is there");
    known.learn(&found("10.0.0.1"));
    let learned = known.before();
    assert_eq!(learned.gateway, Some(ip("10.0.0.1")));
    assert_eq!(learned.gateway_link, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        learned.resolv_conf.as_deref(),
        Some("nameserver 10.0.0.53\n")
    );
    known.learn(&found("10.0.0.9"));
    assert_eq!(known.before(), learned, "it stands in for the gateway");
    let again = Ways::new(&folder);
    again.configure(&[way()]).expect("it can be made");
    let kept = again.all().pop().expect("it is there").before();
    assert_eq!(kept, learned);
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn what_is_broken_teaches_nothing() {
    let mut broken = found("10.0.0.1");
    broken.fault = Some(crate::model::way::NetworkFault::Upstream);
    assert_eq!(learned(&way(), &Baseline::default(), &broken), None);
    let mut by_another = found("10.0.0.1");
    by_another.seen.routes[0].device = 7;
    let before = learned(&way(), &Baseline::default(), &found("10.0.0.1")).expect("it works");
    assert_eq!(learned(&way(), &before, &by_another), None);
}

#[test]
fn a_turn_is_one_at_a_time() {
    let ways = Ways::new(Path::new("/nonexistent"));
    ways.configure(&[way()]).expect("it can be made");
    let turn = ways.turn("uplink").expect("it is free");
    let second = ways.turn("uplink").expect_err("it is taken");
    assert!(matches!(second, HostError::OtherNetwork(_)), "{second}");
    drop(turn);
    ways.turn("uplink").expect("it is free again");
    let unknown = ways.turn("nothing").expect_err("there is none");
    assert!(matches!(unknown, HostError::NoNetwork(_)), "{unknown}");
}
