//! What INFO says, and what is wrong with it.

use std::collections::BTreeMap;

use super::Redis;
use crate::checks::Answer;
use crate::checks::wire::mebibytes;
use crate::config::units::Level;

/// What INFO says: `name:value` lines.
#[derive(Debug, Default)]
pub(super) struct Info(BTreeMap<String, String>);

/// What was counted, for the next time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Which run of the server.
    run: String,
    /// Its time since its start, seconds.
    uptime: f64,
    evicted: f64,
}

impl Info {
    pub(super) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()))
                .collect(),
        )
    }

    /// Whether it is of a server at all.
    pub(super) fn is_whole(&self) -> bool {
        self.number("used_memory").is_some() && self.0.contains_key("role")
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        let number: f64 = self.0.get(name)?.parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// What there is to say in a good answer.
    pub(super) fn words(&self) -> String {
        let mut words = format!(
            "{}, {} used",
            self.role(),
            mebibytes(self.number("used_memory").unwrap_or(0.0))
        );
        if let Some(most) = self.most_memory() {
            words = format!("{words} of {}", mebibytes(most));
        }
        words = format!("{words}, {} clients", self.text("connected_clients"));
        if self.text("rdb_last_bgsave_status") == "err" {
            words += "; its last save to disk failed";
        }
        words
    }

    /// `master` or `replica`.
    fn role(&self) -> &str {
        match self.text("role") {
            "slave" => "replica",
            role => role,
        }
    }

    /// None where there is no limit.
    fn most_memory(&self) -> Option<f64> {
        self.number("maxmemory").filter(|most| *most > 0.0)
    }

    /// What counts against `maxmemory`: buffers of replicas and of the append-only file do not.
    fn counted_memory(&self) -> f64 {
        let used = self.number("used_memory").unwrap_or(0.0);
        used - self.number("mem_not_counted_for_evict").unwrap_or(0.0)
    }

    /// On a replica: seconds since its master was last heard of, or since the link is down. On a master: of the slowest replica.
    fn lag(&self) -> Option<f64> {
        if self.role() == "replica" {
            if self.text("master_link_status") == "up" {
                return self.number("master_last_io_seconds_ago");
            }
            return self.number("master_link_down_since_seconds");
        }
        let replicas = self
            .0
            .iter()
            .filter(|(name, value)| name.starts_with("slave") && value.contains("lag="));
        let lags = replicas.filter_map(|(_, value)| {
            let lag = value.split(',').find_map(|part| part.strip_prefix("lag="));
            lag?.parse::<f64>().ok()
        });
        lags.reduce(f64::max)
    }

    pub(super) fn figures(&self, mut answer: Answer) -> Answer {
        for (figure, name) in [
            ("used_memory_bytes", "used_memory"),
            ("maxmemory_bytes", "maxmemory"),
            ("connected_clients", "connected_clients"),
            ("blocked_clients", "blocked_clients"),
            ("evicted_keys_total", "evicted_keys"),
            ("rejected_connections_total", "rejected_connections"),
            ("keyspace_hits_total", "keyspace_hits"),
            ("keyspace_misses_total", "keyspace_misses"),
            ("ops_per_second", "instantaneous_ops_per_sec"),
            ("uptime_seconds", "uptime_in_seconds"),
        ] {
            if let Some(number) = self.number(name) {
                answer = answer.with(figure, number);
            }
        }
        match self.lag() {
            Some(lag) => answer.with("replication_lag_seconds", lag),
            None => answer,
        }
    }

    pub(super) fn counted(&self) -> Counted {
        Counted {
            run: self.text("run_id").to_owned(),
            uptime: self.number("uptime_in_seconds").unwrap_or(0.0),
            evicted: self.number("evicted_keys").unwrap_or(0.0),
        }
    }

    /// What is wrong, in words; nothing when all is well.
    pub(super) fn troubles(&self, wanted: &Redis, before: Option<&Counted>) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(role) = wanted.role
            && role.word() != self.role()
        {
            troubles.push(format!("it is a {}, not a {}", self.role(), role.word()));
        }
        troubles.extend(self.of_memory(wanted));
        troubles.extend(self.of_clients(wanted));
        troubles.extend(self.of_evictions(wanted, before));
        troubles.extend(self.of_replication(wanted));
        if self.text("aof_last_write_status") == "err" {
            troubles.push(
                "it cannot write its append-only file: is the disk full? It refuses writes"
                    .to_owned(),
            );
        }
        if wanted.saved && self.text("rdb_last_bgsave_status") == "err" {
            troubles.push(
                "its last save to disk failed: is the disk full, or memory short for the copy? See its log"
                    .to_owned(),
            );
        }
        troubles
    }

    fn of_memory(&self, wanted: &Redis) -> Option<String> {
        let used = self.counted_memory();
        let most = self.most_memory();
        if let Some(most) = most
            && used >= most
            && self.text("maxmemory_policy") == "noeviction"
        {
            return Some(format!(
                "its memory is full: {} of {} (`maxmemory`), and with the policy `noeviction` it refuses writes (OOM)",
                mebibytes(used),
                mebibytes(most)
            ));
        }
        let (limit, words) = match wanted.memory_max? {
            Level::Share(share) => {
                let most = most?;
                (
                    most * share.share(),
                    format!("{share} of {} (`maxmemory`)", mebibytes(most)),
                )
            }
            #[expect(clippy::cast_precision_loss, reason = "sizes need no exact bytes")]
            Level::Size(size) => (size.0 as f64, size.to_string()),
        };
        (used > limit).then(|| {
            format!(
                "it uses {}, more than `memory_max`, {words}",
                mebibytes(used)
            )
        })
    }

    fn of_clients(&self, wanted: &Redis) -> Option<String> {
        let share = wanted.clients_max?;
        let (clients, most) = (
            self.number("connected_clients")?,
            self.number("maxclients")?,
        );
        (clients > most * share.share()).then(|| {
            format!("{clients} clients are connected, more than `clients_max`, {share} of {most}")
        })
    }

    fn of_evictions(&self, wanted: &Redis, before: Option<&Counted>) -> Option<String> {
        let (most, before, now) = (wanted.evictions_per_second?, before?, self.counted());
        let time = now.uptime - before.uptime;
        if now.run != before.run || time < 1.0 {
            return None;
        }
        let rate = (now.evicted - before.evicted) / time;
        (rate > most).then(|| {
            format!(
                "it throws away {rate:.1} keys a second for want of memory, more than `evictions_per_second`, {most}"
            )
        })
    }

    fn of_replication(&self, wanted: &Redis) -> Option<String> {
        let most = wanted.replication_lag?;
        let link = self.text("master_link_status");
        if self.role() == "replica" && link != "up" {
            let since = self.number("master_link_down_since_seconds");
            let since = since.map_or_else(String::new, |since| format!(" for {since} s"));
            return Some(format!(
                "its link to its master {}:{} is down{since}",
                self.text("master_host"),
                self.text("master_port")
            ));
        }
        let lag = self.lag()?;
        (lag > most.0.as_secs_f64())
            .then(|| format!("replication is {lag} s behind, more than `replication_lag`, {most}"))
    }
}
