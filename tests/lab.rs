//! A network to break: a host, a switch, and two routers that both lead to the same places. Each is a network namespace of its own, gone
//! when dropped.
//!
//! The far side is the routers themselves: both have its addresses. What is dead there is silent; what is alive refuses connections, which
//! shows that packets get there and back.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::program;

/// The host's device.
pub const DEVICE: &str = "wire";
/// The port of an anchor.
pub const PORT: u16 = 4443;

/// Addresses of the lab in one family.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The host's, with its bits.
    pub host: &'static str,
    /// The first router's, and the second's.
    pub routers: [&'static str; 2],
    /// Bits of that network.
    pub bits: u8,
    /// Two places on the far side.
    pub far: [&'static str; 2],
    /// Two resolvers there.
    pub resolvers: [&'static str; 2],
}

/// IPv4.
pub const V4: Plan = Plan {
    host: "10.77.0.2/24",
    routers: ["10.77.0.1", "10.77.0.254"],
    bits: 24,
    far: ["10.99.0.1", "10.99.0.2"],
    resolvers: ["10.99.0.53", "10.99.0.54"],
};

/// IPv6.
pub const V6: Plan = Plan {
    host: "fd77::2/64",
    routers: ["fd77::1", "fd77::fe"],
    bits: 64,
    far: ["fd99::1", "fd99::2"],
    resolvers: ["fd99::53", "fd99::54"],
};

/// A network namespace.
#[derive(Debug)]
pub struct Space(String);

impl Space {
    fn new(name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sm-{name}-{}-{number}", std::process::id());
        done(program("ip").args(["netns", "add", &name]))?;
        let space = Self(name);
        space.ip("link set lo up")?;
        Ok(space)
    }

    /// Runs `ip` in it; what it wrote.
    pub fn ip(&self, words: &str) -> Result<String> {
        let mut ip = program("ip");
        ip.args(["-n", &self.0]).args(words.split(' '));
        done(&mut ip)
    }

    /// Sets a parameter of the kernel in it.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.inside(|| std::fs::write(path, value))?;
        Ok(())
    }

    /// Calls a function on a thread of this process that is in it. Sockets made there stay in it, and so do processes started there.
    pub fn inside<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("root may enter it");
                call()
            });
            inside.join().expect("the thread inside ends well")
        })
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.0))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if done(program("ip").args(["netns", "del", &self.0])).is_err() {
            eprintln!("network namespace {} is left behind", self.0);
        }
    }
}

