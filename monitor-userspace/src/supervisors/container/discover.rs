//! The containers that run, of every engine whose socket is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::host::containers::{self, Listed};
use crate::host::procfs;
use crate::model::ProcessKey;
use crate::supervisors::{Discovered, Found};

/// How long an engine may take to tell all of it.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) fn discover() -> Discovered {
    let sockets = containers::sockets();
    if sockets.is_empty() {
        return match containers::socket(None) {
            Err(why) => Discovered::nobody(&why),
            Ok(_) => Discovered::default(),
        };
    }
    let mut all = Discovered::default();
    // Docker's socket may be a link to podman's.
    let mut known = BTreeSet::new();
    for socket in sockets {
        let asked = containers::block(WITHIN, engine(&socket, &mut known, &mut all));
        if let Err(why) = asked {
            all.problems.push(format!(
                "the engine at {} cannot be asked: {why}: does it run, and are you root?",
                socket.display()
            ));
        }
    }
    all
}

async fn engine(
    socket: &Path,
    known: &mut BTreeSet<String>,
    all: &mut Discovered,
) -> Result<(), String> {
    for listed in containers::list(socket).await? {
        let Some(name) = name(&listed) else { continue };
        let id = listed.id.clone().unwrap_or_default();
        if !known.insert(id) {
            continue;
        }
        if all.found.len() >= Discovered::MOST {
            all.left_out += 1;
            continue;
        }
        let (inspected, _) = containers::inspect(socket, &name).await?;
        let state = inspected.and_then(|container| container.state);
        let pid = state.and_then(|state| state.pid).filter(|pid| *pid != 0);
        let process = pid.and_then(procfs::stat).map(|stat| stat.key);
        all.add(found(socket, &name, &listed, process));
    }
    Ok(())
}

/// The name that the engine takes for it.
fn name(listed: &Listed) -> Option<String> {
    let names = listed.names.iter().flatten();
    let mut names = names.map(|name| name.trim_start_matches('/'));
    // Docker gives one that others link to further names, with slashes.
    names
        .find(|name| containers::is_name(name))
        .map(str::to_owned)
}

fn found(socket: &Path, name: &str, listed: &Listed, process: Option<ProcessKey>) -> Found {
    let ports = listed.ports.iter().flatten();
    let published = ports.filter(|port| port.kind.as_deref() == Some("tcp"));
    let published = published.filter_map(|port| {
        let ip = port.ip.as_deref().filter(|ip| !ip.is_empty());
        let ip = ip.unwrap_or("0.0.0.0").parse().ok()?;
        Some(std::net::SocketAddr::new(ip, port.public_port?))
    });
    let with = [
        ("name".to_owned(), name.into()),
        ("socket".to_owned(), socket.display().to_string().into()),
    ];
    Found {
        name: name.to_owned(),
        with: toml::Table::from_iter(with),
        what: format!(
            "container {name}, of the image {}",
            listed.image.as_deref().unwrap_or("that is not named")
        ),
        processes: process.into_iter().collect(),
        cgroup: None,
        published: published.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_docker_and_podman_write_it() {
        let text = r#"[{"Id":"a1","Names":["/shop/db","/db"],"Image":"postgres:16","State":"running","Ports":[
            {"IP":"0.0.0.0","PrivatePort":5432,"PublicPort":15432,"Type":"tcp"},{"PrivatePort":9,"Type":"tcp"},
            {"IP":"","PublicPort":53,"Type":"udp"},{"IP":"","PublicPort":80,"Type":"tcp"},{"IP":"x","PublicPort":81,"Type":"tcp"}]},
            {"Id":"b2","Names":null,"Ports":null}]"#;
        let listed: Vec<Listed> = serde_json::from_str(text).expect("it reads");
        let [first, second] = listed.as_slice() else {
            panic!("two: {listed:?}")
        };
        assert_eq!(name(first).as_deref(), Some("db"));
        assert_eq!(name(second), None);
        let found = found(Path::new("/run/x.sock"), "db", first, None);
        let published: Vec<String> = found.published.iter().map(ToString::to_string).collect();
        assert_eq!(published, ["0.0.0.0:15432", "0.0.0.0:80"]);
        assert_eq!(found.what, "container db, of the image postgres:16");
        assert_eq!(
            found.with.to_string(),
            "name = \"db\"\nsocket = \"/run/x.sock\"\n"
        );
    }
}
