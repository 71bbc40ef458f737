//! The daemon and a network that breaks: what it repairs, what it names, and what becomes of a repair that it did not live to confirm.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use smart_monitor::model::{Incident, Outcome, Subject};
use smart_monitor_tests::lab::{DEVICE, Fault, Lab, V4, resolves};
use smart_monitor_tests::{Daemon, PATIENCE, Site, wait_until};

const POLICY: &str = "\n[policy]\nboot_grace = \"0s\"\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\nlimit = 1000\nhost_limit_per_hour = 1000\n";

const REMEDY: &str =
    "\n[[remedy]]\ndetector = \"network_broken\"\non = [\"uplink\"]\naction = \"repair_network\"\n";

fn resolv_conf(site: &Site) -> PathBuf {
    site.path("resolv.conf")
}

fn network(site: &Site, lab: &Lab) -> Result<String> {
    let path = resolv_conf(site);
    std::fs::write(&path, format!("nameserver {}\n", V4.resolvers[0]))?;
    Ok(lab.toml(&format!(
        "resolv_conf = \"{}\"\nbackup_gateways = [\"{}\"]\nbackup_resolvers = [\"{}\"]\nnames = [\"a.example\"]\nevery = \"500ms\"",
        path.display(),
        V4.routers[1], V4.resolvers[1]
    )))
}

fn start(site: &Site, lab: &Lab) -> Result<Daemon> {
    let mut daemon = lab.host.inside(|| site.start())?;
    // What works is learned by then.
    daemon.wait_for("that the network is known", |_| {
        site.state()
            .join("network-uplink.json")
            .exists()
            .then_some(())
    })?;
    Ok(daemon)
}

/// Others have theirs on this host meanwhile.
fn is_ours(incident: &Incident) -> bool {
    let subject = Subject::Network {
        name: "uplink".to_owned(),
    };
    incident.detector == "network_broken" && incident.subject == subject
}

fn is_open(incident: &Incident) -> bool {
    is_ours(incident) && !incident.is_over()
}

fn ours(daemon: &Daemon) -> Result<Vec<Incident>> {
    Ok(daemon.incidents()?.into_iter().filter(is_ours).collect())
}

fn fact<'a>(incident: &'a Incident, name: &str) -> &'a str {
    let mut facts = incident.evidence.facts.iter();
    let found = facts.find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value.as_str())
}

#[test]
fn each_fault_is_repaired_and_proven_by_packets_that_get_through() -> Result<()> {
    let (site, lab) = (Site::new()?, Lab::new(V4)?);
    let network = network(&site, &lab)?;
    // Stopgaps are given up as soon as what they stand for is back.
    site.configure(&format!("{network}{POLICY}{REMEDY}undo_after = \"1s\"\n"))?;
    let mut daemon = start(&site, &lab)?;
    let path = resolv_conf(&site);
    let well = lab.state()?;
    let mut last = 0;
    for fault in Fault::ALL {
        fault.inject(&lab, &path)?;
        let incident = daemon.incident(&format!("{fault:?} is repaired"), |incident| {
            is_ours(incident) && incident.id.0 > last && incident.is_over()
        })?;
        last = incident.id.0;
        ensure!(
            incident.outcome == Some(Outcome::Fixed),
            "{fault:?}: {incident:#?}"
        );
        ensure!(lab.flows(), "{fault:?}");
        ensure!(lab.host.inside(|| resolves(&path)), "{fault:?}");
        fault.lift(&lab)?;
        daemon.wait_for(&format!("all is as it was before {fault:?}"), |_| {
            let text = std::fs::read_to_string(&path).ok()?;
            let same = text == format!("nameserver {}\n", V4.resolvers[0]);
            (same && lab.state().ok()? == well).then_some(())
        })?;
    }
    daemon.stop()?;
    Ok(())
}

