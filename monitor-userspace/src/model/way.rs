//! A way out of this host (a `[[network]]`): what it is to be, what it was while all was well, what is broken of it, and the steps that
//! repair it. Each step knows what changes it back.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::network::IpFamily;

mod expected;

/// A `[[network]]`, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Its name.
    pub name: String,
    /// The network device.
    pub device: String,
    /// Addresses that the device must have; those it had while all was well when none are given.
    pub addresses: Vec<Prefix>,
    /// Where packets to everywhere go; where they went while all was well when it is not given.
    pub gateway: Option<IpAddr>,
    /// Other gateways on the same wire, in the order in which they are tried.
    pub backup_gateways: Vec<IpAddr>,
    /// The file that names the resolvers.
    pub resolv_conf: PathBuf,
    /// Other resolvers, in the order in which they are tried.
    pub backup_resolvers: Vec<IpAddr>,
    /// Names that must resolve; without one, resolvers are not looked at.
    pub names: Vec<String>,
    /// What must be reachable beyond the gateway; one that answers is enough.
    pub anchors: Vec<Anchor>,
    /// Addresses of the same thing elsewhere, of which one is used.
    pub endpoints: Vec<Endpoint>,
    /// The file that says which address of an endpoint is used.
    pub hosts: PathBuf,
    /// Time between two looks while all is well.
    pub every: Duration,
    /// How long an answer is waited for at most.
    pub timeout: Duration,
    /// Asks for the device's addresses anew (DHCP).
    pub renew: Vec<String>,
    /// Starts the host's network service anew.
    pub restart_network: Vec<String>,
    /// Starts the host's resolver anew.
    pub restart_resolver: Vec<String>,
}

/// Something beyond the gateway that shows that packets get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// It accepts connections, or refuses them.
    Tcp(SocketAddr),
    /// It answers pings.
    Icmp(IpAddr),
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Icmp(address) => write!(f, "icmp:{address}"),
        }
    }
}

/// One thing that can be reached at several addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The name by which programs of this host know it.
    pub name: String,
    /// Where it is; the first is the one that is used while it answers.
    pub addresses: Vec<SocketAddr>,
}

/// An address and how many of its bits are those of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Bits of its network.
    pub bits: u8,
}

impl Prefix {
    /// Written `10.0.0.2/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// A network device. Its number is its identity; a name can be given to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number; 0 for none.
    pub index: u32,
    /// What it is called.
    pub name: String,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address and its network.
    pub prefix: Prefix,
    /// Seconds that it is still good for; [`FOREVER`] for ever.
    pub valid: u32,
    /// Seconds that it is still used for what is new.
    pub preferred: u32,
}

/// A lifetime without an end.
pub const FOREVER: u32 = u32::MAX;

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its family.
    pub family: IpFamily,
    /// Where it leads; none for everywhere.
    pub to: Option<Prefix>,
    /// The gateway; none for what is on the wire.
    pub via: Option<IpAddr>,
    /// The device's number.
    pub device: u32,
    /// Of several to the same place the least counts.
    pub metric: u32,
    /// The address that is sent from, where it says one.
    pub source: Option<IpAddr>,
    /// Who made it (`/etc/iproute2/rt_protos`).
    pub protocol: u8,
    /// The gateway is on the wire, whatever the addresses say.
    pub onlink: bool,
}

impl Route {
    /// Whether both are the same but for what does not change where packets go.
    pub fn same(&self, other: &Self) -> bool {
        self.family == other.family
            && self.to == other.to
            && self.via == other.via
            && self.device == other.device
            && self.metric == other.metric
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            None => f.write_str("default")?,
            Some(to) => write!(f, "{to}")?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

/// What the host believes a neighbour's link address to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourEntry {
    /// Its address.
    pub address: IpAddr,
    /// Its link address; empty while it is not known.
    pub link: Vec<u8>,
    /// Somebody put it there, and the host never asks whether it is true.
    pub permanent: bool,
}

impl NeighbourEntry {
    /// The link address as people write it.
    pub fn link_words(&self) -> String {
        let bytes: Vec<String> = self.link.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    }
}

/// How a way was while all was well: what it is brought back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The device's number; 0 before all was well.
    pub device: u32,
    /// Its addresses; not those that are made anew by themselves.
    pub addresses: Vec<Address>,
    /// Routes over it, but those that come with its addresses.
    pub routes: Vec<Route>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The gateway's link address.
    pub gateway_link: Vec<u8>,
    /// The file that names the resolvers, as it was.
    pub resolv_conf: Option<String>,
}

