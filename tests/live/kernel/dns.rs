//! Questions to DNS servers: answered, refused, sent again, never answered. The servers are in namespaces of the tests' own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::dns_query::{
    ANSWERED, DnsQuery, LATE, NOERROR, NXDOMAIN, REFUSED, SERVFAIL, UNANSWERED,
};
use smart_monitor::host::clock;
use smart_monitor::kernel::{DnsWatch, Options};
use smart_monitor_tests::binary;

use super::namespaces::Namespace;
use super::support::{Lane, Live, PATIENCE, command};

const SERVER: &str = include_str!("dns/server.py");
const A: u16 = 1;
const AAAA: u16 = 28;
/// How long the tests' questions may wait.
const TIMEOUT: Duration = Duration::from_millis(700);

/// A namespace with a server, and the probe that watches it.
struct Scene {
    live: Live,
    dns: DnsWatch,
    unanswered: Vec<DnsQuery>,
    server: Child,
    namespace: Namespace,
}

impl Scene {
    fn new() -> Self {
        let namespace = Namespace::new("dns");
        let mut server = namespace.spawn("python3", &["-c", SERVER]);
        let mut ready = String::new();
        let out = server.stdout.take().expect("it is piped");
        let read = BufReader::new(out).read_line(&mut ready);
        assert_eq!(
            (read.expect("it is text"), &*ready),
            (6, "ready\n"),
            "the server has both ports"
        );
        let live = Live::new(&Options {
            dns_timeout: TIMEOUT,
            ..Options::default()
        });
        Self {
            dns: live.kernel.dns(),
            live,
            unanswered: Vec::new(),
            server,
            namespace,
        }
    }

    /// A socket in the namespace, bound so that it can reach the server there.
    fn socket(&self, local: &str) -> UdpSocket {
        let socket = self.namespace.inside(|| UdpSocket::bind(local));
        let socket = socket.expect("a free port");
        let patience = socket.set_read_timeout(Some(PATIENCE));
        patience.expect("it can be set");
        socket
    }

    /// The events that were told of this name so far, with those that the sweep told.
    fn told(&mut self, name: &str) -> Vec<DnsQuery> {
        let unanswered = &mut self.unanswered;
        self.dns.sweep(clock::now(), |event| {
            if let Event::DnsQuery(query) = event {
                unanswered.push(query);
            }
        });
        let is = |query: &DnsQuery| query.domain().to_string() == name;
        let mut told = self.live.all(|event| match event {
            Event::DnsQuery(query) if is(query) => Some(*query),
            _ => None,
        });
        told.extend(self.unanswered.iter().filter(|query| is(query)));
        told.sort_by_key(|query| query.header.time_ns);
        told
    }

