//! What a `PostgreSQL` server says of itself, and what is wrong with it. The views are those of `PostgreSQL` 10 and later.

use tokio_postgres::SimpleQueryRow;

use super::{Postgres, Role};
use crate::checks::Answer;
use crate::checks::wire::wrong;
use crate::model::CheckFailure;

/// Of users without `pg_monitor`, others' kind, queries and times are hidden, and count as clients without a query.
const ASKED: &str = "\
with others as (
    select * from pg_stat_activity
    where datid is not null and coalesce(backend_type, 'client backend') = 'client backend'
)
select
    (select count(*) from others) as connections,
    current_setting('max_connections') as connections_max,
    (select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0) from others
        where pid <> pg_backend_pid()) as longest_transaction,
    (select coalesce(max(extract(epoch from clock_timestamp() - query_start)), 0) from others
        where pid <> pg_backend_pid() and state = 'active') as longest_query,
    (select coalesce(sum(deadlocks), 0) from pg_stat_database) as deadlocks,
    pg_is_in_recovery()::int as in_recovery,
    case
        when not pg_is_in_recovery() then (select extract(epoch from max(replay_lag)) from pg_stat_replication)
        when exists (select from pg_stat_wal_receiver) and pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
        else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())
    end as replication_lag";

/// The question, with the size of the database or without.
pub(super) fn asked(size: bool) -> String {
    let size = if size {
        "pg_database_size(current_database())"
    } else {
        "null"
    };
    format!("{ASKED}, {size} as database_size")
}

/// The answer; times are seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) connections: f64,
    pub(super) connections_max: f64,
    pub(super) longest_transaction: f64,
    pub(super) longest_query: f64,
    pub(super) deadlocks: f64,
    pub(super) in_recovery: bool,
    /// None where there is no replication, or nothing to see of it.
    pub(super) replication_lag: Option<f64>,
    pub(super) database_size: Option<f64>,
}

impl Standing {
    pub(super) fn read(row: &SimpleQueryRow) -> Result<Self, CheckFailure> {
        let maybe = |name: &str| {
            let text = row.try_get(name).ok().flatten();
            text.and_then(|text| text.parse::<f64>().ok())
                .filter(|number| number.is_finite())
        };
        let number = |name: &str| {
            maybe(name).ok_or_else(|| wrong(format!("it does not tell `{name}` as a number")))
        };
        Ok(Self {
            connections: number("connections")?,
            connections_max: number("connections_max")?,
            longest_transaction: number("longest_transaction")?.max(0.0),
            longest_query: number("longest_query")?.max(0.0),
            deadlocks: number("deadlocks")?,
            in_recovery: number("in_recovery")? > 0.0,
            replication_lag: maybe("replication_lag").map(|lag| lag.max(0.0)),
            database_size: maybe("database_size"),
        })
    }

    fn role(&self) -> Role {
        if self.in_recovery {
            Role::Standby
        } else {
            Role::Primary
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let said = format!(
            "{}, {} of {} connections",
            self.role().word(),
            self.connections,
            self.connections_max
        );
        let mut answer = Answer::well()
            .saying(said)
            .with("connections", self.connections)
            .with("connections_max", self.connections_max)
            .with("longest_transaction_seconds", self.longest_transaction)
            .with("longest_query_seconds", self.longest_query)
            .with("deadlocks_total", self.deadlocks)
            .with("in_recovery", f64::from(u8::from(self.in_recovery)));
        if let Some(lag) = self.replication_lag {
            answer = answer.with("replication_lag_seconds", lag);
        }
        match self.database_size {
            Some(size) => answer.with("database_size_bytes", size),
            None => answer,
        }
    }

    /// What is wrong, in words; nothing when all is well. `before`: the deadlocks that had been counted the time before.
    pub(super) fn troubles(&self, wanted: &Postgres, before: Option<f64>) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(role) = wanted.role
            && role != self.role()
        {
            troubles.push(format!(
                "it is a {}, not a {}",
                self.role().word(),
                role.word()
            ));
        }
        if let Some(share) = wanted.connections_max
            && self.connections > self.connections_max * share.share()
        {
            troubles.push(format!(
                "{} connections are open, more than `connections_max`, {share} of {}",
                self.connections, self.connections_max
            ));
        }
        for (what, took, name, most) in [
            (
                "a query runs",
                self.longest_query,
                "slow_query",
                wanted.slow_query,
            ),
            (
                "a transaction is open",
                self.longest_transaction,
                "long_transaction",
                wanted.long_transaction,
            ),
        ] {
            if let Some(most) = most
                && took > most.0.as_secs_f64()
            {
                troubles.push(format!(
                    "{what} for {took:.0} s, longer than `{name}`, {most}: see pg_stat_activity"
                ));
            }
        }
        if let (Some(most), Some(lag)) = (wanted.replication_lag, self.replication_lag)
            && lag > most.0.as_secs_f64()
        {
            troubles.push(format!(
                "replication is {lag:.1} s behind, more than `replication_lag`, {most}"
            ));
        }
        let new = before.map_or(0.0, |before| self.deadlocks - before);
        if let Some(most) = wanted.deadlocks
            && new > most
        {
            troubles.push(format!(
                "{new} deadlocks since the last check, more than `deadlocks`, {most}"
            ));
        }
        troubles
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}