/// How a way is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The device; without a number where there is none.
    pub device: Device,
    /// Switched on.
    pub up: bool,
    /// There is somebody at the other end of the wire.
    pub carrier: bool,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Routes over it, and routes to everywhere over whatever device.
    pub routes: Vec<Route>,
    /// What is believed of the gateway.
    pub neighbour: Option<NeighbourEntry>,
    /// The file that names the resolvers; none where there is none, or none that can be read.
    pub resolv_conf: Option<String>,
    /// The file that says which address of an endpoint is used, where there are endpoints.
    pub hosts: Option<String>,
    /// Backup gateways that answer.
    pub gateways: Vec<IpAddr>,
    /// Resolvers that answer, of those that are configured or were while all was well.
    pub resolvers: Vec<IpAddr>,
    /// Addresses of endpoints that answer.
    pub endpoints: Vec<SocketAddr>,
}

/// What is broken of a way: the lowest layer that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum NetworkFault {
    /// There is no such device.
    NoDevice,
    /// The device is switched off.
    LinkOff,
    /// Nobody is at the other end of the wire.
    NoCarrier,
    /// Addresses are gone.
    AddressLost {
        /// Which.
        addresses: Vec<Prefix>,
    },
    /// Routes are gone.
    RouteLost {
        /// Which, in words.
        routes: Vec<String>,
    },
    /// Packets to everywhere go elsewhere than they did.
    RouteWrong {
        /// The route, in words.
        found: String,
    },
    /// The link address that the gateway is believed to have is not the one that it had.
    NeighbourWrong {
        /// The gateway.
        gateway: IpAddr,
        /// What is believed.
        found: String,
    },
    /// The gateway does not answer, by whatever it is asked.
    GatewaySilent {
        /// The gateway.
        gateway: IpAddr,
    },
    /// All that is on this side works, and nothing beyond the gateway answers.
    Upstream,
    /// The file that names the resolvers has changed, and names none that answers.
    ResolversChanged,
    /// No resolver answers.
    ResolversSilent,
    /// The address of an endpoint that is used does not answer.
    EndpointSilent {
        /// Its name.
        name: String,
        /// The address.
        address: SocketAddr,
    },
}

impl NetworkFault {
    /// The layer, in a word.
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::NoDevice | Self::LinkOff | Self::NoCarrier => "link",
            Self::AddressLost { .. } => "address",
            Self::RouteLost { .. } | Self::RouteWrong { .. } => "route",
            Self::NeighbourWrong { .. } => "neighbour",
            Self::GatewaySilent { .. } => "gateway",
            Self::Upstream => "upstream",
            Self::ResolversChanged | Self::ResolversSilent => "dns",
            Self::EndpointSilent { .. } => "endpoint",
        }
    }
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("there is no such device"),
            Self::LinkOff => f.write_str("the device is switched off"),
            Self::NoCarrier => {
                f.write_str("no carrier: look at the cable, and at what is at its other end")
            }
            Self::AddressLost { addresses } => write!(f, "lost: {}", list(addresses)),
            Self::RouteLost { routes } => write!(f, "lost: {}", list(routes)),
            Self::RouteWrong { found } => write!(f, "{found} is not the way that worked"),
            Self::NeighbourWrong { gateway, found } => {
                write!(
                    f,
                    "{gateway} is believed to be at {found}, where it was not"
                )
            }
            Self::GatewaySilent { gateway } => write!(f, "the gateway {gateway} is silent"),
            Self::Upstream => f.write_str(
                "this side works, and nothing beyond the gateway answers: the trouble is upstream",
            ),
            Self::ResolversChanged => f.write_str(
                "the file that names the resolvers has changed, and none that it names answers",
            ),
            Self::ResolversSilent => f.write_str("no resolver answers"),
            Self::EndpointSilent { name, address } => {
                write!(f, "{address}, which is used for {name}, does not answer")
            }
        }
    }
}

fn list<T: fmt::Display>(all: &[T]) -> String {
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// What a look at a way found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The `[[network]]`.
    pub network: String,
    /// What is broken; none while all is well.
    pub fault: Option<NetworkFault>,
    /// What was looked at, from the bottom up, and what was found.
    pub facts: Vec<(String, String)>,
    /// How it is.
    pub seen: Seen,
    /// How it was.
    pub before: Baseline,
}

/// One change of a network. What it is done to is compared at the last moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum NetworkStep {
    /// Switch a device on or off.
    Link {
        /// Which.
        device: Device,
        /// On.
        up: bool,
    },
    /// Give a device an address, or take it away.
    Address {
        /// Which.
        device: Device,
        /// The address.
        address: Address,
        /// Give.
        add: bool,
    },
    /// Add a route, or take it away.
    Route {
        /// The device it leads over.
        device: Device,
        /// The route.
        route: Route,
        /// Add.
        add: bool,
    },
    /// Forget what is believed of a neighbour, so that it is asked; or believe it again.
    Neighbour {
        /// The device on whose wire it is.
        device: Device,
        /// What is believed.
        entry: NeighbourEntry,
        /// Forget.
        forget: bool,
    },
    /// Write a small file anew; nothing is done where it is not as it was.
    File {
        /// Which.
        path: PathBuf,
        /// What stands in it; none where there is none.
        before: Option<String>,
        /// What is to stand in it; none: it is removed.
        after: Option<String>,
    },
    /// Run a command of the configuration.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
}

