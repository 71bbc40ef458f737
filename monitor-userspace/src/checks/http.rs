//! `http = "http://127.0.0.1:8080/health"`: an answer with a status of 200 to 399, read to its end or to its first MiB.
//!
//! A connection of its own each time, so that a listener that is gone is noticed; with `keep_alive`, every 60th time. HTTP/1.1 alone. Nothing of TLS is there before the first
//! check that speaks it. Request and answer are ours (`http/exchange.rs`): this check is made most, and that costs less than a client library.

#[path = "http/chunked.rs"]
mod chunked;
#[path = "http/exchange.rs"]
mod exchange;
#[path = "http/expect.rs"]
mod expect;
#[path = "http/headers.rs"]
mod headers;
#[path = "http/kept.rs"]
mod kept;
#[path = "http/url.rs"]
mod url;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::exchange::{BODY, Got, exchange};
use self::expect::{Body, Jsons, Statuses};
use self::headers::Headers;
use self::kept::{Kept, Used};
use self::url::Url;
use super::net::certificate::{self, Certificate};
use super::net::connect;
use super::net::doing::Doing;
use super::net::place::Place;
use super::net::tls::{Tls, is_server_name};
use super::tls::days_figure;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::Span;
use crate::model::{CheckFailure, ProcessKey};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "http",
    summary: "an HTTP request is answered with the expected status and content, in time, with a good certificate",
    serving: true,
    short: "url",
    example: "http = \"http://127.0.0.1:8080/health\"",
    read: read::<Http>,
};

/// Most redirects that can be followed.
const REDIRECTS: u32 = 20;
/// The longest body that can be sent.
const SEND: usize = 64 << 10;

/// `http = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// What to ask for.
    #[serde(deserialize_with = "url")]
    url: Url,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: Headers,
    /// The body to send.
    #[serde(default)]
    send: String,
    #[serde(default)]
    status: Statuses,
    /// What must be in the body.
    body: Option<Body>,
    /// What must stand in the body's JSON.
    #[serde(default)]
    json: Jsons,
    /// So many are followed; the last answer counts.
    #[serde(default)]
    redirects: u32,
    /// Where to connect to, whatever the URL names.
    connect_to: Option<Place>,
    /// Whose the certificate must be; the host of the URL when none.
    server_name: Option<String>,
    /// Whom to trust; the host's list when none.
    ca_file: Option<PathBuf>,
    /// Whatever the certificate is.
    #[serde(default)]
    insecure: bool,
    /// The whole may take so long.
    latency: Option<Span>,
    /// The certificate must last so many days more.
    certificate_days: Option<u32>,
    /// Use a connection for several requests.
    #[serde(default)]
    keep_alive: bool,
    #[serde(skip)]
    kept: Kept,
    #[serde(skip)]
    doing: Doing,
    /// The request for `url`, without what is secret.
    #[serde(skip)]
    request: String,
}

fn url<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    let text = String::deserialize(from)?;
    Url::parse(&text).map_err(serde::de::Error::custom)
}

fn get() -> String {
    "GET".to_owned()
}

impl Settings for Http {
    fn sensible(mut self) -> Result<Self, String> {
        if self.method.is_empty() || !self.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "`{}` is no method: write it as \"GET\" or \"POST\"",
                self.method
            ));
        }
        if self.method == "CONNECT" {
            return Err("`CONNECT` asks for no answer that can be checked".to_owned());
        }
        if self.redirects > REDIRECTS {
            return Err(format!("`redirects` can be at most {REDIRECTS}"));
        }
        if self.send.len() > SEND {
            return Err(format!("`send` can have at most {SEND} bytes"));
        }
        if self.method == "HEAD" && (self.body.is_some() || !self.json.0.is_empty()) {
            return Err("the answer to a HEAD has no body to look at".to_owned());
        }
        let of_tls = self.server_name.is_some()
            || self.ca_file.is_some()
            || self.insecure
            || self.certificate_days.is_some();
        if of_tls && !self.url.tls && self.redirects == 0 {
            return Err(
                "`server_name`, `ca_file`, `insecure` and `certificate_days` are for https"
                    .to_owned(),
            );
        }
        if self.keep_alive && (self.url.tls || !matches!(&*self.method, "GET" | "HEAD")) {
            return Err(
                "`keep_alive` is for GET and HEAD over http: an https check is to see the certificate of today, and nothing else is to be asked twice"
                    .to_owned(),
            );
        }
        if let Some(name) = &self.server_name {
            is_server_name(name)?;
        }
        self.json.sensible()?;
        self.request = self.write(&self.url, &self.method);
        Ok(self)
    }
}

