//! `tls = { address = "example.org:443", days = 14 }`: a certificate is trusted, is for that name, and lasts.
//!
//! Of what is listened on at a port, or of a file (`file = "…"`): there the earliest end of all certificates in it counts, and keys in it are
//! passed over. A restart makes no new certificate, so this shows nothing of whether the service serves.

use std::path::PathBuf;

use serde::Deserialize;

use super::net::certificate::{self, Certificate, date};
use super::net::connect;
use super::net::doing::Doing;
use super::net::place::Place;
use super::net::starttls::StartTls;
use super::net::tls::{Tls as Handshake, is_server_name};
use super::{About, Answer, Asking, Check, Settings, Spec, files, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "tls",
    summary: "a certificate, at a port or in a file, is valid and lasts for some days more",
    serving: false,
    short: "address",
    example: "tls = { address = \"example.org:443\", days = 14 }",
    read: read::<Tls>,
};

/// Most of a file that is read.
const FILE: u64 = 1 << 20;

/// `tls = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// Where it listens; or else a file.
    address: Option<Place>,
    /// Certificates in PEM, or one in DER.
    file: Option<PathBuf>,
    /// It must last so many days more.
    #[serde(default = "two_weeks")]
    days: u32,
    /// Whose the certificate must be; the host of `address` when none.
    server_name: Option<String>,
    /// Whom to trust; the host's list when none.
    ca_file: Option<PathBuf>,
    /// Only the dates are looked at.
    #[serde(default)]
    insecure: bool,
    /// How TLS is begun, where it is not at once.
    starttls: Option<StartTls>,
    #[serde(skip)]
    doing: Doing,
}

const fn two_weeks() -> u32 {
    14
}

impl Settings for Tls {
    fn sensible(self) -> Result<Self, String> {
        let of_port = self.server_name.is_some()
            || self.ca_file.is_some()
            || self.insecure
            || self.starttls.is_some();
        match (&self.address, &self.file) {
            (Some(_), None) => {}
            (None, Some(_)) if !of_port => {}
            (None, Some(_)) => {
                return Err(
                    "of a `file` only the dates are looked at: write `days` alone".to_owned(),
                );
            }
            _ => return Err("write either `address` or `file`".to_owned()),
        }
        if let Some(name) = &self.server_name {
            is_server_name(name)?;
        }
        Ok(self)
    }
}

impl Check for Tls {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            match (&self.address, &self.file) {
                (Some(place), _) => self.port(place).await,
                (None, Some(file)) => self.file(file.clone()).await,
                (None, None) => Err(CheckFailure::Answer("nothing to look at".to_owned())),
            }
        })
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}

impl Tls {
    async fn port(&self, place: &Place) -> Result<Answer, CheckFailure> {
        let mut connected = connect::to(place, &self.doing).await?;
        if let Some(starttls) = self.starttls {
            starttls.ask(&mut connected.stream, &self.doing).await?;
        }
        let handshake = Handshake {
            name: self
                .server_name
                .clone()
                .unwrap_or_else(|| place.host.clone()),
            ca_file: self.ca_file.clone(),
            insecure: self.insecure,
            http: false,
        };
        let secured = handshake.shake(connected.stream, &self.doing).await?;
        let unread = || CheckFailure::Answer("its certificate cannot be read".to_owned());
        let answer = self.judge(&[secured.certificate.ok_or_else(unread)?])?;
        let answer = answer
            .took("connect", connected.connect)
            .took("tls", secured.took);
        Ok(match connected.dns {
            Some(dns) => answer.took("dns", dns),
            None => answer,
        })
    }

    async fn file(&self, file: PathBuf) -> Result<Answer, CheckFailure> {
        self.doing.now(format!("reading {}", file.display()));
        let path = file.clone();
        let all = files::off_thread(&path, move || {
            let all = files::read(&file, FILE).and_then(|text| Certificate::all(&text));
            all.map_err(|why| format!("{}: {why}", file.display()))
        });
        self.judge(&all.await.map_err(CheckFailure::Answer)?)
    }

    /// The one that ends first counts.
    fn judge(&self, all: &[Certificate]) -> Result<Answer, CheckFailure> {
        let now = certificate::now();
        for one in all {
            if let Some(trouble) = one.trouble(now) {
                return Err(CheckFailure::Answer(trouble));
            }
        }
        let first = all.iter().min_by_key(|one| one.ends);
        let first = first.ok_or_else(|| CheckFailure::Answer("no certificate".to_owned()))?;
        if let Some(trouble) = first.too_short(now, self.days) {
            return Err(CheckFailure::Answer(trouble));
        }
        let days = first.days(now);
        let said = format!(
            "the certificate of {} is valid until {}",
            first.called(),
            date(first.ends)
        );
        Ok(Answer::well()
            .saying(said)
            .with("certificate_days", days_figure(days)))
    }
}

/// As a figure: there are no certificates for so long that this would not be exact.
pub(super) fn days_figure(days: i64) -> f64 {
    i32::try_from(days).map_or(f64::from(i32::MAX), f64::from)
}
