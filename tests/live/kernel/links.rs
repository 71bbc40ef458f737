//! Links, default routes and neighbours of a namespace, as they change.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smart_monitor::host::clock;
use smart_monitor::host::rtnetlink::Watch;
use smart_monitor::model::network::{IpFamily, LinkState, NetworkChange};

use super::namespaces::{DEVICE, Namespace, pair};

/// Room for news, plenty.
const ROOM: usize = 1 << 20;
/// Far more than anything here takes; a neighbour is asked for three times, a second each.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that the watch tells until `last` is among it, and it has nothing left to read.
fn until(watch: &mut Watch, last: impl Fn(&NetworkChange) -> bool) -> Vec<NetworkChange> {
    let began = Instant::now();
    let mut told = Vec::new();
    loop {
        let next = watch.read(clock::now(), &mut told);
        let next = next.expect("it can be read");
        if next.is_none() && told.iter().any(&last) {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "only {told:?}");
        let wait = next.map_or(Duration::from_millis(100), |next| next.since(clock::now()));
        let timeout = Timespec::try_from(wait).expect("a short time");
        let mut fds = [PollFd::new(&*watch, PollFlags::IN)];
        poll(&mut fds, Some(&timeout)).expect("it can be waited for");
    }
}

fn is_link(change: &NetworkChange, wanted: LinkState) -> bool {
    matches!(change, NetworkChange::Link { name, kind, state }
        if name == DEVICE && kind.as_deref() == Some("veth") && *state == wanted)
}

fn is_route(change: &NetworkChange, wanted: IpFamily, there: bool) -> bool {
    matches!(change, NetworkChange::DefaultRoute { family, present, device }
        if *family == wanted && *present == there && device == DEVICE)
}

#[test]
fn a_link_is_seen_to_lose_its_carrier_to_be_switched_off_and_to_come_back() {
    let (a, b) = (Namespace::new("la"), Namespace::new("lb"));
    pair(&a, &b);
    let mut watch = a.inside(|| Watch::open(ROOM).expect("it needs no rights"));
    let ip = |namespace: &Namespace, state: &str| {
        namespace.must("ip", &["link", "set", DEVICE, state]);
    };
    // Whether its carrier had come before the watch began is not known.
    ip(&b, "down");
    until(&mut watch, |change| is_link(change, LinkState::NoCarrier));
    ip(&b, "up");
    until(&mut watch, |change| is_link(change, LinkState::Up));
    ip(&a, "down");
    until(&mut watch, |change| is_link(change, LinkState::Off));
    ip(&a, "up");
    until(&mut watch, |change| is_link(change, LinkState::Up));
    b.must("ip", &["link", "del", DEVICE]);
    let told = until(&mut watch, |change| is_link(change, LinkState::Removed));
    assert!(!told.contains(&NetworkChange::Missed), "{told:?}");
}

#[test]
fn default_routes_are_seen_to_go_also_with_their_link_and_to_come_back() {
    let (a, b) = (Namespace::new("ra"), Namespace::new("rb"));
    let (_, far) = pair(&a, &b);
    let mut watch = a.inside(|| Watch::open(ROOM).expect("it needs no rights"));
    for (family, option, via) in [
        (IpFamily::Ipv4, "-4", far.v4.to_string()),
        (IpFamily::Ipv6, "-6", far.v6.to_string()),
    ] {
        let route = |verb: &str| {
            a.must("ip", &[option, "route", verb, "default", "via", &via]);
        };
        route("add");
        until(&mut watch, |change| is_route(change, family, true));
        route("del");
        let told = until(&mut watch, |change| is_route(change, family, false));
        assert_eq!(told.len(), 1, "and nothing else: {told:?}");
    }
    a.must(
        "ip",
        &["route", "add", "default", "via", &far.v4.to_string()],
    );
    until(&mut watch, |change| is_route(change, IpFamily::Ipv4, true));
    b.must("ip", &["link", "set", DEVICE, "down"]);
    until(&mut watch, |change| is_link(change, LinkState::NoCarrier));
    // The kernel tells of the link only, and that it does not work is known.
    a.must("ip", &["link", "set", DEVICE, "down"]);
    until(&mut watch, |change| is_route(change, IpFamily::Ipv4, false));
}

#[test]
fn a_neighbour_that_nobody_is_fails_and_is_back_when_somebody_is() {
    let (a, b) = (Namespace::new("na"), Namespace::new("nb"));
    let (_, far) = pair(&a, &b);
    let mut watch = a.inside(|| Watch::open(ROOM).expect("it needs no rights"));
    let nobody = std::net::Ipv4Addr::from(u32::from(far.v4) + 75);
    let wanted = |change: &NetworkChange, there: bool| {
        matches!(change, NetworkChange::Neighbour { address, device, reachable }
            if *address == nobody && device == DEVICE && *reachable == there)
    };
    let knock = || {
        a.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
            socket
                .send_to(b"who is there", (nobody, 9))
                .expect("it waits for an answer");
        });
    };
    knock();
    until(&mut watch, |change| wanted(change, false));
    b.must(
        "ip",
        &["addr", "add", &format!("{nobody}/24"), "dev", DEVICE],
    );
    knock();
    until(&mut watch, |change| wanted(change, true));
}

#[test]
fn a_loss_is_told_once_and_what_was_lost_is_found() {
    let (a, b) = (Namespace::new("oa"), Namespace::new("ob"));
    let (_, far) = pair(&a, &b);
    // The kernel gives no less than a few thousand bytes: room for some routes.
    let mut watch = a.inside(|| Watch::open(1).expect("it needs no rights"));
    let mut many = Vec::new();
    for number in 0..500 {
        let (high, low) = (number / 250, number % 250);
        many.push(format!("route add 10.200.{high}.{low}/32 via {}\n", far.v4));
    }
    many.push(format!("route add default via {}\n", far.v4));
    let path = std::env::temp_dir().join(format!("sm-routes-{}", std::process::id()));
    std::fs::write(&path, many.concat()).expect("a file");
    let batch = path.to_str().expect("it is text").to_owned();
    a.must("ip", &["-batch", &batch]);
    std::fs::remove_file(path).expect("it is ours");
    let told = until(&mut watch, |change| is_route(change, IpFamily::Ipv4, true));
    let missed = told
        .iter()
        .filter(|change| **change == NetworkChange::Missed);
    assert_eq!(missed.count(), 1, "{told:?}");
}

#[test]
fn the_command_line_shows_them_too() {
    let (a, b) = (Namespace::new("ea"), Namespace::new("eb"));
    let (_, far) = pair(&a, &b);
    let binary = smart_monitor_tests::binary().expect("it is built");
    let binary = binary.to_str().expect("it is text");
    let args = ["events", "-p", "network_change", "--count", "1"];
    let mut child = a.spawn(binary, &args);
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut heading = String::new();
    out.read_line(&mut heading).expect("it is text");
    let at = heading.find("WHAT").expect("it has begun");
    a.must(
        "ip",
        &["route", "add", "default", "via", &far.v4.to_string()],
    );
    let mut line = String::new();
    out.read_to_string(&mut line).expect("it is text");
    assert_eq!(
        line.get(at..),
        Some("there is a default route of IPv4 via wire\n"),
        "{line}"
    );
    assert!(line.contains(" network_change "), "{line}");
    assert!(child.wait().expect("it is ours").success());
}
