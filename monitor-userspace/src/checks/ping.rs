//! `ping = "10.0.0.1"`: ICMP echoes are answered, often and fast enough. It shows that a host is there, not that a service serves.
//!
//! Needs `CAP_NET_RAW`, or a host that lets everybody ping (`net.ipv4.ping_group_range`).

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::net::connect::reason;
use super::net::doing::Doing;
use super::net::place::Place;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::Span;
use crate::host::network;
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "ping",
    summary: "a host answers pings (ICMP echo)",
    serving: false,
    short: "host",
    example: "ping = \"192.0.2.1\"",
    read: read::<Ping>,
};

/// Most pings of one check.
const MOST: u32 = 20;
/// Most packets that are looked at while an answer is awaited: raw sockets see those of others, too.
const PACKETS: u32 = 10_000;

/// `ping = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {
    /// A name or an address.
    #[serde(deserialize_with = "host")]
    host: Place,
    /// So many are sent, one after the other.
    #[serde(default = "one")]
    count: u32,
    /// How long each is waited for.
    #[serde(default = "second")]
    wait: Span,
    /// So many of a hundred may be lost.
    #[serde(default)]
    loss_percent: u32,
    /// The answers may take so long, at the median.
    latency: Option<Span>,
    #[serde(skip)]
    doing: Doing,
}

fn host<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Place, D::Error> {
    let text = String::deserialize(from)?;
    Place::new(&text, 0).map_err(serde::de::Error::custom)
}

const fn one() -> u32 {
    1
}

const fn second() -> Span {
    Span::seconds(1)
}

impl Settings for Ping {
    fn sensible(self) -> Result<Self, String> {
        if self.count == 0 || self.count > MOST {
            return Err(format!("`count` is from 1 to {MOST}"));
        }
        if self.loss_percent > 99 {
            return Err("`loss_percent` is from 0 to 99".to_owned());
        }
        if self.wait.0.is_zero() {
            return Err("`wait` must be more than 0".to_owned());
        }
        Ok(self)
    }
}

impl Check for Ping {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.pings())
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}

impl Ping {
    async fn pings(&self) -> Result<Answer, CheckFailure> {
        let host = &self.host.host;
        if self.host.is_name() {
            self.doing.now(format!("looking up the name {host}"));
        }
        let (addresses, dns) = self.host.addresses().await?;
        let none = || CheckFailure::Connect(format!("{host} has no address"));
        let to = addresses.first().ok_or_else(none)?.ip();
        let mut took = Vec::new();
        let mut why = None;
        for number in 0..self.count {
            self.doing.now(format!(
                "waiting for the answer to ping {} of {} to {to}; {} were answered",
                number + 1,
                self.count,
                took.len()
            ));
            match timeout(self.wait.0, echo(to)).await {
                Ok(Ok(time)) => took.push(time),
                Ok(Err(error)) => why = Some(meaning(&error)),
                Err(_) => {}
            }
        }
        took.sort_unstable();
        let answered = u32::try_from(took.len()).unwrap_or(self.count);
        let lost = (self.count - answered.min(self.count)) * 100 / self.count;
        let Some(median) = took.get(took.len() / 2).copied() else {
            let why = why.unwrap_or_else(|| format!("no answer within {}", self.wait));
            let said = format!("{to}: {why} ({} pings)", self.count);
            return Err(CheckFailure::Connect(said));
        };
        if lost > self.loss_percent {
            return Err(CheckFailure::Answer(format!(
                "{lost}% of {} pings to {to} were lost, at most {}% are expected",
                self.count, self.loss_percent
            )));
        }
        if let Some(latency) = self.latency.filter(|latency| median > latency.0) {
            return Err(CheckFailure::Answer(format!(
                "{to} answers pings after {median:.1?} at the median, more than {latency}"
            )));
        }
        let answer = Answer::well()
            .saying(format!("{to} answers"))
            .with("loss_percent", f64::from(lost))
            .took("round_trip", median);
        let answer = match took.as_slice() {
            [shortest, .., longest] => answer
                .took("round_trip_least", *shortest)
                .took("round_trip_most", *longest),
            _ => answer,
        };
        Ok(match dns {
            Some(dns) => answer.took("dns", dns),
            None => answer,
        })
    }
}

/// Sends one, and waits for its answer.
async fn echo(to: IpAddr) -> io::Result<Duration> {
    let began = Instant::now();
    let (socket, payload) = network::ping(to)?;
    // Of datagrams it is, whatever its protocol.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    let mut buffer = [0; 256];
    for _ in 0..PACKETS {
        let length = socket.recv(&mut buffer).await?;
        let packet = buffer.get(..length).unwrap_or_default();
        if network::is_reply(packet, &payload) {
            return Ok(began.elapsed());
        }
    }
    Err(io::Error::other("too many packets of others"))
}

fn meaning(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "pings are not permitted: run as root, or widen net.ipv4.ping_group_range".to_owned()
        }
        _ => reason(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Answer, String> {
        let read: Ping = toml::from_str(text).map_err(|why| why.to_string())?;
        let ping = read.sensible()?;
        let building = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let asked = building.expect("a runtime").block_on(ping.pings());
        asked.map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_loopback_device_answers_in_both_families_or_it_is_said_why_not() {
        for host in ["127.0.0.1", "::1"] {
            match ask(&format!("host = \"{host}\"\ncount = 3")) {
                Ok(answer) => assert_eq!(
                    answer
                        .figures
                        .first()
                        .map(crate::model::signal::Figure::value),
                    Some(0.0)
                ),
                Err(why) => assert!(
                    !rustix::process::geteuid().is_root() && why.contains("not permitted"),
                    "{why}"
                ),
            }
        }
        let too_slow = ask("host = \"127.0.0.1\"\nlatency = \"1ns\"").expect_err("too slow");
        assert!(
            too_slow.contains("more than") || too_slow.contains("not permitted"),
            "{too_slow}"
        );
        for text in [
            "host = \"127.0.0.1\"\ncount = 0",
            "host = \"a b\"",
            "host = \"::1\"\nloss_percent = 100",
        ] {
            assert!(ask(text).is_err(), "{text}");
        }
    }
}
