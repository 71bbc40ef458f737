//! `redis = "127.0.0.1:6379"`: PING is answered, and INFO tells of no trouble.
//!
//! A connection of its own each time, so that a full house is noticed. Reads 1 MiB at most. Writes nothing: that writes are refused is
//! known from what the server says of its memory and its disk. No TLS.

mod info;
mod talk;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use super::wire::{Place, Wire, wrong};
use super::{About, Answer, Asking, Check, Settings, Spec, read, secret};
use crate::config::units::{Level, Percent, Span};
use crate::model::CheckFailure;
use info::{Counted, Info};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "redis",
    summary: "a Redis or Valkey server answers PING, and INFO tells of no trouble",
    serving: true,
    short: "address",
    example: "redis = { address = \"127.0.0.1:6379\", memory_max = \"80%\", role = \"master\", latency = \"100ms\" }",
    read: read::<Redis>,
};

/// `redis = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redis {
    /// Where it listens.
    address: Place,
    /// As whom, where the server has users (Redis 6).
    #[serde(alias = "username")]
    user: Option<String>,
    /// Where the password is: the first line of this file.
    password_file: Option<PathBuf>,
    /// Where the password is: an environment variable of the daemon.
    password_env: Option<String>,
    /// A database that must be there.
    database: Option<u32>,
    /// Most memory: a share of `maxmemory`, or a size.
    memory_max: Option<Level>,
    /// Most clients, as a share of `maxclients`.
    clients_max: Option<Percent>,
    /// Most keys a second that are thrown away for want of memory.
    evictions_per_second: Option<f64>,
    /// What it must be.
    role: Option<Role>,
    /// Most seconds that a replica may be behind.
    replication_lag: Option<Span>,
    /// Whether a failed save to disk is a failure, too, where writes are still taken.
    #[serde(default)]
    saved: bool,
    /// Longest time that a PING may take.
    latency: Option<Span>,
    #[serde(skip)]
    before: Mutex<Option<Counted>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Master,
    Replica,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
        }
    }
}

impl Settings for Redis {
    fn sensible(self) -> Result<Self, String> {
        let file = self.password_file.as_deref();
        secret::sensible(file, self.password_env.as_deref())?;
        if self.user.is_some() && file.is_none() && self.password_env.is_none() {
            return Err(
                "`user` needs its password: give `password_file` or `password_env`".to_owned(),
            );
        }
        if self
            .evictions_per_second
            .is_some_and(|most| !most.is_finite() || most < 0.0)
        {
            return Err("`evictions_per_second` must be 0 or more".to_owned());
        }
        if self.latency.is_some_and(|most| most.0.is_zero()) {
            return Err("`latency` must be more than 0".to_owned());
        }
        Ok(self)
    }
}

impl Check for Redis {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.asked())
    }
}

/// What a server says about a password must not hold it: one that knows no such command repeats its words.
fn without(failure: CheckFailure, password: &[u8]) -> CheckFailure {
    match failure {
        CheckFailure::Answer(text)
            if text.contains("args beginning")
                || text.contains(&*String::from_utf8_lossy(password)) =>
        {
            wrong("it refuses AUTH, and its words are not told on: what was sent stands in them")
        }
        other => other,
    }
}

impl Redis {
    async fn asked(&self) -> Result<Answer, CheckFailure> {
        let password =
            secret::read(self.password_file.as_ref(), self.password_env.as_deref()).await?;
        let began = Instant::now();
        let mut wire = Wire::open(&self.address, talk::MOST).await?;
        let connected = began.elapsed();
        if let Some(password) = &password {
            let mut command: Vec<&[u8]> = vec![b"AUTH"];
            command.extend(self.user.as_deref().map(str::as_bytes));
            command.push(password);
            let said = talk::ask(&mut wire, &command).await;
            said.map_err(|failure| without(failure, password))?;
        }
        if let Some(database) = self.database {
            let database = database.to_string();
            talk::ask(&mut wire, &[b"SELECT", database.as_bytes()]).await?;
        }
        let began = Instant::now();
        let pong = talk::ask(&mut wire, &[b"PING"]).await?;
        let latency = began.elapsed();
        if pong != b"PONG" {
            return Err(wrong("PING is not answered with PONG"));
        }
        let info = Info::read(&talk::ask(&mut wire, &[b"INFO"]).await?);
        if !info.is_whole() {
            return Err(wrong(
                "INFO says nothing of memory and role: is it a Redis server?",
            ));
        }
        let mut troubles = self.compared(&info);
        if let Some(most) = self.latency
            && latency > most.0
        {
            let took = latency.as_millis();
            troubles.push(format!(
                "PING took {took} ms, longer than `latency`, {most}"
            ));
        }
        if !troubles.is_empty() {
            return Err(wrong(troubles.join("; ")));
        }
        let answer = Answer::well().saying(info.words());
        Ok(info
            .figures(answer)
            .took("connect", connected)
            .took("ping", latency))
    }

    /// What is wrong, also with what happened since the time before; which is this one, from now on.
    fn compared(&self, info: &Info) -> Vec<String> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let troubles = info.troubles(self, before.as_ref());
        *before = Some(info.counted());
        troubles
    }
}

#[cfg(test)]
mod tests;
