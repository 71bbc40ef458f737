//! `[[network]]`: a way out of this host that is looked at and may be repaired. As written, and as meant.

mod sense;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::resolve::Mistakes;
use super::response::RawHealer;
use super::units::Span;
use crate::model::way::{Anchor, Endpoint, Prefix, Way};

/// Most networks: each has a thread of its own.
const MOST: usize = 8;
/// Most of anything that one names.
const EACH: usize = 16;
/// Longest name of a network device.
const DEVICE: usize = 15;
/// Least time between two looks.
const OFTEN: Duration = Duration::from_millis(100);
/// Longest time between two looks, or that an answer is waited for.
const SELDOM: Duration = Duration::from_hours(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Its name: in listings, metric labels and remedies.
    pub name: Spanned<String>,
    /// The network device.
    pub device: Spanned<String>,
    /// Two or more things beyond the gateway that show that packets get through: `10.0.0.5:443` for one that accepts or refuses
    /// connections, `icmp:10.0.0.5` for one that answers pings.
    pub anchors: Vec<Spanned<String>>,
    /// Addresses that the device must have, as `10.0.0.2/24`; when not given, those that it has while all is well.
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    /// The gateway; when not given, the one that is used while all is well.
    pub gateway: Option<IpAddr>,
    /// Gateways that are used while the first is silent.
    #[serde(default)]
    pub backup_gateways: Vec<IpAddr>,
    /// The file that names the resolvers.
    #[serde(default = "resolv_conf")]
    pub resolv_conf: PathBuf,
    /// Resolvers that are used while those of that file are silent.
    #[serde(default)]
    pub backup_resolvers: Vec<IpAddr>,
    /// Names that must resolve; without one, resolvers are not looked at.
    #[serde(default)]
    pub names: Vec<Spanned<String>>,
    /// Things that are at several addresses, of which one is used.
    #[serde(default)]
    pub endpoint: Vec<RawEndpoint>,
    /// The file that says which address of an endpoint is used.
    #[serde(default = "hosts")]
    pub hosts: PathBuf,
    /// Time between two looks while all is well; what the kernel tells of is looked at at once.
    #[serde(default = "every")]
    pub every: Spanned<Span>,
    /// Longest time that an answer is waited for.
    #[serde(default = "timeout")]
    pub timeout: Spanned<Span>,
    /// Program and arguments that ask for the device's addresses anew (DHCP).
    #[serde(default)]
    pub renew: Vec<String>,
    /// Program and arguments that start the host's network service anew.
    #[serde(default)]
    pub restart_network: Vec<String>,
    /// Program and arguments that start the host's resolver anew.
    #[serde(default)]
    pub restart_resolver: Vec<String>,
    /// Only say what would have been done to it.
    #[serde(default)]
    pub dry_run: bool,
    /// Who else repairs it.
    pub healer: Option<RawHealer>,
}

/// `[[network.endpoint]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEndpoint {
    /// The name by which programs of this host know it.
    pub name: Spanned<String>,
    /// Where it accepts connections; the first is used while it does.
    pub addresses: Vec<SocketAddr>,
}

fn resolv_conf() -> PathBuf {
    "/etc/resolv.conf".into()
}

fn hosts() -> PathBuf {
    "/etc/hosts".into()
}

fn every() -> Spanned<Span> {
    Spanned::new(0..0, Span::seconds(1))
}

fn timeout() -> Spanned<Span> {
    Spanned::new(0..0, Span::seconds(1))
}

