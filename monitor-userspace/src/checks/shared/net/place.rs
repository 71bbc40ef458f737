//! `host:port`, where the host is a name or an address; and looking up the name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::checks::alone::one_of;
use crate::model::CheckFailure;
use serde::{Deserialize, Deserializer};

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// The longest name there can be (RFC 1035).
const NAME: usize = 253;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    address: Option<IpAddr>,
}

impl Place {
    /// A host, as a name or an address (without brackets), and a port.
    pub(crate) fn new(host: &str, port: u16) -> Result<Self, String> {
        let address: Option<IpAddr> = host.parse().ok();
        if address.is_none() {
            is_name(host)?;
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            address,
        })
    }

    /// From `127.0.0.1:80`, `[::1]:80`, `localhost:80`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(format!("`{text}` names no port"));
            }
            if matches!(address, SocketAddr::V6(six) if six.scope_id() != 0) {
                return Err(format!(
                    "`{text}`: an address with a zone is not taken here"
                ));
            }
            return Self::new(&address.ip().to_string(), address.port());
        }
        let wrong = || {
            format!("`{text}` is no host and port: write \"127.0.0.1:6379\" or \"localhost:6379\"")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if port == 0 {
            return Err(wrong());
        }
        Self::new(host, port).map_err(|why| format!("{}: {why}", wrong()))
    }

    /// Whether it is a name, which has to be looked up.
    pub(crate) const fn is_name(&self) -> bool {
        self.address.is_none()
    }

    /// Its addresses, and how long it took to learn them; no time for what is an address.
    pub(crate) async fn addresses(
        &self,
    ) -> Result<(Vec<SocketAddr>, Option<Duration>), CheckFailure> {
        if let Some(address) = self.address {
            return Ok((vec![SocketAddr::new(address, self.port)], None));
        }
        let began = Instant::now();
        let found = look_up(self.host.clone(), self.port).await?;
        Ok((found, Some(began.elapsed())))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Whether a text can be the name of a host.
pub(crate) fn is_name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME || !text.chars().all(plain) || text.contains("..") {
        return Err(format!(
            "`{text}` is neither an address nor the name of a host (letters outside of ASCII are written as \"xn--…\")"
        ));
    }
    Ok(())
}

async fn look_up(host: String, port: u16) -> Result<Vec<SocketAddr>, CheckFailure> {
    let why = |host: &str, why: String| {
        CheckFailure::Connect(format!("the name {host} cannot be looked up: {why}"))
    };
    let asked = host.clone();
    // Goes on when the check has given up, until the resolver has answered; meanwhile nobody asks for this name once more.
    let found = one_of(format!("name {host}"), move || {
        let found = std::net::ToSocketAddrs::to_socket_addrs(&(asked.as_str(), port));
        let found = found.map(|all| all.take(ADDRESSES).collect::<Vec<_>>());
        found.map_err(|error| why(&asked, error.to_string()))
    })
    .await?;
    if found.is_empty() {
        return Err(why(&host, "it has no address".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_names_or_addresses_with_a_port() {
        for (text, shown) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:443", "[::1]:443"),
            ("localhost:6379", "localhost:6379"),
        ] {
            assert_eq!(
                Place::parse(text).map(|it| it.to_string()),
                Ok(shown.to_owned())
            );
        }
        for text in [
            "localhost",
            "localhost:0",
            "127.0.0.1:0",
            "[fe80::1%2]:80",
            "a b:1",
            ":80",
            "::1",
            "bücher.example:1",
            "a..b:1",
            "h:65536",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
