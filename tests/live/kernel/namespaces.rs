//! Network namespaces of a test's own, and wires between them. Each is gone with what was in it when dropped, also when the test fails.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::support::command;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, with its loopback device up.
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Its full name begins with this one, and no other has it.
    pub(super) fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sm-{name}-{}-{number}", std::process::id());
        must(command("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.must("ip", &["link", "set", "lo", "up"]);
        namespace
    }

    /// As `ip netns` knows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in it.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut inside = command("ip");
        inside.args(["netns", "exec", &self.name, program]);
        inside
    }

    /// Runs a program in it to its end.
    pub(super) fn run(&self, program: &str, args: &[&str]) -> Output {
        let output = self.command(program).args(args).output();
        output.expect("ip is there")
    }

    /// Runs a program in it that must succeed; what it wrote.
    pub(super) fn must(&self, program: &str, args: &[&str]) -> String {
        must(self.command(program).args(args))
    }

    /// Starts a program in it, with pipes for its input and output. `ip` becomes that program: the child is it.
    pub(super) fn spawn(&self, program: &str, args: &[&str]) -> Child {
        let mut inside = self.command(program);
        let piped = inside
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        piped.spawn().expect("ip is there")
    }

    /// Calls a function on a thread of this process that is in it. Sockets made there stay in it.
    pub(super) fn inside<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("ip made it");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), network).expect("root may enter it");
                call()
            });
            inside.join().expect("the thread inside ends well")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = command("ip").args(["netns", "del", &self.name]).status();
        if !removed.is_ok_and(|status| status.success()) {
            println!("network namespace {} is left behind", self.name);
        }
    }
}

/// One end of a wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

impl End {
    /// Its address of either family.
    pub(super) fn addresses(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The device at either end of a wire.
pub(super) const DEVICE: &str = "wire";

/// Joins two namespaces by a pair of devices, both named [`DEVICE`], with addresses `10.x.y.1` and `2` of 24 bits, and `fd00:x:y::1` and
/// `2` of 64.
pub(super) fn pair(a: &Namespace, b: &Namespace) -> (End, End) {
    // Not those of another test process that runs meanwhile.
    let number = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed) * 97;
    let [_, _, x, y] = number.to_be_bytes();
    let mut wire = command("ip");
    wire.args(["-n", &a.name, "link", "add", DEVICE, "type", "veth"]);
    must(wire.args(["peer", "name", DEVICE, "netns", &b.name]));
    let end = |namespace: &Namespace, last: u8| {
        let v4 = Ipv4Addr::new(10, x, y, last);
        let v6 = Ipv6Addr::new(0xfd00, x.into(), y.into(), 0, 0, 0, 0, last.into());
        let v4_of_24 = format!("{v4}/24");
        let v6_of_64 = format!("{v6}/64");
        namespace.must("ip", &["addr", "add", &v4_of_24, "dev", DEVICE]);
        // Duplicates are not looked for, so that it can be used at once.
        namespace.must("ip", &["addr", "add", &v6_of_64, "dev", DEVICE, "nodad"]);
        namespace.must("ip", &["link", "set", DEVICE, "up"]);
        End { v4, v6 }
    };
    (end(a, 1), end(b, 2))
}

fn must(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn two_joined_namespaces_reach_each_other_and_nobody_else_reaches_them() {
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let (_, far) = pair(&a, &b);
    for address in far.addresses() {
        let listener = b.inside(|| std::net::TcpListener::bind((address, 0)).expect("a free port"));
        let peer = listener.local_addr().expect("its address");
        a.inside(|| std::net::TcpStream::connect(peer).expect("the wire is up"));
        std::net::TcpListener::bind(peer).expect_err("the address is in the namespace only");
    }
    assert!(!b.run("false", &[]).status.success());
    let name = b.name().to_owned();
    let mut cat = b.spawn("cat", &[]);
    drop((a, b, cat.stdin.take()));
    assert!(
        cat.wait().expect("it is ours").success(),
        "it ends with its input"
    );
    let left = must(command("ip").args(["netns", "list"]));
    assert!(!left.contains(&name), "{left}");
}