/// What is meant; everything that makes no sense is a mistake.
pub(super) fn resolve(raw: Raw, known: &[Way], mistakes: &mut Mistakes) -> Way {
    let example = |text: &str| Some(text.to_owned());
    let device = raw.device.get_ref();
    let bad = device.is_empty()
        || device.len() > DEVICE
        || device.contains(|c: char| c == '/' || c.is_whitespace());
    if bad {
        let help = example("see `ip link`; for example \"eth0\"");
        mistakes.add(
            &raw.device,
            format!("no device can be called `{device}`"),
            help,
        );
    }
    if known.len() >= MOST {
        mistakes.add(&raw.name, format!("more than {MOST} networks"), None);
    }
    let counts = [
        raw.anchors.len(),
        raw.addresses.len(),
        raw.backup_gateways.len(),
        raw.backup_resolvers.len(),
        raw.names.len(),
        raw.endpoint.len(),
    ];
    if counts.into_iter().any(|count| count > EACH) {
        mistakes.add(&raw.name, format!("more than {EACH} of one thing"), None);
    }
    if raw.anchors.len() < 2 {
        let help = example(
            "for example `anchors = [\"192.0.2.1:443\", \"icmp:198.51.100.1\"]`, of different owners",
        );
        mistakes.add(
            &raw.name,
            "a network needs two `anchors` or more: one alone may be down itself".to_owned(),
            help,
        );
    }
    let mut anchors = Vec::new();
    for text in &raw.anchors {
        match anchor(text.get_ref()) {
            Some(anchor) => anchors.push(anchor),
            None => mistakes.add(
                text,
                format!("`{}` is no anchor", text.get_ref()),
                example("an address and a port (\"192.0.2.1:443\"), or \"icmp:\" and an address; not a name, which would need the resolver"),
            ),
        }
    }
    sense::look(&raw, &anchors, mistakes);
    let mut addresses = Vec::new();
    for text in &raw.addresses {
        match Prefix::parse(text.get_ref()) {
            Some(prefix) => addresses.push(prefix),
            None => mistakes.add(
                text,
                format!("`{}` is no address of a device", text.get_ref()),
                example("write it with the bits of its network: \"10.0.0.2/24\""),
            ),
        }
    }
    for name in &raw.names {
        if !is_host_name(name.get_ref()) {
            let message = format!("`{}` is no name that resolves", name.get_ref());
            mistakes.add(name, message, None);
        }
    }
    let endpoints = raw.endpoint.into_iter();
    let endpoints = endpoints
        .map(|endpoint| self::endpoint(endpoint, mistakes))
        .collect();
    let (every, timeout) = (raw.every.get_ref().0, raw.timeout.get_ref().0);
    if every < OFTEN || every > SELDOM {
        mistakes.add(&raw.every, "`every` is 100ms to 1h".to_owned(), None);
    }
    if timeout < OFTEN || timeout > LONGEST_WAIT {
        mistakes.add(&raw.timeout, "`timeout` is 100ms to 30s".to_owned(), None);
    }
    Way {
        name: raw.name.into_inner(),
        device: raw.device.into_inner(),
        addresses,
        gateway: raw.gateway,
        backup_gateways: raw.backup_gateways,
        resolv_conf: raw.resolv_conf,
        backup_resolvers: raw.backup_resolvers,
        names: raw.names.into_iter().map(Spanned::into_inner).collect(),
        anchors,
        endpoints,
        hosts: raw.hosts,
        every,
        timeout,
        renew: raw.renew,
        restart_network: raw.restart_network,
        restart_resolver: raw.restart_resolver,
    }
}

fn endpoint(raw: RawEndpoint, mistakes: &mut Mistakes) -> Endpoint {
    if !is_host_name(raw.name.get_ref()) {
        let message = format!("`{}` is no name of a host", raw.name.get_ref());
        mistakes.add(&raw.name, message, None);
    }
    if !(2..=EACH).contains(&raw.addresses.len()) {
        let message = format!("an endpoint has 2 to {EACH} `addresses`");
        mistakes.add(&raw.name, message, None);
    }
    Endpoint {
        name: raw.name.into_inner(),
        addresses: raw.addresses,
    }
}

fn anchor(text: &str) -> Option<Anchor> {
    match text.strip_prefix("icmp:") {
        Some(address) => address.parse().ok().map(Anchor::Icmp),
        None => text.parse().ok().map(Anchor::Tcp),
    }
}

fn is_host_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let labels = text.trim_end_matches('.').split('.');
    text.len() <= 253
        && text.chars().all(good)
        && labels
            .into_iter()
            .all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Way, String> {
        let parsed = Config::parse(text, Path::new("test.toml"));
        let config = parsed.map_err(|error| error.render())?;
        config
            .networks
            .into_iter()
            .next()
            .ok_or_else(|| "none".to_owned())
    }

    const GOOD: &str = "[[network]]\nname = \"uplink\"\ndevice = \"eth0\"\nanchors = [\"192.0.2.1:443\", \"icmp:fd00::1\"]\n";

    #[test]
    fn what_is_not_given_has_a_value() {
        let way = parse(GOOD).expect("it is good");
        assert_eq!(way.resolv_conf, Path::new("/etc/resolv.conf"));
        assert_eq!(
            (way.every, way.timeout),
            (Duration::from_secs(1), Duration::from_secs(1))
        );
        let words: Vec<String> = way.anchors.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["192.0.2.1:443", "icmp:fd00::1"]);
    }

    #[test]
    fn a_rule_may_name_it() {
        let rule = "[[remedy]]\ndetector = \"network_broken\"\non = [\"uplink\"]\naction = \"repair_network\"\nwith = { confirm_within = \"3s\" }\n";
        parse(&format!("{GOOD}{rule}")).expect("it is good");
        let wrong = rule.replace("3s", "3h");
        let error = parse(&format!("{GOOD}{wrong}")).expect_err("it is too long");
        assert!(error.contains("at most 1m"), "{error}");
    }

    #[test]
    fn mistakes_are_said_where_they_stand() {
        for (line, why) in [
            ("addresses = [\"10.0.0.2\"]", "bits of its network"),
            ("names = [\"a..b\"]", "no name that resolves"),
            ("every = \"1ms\"", "100ms to 1h"),
            ("timeout = \"1h\"", "100ms to 30s"),
            ("gateway = \"router\"", "IP address"),
            ("gatway = \"10.0.0.1\"", "did you mean `gateway`?"),
        ] {
            let error = parse(&format!("{GOOD}{line}\n")).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
        let one = GOOD.replace(", \"icmp:fd00::1\"", "");
        assert!(parse(&one).expect_err("one").contains("two `anchors`"));
        let name = GOOD.replace("192.0.2.1:443", "example.org:443");
        assert!(parse(&name).expect_err("a name").contains("is no anchor"));
        let device = GOOD.replace("eth0", "a/b");
        assert!(parse(&device).expect_err("a path").contains("no device"));
    }
}
