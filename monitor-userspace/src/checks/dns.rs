//! `dns = { name = "example.org", type = "A", server = "127.0.0.1:53" }`: a name server answers a question as expected.
//!
//! One question, over UDP, once more over TCP where the answer did not fit. The message is ours (`dns/message.rs`). What is not an
//! answer to our question is passed over; what is one and cannot be read fails the check.

#[path = "dns/message.rs"]
mod message;
#[path = "dns/record.rs"]
mod record;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use self::message::{Message, question, rcode};
use self::record::Kind;
use super::net::connect::reason;
use super::net::doing::Doing;
use super::{About, Answer, Asking, Check, Settings, Spec, files, read};
use crate::host::network::files::resolvers;
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "dns",
    summary: "a name server answers a question as expected",
    serving: true,
    short: "name",
    example: "dns = { name = \"example.org\", type = \"A\", server = \"127.0.0.1:53\" }",
    read: read::<Dns>,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most that is read of that.
const RESOLV_CONF_SIZE: u64 = 64 << 10;
const PORT: u16 = 53;
/// When the question is sent again: packets get lost.
const AGAIN: Duration = Duration::from_secs(1);
/// Most packets that are no answer to the question.
const STRANGE: u32 = 64;
/// Most of an answer over UDP that is read; we announce no more than the 512 of RFC 1035.
const PACKET: usize = 4096;
/// Most records that are shown.
const SHOWN: usize = 5;

/// `dns = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    /// What to ask about; an address stands for its name in `in-addr.arpa` or `ip6.arpa`.
    name: String,
    /// Which records.
    #[serde(rename = "type", default)]
    kind: Kind,
    /// Whom to ask; the first of `/etc/resolv.conf` when none.
    #[serde(default, deserialize_with = "server")]
    server: Option<SocketAddr>,
    /// What must be among the records.
    #[serde(default)]
    expect: Vec<String>,
    #[serde(skip)]
    doing: Doing,
}

fn server<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let address = text.parse().or(address);
    address.map(Some).map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is not the address of a name server: write \"127.0.0.1\" or \"127.0.0.1:53\""
        ))
    })
}

impl Settings for Dns {
    fn sensible(mut self) -> Result<Self, String> {
        if let Ok(address) = self.name.parse::<IpAddr>() {
            if self.kind != Kind::Ptr {
                return Err(format!(
                    "the name of the address {address} is asked for with `type = \"PTR\"`"
                ));
            }
            self.name = record::reverse(address);
        }
        question(0, &self.name, self.kind)?;
        for expected in &mut self.expect {
            *expected = self.kind.normal(expected)?;
        }
        Ok(self)
    }
}

impl Check for Dns {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.question())
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}

impl Dns {
    async fn question(&self) -> Result<Answer, CheckFailure> {
        let server = match self.server {
            Some(server) => server,
            None => first_resolver().await.map_err(CheckFailure::Connect)?,
        };
        let began = Instant::now();
        let lost = |error: std::io::Error| {
            CheckFailure::Connect(format!("name server {server}: {}", reason(&error)))
        };
        let id = u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or(0);
        let question = question(id, &self.name, self.kind).map_err(CheckFailure::Answer)?;
        self.doing.now(format!(
            "waiting for an answer of {server} about {}",
            self.name
        ));
        let (mut packet, strange) = udp(server, &question).await.map_err(lost)?;
        let mut strange = strange;
        if message::is_cut(&packet) {
            self.doing.now(format!(
                "asking {server} again over TCP: the answer did not fit into a packet"
            ));
            packet = tcp(server, &question).await.map_err(lost)?;
            strange = 0;
        }
        if packet.is_empty() {
            return Err(CheckFailure::Answer(format!(
                "{server} sent {strange} packets, none of which answers the question about {}",
                self.name
            )));
        }
        let unread = |why: &str| {
            CheckFailure::Answer(format!(
                "the answer of {server} about {} cannot be read: {why} ({} bytes)",
                self.name,
                packet.len()
            ))
        };
        let answer = Message::read(&packet, &question, self.kind).map_err(unread)?;
        self.judge(server, &answer, began.elapsed())
    }

    fn judge(
        &self,
        server: SocketAddr,
        answer: &Message,
        took: Duration,
    ) -> Result<Answer, CheckFailure> {
        let (name, kind) = (&self.name, self.kind);
        let wrong = |why: String| Err(CheckFailure::Answer(why));
        if answer.rcode != 0 {
            return wrong(format!("{server} says of {name}: {}", rcode(answer.rcode)));
        }
        let shown: Vec<&str> = answer
            .records
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect();
        let more = answer.records.len().saturating_sub(SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let shown = shown.join(", ");
        if answer.records.is_empty() {
            return wrong(format!("{server} knows {name}, but no {kind} record of it"));
        }
        let missing = self.expect.iter().find(|it| !answer.records.contains(it));
        if let Some(missing) = missing {
            return wrong(format!(
                "{server} says {kind} of {name} is {shown}{more}; {missing} is not among them"
            ));
        }
        let count = u32::try_from(answer.records.len()).unwrap_or(u32::MAX);
        // Name servers turn the order of what they say: what is shown must not change with it.
        let said = if count == 1 {
            shown
        } else {
            format!("{count} {kind} records")
        };
        Ok(Answer::well()
            .saying(said)
            .took("answer", took)
            .with("records", f64::from(count))
            .with("ttl_seconds", f64::from(answer.ttl)))
    }
}

async fn first_resolver() -> Result<SocketAddr, String> {
    let text = files::off_thread(Path::new(RESOLV_CONF), || {
        let text = files::read(Path::new(RESOLV_CONF), RESOLV_CONF_SIZE);
        text.map_err(|why| format!("{RESOLV_CONF}: {why}"))
    });
    let named = resolvers(&String::from_utf8_lossy(&text.await?));
    let first = named.first();
    let first = first.ok_or_else(|| format!("{RESOLV_CONF} names no name server: set `server`"))?;
    Ok(SocketAddr::new(*first, PORT))
}

/// The answer, or nothing after too many packets that are none; and how many those were.
async fn udp(server: SocketAddr, question: &[u8]) -> std::io::Result<(Vec<u8>, u32)> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Packets of others do not get here.
    socket.connect(server).await?;
    let mut packet = vec![0; PACKET];
    let mut strange = 0;
    socket.send(question).await?;
    while strange < STRANGE {
        let received = tokio::time::timeout(AGAIN, socket.recv(&mut packet)).await;
        let Ok(received) = received else {
            socket.send(question).await?;
            continue;
        };
        let received = packet.get(..received?).unwrap_or_default();
        if message::answers(received, question) {
            return Ok((received.to_vec(), strange));
        }
        strange += 1;
    }
    Ok((Vec::new(), strange))
}

/// At most the 64 KiB that a length can say.
async fn tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).unwrap_or(0);
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend_from_slice(question);
    stream.write_all(&whole).await?;
    let length = stream.read_u16().await?;
    let mut packet = Vec::new();
    // Grows with what comes, not with what is promised.
    (&mut stream)
        .take(u64::from(length))
        .read_to_end(&mut packet)
        .await?;
    if packet.len() < usize::from(length) || !message::answers(&packet, question) {
        return Err(std::io::Error::other(
            "what came over TCP is not an answer to the question",
        ));
    }
    Ok(packet)
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