#[test]
fn what_it_cannot_repair_is_named_and_over_when_it_is_back() -> Result<()> {
    let (site, lab) = (Site::new()?, Lab::new(V4)?);
    let network = network(&site, &lab)?;
    site.configure(&format!("{network}{POLICY}{REMEDY}"))?;
    let mut daemon = start(&site, &lab)?;
    let well = lab.state()?;
    lab.switch.ip("link set host down")?;
    let cable = daemon.incident("no carrier is named", is_open)?;
    ensure!(
        fact(&cable, "broken").starts_with("no carrier"),
        "{cable:#?}"
    );
    lab.switch.ip("link set host up")?;
    daemon.incident("it is over", |incident| {
        incident.id == cable.id && incident.is_over()
    })?;
    for far in V4.far.iter().chain(&V4.resolvers) {
        lab.routers[0].ip(&format!("addr del {far}/32 dev lo"))?;
    }
    lab.routers[0].ip("route add blackhole 10.99.0.0/24")?;
    let upstream = daemon.incident("the upstream is named", is_open)?;
    ensure!(fact(&upstream, "layer") == "upstream", "{upstream:#?}");
    ensure!(upstream.actions == 0 && cable.actions == 0, "{upstream:#?}");
    ensure!(lab.state()? == well, "{well}\n{}", lab.state()?);
    daemon.stop()?;
    Ok(())
}

#[test]
fn a_repair_that_was_not_confirmed_when_the_daemon_was_killed_is_changed_back() -> Result<()> {
    let (site, lab) = (Site::new()?, Lab::new(V4)?);
    let network = network(&site, &lab)?;
    let patient = "with = { confirm_within = \"60s\" }\n";
    site.configure(&format!("{network}{POLICY}{REMEDY}{patient}"))?;
    lab.host.ip(&format!("link set {DEVICE} down"))?;
    let broken = lab.state()?;
    lab.host.ip(&format!("link set {DEVICE} up"))?;
    lab.host
        .ip(&format!("route add default via {}", V4.routers[0]))?;
    let mut daemon = start(&site, &lab)?;
    // It sees all of it at once.
    daemon.signal(rustix::process::Signal::STOP)?;
    for port in ["r0", "r1"] {
        lab.switch.ip(&format!("link set {port} down"))?;
    }
    lab.host.ip(&format!("link set {DEVICE} down"))?;
    daemon.signal(rustix::process::Signal::CONT)?;
    daemon.wait_for("the link is on, and nothing gets through yet", |_| {
        let state = lab.host.ip("-4 route show default").ok()?;
        state.contains(V4.routers[0]).then_some(())
    })?;
    daemon.kill()?;
    ensure!(lab.state()? != broken, "it was killed in the midst of it");
    // From now on nothing new is done for a while.
    site.configure(&format!("{network}{POLICY}{REMEDY}for = \"1h\"\n"))?;
    let mut daemon = lab.host.inside(|| site.start())?;
    daemon.wait_for("it is as it was before", |_| {
        (lab.state().ok()? == broken).then_some(())
    })?;
    daemon.stop()?;
    Ok(())
}

#[test]
fn a_link_that_flaps_ends_up_well() -> Result<()> {
    let (site, lab) = (Site::new()?, Lab::new(V4)?);
    let network = network(&site, &lab)?;
    site.configure(&format!("{network}{POLICY}{REMEDY}"))?;
    let mut daemon = start(&site, &lab)?;
    for _ in 0..20 {
        lab.host.ip(&format!("link set {DEVICE} down"))?;
        lab.host.ip(&format!("link set {DEVICE} up"))?;
    }
    // Its default route went with it, and nobody but the daemon brings it back.
    wait_until(PATIENCE, "packets get through", || {
        lab.flows().then_some(())
    })?;
    daemon.wait_for("nothing is open", |daemon| {
        let all = ours(daemon).ok()?;
        (!all.is_empty() && all.iter().all(Incident::is_over)).then_some(())
    })?;
    let acts: u32 = ours(&daemon)?.iter().map(|incident| incident.actions).sum();
    ensure!(acts <= 20, "{acts} acts for twenty flaps");
    daemon.stop()?;
    Ok(())
}
