//! Deletes keys of a Redis database: those that match a pattern, such as the counters of a rate limiter, or all of the one database.
//!
//! By pattern they are found with `SCAN` and deleted with `UNLINK`, a batch at a time, so that the server goes on answering others. Only
//! a master is touched. Proven by a second look, which finds none (or no more than `left`: a service may write them anew).

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Executed, Spec, Struck, Target, anywhere, check, refused};
use crate::config::units::Span;
use crate::host::Host;
use crate::model::action::Risk;
use crate::model::pattern::{Syntax, has_literal};
use crate::model::{EffectResult, Flush, Incident, Plan, Subject, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "flush_redis",
    summary: "deletes keys of a Redis database, by pattern or all of them",
    risk: Risk::Destructive,
    reversible: false,
    on: &[Target::Service],
    needs: "a Redis user that may use SCAN, UNLINK, ROLE and DBSIZE, or FLUSHDB",
    able: anywhere,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// Longest that it may take.
const LONGEST: Duration = Duration::from_mins(5);
/// Longest pattern, bytes.
const PATTERN: usize = 512;
/// Databases that a server can have, at most.
const DATABASES: u32 = 1 << 16;

/// What a rung says to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `127.0.0.1:6379`, or `unix:/run/redis/redis.sock`.
    address: String,
    /// Number of the database.
    database: u32,
    /// Keys that match this are deleted.
    pattern: Option<String>,
    /// All keys of the database are.
    #[serde(default)]
    all: bool,
    /// Most keys that one act deletes by pattern.
    at_most: Option<u32>,
    /// How long it may take altogether.
    #[serde(default = "within")]
    within: Span,
    /// So many keys may be there again when it is looked after.
    #[serde(default)]
    left: u32,
    /// Who to log in as.
    user: Option<String>,
    /// Where the password stands, alone.
    password_file: Option<PathBuf>,
}

/// Most keys, where nothing is said.
const AT_MOST: u32 = 100_000;

const fn within() -> Span {
    Span::seconds(10)
}

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        match self.address.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && path.len() < 108 => {}
            Some(_) => return Err("`address`: after `unix:` comes an absolute path".to_owned()),
            None => {
                let parsed = self.address.parse::<std::net::SocketAddr>();
                parsed.map_err(|_| {
                    "`address` must be like \"127.0.0.1:6379\" or \"unix:/run/redis/redis.sock\""
                        .to_owned()
                })?;
            }
        }
        if self.database >= DATABASES {
            return Err(format!("`database` must be 0 to {}", DATABASES - 1));
        }
        match &self.pattern {
            None if self.all && self.at_most.is_some() => {
                return Err(
                    "`all` deletes every key at once: `at_most` means nothing then".to_owned(),
                );
            }
            Some(_) if self.all => {
                return Err("either `pattern` or `all`, not both".to_owned());
            }
            None if !self.all => {
                let help = "for example `pattern = \"ratelimit:*\"`, or `all = true`";
                return Err(format!("it must say which keys: {help}"));
            }
            Some(pattern) if pattern.is_empty() || pattern.len() > PATTERN => {
                return Err(format!("`pattern` must have 1 to {PATTERN} bytes"));
            }
            Some(pattern) => match has_literal(pattern, Syntax::Redis) {
                Some(true) => {}
                Some(false) => {
                    return Err(format!(
                        "`pattern` of `{pattern}` means every key, or nearly: say `all = true` if that is meant"
                    ));
                }
                None => {
                    return Err(format!(
                        "a `[` in `pattern` of `{pattern}` has no `]` after it"
                    ));
                }
            },
            None => {}
        }
        if self.at_most == Some(0) || self.within.0.is_zero() || self.within.0 > LONGEST {
            return Err(
                "`at_most` must be at least 1, `within` more than nothing and at most 5m"
                    .to_owned(),
            );
        }
        if self.user.is_some() && self.password_file.is_none() {
            return Err("`user` needs `password_file`".to_owned());
        }
        if self
            .password_file
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            return Err("`password_file` must be an absolute path".to_owned());
        }
        Ok(())
    }
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let Subject::Service { name } = &incident.subject else {
        return Err(format!("{} is not a service", incident.subject));
    };
    if !world.services.contains_key(name) {
        return Err(format!("no service {name}"));
    }
    let settings: Settings = super::settings(&rung.with)?;
    Ok(Plan::FlushRedis {
        service: name.clone(),
        flush: Box::new(Flush {
            address: settings.address,
            database: settings.database,
            pattern: settings.pattern,
            at_most: settings.at_most.unwrap_or(AT_MOST),
            within: settings.within.0,
            left: settings.left,
            user: settings.user,
            password_file: settings.password_file,
        }),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::FlushRedis { flush, .. } = permit.plan() else {
        return Executed::not_mine(SPEC.name);
    };
    let flushed = match host.flush_redis(flush) {
        Ok(flushed) => flushed,
        Err(error) => return Executed::nothing(refused(&error)),
    };
    let place = format!("database {} of {}", flush.database, flush.address);
    let said = match &flush.pattern {
        Some(pattern) => format!(
            "{} keys that match {pattern} deleted in {place}",
            flushed.keys
        ),
        None => format!("all {} keys deleted in {place}", flushed.keys),
    };
    let result = match flushed.stopped {
        Some(why) => EffectResult::Failed {
            reason: format!("{said}; then: {why}"),
        },
        None => EffectResult::Done { detail: said },
    };
    match flushed.acted {
        Some(acted) => Executed::at(acted, result),
        None => Executed::nothing(result),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::FlushRedis { flush, .. } = plan else {
        return Err("it is not a plan to delete keys of Redis".to_owned());
    };
    let found = host.redis_keys(flush).map_err(|error| error.to_string())?;
    match found {
        0 => Ok("no such key is there".to_owned()),
        some if some <= u64::from(flush.left) => Ok(format!(
            "{some} such keys are there again, of {} that may be",
            flush.left
        )),
        some => Err(format!(
            "{some} such keys are there: a service writes them anew, or they were not all deleted"
        )),
    }
}

#[cfg(test)]
mod tests;