impl Check for Http {
    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        let process = (self.keep_alive).then(|| about.tools.running.process(&about.service));
        Box::pin(self.follow(process.flatten()))
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}

/// What each part took, over all redirects.
#[derive(Debug, Default)]
struct Times {
    dns: Option<Duration>,
    connect: Duration,
    tls: Option<Duration>,
    first_byte: Duration,
}

impl Http {
    /// A request, without the empty line at its end.
    fn write(&self, url: &Url, method: &str) -> String {
        let mut text = format!("{method} {} HTTP/1.1\r\n", url.path);
        let own = url.same_origin(&self.url);
        if !own || !self.headers.has("host") {
            text.extend(["host: ", &url.authority, "\r\n"]);
        }
        if !self.headers.has("user-agent") {
            text += concat!(
                "user-agent: smart-monitor/",
                env!("CARGO_PKG_VERSION"),
                "\r\n"
            );
        }
        if !self.keep_alive {
            text += "connection: close\r\n";
        }
        if matches!(method, "POST" | "PUT" | "PATCH")
            || !self.send.is_empty() && method == self.method
        {
            text += "content-length: ";
            text += &self.send.len().to_string();
            text += "\r\n";
        }
        text + &self.headers.plain(own)
    }

    async fn follow(&self, process: Option<ProcessKey>) -> Result<Answer, CheckFailure> {
        let began = Instant::now();
        let mut times = Times::default();
        let (got, certificate) = self
            .once(
                &self.url,
                (&self.request, &self.method),
                process,
                &mut times,
            )
            .await?;
        let (mut got, mut certificate) = (got, certificate);
        let mut at: Option<Url> = None;
        let mut method = self.method.as_str();
        for followed in 0..=self.redirects {
            let redirects = matches!(got.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = got
                .location
                .as_deref()
                .filter(|_| redirects && self.redirects > 0)
            else {
                break;
            };
            let here = at.as_ref().unwrap_or(&self.url);
            let next = here.follow(location).map_err(|why| {
                CheckFailure::Answer(format!("{here} redirects to where is not followed: {why}"))
            })?;
            if followed == self.redirects {
                return Err(CheckFailure::Answer(format!(
                    "more than {} redirects, the last one from {here} to {next}",
                    self.redirects
                )));
            }
            let asks_again = matches!(got.status, 307 | 308) || method == "HEAD";
            if asks_again && !self.send.is_empty() && !next.same_origin(&self.url) {
                return Err(CheckFailure::Answer(format!(
                    "{here} redirects to {next}, another server, which `send` is not for"
                )));
            }
            if !asks_again && (got.status == 303 || method == "POST") {
                method = "GET";
            }
            let request = self.write(&next, method);
            let request = (request.as_str(), method);
            (got, certificate) = self.once(&next, request, process, &mut times).await?;
            at = Some(next);
        }
        self.judge(
            &got,
            certificate.as_ref(),
            at.as_ref(),
            (&times, began.elapsed()),
        )
    }

    /// One request; nothing of it is kept for the next.
    async fn once(
        &self,
        url: &Url,
        (request, method): (&str, &str),
        process: Option<ProcessKey>,
        times: &mut Times,
    ) -> Result<(Got, Option<Certificate>), CheckFailure> {
        let own = url.same_origin(&self.url);
        let mut whole = Vec::with_capacity(request.len() + self.send.len() + 2);
        whole.extend_from_slice(request.as_bytes());
        if own && self.headers.any_secret() {
            self.doing.now("reading the secrets of its headers");
            let secret = self.headers.secret().await.map_err(CheckFailure::Answer)?;
            whole.extend_from_slice(secret.as_bytes());
        }
        whole.extend_from_slice(b"\r\n");
        if method == self.method {
            whole.extend_from_slice(self.send.as_bytes());
        }
        let place = self
            .connect_to
            .as_ref()
            .filter(|_| own)
            .unwrap_or(&url.place);
        let how = (
            self.body.is_some() || !self.json.0.is_empty(),
            method == "HEAD",
        );
        let keep = self.keep_alive && own && !url.tls;
        if keep && let Some(used) = self.kept.take(process) {
            let mut used = used.again();
            let began = Instant::now();
            // A server may have closed it just now: then a new one tells.
            if let Ok(got) = exchange(&mut used.stream, &whole, how, &self.doing).await {
                times.first_byte += got.first_byte.saturating_duration_since(began);
                if got.goes_on {
                    self.kept.put(used);
                }
                return Ok((got, None));
            }
        }
        let connected = connect::to(place, &self.doing).await?;
        times.connect += connected.connect;
        times.dns = add(times.dns, connected.dns);
        let mut stream = connected.stream;
        if !url.tls {
            let began = Instant::now();
            let got = exchange(&mut stream, &whole, how, &self.doing).await?;
            times.first_byte += got.first_byte.saturating_duration_since(began);
            if keep && got.goes_on {
                self.kept.put(Used::new(stream, process));
            }
            return Ok((got, None));
        }
        let name = self.server_name.clone().filter(|_| own);
        let tls = Tls {
            name: name.unwrap_or_else(|| url.place.host.clone()),
            ca_file: self.ca_file.clone(),
            insecure: self.insecure,
            http: true,
        };
        let mut secured = tls.shake(stream, &self.doing).await?;
        times.tls = add(times.tls, Some(secured.took));
        let began = Instant::now();
        let got = exchange(&mut secured.stream, &whole, how, &self.doing).await?;
        times.first_byte += got.first_byte.saturating_duration_since(began);
        Ok((got, secured.certificate))
    }

    fn judge(
        &self,
        got: &Got,
        certificate: Option<&Certificate>,
        at: Option<&Url>,
        (times, total): (&Times, Duration),
    ) -> Result<Answer, CheckFailure> {
        let from = at.map_or(String::new(), |at| format!(" from {at}"));
        let wrong = |why: String| Err(CheckFailure::Answer(why));
        let status = got.status;
        if !self.status.has(status) {
            let to = got.location.as_ref().map_or(String::new(), |to| {
                let to = at.unwrap_or(&self.url).follow(to);
                to.map_or(String::new(), |to| format!(", a redirect to {to}"))
            });
            return wrong(format!(
                "status {status}{from}{to}; expected {}",
                self.status
            ));
        }
        let body = self
            .body
            .as_ref()
            .and_then(|body| body.trouble(&got.body, got.cut));
        if let Some(why) = body.or_else(|| self.json.trouble(&got.body, got.cut)) {
            return wrong(format!("status {status}{from}, but {why}"));
        }
        let now = certificate::now();
        if let (Some(certificate), Some(days)) = (certificate, self.certificate_days)
            && let Some(why) = certificate.too_short(now, days)
        {
            return wrong(why);
        }
        if let Some(latency) = self.latency.filter(|latency| total > latency.0) {
            return wrong(format!(
                "status {status}{from} after {total:.0?}, more than {latency} (connection {:.0?}, TLS {:.0?}, first byte {:.0?} after that)",
                times.connect,
                times.tls.unwrap_or_default(),
                times.first_byte
            ));
        }
        let cut = if got.cut {
            format!(", of its body the first {} MiB was read", BODY >> 20)
        } else {
            String::new()
        };
        let mut answer = Answer::well().saying(format!("status {status}{from}{cut}"));
        answer.figures.reserve_exact(7);
        answer = answer
            .with("status", f64::from(status))
            .took("connect", times.connect)
            .took("first_byte", times.first_byte)
            .took("total", total);
        if let Some(dns) = times.dns {
            answer = answer.took("dns", dns);
        }
        if let Some(tls) = times.tls {
            answer = answer.took("tls", tls);
        }
        Ok(match certificate {
            Some(certificate) => {
                answer.with("certificate_days", days_figure(certificate.days(now)))
            }
            None => answer,
        })
    }
}

fn add(sum: Option<Duration>, more: Option<Duration>) -> Option<Duration> {
    match (sum, more) {
        (Some(sum), Some(more)) => Some(sum + more),
        (sum, more) => sum.or(more),
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