    /// The same, once there are so many.
    fn wait_for(&mut self, name: &str, number: usize) -> Vec<DnsQuery> {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let told = self.told(name);
            if told.len() >= number {
                assert_eq!(told.len(), number, "{told:#?}");
                return told;
            }
            assert!(
                std::time::Instant::now() < end,
                "no {number} events of {name}, but {told:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_one(&mut self, name: &str) -> DnsQuery {
        self.wait_for(name, 1).remove(0)
    }

    /// In which ring the event about this name came.
    fn lane_of(&self, name: &str) -> Option<Lane> {
        let mut seen = self.live.seen.iter();
        seen.find_map(|(lane, event)| match event {
            Event::DnsQuery(query) if query.domain().to_string() == name => Some(*lane),
            _ => None,
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _reaped = self.server.wait();
    }
}

/// A question as it is sent.
fn question(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("it is short"));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(qtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn receive(socket: &UdpSocket) {
    socket.recv(&mut [0; 512]).expect("the server answers");
}

#[test]
fn an_answer_finds_its_question_whatever_the_socket() {
    let mut scene = Scene::new();
    // From where, to where, and whether the socket is connected.
    let ways = [
        ("127.0.0.1:0", "127.0.0.1:53", true),
        ("0.0.0.0:0", "127.0.0.1:53", false),
        ("0.0.0.0:0", "127.0.0.1:53", true),
        ("[::1]:0", "[::1]:53", true),
        ("[::]:0", "[::1]:53", false),
        ("[::]:0", "[::ffff:127.0.0.1]:53", true),
        ("[::]:0", "[::ffff:127.0.0.1]:53", false),
    ];
    for (number, (local, server, connected)) in (1_u16..).zip(ways) {
        let socket = scene.socket(local);
        let server: SocketAddr = server.parse().expect("an address");
        let name = format!("delay50.way{number}.test");
        let question = question(number, &name, A);
        let sent = if connected {
            socket.connect(server).expect("a datagram socket");
            socket.send(&question)
        } else {
            socket.send_to(&question, server)
        };
        sent.expect("loopback is up");
        receive(&socket);
        let told = scene.wait_for_one(&name);
        let canonical = SocketAddr::new(server.ip().to_canonical(), 53);
        assert_eq!((told.server(), told.outcome), (canonical, ANSWERED));
        assert_eq!((told.rcode, told.answers, told.truncated), (NOERROR, 1, 0));
        assert_eq!((told.id, told.qtype, told.sendings), (number, A, 1));
        assert_eq!(told.task.pid, std::process::id(), "{told:#?}");
        let port = socket.local_addr().expect("its address").port();
        assert_eq!(told.flow.local_port, port, "{told:#?}");
        let latency = Duration::from_nanos(told.latency_ns);
        assert!(
            latency >= Duration::from_millis(50) && latency < PATIENCE,
            "{latency:?}"
        );
        assert_ne!(told.inode, 0, "{told:#?}");
    }
}

#[test]
fn codes_are_told_and_only_failures_wake_the_reader() {
    let mut scene = Scene::new();
    let before = scene.dns.figures().answered;
    let socket = scene.socket("127.0.0.1:0");
    socket.connect("127.0.0.1:53").expect("a datagram socket");
    for (label, code, lane) in [
        ("ok", NOERROR, Lane::Bulk),
        ("nx", NXDOMAIN, Lane::Bulk),
        ("servfail", SERVFAIL, Lane::Urgent),
        ("refused", REFUSED, Lane::Urgent),
        ("cut", NOERROR, Lane::Bulk),
    ] {
        let name = format!("{label}.codes.test");
        let sent = socket.send(&question(code + 100, &name, AAAA));
        sent.expect("loopback is up");
        receive(&socket);
        let told = scene.wait_for_one(&name);
        assert_eq!((told.rcode, told.qtype), (code, AAAA), "{name}");
        assert_eq!(told.truncated == 1, label == "cut", "{name}");
        assert_eq!(scene.lane_of(&name), Some(lane), "{name}");
    }
    let after = scene.dns.figures().answered;
    for (code, most) in [(NOERROR, 2), (SERVFAIL, 1), (NXDOMAIN, 1), (REFUSED, 1)] {
        let code = usize::from(code);
        assert!(
            after.rcodes[code] >= before.rcodes[code] + most,
            "{after:?}"
        );
    }
    let all = |totals: &[u64]| totals.iter().sum::<u64>();
    assert_eq!(all(&after.latency), all(&after.rcodes));
}

#[test]
fn what_is_never_answered_is_told_once_with_who_asked() {
    let mut scene = Scene::new();
    // Asks twice, and is gone.
    let script = "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.connect(('127.0.0.1', 53))\nfor _ in range(2): s.send(bytes(eval(sys.argv[1])))";
    let name = "never.gone.test";
    let bytes = format!("{:?}", question(7, name, A));
    let before = scene.dns.figures().unanswered;
    let mut asker = scene.namespace.spawn("python3", &["-c", script, &bytes]);
    assert!(asker.wait().expect("it is ours").success());
    let told = scene.wait_for_one(name);
    assert_eq!((told.outcome, told.sendings), (UNANSWERED, 2));
    assert_eq!(
        (told.task.pid, told.task.comm()),
        (asker.id(), "python3"),
        "{told:#?}"
    );
    let latency = Duration::from_nanos(told.latency_ns);
    assert!(latency >= TIMEOUT && latency < PATIENCE, "{latency:?}");
    scene.live.read_for(2 * TIMEOUT);
    assert_eq!(scene.told(name).len(), 1, "it is told once");
    assert!(scene.dns.figures().unanswered > before);
}

#[test]
fn an_answer_after_the_time_for_it_says_so() {
    let mut scene = Scene::new();
    let socket = scene.socket("127.0.0.1:0");
    let name = "delay1500.late.test";
    let sent = socket.send_to(&question(9, name, A), "127.0.0.1:53");
    sent.expect("loopback is up");
    let told = scene.wait_for(name, 2);
    let outcomes: Vec<_> = told.iter().map(|query| query.outcome).collect();
    assert_eq!(outcomes, [UNANSWERED, LATE]);
    assert!(told[1].latency_ns >= 1_500_000_000, "{told:#?}");
}

#[test]
fn threads_that_share_a_socket_are_told_apart() {
    const EACH: u16 = 20;
    let mut scene = Scene::new();
    let socket = scene.socket("0.0.0.0:0");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let socket = &socket;
            scope.spawn(move || {
                for number in 0..EACH {
                    let name = format!("ok.t{thread}.shared.test");
                    let id = thread * 1_000 + number;
                    let sent = socket.send_to(&question(id, &name, A), "127.0.0.1:53");
                    sent.expect("loopback is up");
                }
            });
        }
    });
    let mut threads = BTreeSet::new();
    for thread in 0..2 {
        let told = scene.wait_for(&format!("ok.t{thread}.shared.test"), usize::from(EACH));
        let ids: BTreeSet<u16> = told.iter().map(|query| query.id).collect();
        let expected = thread * 1_000..thread * 1_000 + EACH;
        assert_eq!(ids, expected.collect(), "each has its answer");
        let tids: BTreeSet<u32> = told.iter().map(|query| query.task.tid).collect();
        assert_eq!(tids.len(), 1, "{told:#?}");
        threads.extend(tids);
    }
    assert_eq!(threads.len(), 2, "{threads:?}");
}

#[test]
fn only_port_53_is_asked() {
    let mut scene = Scene::new();
    let other = scene.socket("127.0.0.1:5353");
    let socket = scene.socket("127.0.0.1:0");
    let name = "never.elsewhere.test";
    let elsewhere = socket.send_to(&question(3, name, A), "127.0.0.1:5353");
    elsewhere.expect("loopback is up");
    receive(&other);
    // What came after it has been told, so would it.
    let sent = socket.send_to(&question(4, "ok.elsewhere.test", A), "127.0.0.1:53");
    sent.expect("loopback is up");
    scene.wait_for_one("ok.elsewhere.test");
    scene.live.read_for(2 * TIMEOUT);
    assert_eq!(scene.told(name), []);
}

/// `/etc/netns/NAME`, whose files `ip netns exec` puts over those of `/etc`.
struct Etc(PathBuf);

impl Etc {
    fn of(namespace: &Namespace, resolv: &str) -> Self {
        let folder = PathBuf::from("/etc/netns").join(namespace.name());
        fs::create_dir_all(&folder).expect("the live tests need root");
        fs::write(folder.join("resolv.conf"), resolv).expect("it is ours");
        Self(folder)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
        // The one above it goes with the last.
        let _last = self.0.parent().map(fs::remove_dir);
    }
}

#[test]
fn a_resolver_library_and_a_real_server_are_seen() {
    let mut scene = Scene::new();
    let resolv = "nameserver 127.0.0.3\noptions timeout:1 attempts:1\n";
    let _etc = Etc::of(&scene.namespace, resolv);
    let options = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file",
        "--user=root",
        "--bind-interfaces",
        "--listen-address=127.0.0.3",
        "--except-interface=none",
        "--local=/test/",
        "--host-record=known.real.test,10.1.2.3,fd00::7",
    ];
    let mut dnsmasq = scene.namespace.spawn("dnsmasq", &options);
    let namespace = Namespace::name(&scene.namespace).to_owned();
    let ask = |name: &str| {
        let mut inside = command("ip");
        inside.args(["netns", "exec", &namespace, "getent", "ahosts", name]);
        inside.output().expect("getent is there")
    };
    let mut known = String::new();
    scene.live.until("dnsmasq to answer", || {
        known = String::from_utf8_lossy(&ask("known.real.test").stdout).into_owned();
        known.contains("10.1.2.3")
    });
    assert!(!ask("unknown.real.test").status.success());
    assert!(!ask("name.elsewhere").status.success());
    let server = IpAddr::from([127, 0, 0, 3]);
    for (name, code) in [
        ("known.real.test", NOERROR),
        ("unknown.real.test", NXDOMAIN),
        ("name.elsewhere", REFUSED),
    ] {
        let told = scene.told(name);
        let answered = told.iter().filter(|query| query.is_answered());
        let types: BTreeSet<u16> = answered
            .filter(|query| query.rcode == code && query.server().ip() == server)
            .map(|query| query.qtype)
            .collect();
        assert!(types.contains(&A), "{name}: {told:#?}");
        let named = told.iter().all(|query| query.task.comm() == "getent");
        assert!(named, "{told:#?}");
    }
    let _killed = dnsmasq.kill();
    let _reaped = dnsmasq.wait();
}

