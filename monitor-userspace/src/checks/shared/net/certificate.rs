//! What a person wants to know of a certificate (RFC 5280): whose it is, and from when to when it counts. Read without trusting it.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::der::{BOOLEAN, Der, GENERALIZED_TIME, OCTETS, OID, SEQUENCE, SET, UTC_TIME};

/// Most names that are kept of one, and most certificates of a chain or a file that are looked at.
const MOST: usize = 32;
const DAY: i64 = 24 * 60 * 60;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The common name of its subject; empty where it has none.
    pub(crate) subject: String,
    /// That of who made it.
    pub(crate) issuer: String,
    /// What it is for: names and addresses of hosts.
    pub(crate) names: Vec<String>,
    /// In seconds since 1970.
    pub(crate) begins: i64,
    pub(crate) ends: i64,
}

impl Certificate {
    /// From DER.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let mut whole = Der(der).take(SEQUENCE)?;
        let mut inner = whole.take(SEQUENCE)?;
        // The version, which the oldest do not have; number, algorithm.
        let _ = inner.take(0xa0);
        inner.next()?;
        inner.take(SEQUENCE)?;
        let issuer = common_name(inner.take(SEQUENCE)?);
        let mut validity = inner.take(SEQUENCE)?;
        let (begins, ends) = (time(&mut validity)?, time(&mut validity)?);
        let subject = common_name(inner.take(SEQUENCE)?);
        let mut names = Vec::new();
        while let Some((tag, content)) = inner.next() {
            if tag == 0xa3 {
                names = alternative_names(Der(content)).unwrap_or_default();
            }
        }
        Some(Self {
            subject,
            issuer,
            names,
            begins,
            ends,
        })
    }

    /// All that a file holds: PEM, of which other parts (keys) are passed over, or one in DER.
    pub(crate) fn all(file: &[u8]) -> Result<Vec<Self>, String> {
        let unreadable = |at: usize| format!("certificate {at} in it cannot be read");
        if file.first() == Some(&SEQUENCE) {
            return Ok(vec![Self::read(file).ok_or_else(|| unreadable(1))?]);
        }
        let mut all = Vec::new();
        for (at, der) in CertificateDer::pem_slice_iter(file).take(MOST).enumerate() {
            let der = der.map_err(|why| format!("it is no PEM: {why}"))?;
            all.push(Self::read(&der).ok_or_else(|| unreadable(at + 1))?);
        }
        if all.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        Ok(all)
    }

    /// Days until it ends, rounded down; negative when it has ended.
    pub(crate) const fn days(&self, now: i64) -> i64 {
        (self.ends - now).div_euclid(DAY)
    }

    /// What it is called: by its subject, or else by its first name.
    pub(crate) fn called(&self) -> &str {
        match self.names.first() {
            Some(name) if self.subject.is_empty() => name,
            _ => &self.subject,
        }
    }

    /// Why it does not count now, if it does not.
    pub(crate) fn trouble(&self, now: i64) -> Option<String> {
        let called = self.called();
        if now >= self.ends {
            let days = (now - self.ends) / DAY;
            Some(format!(
                "the certificate of {called} expired on {}, {days} days ago",
                date(self.ends)
            ))
        } else if now < self.begins {
            Some(format!(
                "the certificate of {called} is not valid before {}",
                date(self.begins)
            ))
        } else {
            None
        }
    }

    /// Why it does not last long enough, if it does not.
    pub(crate) fn too_short(&self, now: i64, days: u32) -> Option<String> {
        let trouble = self.trouble(now);
        trouble.or_else(|| {
            (self.ends - now < i64::from(days) * DAY).then(|| {
                format!(
                    "the certificate of {} ends in {} days, on {}; at least {days} days were expected",
                    self.called(),
                    self.days(now),
                    date(self.ends)
                )
            })
        })
    }
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}

/// The day, in UTC.
pub(crate) fn date(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(at) => at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string(),
        Err(_) => format!("second {seconds}"),
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(der: &mut Der<'_>) -> Option<i64> {
    let (tag, text) = der.next()?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let at = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    let at = at.to_zoned(TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second())
}

/// Of a name: a sequence of sets of sequences of kind and text. The last one counts.
fn common_name(mut name: Der<'_>) -> String {
    let mut found = String::new();
    while let Some(mut set) = name.take(SET) {
        while let Some(mut one) = set.take(SEQUENCE) {
            let is_common = one.take(OID).is_some_and(|it| it.0 == [0x55, 4, 3]);
            if let Some((_, text)) = one.next().filter(|_| is_common) {
                found = plain(text);
            }
        }
    }
    found
}

fn alternative_names(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut extensions = extensions.take(SEQUENCE)?;
    let mut names = Vec::new();
    while let Some(mut one) = extensions.take(SEQUENCE) {
        let kind = one.take(OID)?;
        let _ = one.take(BOOLEAN);
        let mut content = one.take(OCTETS)?;
        if kind.0 != [0x55, 0x1d, 0x11] {
            continue;
        }
        let mut all = content.take(SEQUENCE)?;
        while let Some((tag, content)) = all.next().filter(|_| names.len() < MOST) {
            match tag {
                0x82 => names.push(plain(content)),
                0x87 => names.extend(address(content)),
                _ => {}
            }
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|it| std::net::Ipv4Addr::from(it).to_string());
    let six = <[u8; 16]>::try_from(bytes).map(|it| std::net::Ipv6Addr::from(it).to_string());
    four.or(six).ok()
}

/// Fit to be shown; a host's name is not longer.
fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..text.len().min(253)).unwrap_or(text));
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
