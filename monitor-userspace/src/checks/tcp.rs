//! `tcp = "127.0.0.1:6379"`: a connection can be made; with `banner`, and it says what is expected.

use serde::Deserialize;

use super::net::banner::{Pattern, exchange};
use super::net::connect;
use super::net::doing::Doing;
use super::net::place::Place;
use super::{About, Answer, Asking, Check, Settings, Spec, read};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "tcp",
    summary: "a TCP connection can be made, and says what is expected",
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
    address: Place,
    /// What to send first.
    send: Option<String>,
    /// What must be in the first 4 KiB that are said.
    banner: Option<Pattern>,
    #[serde(skip)]
    doing: Doing,
}

impl Settings for Tcp {}

impl Check for Tcp {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            let mut connected = connect::to(&self.address, &self.doing).await?;
            let (send, banner) = (self.send.as_deref(), self.banner.as_ref());
            exchange(&mut connected.stream, send, banner, &self.doing).await?;
            let answer = Answer::well().took("connect", connected.connect);
            Ok(match connected.dns {
                Some(dns) => answer.took("dns", dns),
                None => answer,
            })
        })
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}