fn done(command: &mut Command) -> Result<String> {
    let output = command.output().context("ip (iproute2) is not there")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {told}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A resolver that knows every name; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    silent: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolver {
    /// It is on the far side, and so reached by either router.
    fn new(routers: &[Space; 2], at: &str) -> Result<Self> {
        let address: IpAddr = at.parse()?;
        let (silent, ending) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for space in routers {
            let socket = space.inside(|| UdpSocket::bind((address, 53)))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            let (quiet, end) = (Arc::clone(&silent), Arc::clone(&ending));
            threads.push(std::thread::spawn(move || {
                let mut question = [0; 512];
                while !end.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut question)
                        && !quiet.load(Ordering::Relaxed)
                        && let Some(answer) = answer(&question[..length])
                    {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }));
        }
        Ok(Self {
            silent,
            ending,
            threads,
        })
    }

    /// Has it answer no more, or again.
    pub fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The question again, with an address of documentation (RFC 1035).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = question.to_vec();
    answer.get_mut(2..4)?.copy_from_slice(&[0x81, 0x80]);
    answer.get_mut(6..8)?.copy_from_slice(&[0, 1]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    Some(answer)
}

/// All of it. Resolvers first: they end before their namespaces do.
#[derive(Debug)]
pub struct Lab {
    /// Two, on the far side.
    pub resolvers: [Resolver; 2],
    /// Where the daemon runs.
    pub host: Space,
    /// Its ports are `host`, `r0` and `r1`.
    pub switch: Space,
    /// The gateway, and the one that can stand in for it.
    pub routers: [Space; 2],
    /// Its addresses.
    pub plan: Plan,
}

impl Lab {
    /// Everything works.
    pub fn new(plan: Plan) -> Result<Self> {
        let (host, switch) = (Space::new("host")?, Space::new("switch")?);
        let routers = [Space::new("r0")?, Space::new("r1")?];
        switch.ip("link add br0 type bridge")?;
        switch.ip("link set br0 up")?;
        for (port, space) in [("host", &host), ("r0", &routers[0]), ("r1", &routers[1])] {
            let peer = format!(
                "link add {port} type veth peer name {DEVICE} netns {}",
                space.0
            );
            switch.ip(&peer)?;
            switch.ip(&format!("link set {port} master br0 up"))?;
        }
        for (router, address) in routers.iter().zip(plan.routers) {
            router.ip(&format!("link set {DEVICE} up"))?;
            add(router, DEVICE, &format!("{address}/{}", plan.bits))?;
            for far in plan.far.iter().chain(&plan.resolvers) {
                let bits = if far.contains(':') { 128 } else { 32 };
                add(router, "lo", &format!("{far}/{bits}"))?;
            }
        }
        let resolver = |at: usize| Resolver::new(&routers, plan.resolvers[at]);
        let resolvers = [resolver(0)?, resolver(1)?];
        let lab = Self {
            resolvers,
            host,
            switch,
            routers,
            plan,
        };
        lab.host.ip(&format!("link set {DEVICE} up"))?;
        add(&lab.host, DEVICE, plan.host)?;
        lab.host
            .ip(&format!("route add default via {}", plan.routers[0]))?;
        crate::wait_until(crate::PATIENCE, "the far side is reached", || {
            lab.flows().then_some(())
        })?;
        Ok(lab)
    }

    /// The first place on the far side.
    pub fn far(&self) -> SocketAddr {
        self.anchor(0)
    }

    /// A place on the far side.
    pub fn anchor(&self, at: usize) -> SocketAddr {
        let address = self.plan.far[at].parse().unwrap_or(IpAddr::from([0; 4]));
        SocketAddr::new(address, PORT)
    }

    /// Whether packets get there and back.
    pub fn flows(&self) -> bool {
        self.host.inside(|| flows(self.far()))
    }

    /// Links, addresses, routes and what was put by hand of neighbours, as text without what changes by itself.
    pub fn state(&self) -> Result<String> {
        let mut state = String::new();
        let flags = self.host.ip(&format!("-br link show dev {DEVICE}"))?;
        state.push_str(&flags);
        let addresses = self
            .host
            .ip(&format!("-o addr show dev {DEVICE} scope global"))?;
        state.push_str(&addresses);
        for family in ["-4", "-6"] {
            let routes = self.host.ip(&format!("{family} route show table all"))?;
            let mut routes: Vec<&str> = routes
                .lines()
                .filter(|line| !line.contains("fe80"))
                .collect();
            routes.sort_unstable();
            state.push_str(&routes.join("\n"));
        }
        state.push_str(
            &self
                .host
                .ip(&format!("neigh show nud permanent dev {DEVICE}"))?,
        );
        Ok(state)
    }

    /// The `[[network]]` that describes it, with more lines.
    pub fn toml(&self, lines: &str) -> String {
        format!(
            "[[network]]\nname = \"uplink\"\ndevice = \"{DEVICE}\"\nanchors = [\"{}\", \"{}\"]\n{lines}\n",
            self.anchor(0),
            self.anchor(1),
        )
    }
}

fn add(space: &Space, device: &str, address: &str) -> Result<String> {
    // Duplicates are not looked for, so that it can be used at once.
    let nodad = if address.contains(':') { " nodad" } else { "" };
    space.ip(&format!("addr add {address} dev {device}{nodad}"))
}

/// Whether packets get to a place and back, from the calling thread's namespace.
pub fn flows(to: SocketAddr) -> bool {
    let connected = TcpStream::connect_timeout(&to, Duration::from_millis(50));
    connected.is_ok() || connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// What can be broken, and repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is switched off.
    LinkOff,
    /// Its address is taken away.
    AddressLost,
    /// Its default route is.
    RouteLost,
    /// The default route leads to nobody.
    RouteWrong,
    /// The gateway is believed to be where nobody is.
    NeighbourWrong,
    /// The gateway is cut off from the wire.
    GatewaySilent,
    /// The resolver answers no more.
    ResolverSilent,
    /// The file that names resolvers names one that is none.
    ResolversChanged,
}

impl Fault {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::LinkOff,
        Self::AddressLost,
        Self::RouteLost,
        Self::RouteWrong,
        Self::NeighbourWrong,
        Self::GatewaySilent,
        Self::ResolverSilent,
        Self::ResolversChanged,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkOff => "link off",
            Self::AddressLost => "address lost",
            Self::RouteLost => "route lost",
            Self::RouteWrong => "route to a wrong gateway",
            Self::NeighbourWrong => "wrong neighbour entry",
            Self::GatewaySilent => "gateway silent (backup gateway)",
            Self::ResolverSilent => "resolver silent (backup resolver)",
            Self::ResolversChanged => "resolv.conf broken",
        }
    }

    /// Whether it is one of names, not of packets.
    pub const fn is_of_names(self) -> bool {
        matches!(self, Self::ResolverSilent | Self::ResolversChanged)
    }

    /// Brings it about. `resolv_conf` is the file that the daemon was told of.
    pub fn inject(self, lab: &Lab, resolv_conf: &std::path::Path) -> Result<()> {
        let (plan, host) = (lab.plan, &lab.host);
        let nobody = if plan.bits == 24 {
            "10.77.0.99"
        } else {
            "fd77::99"
        };
        match self {
            Self::LinkOff => host.ip(&format!("link set {DEVICE} down"))?,
            Self::AddressLost => host.ip(&format!("addr del {} dev {DEVICE}", plan.host))?,
            Self::RouteLost => host.ip(&format!("route del default via {}", plan.routers[0]))?,
            Self::RouteWrong => host.ip(&format!("route replace default via {nobody}"))?,
            Self::NeighbourWrong => host.ip(&format!(
                "neigh replace {} lladdr 02:00:00:00:00:99 dev {DEVICE} nud permanent",
                plan.routers[0]
            ))?,
            Self::GatewaySilent => lab.switch.ip("link set r0 down")?,
            Self::ResolverSilent => {
                lab.resolvers[0].silence(true);
                String::new()
            }
            Self::ResolversChanged => {
                std::fs::write(resolv_conf, format!("nameserver {nobody}\n"))?;
                String::new()
            }
        };
        Ok(())
    }

    /// Takes away what caused it, where the repair does not: routers and resolvers are elsewhere.
    pub fn lift(self, lab: &Lab) -> Result<()> {
        match self {
            Self::GatewaySilent => {
                lab.switch.ip("link set r0 up")?;
            }
            Self::ResolverSilent => lab.resolvers[0].silence(false),
            _ => {}
        }
        Ok(())
    }
}

/// Whether the first resolver of a file answers, from the calling thread's namespace.
pub fn resolves(resolv_conf: &std::path::Path) -> bool {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    let first = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "));
    first.is_some_and(|first| ask(first.trim()).is_ok())
}

fn ask(server: &str) -> Result<()> {
    let server: IpAddr = server.parse()?;
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    socket.connect((server, 53))?;
    socket.send(b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    if length < 12 {
        bail!("it is no answer");
    }
    Ok(())
}
