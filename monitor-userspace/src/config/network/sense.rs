//! What would never work in a `[[network]]`, or do harm: an anchor that is this host itself, a file that is another program's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::Raw;
use crate::config::paths;
use crate::config::resolve::Mistakes;
use crate::model::way::Anchor;

/// In `/etc`, what has one of these in the name of a folder names resolvers.
const RESOLVERS: [&str; 3] = ["resolv", "dnsmasq", "unbound"];

/// Says all of it. `anchors`: those that could be read.
pub(super) fn look(raw: &Raw, anchors: &[Anchor], mistakes: &mut Mistakes) {
    let mut wrong = |why: String, help: &str| {
        mistakes.add(&raw.name, why, Some(help.to_owned()));
    };
    for (index, anchor) in anchors.iter().enumerate() {
        let (address, port) = match anchor {
            Anchor::Icmp(address) => (*address, None),
            Anchor::Tcp(at) => (at.ip(), Some(at.port())),
        };
        if nowhere(address) || is_loopback(address) {
            wrong(
                format!("the anchor `{anchor}` is no place beyond this host"),
                "an anchor shows that packets get out of this host: name one that is beyond the gateway",
            );
        }
        if port == Some(0) {
            let why = format!("the anchor `{anchor}` has port 0, on which nothing listens");
            wrong(why, "name the port that it listens on, such as 443");
        }
        if anchors.iter().take(index).any(|other| other == anchor) {
            let why = format!("the anchor `{anchor}` is there twice");
            wrong(why, "name two that are not down at the same time");
        }
    }
    for gateway in raw.gateway.iter().chain(&raw.backup_gateways) {
        if nowhere(*gateway) || is_loopback(*gateway) {
            let why = format!("`{gateway}` is no gateway");
            wrong(why, "name the address of a router on the same wire");
        }
    }
    // A resolver of this host itself is one like any.
    for resolver in raw.backup_resolvers.iter().filter(|it| nowhere(**it)) {
        let why = format!("`{resolver}` is no resolver");
        wrong(why, "name the address of one host");
    }
    for endpoint in &raw.endpoint {
        let bad = |at: &&SocketAddr| nowhere(at.ip()) || at.port() == 0;
        for at in endpoint.addresses.iter().filter(bad) {
            let name = endpoint.name.get_ref();
            let why = format!("nothing accepts connections at `{at}`, an address of `{name}`");
            wrong(why, "name the address of one host, and its port");
        }
    }
    for (key, path, usual) in [
        ("resolv_conf", &raw.resolv_conf, "/etc/resolv.conf"),
        ("hosts", &raw.hosts, "/etc/hosts"),
    ] {
        if let Err(why) = file(path, Path::new(usual)) {
            let help = format!("usually it is \"{usual}\"");
            wrong(format!("`{key}` of `{}` {why}", path.display()), &help);
        }
    }
    if raw.resolv_conf == raw.hosts {
        let why = format!(
            "`resolv_conf` and `hosts` are the same file, `{}`",
            raw.hosts.display()
        );
        wrong(why, "one names resolvers, the other addresses of hosts");
    }
    for (key, command) in [
        ("renew", &raw.renew),
        ("restart_network", &raw.restart_network),
        ("restart_resolver", &raw.restart_resolver),
    ] {
        let Some(program) = command.first() else {
            continue;
        };
        if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
            wrong(
                format!("`{key}` begins with `{program}`, which is no program"),
                "write an absolute path, or a name alone",
            );
        }
    }
}

