//! `tcp = "127.0.0.1:6379"`: a connection can be made.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "tcp",
    summary: "a TCP connection can be made",
    serving: true,
    short: "address",
    example: "tcp = \"127.0.0.1:6379\"",
    read: read::<Tcp>,
};

/// `tcp = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    /// Where to connect to.
    address: SocketAddr,
}

impl Settings for Tcp {}

impl Check for Tcp {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            match tokio::net::TcpStream::connect(self.address).await {
                Ok(_) => Ok(Answer::well()),
                Err(error) => Err(CheckFailure::Connect(error.to_string())),
            }
        })
    }
}
