//! Bytes as a kernel (6.18) sent them, whole and cut anywhere, and what of them is a change.

use super::message::{Link, Message, Neighbour, parse, request};
use super::*;
use crate::model::network::{IpFamily, LinkState};

/// `ip route add default via 10.9.9.2`, on device 3.
const ROUTE_V4: &str = "34000000180000069dd0026b3d54000002000000fe0300010000000008000f00fe000000080005000a0909020800040003000000";
/// `ip -6 route add default dev wire`, on device 3.
const ROUTE_V6: &str = "60000000180000069dd0026b3e5400000a000000fe0300010000000008000f00fe0000000800060000040000080004000300000024000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000";
/// The route to 10.9.9.0/24, as it was made with the address.
const ROUTE_TO_WIRE: &str = "3c00000018000006000000000000000002180000fe02fd010000000008000f00fe000000080001000a090900080007000a0909010800040003000000";
/// Nobody has 10.9.9.7 on device 3.
const FAILED: &str = "400000001c0000000000000000000000020000000300000020000001080001000a090907080004000600000014000300a1180000310100000000000001000000";
/// It was forgotten: device 3 was switched off.
const FORGOTTEN: &str = "400000001d0000000000000000000000020000000300000020000001080001000a09090708000400060000001400030029190000b90100008800000000000000";
/// The address 10.9.9.1 was taken from device 3.
const ADDRESS: &str = "500000001500000000000000000000000218800003000000080001000a090901080002000a090901090003007769726500000000080008008000000014000600ffffffffffffffffa0a22b00a0a22b00";
/// The bytes of `RTM_DELLINK` that are the same for every device; index 3.
const REMOVED: &str = "2000000011000000000000000000000000000100030000000210000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let pairs = digits.map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("a byte"))
        .collect()
}

fn parsed(bytes: &[u8]) -> io::Result<Vec<Message>> {
    let mut found = Vec::new();
    parse(bytes, None, &mut found).map(|()| found)
}

fn absent() -> std::net::IpAddr {
    "10.9.9.7".parse().expect("an address")
}

fn neighbour(state: Neighbour) -> Message {
    Message::Neighbour {
        device: 3,
        address: absent(),
        state,
    }
}

#[test]
fn messages_of_a_kernel_say_what_they_said() {
    let route = |family| Message::DefaultRoute { family, device: 3 };
    for (hex, expected) in [
        (ROUTE_V4, Some(route(IpFamily::Ipv4))),
        (ROUTE_V6, Some(route(IpFamily::Ipv6))),
        (ROUTE_TO_WIRE, None),
        (FAILED, Some(neighbour(Neighbour::Failed))),
        (FORGOTTEN, Some(neighbour(Neighbour::Forgotten))),
        (ADDRESS, Some(Message::AddressRemoved)),
        (REMOVED, Some(Message::LinkRemoved(3))),
    ] {
        let found = parsed(&bytes(hex)).expect("it is whole");
        assert_eq!(found, Vec::from_iter(expected), "{hex}");
    }
    let both = bytes(&(ROUTE_V4.to_owned() + FAILED));
    assert_eq!(parsed(&both).expect("two are whole, too").len(), 2);
    let mut bridge = bytes(REMOVED);
    *bridge.get_mut(16).expect("its family") = 7;
    assert_eq!(
        parsed(&bridge).expect("it is whole"),
        [],
        "a port of a bridge"
    );
}

#[test]
fn a_route_of_many_ways_goes_via_the_first_and_other_tables_and_kinds_are_not_meant() {
    let mut hops = bytes(ROUTE_V4);
    // In place of `via` and `dev`: `RTA_MULTIPATH`, with one hop on device 9 and nothing more of it.
    hops.truncate(36);
    hops.extend(bytes("0c0009000800000009000000"));
    *hops.first_mut().expect("its length") = 48;
    let route = Message::DefaultRoute {
        family: IpFamily::Ipv4,
        device: 9,
    };
    assert_eq!(parsed(&hops).expect("it is whole"), [route]);
    // Length of the source, table (of the attribute), type (unreachable), dead.
    for (at, value) in [(18, 8), (32, 100), (23, 7), (24, 1)] {
        let mut other = bytes(ROUTE_V4);
        *other.get_mut(at).expect("it is there") = value;
        assert_eq!(parsed(&other).expect("it is whole"), [], "{at}");
    }
}

#[test]
fn what_is_cut_or_spoilt_is_an_error_or_less_and_never_a_panic() {
    for hex in [ROUTE_V4, ROUTE_V6, FAILED, FORGOTTEN, ADDRESS, REMOVED] {
        let whole = bytes(hex);
        for length in 1..whole.len() {
            let cut = whole.get(..length).expect("shorter");
            assert!(parsed(cut).is_err(), "{length} of {hex}");
            // The same, said to be whole.
            let mut short = cut.to_vec();
            if let Some(said) = short.get_mut(..4) {
                said.copy_from_slice(&u32::try_from(length).expect("small").to_ne_bytes());
            }
            assert!(parsed(&short).is_ok_and(|all| all.len() <= 1) || parsed(&short).is_err());
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut spoilt = whole.clone();
                *spoilt.get_mut(at).expect("within") = value;
                let _ = parsed(&spoilt);
            }
        }
    }
    assert!(parsed(&[0; 64]).is_err(), "a length of 0");
    assert!(parsed(&[0xff; 64]).is_err());
}

