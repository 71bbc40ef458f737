//! Who may ask.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::heartbeats::PATH as HEARTBEATS;
use super::routes::failure;

/// Why the owner of a process that connected to the socket may not ask; none when it may. `own` is the daemon's user.
pub(super) fn refuse_user(user: u32, own: u32) -> Option<String> {
    (user != 0 && user != own).then(|| {
        format!("user {user} may not ask this daemon: only root and its own user ({own}) may; run the command with sudo")
    })
}

/// Refuses whatever could change something: over HTTP nobody says who he is.
pub(super) async fn reads_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    failure(
        StatusCode::FORBIDDEN,
        "over HTTP this can only be read: what changes something is asked over the daemon's Unix socket, by root or the daemon's \
         own user (`sudo smart-monitor approve`, `reject`, `ack`, `silence`, `unsilence`, `record`)",
    )
}

/// The same, but for heartbeats. A web page that a browser shows cannot send one: browsers say on whose behalf they send (`Origin`).
pub(super) async fn reads_and_heartbeats_only(request: Request, next: Next) -> Response {
    let beat = request.method() == Method::POST && request.uri().path().starts_with(HEARTBEATS);
    if beat && !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    reads_only(request, next).await
}

/// Refuses requests under a foreign host name. A web page whose name was pointed at 127.0.0.1 sends that name.
pub(super) async fn local_hosts_only(request: Request, next: Next) -> Response {
    match foreign_host(request.headers()) {
        Some(host) => failure(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this server is not {host}: ask for localhost or an IP address"),
        ),
        None => next.run(request).await,
    }
}

/// The host that the request is for, unless it is `localhost` or an IP address. No host at all is fine: a browser always sends
/// one.
fn foreign_host(headers: &HeaderMap) -> Option<String> {
    let hosts = headers.get_all(header::HOST);
    let mut names = hosts
        .iter()
        .map(|host| String::from_utf8_lossy(host.as_bytes()));
    names
        .find(|host| !is_local(host))
        .map(|host| format!("{host:?}"))
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_other_than_localhost_are_foreign() {
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "10.0.0.1:1",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil]:1",
            "::1:9",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn root_and_the_daemons_own_user_may_ask() {
        assert_eq!(refuse_user(0, 0), None);
        assert_eq!(refuse_user(0, 998), None);
        assert_eq!(refuse_user(998, 998), None);
        let refused = refuse_user(1000, 998).unwrap();
        assert!(refused.contains("sudo"), "{refused}");
    }
}
