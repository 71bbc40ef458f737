//! `postgres = { address = "127.0.0.1:5432", user = "monitor" }`: one can log in, and what the server says of itself is no trouble.
//!
//! A connection of its own each time, so that a full house is noticed; sessions are read-only, with a time limit that the server keeps.
//! Reads 1 MiB at most. A user with the role `pg_monitor` sees what others do; without it their queries and replicas stay unseen. No TLS.

mod query;
mod standing;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::wire::{Limited, Place, shown, wrong};
use super::{About, Answer, Asking, Check, Settings, Spec, read, secret};
use crate::config::units::{Percent, Span};
use crate::model::CheckFailure;
use query::Query;
use standing::Standing;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "postgres",
    summary: "one can log in to a PostgreSQL server, and it tells of no trouble",
    serving: true,
    short: "address",
    example: "postgres = { address = \"127.0.0.1:5432\", user = \"monitor\", password_file = \"/etc/smart-monitor/postgres\", connections_max = \"80%\", slow_query = \"5m\" }",
    read: read::<Postgres>,
};

/// Most that is read of a conversation, bytes.
const MOST: usize = 1 << 20;

/// `postgres = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Postgres {
    /// Where it listens: an address, its socket, or the folder in which its socket is.
    address: Place,
    /// As whom.
    #[serde(default = "postgres")]
    user: String,
    /// In which database.
    #[serde(default = "postgres")]
    database: String,
    /// Where the password is: the first line of this file.
    password_file: Option<PathBuf>,
    /// Where the password is: an environment variable of the daemon.
    password_env: Option<String>,
    /// Most connections of clients, as a share of `max_connections`.
    connections_max: Option<Percent>,
    /// Most time that a replica may be behind.
    replication_lag: Option<Span>,
    /// Longest time that a query may run.
    slow_query: Option<Span>,
    /// Longest time that a transaction may be open.
    long_transaction: Option<Span>,
    /// Most deadlocks from one check to the next, in all databases.
    deadlocks: Option<f64>,
    /// What it must be.
    role: Option<Role>,
    /// A question of one's own.
    #[serde(default, deserialize_with = "query::written")]
    query: Option<Query>,
    /// After this time the server ends what this check asks for.
    #[serde(default = "query_timeout")]
    query_timeout: Span,
    /// Whether to measure how large the database is, which looks at each of its files.
    #[serde(default)]
    database_size: bool,
    /// Deadlocks that were counted the time before.
    #[serde(skip)]
    before: Mutex<Option<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Primary,
    Standby,
}

fn postgres() -> String {
    "postgres".to_owned()
}

fn query_timeout() -> Span {
    Span::seconds(5)
}

impl Settings for Postgres {
    fn sensible(mut self) -> Result<Self, String> {
        secret::sensible(self.password_file.as_deref(), self.password_env.as_deref())?;
        if self.query_timeout.0.as_millis() == 0 || self.query_timeout > Span::seconds(3600) {
            return Err("`query_timeout` must be from 1ms to 1h".to_owned());
        }
        if self
            .deadlocks
            .is_some_and(|most| !most.is_finite() || most < 0.0)
        {
            return Err("`deadlocks` must be 0 or more".to_owned());
        }
        if let Some(query) = &self.query {
            query.sensible()?;
        }
        if let Place::Unix(path) = &mut self.address
            && !is_socket(path)
        {
            path.push(".s.PGSQL.5432");
        }
        Ok(self)
    }
}

fn is_socket(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(".s.PGSQL.")
}

impl Check for Postgres {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(self.asked())
    }
}

impl Postgres {
    async fn asked(&self) -> Result<Answer, CheckFailure> {
        let password =
            secret::read(self.password_file.as_ref(), self.password_env.as_deref()).await?;
        let began = Instant::now();
        let stream = Limited::open(&self.address, MOST).await?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name("smart-monitor")
            .options(format!(
                "-c default_transaction_read_only=on -c statement_timeout={}",
                self.query_timeout.0.as_millis()
            ));
        if let Some(password) = password {
            config.password(password);
        }
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| self.explained(&error))?;
        // Ends with this check, whatever the peer does.
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let login = began.elapsed();
        let began = Instant::now();
        let row = self
            .row(&client, &standing::asked(self.database_size))
            .await?;
        let row = row.ok_or_else(|| wrong("it answers with no row"))?;
        let standing = Standing::read(&row)?;
        let mut troubles = self.compared(&standing);
        let mut answer = standing.answer().took("login", login);
        if let Some(query) = &self.query {
            let row = self.row(&client, &query.asked()).await?;
            let value = row.as_ref().map(|row| row.try_get(0).ok().flatten());
            match query.judged(value) {
                Ok(figure) => answer.figures.extend(figure),
                Err(why) => troubles.push(why),
            }
        }
        if troubles.is_empty() {
            Ok(answer.took("queries", began.elapsed()))
        } else {
            Err(wrong(troubles.join("; ")))
        }
    }

    /// The first row of what is asked for.
    async fn row(
        &self,
        client: &Client,
        sql: &str,
    ) -> Result<Option<SimpleQueryRow>, CheckFailure> {
        let said = client.simple_query(sql).await;
        let said = said.map_err(|error| self.explained(&error))?;
        Ok(said.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        }))
    }

    /// What is wrong, also with what happened since the time before; which is this one, from now on.
    fn compared(&self, standing: &Standing) -> Vec<String> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let troubles = standing.troubles(self, *before);
        *before = Some(standing.deadlocks);
        troubles
    }

    /// What an error means, and what to do.
    fn explained(&self, error: &tokio_postgres::Error) -> CheckFailure {
        let Some(said) = error.as_db_error() else {
            let mut words = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                words = format!("{words}: {error}");
                cause = error.source();
            }
            if words.contains("password missing") {
                return wrong(format!(
                    "it wants a password of the user `{}`: give `password_file` or `password_env`",
                    self.user
                ));
            }
            let words = shown(words.as_bytes());
            return if error.is_closed() || words.contains("communicating") {
                CheckFailure::Connect(words)
            } else {
                wrong(words)
            };
        };
        let text = shown(said.message().as_bytes());
        wrong(format!("{} ({text})", means(said.code(), &text)))
    }
}

/// What a server's error means.
fn means(code: &SqlState, text: &str) -> &'static str {
    if *code == SqlState::CANNOT_CONNECT_NOW {
        return if text.contains("starting up") {
            "it is starting up, and takes nobody yet"
        } else if text.contains("shutting down") {
            "it is shutting down"
        } else {
            "it is recovering, and takes nobody yet"
        };
    }
    match code.code() {
        "53300" => "all of its connections are taken",
        "53100" => "its disk is full",
        "53200" => "it has no memory left",
        "57P01" | "57P02" => "it ended the connection: it is shutting down, or has crashed",
        "57014" => "the query took longer than `query_timeout`, and was ended",
        "28P01" => "the user or the password is wrong",
        "28000" => "it does not let this user in: see pg_hba.conf, and whether the user is there",
        "3D000" => "there is no such database",
        "42501" => "the user may not do this: grant it pg_monitor, or what the query needs",
        "25006" => "the query writes, and a check only reads",
        code if code.starts_with("42") => "the query is wrong",
        code if code.starts_with("58") || code.starts_with("XX") => {
            "it has trouble with its disk or its data: see its log"
        }
        _ => "it refuses",
    }
}

#[cfg(test)]
mod tests;
