//! Which checks would show that something serves: by the name of the program, by what speaks at its port, and only those that are well
//! when they are asked once.

use std::net::SocketAddr;

use super::probe::{self, Speaks};
use super::trial::Trials;

/// Most ports of a service that get a check.
const PORTS: usize = 4;

/// The kind of check for programs of these names.
const PROGRAMS: &[(&str, &str)] = &[
    ("redis-server", "redis"),
    ("valkey-server", "redis"),
    ("keydb-server", "redis"),
    ("postgres", "postgres"),
    ("postmaster", "postgres"),
    ("mysqld", "mysql"),
    ("mariadbd", "mysql"),
    ("mongod", "mongodb"),
];

/// The checks, and why these. `ports`: where to ask, and the name of who listens there.
pub(super) fn checks(
    ports: &[(SocketAddr, String)],
    trials: Option<&Trials>,
) -> (Vec<toml::Table>, String) {
    let mut checks: Vec<toml::Table> = Vec::new();
    let mut why = Vec::new();
    for (at, comm) in ports.iter().take(PORTS) {
        let (own, reason) = port(*at, comm, trials.filter(|trials| trials.in_time()));
        why.push(format!("port {}: {reason}", at.port()));
        for mut check in own {
            let kind = |check: &toml::Table| check.keys().find(|key| *key != "name").cloned();
            let own = kind(&check);
            if checks.iter().any(|other| kind(other) == own) {
                let name = format!("{}-{}", own.unwrap_or_default(), at.port());
                check.insert("name".to_owned(), name.into());
            }
            checks.push(check);
        }
    }
    if ports.len() > PORTS {
        why.push(format!("{} more ports have no check", ports.len() - PORTS));
    }
    (checks, why.join("\n"))
}

fn plain(kind: &str, what: String) -> toml::Table {
    toml::Table::from_iter([(kind.to_owned(), what.into())])
}

fn table(
    kind: &str,
    settings: impl IntoIterator<Item = (&'static str, toml::Value)>,
) -> toml::Table {
    let settings = settings
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    let settings: toml::Table = settings.collect();
    toml::Table::from_iter([(kind.to_owned(), settings.into())])
}

fn port(at: SocketAddr, comm: &str, trials: Option<&Trials>) -> (Vec<toml::Table>, String) {
    let kind = PROGRAMS.iter().find(|(name, _)| *name == comm);
    let kind = kind.map(|(_, kind)| *kind);
    let tcp = || vec![plain("tcp", at.to_string())];
    let Some(trials) = trials else {
        return match kind {
            // Whom it lets log in cannot be known.
            Some(kind) if kind != "postgres" => (
                vec![plain(kind, at.to_string())],
                format!("{comm}, by its name; not tried"),
            ),
            _ => (tcp(), format!("{comm} was not asked what it speaks")),
        };
    };
    match kind {
        Some(kind) => by_name(kind, at, comm, trials),
        None => by_answer(at, probe::ask(at), trials),
    }
}

fn by_name(kind: &str, at: SocketAddr, comm: &str, trials: &Trials) -> (Vec<toml::Table>, String) {
    let check = plain(kind, at.to_string());
    match trials.ask(&check) {
        Ok(()) => (vec![check], format!("{comm} answers as `{kind}` expects")),
        Err(failure) => (
            vec![plain("tcp", at.to_string())],
            format!("`{kind}` would fail ({failure}): it needs settings, see docs/services.md"),
        ),
    }
}

fn by_answer(at: SocketAddr, speaks: Speaks, trials: &Trials) -> (Vec<toml::Table>, String) {
    let tcp = |why: String| (vec![plain("tcp", at.to_string())], why);
    match speaks {
        Speaks::Redis => by_name("redis", at, "what listens", trials),
        Speaks::Http(seen) => http(at, seen, trials),
        Speaks::Tls => tls(at, trials),
        Speaks::Other(said) => tcp(format!("no HTTP; it says {said:?}")),
        Speaks::Nothing => tcp("it says nothing to HTTP".to_owned()),
        Speaks::Refuses(why) => (Vec::new(), format!("it takes no connection: {why}")),
    }
}

fn http(at: SocketAddr, seen: u16, trials: &Trials) -> (Vec<toml::Table>, String) {
    let url = format!("http://{at}/");
    let check = plain("http", url.clone());
    if trials.ask(&check).is_ok() {
        return (
            vec![check],
            "it answers HTTP; better is a path that tells its health".to_owned(),
        );
    }
    // To refuse is to serve, too.
    if (400..500).contains(&seen) {
        let status = toml::Value::Array(vec![i64::from(seen).into()]);
        let check = table("http", [("url", url.into()), ("status", status)]);
        if trials.ask(&check).is_ok() {
            let why = format!(
                "it answers HTTP with status {seen}; better is a path that tells its health"
            );
            return (vec![check], why);
        }
    }
    let why = format!("it answers HTTP with status {seen}: name a path that tells its health");
    (vec![plain("tcp", at.to_string())], why)
}

fn tls(at: SocketAddr, trials: &Trials) -> (Vec<toml::Table>, String) {
    let insecure = ("insecure", toml::Value::Boolean(true));
    let url = format!("https://{at}/");
    let check = table("http", [("url", url.into()), insecure.clone()]);
    if trials.ask(&check).is_ok() {
        let why = "it answers HTTPS; its certificate is not compared: write the name that it is for in place of the address, and no `insecure`";
        return (vec![check], why.to_owned());
    }
    let tcp = plain("tcp", at.to_string());
    let check = table("tls", [("address", at.to_string().into()), insecure]);
    match trials.ask(&check) {
        Ok(()) => (
            vec![tcp, check],
            "it speaks TLS: of the certificate only the dates are looked at".to_owned(),
        ),
        Err(failure) => (
            vec![tcp],
            format!("it speaks TLS, and `tls` would fail: {failure}"),
        ),
    }
}

#[cfg(test)]
#[path = "propose/tests.rs"]
mod tests;