#[test]
fn the_loopback_device_of_this_host_is_read_whole_and_not_in_parts() {
    let socket = netlink().expect("it needs no rights");
    send(&socket, &request(RTM_GETLINK, 7), SendFlags::empty()).expect("it is asked");
    let mut buffer = vec![0; ANSWER];
    let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()).expect("an answer");
    let answer = buffer.get(..length).expect("within");
    let found = parsed(answer).expect("it is whole");
    let link = found.iter().find_map(|message| match message {
        Message::Link(link) if link.name == "lo" => Some(link),
        _ => None,
    });
    let link = link.expect("every namespace has it");
    assert_eq!((link.index, &link.kind), (1, &None));
    let mut others = Vec::new();
    parse(answer, Some(8), &mut others).expect("it is whole");
    assert_eq!(others, [], "answers to another question");
    for length in 1..answer.len() {
        // At the end of a message, what is left of the answer is whole.
        let cut = parsed(answer.get(..length).expect("shorter"));
        assert!(cut.is_err() || cut.is_ok_and(|some| found.starts_with(&some)));
    }
}

fn link(index: u32, name: &str, up: bool, carrier: bool) -> Message {
    Message::Link(Link {
        index,
        name: name.to_owned(),
        kind: None,
        up,
        carrier,
    })
}

fn told(name: &str, state: LinkState) -> NetworkChange {
    NetworkChange::Link {
        name: name.to_owned(),
        kind: None,
        state,
    }
}

#[test]
fn a_link_is_told_of_when_it_begins_or_ceases_to_work() {
    let mut state = State::default();
    let mut out = Vec::new();
    for (up, carrier) in [(false, false), (true, false), (false, false)] {
        let news = link(3, "eth0", up, carrier);
        assert!(state.news(news, &mut out), "routes may have changed");
    }
    let same = link(3, "eth0", false, false);
    assert!(!state.news(same, &mut out));
    assert!(out.is_empty(), "it never worked");
    for (up, carrier) in [(true, true), (true, true), (true, false), (false, false)] {
        state.news(link(3, "eth0", up, carrier), &mut out);
    }
    let back = link(3, "eth0", true, true);
    assert!(state.news(back, &mut out), "routes may have changed");
    state.news(link(3, "wan", true, true), &mut out);
    // Its end was lost, but for the last word.
    state.news(Message::LinkRemoved(3), &mut out);
    assert!(state.news(Message::LinkRemoved(3), &mut out));
    assert_eq!(
        out,
        [
            told("eth0", LinkState::Up),
            told("eth0", LinkState::NoCarrier),
            told("eth0", LinkState::Up),
            told("eth0", LinkState::Renamed),
            told("wan", LinkState::Up),
            told("wan", LinkState::Off),
            told("wan", LinkState::Removed),
        ]
    );
}

#[test]
fn what_differs_after_a_loss_is_told() {
    let mut state = State::default();
    let mut out = Vec::new();
    let route = Message::DefaultRoute {
        family: IpFamily::Ipv6,
        device: 4,
    };
    state.all_links(
        vec![link(3, "a", true, true), link(4, "b", true, true)],
        &mut out,
    );
    state.all_routes(&[route.clone(), route], &mut out);
    state.news(neighbour(Neighbour::Failed), &mut out);
    state.news(neighbour(Neighbour::Asked), &mut out);
    state.news(neighbour(Neighbour::Failed), &mut out);
    let failed = NetworkChange::Neighbour {
        address: absent(),
        device: "a".to_owned(),
        reachable: false,
    };
    assert_eq!(out.last(), Some(&failed));
    out.clear();
    state.all_neighbours(vec![neighbour(Neighbour::Valid)], &mut out);
    state.all_links(vec![link(3, "a", true, false)], &mut out);
    state.all_routes(&[], &mut out);
    let back = NetworkChange::Neighbour {
        address: absent(),
        device: "a".to_owned(),
        reachable: true,
    };
    let lost = NetworkChange::DefaultRoute {
        family: IpFamily::Ipv6,
        present: false,
        device: "b".to_owned(),
    };
    let rest = [
        back,
        told("a", LinkState::NoCarrier),
        told("b", LinkState::Off),
        told("b", LinkState::Removed),
        lost,
    ];
    assert_eq!(out, rest);
}

#[test]
fn no_more_is_kept_than_has_room() {
    let mut state = State::default();
    let mut out = Vec::new();
    for number in 0..5_000_u32 {
        state.news(link(number, "x", true, true), &mut out);
        let message = Message::Neighbour {
            device: 1,
            address: number.to_be_bytes().into(),
            state: Neighbour::Failed,
        };
        state.news(message, &mut out);
    }
    assert_eq!(out.len(), 4_096 + 256);
}
