//! Kinds of records, and how each is written (RFC 1035, 3596, 2782).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::message::Reader;

/// See the module.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

impl Kind {
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }

    /// What a record says; none for what is no such record.
    pub(super) fn show(self, mut data: Reader<'_>) -> Option<String> {
        Some(match self {
            Self::A => Ipv4Addr::from(<[u8; 4]>::try_from(data.rest()).ok()?).to_string(),
            Self::Aaaa => Ipv6Addr::from(<[u8; 16]>::try_from(data.rest()).ok()?).to_string(),
            Self::Cname | Self::Ns | Self::Ptr => data.name()?,
            Self::Mx => format!("{} {}", data.u16()?, data.name()?),
            Self::Soa => format!("{} {} {}", data.name()?, data.name()?, data.u32()?),
            Self::Srv => format!(
                "{} {} {} {}",
                data.u16()?,
                data.u16()?,
                data.u16()?,
                data.name()?
            ),
            Self::Txt => {
                let mut text = String::new();
                while let Some(length) = data.u8() {
                    let piece = String::from_utf8_lossy(data.take(usize::from(length))?);
                    text.extend(piece.chars().map(|c| if c.is_control() { '?' } else { c }));
                }
                text
            }
        })
    }

    /// What is expected, as it would be shown.
    pub(super) fn normal(self, text: &str) -> Result<String, String> {
        let address = match self {
            Self::A => text.parse::<Ipv4Addr>().map(IpAddr::from),
            Self::Aaaa => text.parse::<Ipv6Addr>().map(IpAddr::from),
            Self::Txt => return Ok(text.to_owned()),
            _ => {
                let lower = text.trim().to_ascii_lowercase();
                let words: Vec<&str> = lower.split_ascii_whitespace().collect();
                let short = |word: &str| match word.strip_suffix('.') {
                    Some(short) if !short.is_empty() => short.to_owned(),
                    _ => word.to_owned(),
                };
                let words: Vec<String> = words.into_iter().map(short).collect();
                return Ok(words.join(" "));
            }
        };
        let address = address.map_err(|_| format!("`expect`: `{text}` is no {self} record"))?;
        Ok(address.to_string())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}").to_ascii_uppercase();
        f.write_str(&name)
    }
}

/// The name that an address has, for asking for its PTR.
pub(super) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(it) => {
            let [a, b, c, d] = it.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(it) => {
            let halves = it
                .octets()
                .into_iter()
                .rev()
                .flat_map(|byte| [byte & 15, byte >> 4]);
            let halves: Vec<String> = halves.map(|half| format!("{half:x}.")).collect();
            halves.concat() + "ip6.arpa"
        }
    }
}
