//! `tcp = "127.0.0.1:6379"`: a connection can be made.

use std::net::SocketAddr;

use super::Spec;
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "tcp",
    summary: "a TCP connection can be made",
};

/// Where to connect to.
#[derive(Clone, Debug)]
pub(super) struct Target(SocketAddr);

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is no address: write it as \"127.0.0.1:6379\" or \"[::1]:6379\"")
        })
    }

    pub(super) async fn ask(&self) -> Result<(), CheckFailure> {
        match tokio::net::TcpStream::connect(self.0).await {
            Ok(_) => Ok(()),
            Err(error) => Err(CheckFailure::Connect(error.to_string())),
        }
    }
}
