use super::*;
use crate::model::ProcessKey;

fn stat(pid: u32, parent: u32, comm: &str) -> Stat {
    Stat {
        comm: comm.to_owned(),
        state: 'S',
        parent,
        group: pid,
        exiting: false,
        cpu_ticks: 0,
        key: key(pid),
        resident_pages: 0,
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: u64::from(pid),
    }
}

fn found_at(pid: u32, cgroup: Option<&str>, published: &[&str]) -> Found {
    Found {
        name: format!("p{pid}"),
        with: toml::Table::new(),
        what: String::new(),
        processes: vec![key(pid)],
        cgroup: cgroup.map(str::to_owned),
        published: published
            .iter()
            .map(|at| at.parse().expect("an address"))
            .collect(),
    }
}

#[test]
fn a_port_is_of_the_nearest_who_runs_it() {
    let all = [
        stat(1, 0, "systemd"),
        stat(10, 1, "supervisord"),
        stat(11, 10, "web"),
        stat(12, 11, "worker"),
        stat(20, 1, "nginx"),
        stat(21, 1, "nginx"),
        stat(30, 1, "docker-proxy"),
        stat(31, 1, "PM2 v6.0.5: God"),
        stat(40, 1, "python3.13"),
        stat(50, 1, "smart-monitor"),
        stat(51, 50, "redis-server"),
    ];
    let processes: BTreeMap<u32, Stat> = all.into_iter().map(|stat| (stat.key.pid, stat)).collect();
    let cgroup = |pid: u32| match pid {
        10..=12 => Some("/system.slice/supervisor.service".to_owned()),
        20 | 21 => Some("/system.slice/nginx.service/sub".to_owned()),
        _ => Some("/system.slice/nginx.service-not".to_owned()),
    };
    let of = |pid: u32| processes.get(&pid).cloned().expect("it is there");
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let listeners = vec![
        (at("0.0.0.0:9001"), vec![of(10)]),
        (at("[::]:8000"), vec![of(12)]),
        (at("0.0.0.0:8000"), vec![of(12)]),
        (at("0.0.0.0:80"), vec![of(1), of(21)]),
        (at("0.0.0.0:5000"), vec![of(30)]),
        (at("127.0.0.1:5001"), vec![of(40)]),
        (at("0.0.0.0:3000"), vec![of(31)]),
        (at("[::]:22"), vec![of(1)]),
        (at("0.0.0.0:2049"), Vec::new()),
        (at("127.0.0.1:7000"), vec![of(40)]),
        (at("[::1]:6000"), vec![of(40)]),
        (at("127.0.0.1:6379"), vec![of(51)]),
    ];
    let found = [
        (
            "systemd",
            found_at(10, Some("/system.slice/supervisor.service"), &[]),
        ),
        (
            "systemd",
            found_at(20, Some("/system.slice/nginx.service"), &[]),
        ),
        ("supervisord", found_at(11, None, &[])),
        ("container", found_at(99, None, &["127.0.0.1:5001"])),
    ];
    let host = Host {
        processes: processes.clone(),
        cgroup: &cgroup,
    };
    let ports = host.divide(&found, &Known::default(), listeners);
    let listen = |place: usize| ports.owned.get(&place).map(|own| own.listen.clone());
    assert_eq!(listen(0), Some(vec![at("0.0.0.0:9001")]));
    assert_eq!(listen(1), Some(vec![at("0.0.0.0:80")]), "by the cgroup");
    assert_eq!(
        listen(2),
        Some(vec![at("[::]:8000"), at("0.0.0.0:8000")]),
        "by an ancestor"
    );
    let asked = ports
        .owned
        .get(&2)
        .and_then(|own| own.asked.get(&8000))
        .cloned();
    assert_eq!(asked, Some((at("127.0.0.1:8000"), "worker".to_owned())));
    assert_eq!(listen(3), None, "it tells itself");
    let [(alone, own)] = ports.alone.as_slice() else {
        panic!("one: {:?}", ports.alone)
    };
    assert_eq!(alone.name, "python3.13-6000");
    assert_eq!(alone.with.to_string(), "address = \"[::1]:6000\"\n");
    assert_eq!(own.asked.keys().collect::<Vec<_>>(), [&6000, &7000]);
    let said = ports.problems.join("\n");
    for part in [
        "0.0.0.0:2049: by whom",
        "[::]:22: held by systemd",
        "0.0.0.0:3000: held by PM2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