#[test]
fn the_command_line_shows_failures_with_all_they_tell() {
    let scene = Scene::new();
    let program = binary().expect("it is built").display().to_string();
    let mut events = command(&program);
    events.args(["events", "--probe", "dns_query", "--failed", "--json"]);
    events.args(["--count", "2", "--no-resolve"]);
    let mut child = events
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let socket = scene.socket("127.0.0.1:0");
    socket.connect("127.0.0.1:53").expect("a datagram socket");
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _unread = sender.send(line);
        }
    });
    // It says nothing when it has begun to watch: asked until it sees, each time with another id.
    let mut id = 0;
    let mut first = None;
    while first.is_none() && id < 400 {
        id += 1;
        let name = format!("servfail.n{id}.line.test");
        let sent = socket.send(&question(id, &name, A));
        sent.expect("loopback is up");
        receive(&socket);
        first = lines.recv_timeout(Duration::from_millis(50)).ok();
    }
    let first: serde_json::Value =
        serde_json::from_str(&first.expect("it is shown")).expect("it is JSON");
    let of = |key: &str| first.get(key).cloned().unwrap_or_default();
    assert_eq!(
        (of("outcome"), of("rcode_name")),
        ("answered".into(), "SERVFAIL".into()),
        "{first}"
    );
    assert_eq!(
        (of("peer_address"), of("qtype_name"), of("name_cut")),
        ("127.0.0.1".into(), "A".into(), false.into()),
        "{first}"
    );
    let name = of("name").as_str().unwrap_or_default().to_owned();
    assert!(name.ends_with(".line.test"), "{first}");
    assert_eq!(of("pid"), std::process::id(), "{first}");
    if child.try_wait().expect("it is ours").is_none() {
        let _killed = child.kill();
    }
    let _reaped = child.wait();
}
