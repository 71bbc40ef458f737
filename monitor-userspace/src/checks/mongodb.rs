//! `mongodb = "127.0.0.1:27017"`: a MongoDB server answers `hello`, and tells of no trouble.
//!
//! Spoken by hand, without a driver, and without logging in: `hello` is answered to everybody; `serverStatus` and `replSetGetStatus` only
//! where no login is wanted, and what they tell is missing elsewhere. No TLS. Reads 1 MiB at most. MongoDB 3.6 and later.

mod bson;

use serde::Deserialize;
use tokio::time::Instant;

use super::wire::{Place, Wire, shown, wrong};
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::{Percent, Span};
use crate::model::CheckFailure;
use bson::{Document, command};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "mongodb",
    summary: "a MongoDB server answers `hello`, and tells of no trouble",
    serving: true,
    short: "address",
    example: "mongodb = { address = \"127.0.0.1:27017\", role = \"primary\", replica_set = \"rs0\" }",
    read: read::<Mongodb>,
};

/// Most that is read of a conversation, and of one answer, bytes.
const MOST: usize = 1 << 20;
const ANSWER: usize = 512 << 10;
/// A message as MongoDB 3.6 and later have it.
const OP_MSG: u32 = 2013;
/// Bytes before the document of a message: length, two numbers, what it is, flags, the kind of its only section.
const HEAD: usize = 21;
/// What is left out of `serverStatus`, because it is long.
const STATUS: [&str; 7] = [
    "serverStatus",
    "metrics",
    "wiredTiger",
    "locks",
    "tcmalloc",
    "transactions",
    "flowControl",
];

/// `mongodb = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mongodb {
    /// Where it listens.
    address: Place,
    /// What it must be.
    role: Option<Role>,
    /// The replica set that it must be in.
    replica_set: Option<String>,
    /// Most connections, as a share of those that it can have; needs `serverStatus`.
    connections_max: Option<Percent>,
    /// Most time that a secondary may be behind; needs `replSetGetStatus`.
    replication_lag: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Primary,
    Secondary,
}

impl Settings for Mongodb {}

impl Check for Mongodb {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.asked())
    }
}

impl Mongodb {
    async fn asked(&self) -> Result<Answer, CheckFailure> {
        let mut wire = Wire::open(&self.address, MOST).await?;
        let began = Instant::now();
        let hello = ask(&mut wire, &["hello"]).await?;
        let hello = match refused(&hello) {
            // Before 5.0 it had another name.
            Some((59, _)) => ask(&mut wire, &["isMaster"]).await?,
            _ => hello,
        };
        if let Some((code, why)) = refused(&hello) {
            return Err(wrong(format!("it refuses `hello` ({code}: {why})")));
        }
        let took = began.elapsed();
        let status = ask(&mut wire, &STATUS).await?;
        let replicas = ask(&mut wire, &["replSetGetStatus"]).await?;
        let mut troubles = self.of_hello(&hello);
        troubles.extend(self.of_connections(&status));
        let lag = lag(&replicas);
        troubles.extend(self.of_replication(&replicas, lag));
        if !troubles.is_empty() {
            return Err(wrong(troubles.join("; ")));
        }
        let mut said = role(&hello)
            .map_or("no primary, no secondary", Role::word)
            .to_owned();
        if let Some(set) = hello.text("setName") {
            said += " of ";
            said += &shown(set.as_bytes());
        }
        if refused(&status).is_some() {
            said += "; serverStatus is not allowed, so there are no figures of it";
        }
        let mut answer = figures(Answer::well().saying(said).took("hello", took), &status);
        if let Some(lag) = lag {
            answer = answer.with("replication_lag_seconds", lag);
        }
        Ok(answer)
    }

    fn of_hello(&self, hello: &Document) -> Vec<String> {
        let mut troubles = Vec::new();
        let is = role(hello);
        if is.is_none() {
            troubles.push(
                "it is neither primary nor secondary: it starts, recovers, or has left its set"
                    .to_owned(),
            );
        } else if let Some(wanted) = self.role
            && is != Some(wanted)
        {
            let is = is.map_or("none", Role::word);
            troubles.push(format!("it is a {is}, not a {}", wanted.word()));
        }
        if let Some(wanted) = &self.replica_set
            && hello.text("setName") != Some(wanted)
        {
            let set = hello.text("setName").unwrap_or("none");
            troubles.push(format!(
                "its replica set is {}, not {wanted}",
                shown(set.as_bytes())
            ));
        }
        troubles
    }

    fn of_connections(&self, status: &Document) -> Option<String> {
        let share = self.connections_max?;
        let Some((current, most)) = connections(status) else {
            return Some(
                "`connections_max` needs serverStatus, which it does not allow".to_owned(),
            );
        };
        (current > most * share.share()).then(|| {
            format!(
                "{current} connections are open, more than `connections_max`, {share} of {most}"
            )
        })
    }

