//! `http = "http://127.0.0.1:8080/health"`: an answer with a status of 200 to 399, read to its end.
//!
//! A connection of its own each time, so that a listener that is gone is noticed. No TLS and no names yet: checks are of services on this
//! host, by address.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "http",
    summary: "an HTTP request is answered with a status of 200 to 399",
    serving: true,
    short: "url",
    example: "http = \"http://127.0.0.1:8080/health\"",
    read: read::<Http>,
};

/// Most of an answer that is read.
const BODY: usize = 1 << 20;

/// `http = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// What to ask for.
    #[serde(deserialize_with = "target")]
    url: Target,
}

#[derive(Clone, Debug)]
struct Target {
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Settings for Http {}

fn target<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
    let text = String::deserialize(from)?;
    Target::parse(&text).map_err(serde::de::Error::custom)
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` cannot be checked: write it as \"http://127.0.0.1:8080/health\" (an address, no name; no TLS yet)"
            )
        };
        let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?.as_str().to_owned();
        let with_port = if uri.port().is_some() {
            authority.clone()
        } else {
            format!("{authority}:80")
        };
        let address = with_port.parse().map_err(|_| wrong())?;
        let path = uri
            .path_and_query()
            .map_or("/", hyper::http::uri::PathAndQuery::as_str)
            .to_owned();
        Ok(Self {
            address,
            authority,
            path,
        })
    }
}

impl Check for Http {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.url.ask())
    }
}

impl Target {
    async fn ask(&self) -> Result<Answer, CheckFailure> {
        let connect = |error: std::io::Error| CheckFailure::Connect(error.to_string());
        let stream = tokio::net::TcpStream::connect(self.address)
            .await
            .map_err(connect)?;
        let answer = |error: hyper::Error| CheckFailure::Answer(error.to_string());
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(answer)?;
        let request = Request::get(&self.path)
            .header("host", &self.authority)
            .header(
                "user-agent",
                concat!("smart-monitor/", env!("CARGO_PKG_VERSION")),
            )
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| CheckFailure::Answer(error.to_string()))?;
        // Ends with this check, whatever the peer does.
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.map_err(answer)?;
        let status = response.status();
        let read = Limited::new(response.into_body(), BODY).collect().await;
        read.map_err(|error| CheckFailure::Answer(error.to_string()))?;
        if status.is_success() || status.is_redirection() {
            Ok(Answer::well().saying(format!("status {}", status.as_u16())))
        } else {
            Err(CheckFailure::Answer(format!("status {}", status.as_u16())))
        }
    }
}
