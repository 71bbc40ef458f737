//! `mysql = "127.0.0.1:3306"`: a `MySQL` or MariaDB server greets; with a user, one can log in and it tells of no trouble.
//!
//! Spoken by hand, without a driver: the greeting, two ways to log in by password (`mysql_native_password`, `caching_sha2_password`) and
//! `SHOW`. No TLS. Reads 1 MiB at most. A server counts those on other hosts that leave after the greeting (`max_connect_errors`), and
//! shuts them out in the end: there, give a user.

mod login;
mod packets;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::wire::{Place, shown, wrong};
use super::{About, Answer, Asking, Check, Settings, Spec, read, secret};
use crate::config::units::{Percent, Span};
use crate::model::CheckFailure;
use packets::{Session, Table};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "mysql",
    summary: "a MySQL or MariaDB server greets; with a user, one can log in and it tells of no trouble",
    serving: true,
    short: "address",
    example: "mysql = { address = \"127.0.0.1:3306\", user = \"monitor\", password_file = \"/etc/smart-monitor/mysql\", connections_max = \"80%\" }",
    read: read::<Mysql>,
};

const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected', 'Threads_running', 'Questions', 'Slow_queries', 'Aborted_connects', 'Uptime')";
const VARIABLES: &str =
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('max_connections', 'read_only')";

/// `mysql = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mysql {
    /// Where it listens.
    address: Place,
    /// As whom to log in; nobody when none, and only the greeting is looked at.
    user: Option<String>,
    /// Where the password is: the first line of this file.
    password_file: Option<PathBuf>,
    /// Where the password is: an environment variable of the daemon.
    password_env: Option<String>,
    /// Most connections, as a share of `max_connections`.
    connections_max: Option<Percent>,
    /// Most time that a replica may be behind.
    replication_lag: Option<Span>,
}

impl Settings for Mysql {
    fn sensible(self) -> Result<Self, String> {
        secret::sensible(self.password_file.as_deref(), self.password_env.as_deref())?;
        let asks = self.connections_max.is_some() || self.replication_lag.is_some();
        let secret = self.password_file.is_some() || self.password_env.is_some();
        match &self.user {
            None if asks || secret => Err(
                "without a `user` only the greeting is looked at: give one, or leave the rest out"
                    .to_owned(),
            ),
            Some(user) if user.is_empty() || user.contains('\0') => {
                Err("`user` must be the name of a user".to_owned())
            }
            _ => Ok(self),
        }
    }
}

impl Check for Mysql {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.asked())
    }
}

impl Mysql {
    async fn asked(&self) -> Result<Answer, CheckFailure> {
        let password =
            secret::read(self.password_file.as_ref(), self.password_env.as_deref()).await?;
        let began = Instant::now();
        let mut session = Session::open(&self.address).await?;
        let greeting = session.greeting().await?;
        let version = shown(&greeting.version);
        let Some(user) = &self.user else {
            return Ok(Answer::well()
                .saying(format!("{version} greets"))
                .took("greeting", began.elapsed()));
        };
        let local = matches!(self.address, Place::Unix(_));
        let password = password.unwrap_or_default();
        login::login(&mut session, &greeting, user, &password, local).await?;
        let login = began.elapsed();
        let judged = self.judge(&mut session, &version, login).await;
        session.leave().await;
        judged
    }

    async fn judge(
        &self,
        session: &mut Session,
        version: &str,
        login: Duration,
    ) -> Result<Answer, CheckFailure> {
        let status = session.ask(STATUS).await?;
        let variables = session.ask(VARIABLES).await?;
        let standing = Standing::new(&status, &variables)?;
        let mut troubles = standing.troubles(self.connections_max);
        let mut answer = standing.answer(version, login);
        if let Some(most) = self.replication_lag {
            match replication(&session.replicas().await?, most) {
                Ok(Some(lag)) => answer = answer.with("replication_lag_seconds", lag),
                Ok(None) => {}
                Err(why) => troubles.push(why),
            }
        }
        if troubles.is_empty() {
            Ok(answer)
        } else {
            Err(wrong(troubles.join("; ")))
        }
    }
}

/// What the server says of itself.
#[derive(Debug)]
struct Standing {
    connections: f64,
    connections_max: f64,
    others: Vec<(&'static str, f64)>,
}

impl Standing {
    fn new(status: &Table, variables: &Table) -> Result<Self, CheckFailure> {
        let number = |table: &Table, name: &str| {
            let number = table.value(name).and_then(|text| text.parse::<f64>().ok());
            number.filter(|number| number.is_finite())
        };
        let must = |table: &Table, name: &str| {
            number(table, name)
                .ok_or_else(|| wrong(format!("it does not tell `{name}` as a number")))
        };
        let others = [
            ("threads_running", "Threads_running"),
            ("questions_total", "Questions"),
            ("slow_queries_total", "Slow_queries"),
            ("aborted_connects_total", "Aborted_connects"),
            ("uptime_seconds", "Uptime"),
        ];
        let others = others.into_iter();
        let read_only = variables.value("read_only").map(|on| on != "OFF");
        Ok(Self {
            connections: must(status, "Threads_connected")?,
            connections_max: must(variables, "max_connections")?,
            others: others
                .filter_map(|(figure, name)| Some((figure, number(status, name)?)))
                .chain(read_only.map(|on| ("read_only", f64::from(u8::from(on)))))
                .collect(),
        })
    }

    fn troubles(&self, most: Option<Percent>) -> Vec<String> {
        let over = most.filter(|share| self.connections > self.connections_max * share.share());
        let words = over.map(|share| {
            format!(
                "{} connections are open, more than `connections_max`, {share} of {}",
                self.connections, self.connections_max
            )
        });
        words.into_iter().collect()
    }

    fn answer(&self, version: &str, login: Duration) -> Answer {
        let said = format!(
            "{version}, {} of {} connections",
            self.connections, self.connections_max
        );
        let mut answer = Answer::well()
            .saying(said)
            .took("login", login)
            .with("connections", self.connections)
            .with("connections_max", self.connections_max);
        for (figure, value) in &self.others {
            answer = answer.with(figure, *value);
        }
        answer
    }
}

/// How far a replica is behind, seconds, in the channel that is furthest behind; none where it is no replica.
fn replication(table: &Table, most: Span) -> Result<Option<f64>, String> {
    let mut furthest: Option<f64> = None;
    for row in &table.rows {
        let cell = |names: [&str; 2]| names.iter().find_map(|name| table.cell(row, name));
        let lag = cell(["Seconds_Behind_Source", "Seconds_Behind_Master"]);
        let Some(lag) = lag.and_then(|lag| lag.parse::<f64>().ok()) else {
            let errors = ["Last_IO_Error", "Last_SQL_Error"];
            let error = errors
                .iter()
                .find_map(|name| table.cell(row, name).filter(|error| !error.is_empty()));
            let error = error.map_or_else(String::new, |error| {
                format!(" ({})", shown(error.as_bytes()))
            });
            return Err(format!(
                "its replication does not run: see SHOW REPLICA STATUS{error}"
            ));
        };
        if lag > most.0.as_secs_f64() {
            return Err(format!(
                "replication is {lag} s behind, more than `replication_lag`, {most}"
            ));
        }
        furthest = Some(furthest.map_or(lag, |before| before.max(lag)));
    }
    Ok(furthest)
}

#[cfg(test)]
mod tests;