/// Whether no one host has that address.
fn nowhere(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_unspecified() || address.is_multicast() || broadcast
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether it may be written anew.
fn file(path: &Path, usual: &Path) -> Result<(), &'static str> {
    if path == usual {
        return Ok(());
    }
    if !paths::is_plain(path) {
        return Err("must be a plain absolute path, without `.`, `..`, `//` or a `/` at its end");
    }
    let same_name = path.file_name() == usual.file_name();
    let folders = path.parent().into_iter().flat_map(Path::components);
    let of_resolvers = folders
        .filter_map(|part| part.as_os_str().to_str())
        .any(|name| RESOLVERS.iter().any(|word| name.contains(word)));
    let in_etc = path.starts_with("/etc");
    let its_own = in_etc && path.parent() != Some(Path::new("/etc")) && (same_name || of_resolvers);
    if paths::is_system(path) && !its_own {
        return Err("is a file of the system or of another program: it would be written anew");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn said(anchors: &str, lines: &str) -> Option<String> {
        let text = format!(
            "[[network]]\nname = \"uplink\"\ndevice = \"eth0\"\nanchors = [{anchors}]\n{lines}\n"
        );
        let parsed = Config::parse(&text, Path::new("test.toml"));
        parsed.err().map(|error| error.to_string())
    }

    const TWO: &str = "\"192.0.2.1:443\", \"icmp:fd00::1\"";

    #[test]
    fn an_anchor_is_another_host_and_there_once() {
        for (anchors, why) in [
            ("\"127.0.0.1:1\", \"icmp:fd00::1\"", "no place beyond"),
            ("\"[::1]:443\", \"icmp:fd00::1\"", "no place beyond"),
            (
                "\"[::ffff:127.0.0.1]:443\", \"icmp:fd00::1\"",
                "no place beyond",
            ),
            ("\"icmp:0.0.0.0\", \"icmp:fd00::1\"", "no place beyond"),
            ("\"icmp:ff02::1\", \"icmp:fd00::1\"", "no place beyond"),
            (
                "\"icmp:255.255.255.255\", \"icmp:fd00::1\"",
                "no place beyond",
            ),
            ("\"192.0.2.1:0\", \"icmp:fd00::1\"", "port 0"),
            ("\"192.0.2.1:443\", \"192.0.2.1:443\"", "there twice"),
        ] {
            let said = said(anchors, "").expect(anchors);
            assert!(said.contains(why), "{anchors}: {said}");
        }
        assert_eq!(said(TWO, ""), None);
    }

    #[test]
    fn files_of_others_are_not_written_anew() {
        for line in [
            "resolv_conf = \"/etc/passwd\"",
            "resolv_conf = \"/etc/hosts\"",
            "hosts = \"/etc/shadow\"",
            "hosts = \"/etc/hosts.allow\"",
            "hosts = \"/etc/resolv.conf\"",
            "hosts = \"/usr/lib/hosts\"",
            "hosts = \"/etc/../etc/shadow\"",
            "hosts = \"etc/hosts\"",
            "resolv_conf = \"/root/.ssh/authorized_keys\"",
            "resolv_conf = \"/run/x\"\nhosts = \"/run/x\"",
        ] {
            assert!(said(TWO, line).is_some(), "{line}");
        }
        for line in [
            "resolv_conf = \"/run/systemd/resolve/resolv.conf\"",
            "resolv_conf = \"/etc/netns/lab/resolv.conf\"\nhosts = \"/etc/netns/lab/hosts\"",
            "resolv_conf = \"/etc/dnsmasq.d/upstream\"",
            "resolv_conf = \"/etc/resolvconf/resolv.conf.d/head\"",
        ] {
            assert_eq!(said(TWO, line), None);
        }
    }

    #[test]
    fn backups_are_hosts_and_commands_are_programs() {
        for (line, why) in [
            ("gateway = \"0.0.0.0\"", "no gateway"),
            ("backup_gateways = [\"127.0.0.1\"]", "no gateway"),
            ("backup_gateways = [\"ff02::2\"]", "no gateway"),
            ("backup_resolvers = [\"::\"]", "no resolver"),
            ("backup_resolvers = [\"224.0.0.251\"]", "no resolver"),
            ("renew = [\"bin/dhclient\"]", "`renew` begins with"),
            ("restart_network = [\"./x\"]", "`restart_network` begins"),
            ("restart_resolver = [\"\"]", "`restart_resolver` begins"),
            (
                "[[network.endpoint]]\nname = \"db\"\naddresses = [\"10.0.0.5:0\", \"10.0.0.6:1\"]",
                "nothing accepts connections at `10.0.0.5:0`",
            ),
        ] {
            let said = said(TWO, line).expect(line);
            assert!(said.contains(why), "{line}: {said}");
        }
        for line in [
            "backup_resolvers = [\"127.0.0.53\"]",
            "renew = [\"dhclient\", \"eth0\"]",
            "renew = [\"/sbin/dhclient\"]",
        ] {
            assert_eq!(said(TWO, line), None);
        }
    }
}
