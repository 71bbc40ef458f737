//! Which probes are asked for, by name.

use super::changes;
use monitor_common::Kind;
use monitor_common::spec::Mode;

/// Beyond this many edits a name is no misspelling any more.
const FAR: usize = 4;

/// Those that tell of failures, be it of nothing else.
const CAN_FAIL: [Kind; 7] = [
    Kind::ProcessExit,
    Kind::TcpConnect,
    Kind::RouteFailure,
    Kind::SocketError,
    Kind::ConnectError,
    Kind::BlockIo,
    Kind::DnsQuery,
];

/// Whether its events make a stream of their own.
pub(super) fn is_stream(kind: Kind) -> bool {
    kind.spec().mode != Mode::Bench && !matches!(kind, Kind::TaskSnapshot | Kind::EventThrottle)
}

/// What is asked for: probes, and whether changes of the network are.
pub(super) fn asked(names: &[String], failed: bool) -> anyhow::Result<(Vec<Kind>, bool)> {
    let probes = names.iter().filter(|name| *name != changes::NAME);
    let probes: Vec<String> = probes.cloned().collect();
    let network = probes.len() < names.len();
    if network && probes.is_empty() {
        anyhow::ensure!(!failed, "--failed is not about {}", changes::NAME);
        return Ok((Vec::new(), true));
    }
    let all = names.is_empty() && !failed;
    Ok((choose(&probes, failed)?, network || all))
}

/// The probes of these names; all that need no further word when there are none.
pub(super) fn choose(names: &[String], failed: bool) -> anyhow::Result<Vec<Kind>> {
    let can_fail = |kind: &Kind| CAN_FAIL.contains(kind);
    let mut chosen = Vec::new();
    for name in names {
        let kind = named(name)?;
        if !chosen.contains(&kind) {
            chosen.push(kind);
        }
    }
    if names.is_empty() {
        let wanted = |kind: &Kind| {
            is_stream(*kind)
                && !matches!(kind.spec().mode, Mode::Demand | Mode::Watched)
                && (!failed || can_fail(kind))
        };
        chosen = Kind::ALL.iter().copied().filter(wanted).collect();
    }
    anyhow::ensure!(
        !failed || chosen.iter().any(can_fail),
        "--failed is about {}, and none of them is asked for",
        CAN_FAIL.map(Kind::name).join(", ")
    );
    chosen.sort_unstable();
    Ok(chosen)
}

fn named(name: &str) -> anyhow::Result<Kind> {
    let found = Kind::ALL.iter().find(|kind| kind.name() == name);
    match found {
        Some(Kind::MemoryCeiling) => anyhow::bail!(
            "memory_ceiling speaks only of ceilings that are armed, and this command arms none: the daemon's crossings are in \
             `smart-monitor incidents`"
        ),
        Some(Kind::TaskSnapshot) => {
            anyhow::bail!("task_snapshot is the process table, not a stream of events")
        }
        Some(Kind::EventThrottle) => {
            anyhow::bail!("event_throttle is always on: its events are shown as notices")
        }
        Some(kind) if is_stream(*kind) => Ok(*kind),
        _ => {
            let hint = nearest(name).map_or_else(String::new, |near| format!("; is it {near}?"));
            anyhow::bail!(
                "there is no probe {name:?}{hint}\nthe probes are: {}",
                known().collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// Names that can be asked for.
fn known() -> impl Iterator<Item = &'static str> {
    let streams = Kind::ALL.iter().filter(|kind| is_stream(**kind));
    streams
        .filter(|kind| **kind != Kind::MemoryCeiling)
        .map(|kind| kind.name())
        .chain([changes::NAME])
}

/// The name that was meant, probably: one that holds what was written, or else the one with the fewest edits.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace('-', "_");
    let holding = known().find(|known| name.len() > 1 && known.contains(name.as_str()));
    holding.or_else(|| {
        let edits = known().map(|known| (strsim::damerau_levenshtein(&name, known), known));
        let near = edits.min()?;
        (near.0 <= FAR).then_some(near.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn refusal(name: &str) -> String {
        let refused = choose(&names(&[name]), false).expect_err("it cannot be asked for");
        refused.to_string()
    }

    #[test]
    fn without_names_it_is_all_that_need_nothing_more() {
        let all = choose(&[], false).expect("it is good");
        assert!(all.contains(&Kind::ProcessExec) && all.contains(&Kind::CgroupChange));
        for no in [
            Kind::OffCpu,
            Kind::TaskSnapshot,
            Kind::EventThrottle,
            Kind::BenchLoad,
        ] {
            assert!(!all.contains(&no), "{}", no.name());
        }
        let failed = choose(&[], true).expect("it is good");
        let alone = CAN_FAIL
            .iter()
            .filter(|kind| kind.spec().mode != Mode::Demand);
        assert!(failed.iter().eq(alone), "{failed:?}");
        assert!(choose(&names(&["process_exec"]), true).is_err());
        let twice = choose(&names(&["off_cpu", "process_exit", "off_cpu"]), false);
        assert_eq!(
            twice.expect("it is good"),
            [Kind::ProcessExit, Kind::OffCpu]
        );
    }

    #[test]
    fn changes_of_the_network_are_asked_for_by_name_or_with_all() {
        let ask = |all: &[&str], failed| asked(&names(all), failed);
        let alone = ask(&["network_change"], false).expect("it is good");
        assert_eq!(alone, (Vec::new(), true));
        let both = ask(&["oom_kill", "network_change"], false).expect("it is good");
        assert_eq!(both, (vec![Kind::OomKill], true));
        assert!(ask(&[], false).expect("it is good").1);
        assert!(!ask(&[], true).expect("it is good").1);
        assert!(!ask(&["oom_kill"], false).expect("it is good").1);
        assert!(ask(&["network_change"], true).is_err());
        assert!(refusal("network_chang").contains("is it network_change?"));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        assert!(refusal("exec").contains("is it process_exec?"));
        assert!(refusal("TCP-conect").contains("is it tcp_connect?"));
        assert!(refusal("oomkil").contains("is it oom_kill?"));
        assert!(!refusal("nonsense and more").contains("is it"));
        assert!(refusal("bench_load").contains("there is no probe"));
        assert!(refusal("memory_ceiling").contains("armed"));
        assert!(refusal("event_throttle").contains("always on"));
    }
}