    fn of_replication(&self, replicas: &Document, lag: Option<f64>) -> Option<String> {
        let most = self.replication_lag?;
        match (refused(replicas), lag) {
            (Some((code, why)), _) => Some(format!(
                "`replication_lag` needs replSetGetStatus, which it refuses ({code}: {why})"
            )),
            (None, None) => {
                Some("how far replication is behind is not known: there is no primary".to_owned())
            }
            (None, Some(lag)) => (lag > most.0.as_secs_f64()).then(|| {
                format!("replication is {lag:.1} s behind, more than `replication_lag`, {most}")
            }),
        }
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// A server that is in no set is a primary; one that only passes on, too.
fn role(hello: &Document) -> Option<Role> {
    let is = |name: &str| hello.number(name).is_some_and(|is| is > 0.0);
    if is("isWritablePrimary") || is("ismaster") {
        Some(Role::Primary)
    } else {
        is("secondary").then_some(Role::Secondary)
    }
}

/// Code and words of a refusal.
fn refused(said: &Document) -> Option<(i64, String)> {
    if said.number("ok").is_some_and(|ok| ok > 0.0) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a code is a small number")]
    let code = said.number("code").unwrap_or(0.0) as i64;
    let why = said.text("errmsg").unwrap_or("it gives no reason");
    Some((code, shown(why.as_bytes())))
}

/// How many are open, and how many can be.
fn connections(status: &Document) -> Option<(f64, f64)> {
    let connections = status.document("connections")?;
    let current = connections.number("current")?;
    Some((current, current + connections.number("available")?))
}

/// How far this one is behind its primary, or the slowest secondary behind this one; seconds.
fn lag(replicas: &Document) -> Option<f64> {
    let members = &replicas.document("members")?.0;
    let members = members.iter().filter_map(|(_, member)| match member {
        bson::Value::Document(member) => Some(member),
        _ => None,
    });
    let members: Vec<&Document> = members.collect();
    let of = |state: f64| {
        let all = members.iter().copied();
        all.filter(move |member| {
            let is = member.number("state");
            is.is_some_and(|is| (is - state).abs() < 0.5)
        })
    };
    let primary = of(1.0).next()?;
    let newest = primary.number("optimeDate")?;
    let own = members
        .iter()
        .find(|member| member.number("self").is_some());
    let behind = |member: &Document| {
        let at = member.number("optimeDate")?;
        Some(((newest - at) / 1000.0).max(0.0))
    };
    if primary.number("self").is_some() {
        return of(2.0).filter_map(behind).reduce(f64::max).or(Some(0.0));
    }
    behind(own?)
}

fn figures(mut answer: Answer, status: &Document) -> Answer {
    for (part, name, figure) in [
        ("connections", "current", "connections"),
        ("connections", "available", "connections_available"),
        ("asserts", "regular", "asserts_regular_total"),
        ("asserts", "user", "asserts_user_total"),
        ("opcounters", "insert", "inserts_total"),
        ("opcounters", "query", "queries_total"),
        ("opcounters", "update", "updates_total"),
        ("opcounters", "delete", "deletes_total"),
        ("opcounters", "command", "commands_total"),
    ] {
        let number = status.document(part).and_then(|part| part.number(name));
        if let Some(number) = number {
            answer = answer.with(figure, number);
        }
    }
    for (part, figure) in [
        ("reads", "read_latency_seconds"),
        ("writes", "write_latency_seconds"),
    ] {
        let latencies = status.document("opLatencies");
        let of = latencies.and_then(|all| all.document(part));
        let mean = of.and_then(|of| Some(of.number("latency")? / of.number("ops")?.max(1.0)));
        if let Some(mean) = mean {
            // It counts in microseconds, since its start.
            answer = answer.with(figure, mean / 1e6);
        }
    }
    match status.number("uptime") {
        Some(uptime) => answer.with("uptime_seconds", uptime),
        None => answer,
    }
}

/// Sends a command and waits for its answer.
async fn ask(wire: &mut Wire, names: &[&str]) -> Result<Document, CheckFailure> {
    let document = command(names);
    let length = u32::try_from(HEAD + document.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    for number in [length, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(document);
    wire.send(&message).await?;
    let head = wire.exactly(HEAD).await?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let (length, kind, section) = (number(0), number(12), head.last());
    let rest = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .checked_sub(HEAD);
    let rest = rest.filter(|rest| kind == OP_MSG && section == Some(&0) && *rest <= ANSWER);
    let Some(rest) = rest else {
        return Err(wrong(format!(
            "it does not speak as MongoDB 3.6 or later does, or says too much: a message of {length} bytes and kind {kind}"
        )));
    };
    let answer = wire.exactly(rest).await?;
    Document::read(&answer)
        .map_err(|why| wrong(format!("it does not speak as MongoDB does: {why}")))
}

#[cfg(test)]
mod tests;