impl NetworkStep {
    /// What changes it back; none for a command.
    pub fn inverse(&self) -> Option<Self> {
        let mut inverse = self.clone();
        match &mut inverse {
            Self::Link { up, .. } => *up = !*up,
            Self::Address { add, .. } | Self::Route { add, .. } => *add = !*add,
            Self::Neighbour { forget, .. } => *forget = !*forget,
            Self::File { before, after, .. } => std::mem::swap(before, after),
            Self::Command { .. } => return None,
        }
        Some(inverse)
    }
}

impl fmt::Display for NetworkStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { device, up } => {
                write!(f, "switch {device} {}", if *up { "on" } else { "off" })
            }
            Self::Address {
                device,
                address,
                add,
            } => {
                let (verb, to) = if *add {
                    ("give", "to")
                } else {
                    ("take", "from")
                };
                write!(f, "{verb} {} {to} {device}", address.prefix)
            }
            Self::Route { device, route, add } => {
                let verb = if *add { "add" } else { "remove" };
                write!(f, "{verb} the route {route} over {device}")
            }
            Self::Neighbour {
                device,
                entry,
                forget,
            } => {
                let verb = if *forget { "forget" } else { "believe again" };
                let link = entry.link_words();
                write!(f, "{verb} that {} is at {link} on {device}", entry.address)
            }
            Self::File {
                path, after: None, ..
            } => write!(f, "remove {}", path.display()),
            Self::File { path, after, .. } => {
                let kept = |line: &&str| !line.is_empty() && !line.starts_with('#');
                let lines: Vec<&str> = after
                    .iter()
                    .flat_map(|text| text.lines())
                    .filter(kept)
                    .collect();
                write!(f, "write {}: {}", path.display(), lines.join("; "))
            }
            Self::Command { command } => write!(f, "run `{}`", command.join(" ")),
        }
    }
}

/// Steps that together may repair a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkTry {
    /// In this order.
    pub steps: Vec<NetworkStep>,
    /// It is a stopgap, which stays in force until it is changed back: what must answer again before it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopgap: Option<Primary>,
}

impl NetworkTry {
    /// What changes all of it back.
    pub fn inverse(&self) -> Vec<NetworkStep> {
        let steps = self.steps.iter().rev();
        steps.filter_map(NetworkStep::inverse).collect()
    }
}

impl fmt::Display for NetworkTry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(&self.steps))
    }
}

/// What a stopgap stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Primary {
    /// A gateway, on this device.
    Gateway(Device, IpAddr),
    /// Any of these resolvers.
    Resolvers(Vec<IpAddr>),
    /// This address of an endpoint.
    Endpoint(SocketAddr),
}

impl fmt::Display for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(_, address) => write!(f, "the gateway {address}"),
            Self::Resolvers(all) => write!(f, "the resolver {}", list(all)),
            Self::Endpoint(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_read() {
        let prefix = Prefix::parse("10.0.0.2/24").expect("it reads");
        assert_eq!(
            (prefix.bits, prefix.to_string().as_str()),
            (24, "10.0.0.2/24")
        );
        assert!(Prefix::parse("fd00::1/64").is_some());
        for text in [
            "",
            "10.0.0.2",
            "10.0.0.2/33",
            "fd00::1/129",
            "x/24",
            "10.0.0.2/-1",
        ] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_changes_a_step_back_is_changed_back_by_the_step() {
        let device = Device {
            index: 3,
            name: "wire".to_owned(),
        };
        let prefix = Prefix::parse("10.0.0.2/24").expect("it reads");
        let steps = [
            NetworkStep::Link {
                device: device.clone(),
                up: true,
            },
            NetworkStep::Address {
                device,
                address: Address {
                    prefix,
                    valid: FOREVER,
                    preferred: FOREVER,
                },
                add: true,
            },
            NetworkStep::File {
                path: "/etc/resolv.conf".into(),
                before: None,
                after: Some("nameserver 10.0.0.1\n".to_owned()),
            },
        ];
        for step in &steps {
            let back = step.inverse().expect("it can be changed back");
            assert_ne!(back, *step);
            assert_eq!(back.inverse().as_ref(), Some(step));
        }
        let all = NetworkTry {
            steps: steps.to_vec(),
            stopgap: None,
        };
        assert_eq!(
            all.inverse()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            [
                "remove /etc/resolv.conf",
                "take 10.0.0.2/24 from wire",
                "switch wire off"
            ]
        );
        let command = NetworkStep::Command {
            command: vec!["true".to_owned()],
        };
        assert_eq!(command.inverse(), None);
    }
}
