use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

/// Answers so many connections with this, and ends.
fn answers(with: &'static str, times: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("its address");
    let serves = std::thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(with.as_bytes());
        }
    });
    (at, serves)
}

fn proposed(at: SocketAddr) -> (String, String) {
    let trials = Trials::new().expect("a runtime");
    let (checks, why) = checks(&[(at, "thing".to_owned())], Some(&trials));
    let checks = checks
        .into_iter()
        .map(|it| toml::Value::Table(it).to_string());
    (checks.collect::<Vec<_>>().join(" "), why)
}

#[test]
fn what_answers_gets_the_check_that_fits() {
    let (at, serves) = answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 2);
    assert_eq!(proposed(at).0, format!("{{ http = \"http://{at}/\" }}"));
    serves.join().expect("it has served");

    let (at, serves) = answers("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 3);
    let (check, why) = proposed(at);
    assert!(check.contains("status = [404]"), "{check}");
    assert!(why.contains("with status 404"), "{why}");
    serves.join().expect("it has served");

    let (at, serves) = answers("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", 2);
    let (check, why) = proposed(at);
    assert_eq!(check, format!("{{ tcp = \"{at}\" }}"));
    assert!(why.contains("status 503"), "{why}");
    serves.join().expect("it has served");

    let (at, serves) = answers("220 mail ESMTP\r\n", 1);
    let (check, why) = proposed(at);
    assert_eq!(check, format!("{{ tcp = \"{at}\" }}"));
    assert!(why.contains("\"220 mail ESMTP\""), "{why}");
    serves.join().expect("it has served");
    // Nobody listens any more.
    let (check, why) = proposed(at);
    assert!(
        check.is_empty() && why.contains("takes no connection"),
        "{check} {why}"
    );
}

#[test]
fn what_is_not_asked_is_known_by_its_name_alone() {
    let at: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let of = |comm: &str| {
        let (checks, _) = checks(&[(at, comm.to_owned())], None);
        checks
            .first()
            .and_then(|check| check.keys().next().cloned())
    };
    for (comm, kind) in [
        ("redis-server", "redis"),
        ("mysqld", "mysql"),
        ("postgres", "tcp"),
        ("nginx", "tcp"),
    ] {
        assert_eq!(of(comm).as_deref(), Some(kind), "{comm}");
    }
}

#[test]
fn two_checks_of_a_kind_have_two_names_and_there_are_only_some() {
    let ports = (1..=6).map(|port| (SocketAddr::from(([127, 0, 0, 1], port)), "x".to_owned()));
    let ports: Vec<_> = ports.collect();
    let (checks, why) = checks(&ports, None);
    let names: Vec<_> = checks
        .iter()
        .map(|it| it.get("name").and_then(|it| it.as_str()))
        .collect();
    assert_eq!(names, [None, Some("tcp-2"), Some("tcp-3"), Some("tcp-4")]);
    assert!(why.ends_with("2 more ports have no check"), "{why}");
}
