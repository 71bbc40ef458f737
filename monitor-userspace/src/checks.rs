//! Health checks of services: a file each, and a line in `checks!` below.
//!
//! Run on the slow side, one task a check, so that one that hangs harms no other; emit check results. After a start, a check is repeated
//! quickly until the first good answer, so that recovery is proven when it happens and not an interval later. A check never takes longer
//! than its timeout, and never reads more of an answer than it says. What counts as failing (how many in a row) is not decided here.

#[path = "checks/shared/alone.rs"]
mod alone;
#[path = "checks/shared/answer.rs"]
mod answer;
#[path = "checks/shared/beats.rs"]
mod beats;
#[path = "checks/shared/expect.rs"]
mod expect;
#[path = "checks/shared/files.rs"]
mod files;
#[path = "checks/shared/net.rs"]
mod net;
#[path = "checks/shared/pattern.rs"]
mod pattern;
#[path = "checks/shared/runner.rs"]
mod runner;
#[path = "checks/shared/schedule.rs"]
mod schedule;
#[path = "checks/shared/secret.rs"]
mod secret;
#[path = "checks/shared/wire.rs"]
mod wire;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::units::Span;
use crate::host::notify::Notify;
use crate::host::notify::notices::Notices;
use crate::model::{self, CheckFailure, Severity};
pub use answer::Answer;
pub use beats::Beats;
pub use runner::{Asked, Runner};
pub use schedule::{Phase, Schedule};

/// What a kind of check declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, and key in `[service.check]`.
    pub name: &'static str,
    /// What it asks, in one line.
    pub summary: &'static str,
    /// Whether a good answer shows that the service serves: such a check proves a restart, and one that fails says that the service is
    /// not well. Others tell of a trouble that a restart may not end (a certificate, a disk).
    pub serving: bool,
    /// The key that a plain text stands for: `http = "TEXT"` is `http = { url = "TEXT" }`.
    pub short: &'static str,
    /// What can be written, as an example that is valid.
    pub example: &'static str,
    /// From what is written to what can be run: see [`read`].
    pub read: fn(toml::Table) -> Result<Arc<dyn Check>, String>,
}

/// A check that can be run.
pub trait Check: Send + Sync + fmt::Debug {
    /// Asks once. Dropped when the time is up: whatever it holds must be let go by that.
    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a>;

    /// What it did last, to be said where its time was up: `in the TLS handshake with example.org`. None where that is plain.
    fn doing(&self) -> Option<String> {
        None
    }

    /// Waits for its turn, where only so many may be under way at a time. That is no part of the time that an answer takes.
    fn turn<'a>(&'a self, _: &'a About) -> Turn<'a> {
        Box::pin(async {})
    }

    /// Whether a good answer shows that the service serves, where the settings say so and not [`Spec::serving`].
    fn serving(&self) -> Option<bool> {
        None
    }

    /// Whether it waits for what a service sends of itself: see [`Beats`].
    fn takes_beats(&self) -> bool {
        false
    }

    /// How it has a service tell of itself through a socket; none where it does not. Such a check waits for its turn until there is
    /// news of a service that starts, and is asked again at once.
    fn notify(&self) -> Option<Notify> {
        None
    }

    /// What stands in [`Common`] where nothing else is written.
    fn usual(&self) -> toml::Table {
        toml::Table::new()
    }
}

/// See [`Check::turn`].
pub type Turn<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// See [`Check::ask`].
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, CheckFailure>> + Send + 'a>>;

/// Whom a check is about, and what it may use.
#[derive(Clone, Debug)]
pub struct About {
    /// The service.
    pub service: String,
    /// The check's name.
    pub check: String,
    /// What the daemon lends to checks.
    pub tools: Arc<Tools>,
}

/// What the daemon lends to checks.
#[derive(Debug)]
pub struct Tools {
    /// The process that a service runs as, as far as is known.
    pub running: Box<dyn Running>,
    /// Runs programs.
    pub runner: Arc<crate::host::command::Runner>,
    /// Folder of the files that `kind = "command"` services write to; none where they write to what the daemon does.
    pub logs: Option<std::path::PathBuf>,
    /// What services send of themselves.
    pub beats: Arc<Beats>,
    /// What services that the daemon starts say to their sockets.
    pub notices: Arc<Notices>,
    /// What the daemon exports.
    pub metrics: Box<dyn Metrics>,
}

/// The daemon's own metrics.
pub trait Metrics: Send + Sync + fmt::Debug {
    /// In Prometheus' text format, as they are now or were a moment ago; an error says why there are none.
    fn page(&self) -> Result<Arc<str>, String>;
}

/// Who runs now.
pub trait Running: Send + Sync + fmt::Debug {
    /// The main process of a service.
    fn process(&self, service: &str) -> Option<model::ProcessKey>;
}

/// What a kind of check takes. Values that make no sense are refused by [`Settings::sensible`].
pub trait Settings: DeserializeOwned + Check + 'static {
    /// Whether the values make sense, and what they mean.
    fn sensible(self) -> Result<Self, String> {
        Ok(self)
    }
}

/// What stands in [`Spec::read`] of a check whose settings are what runs it.
pub fn read<T: Settings>(written: toml::Table) -> Result<Arc<dyn Check>, String> {
    let read = T::deserialize(written).map_err(|error| error.message().to_owned())?;
    Ok(Arc::new(read.sensible()?))
}

macro_rules! checks {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every kind of check.
        pub const ALL: &[Spec] = &[$($name::SPEC,)*];
    };
}

checks! {
    command,
    container,
    disk,
    dns,
    file,
    heartbeat,
    http,
    log,
    metric,
    mongodb,
    mysql,
    notify,
    ping,
    postgres,
    process,
    redis,
    systemd,
    tcp,
    tls,
    unix,
}

/// What can be said of every check.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Common {
    /// Its name, among the checks of the service; that of its kind when none.
    pub name: Option<String>,
    /// Time between the starts of two checks.
    pub interval: Span,
    /// After which a check has failed.
    pub timeout: Span,
    /// So often it is asked again at once before a check has failed.
    pub retries: u32,
    /// So many failures in a row are trouble.
    pub failures: u32,
    /// So many good answers in a row end it.
    pub successes: u32,
    /// How bad that is: `critical`, `warning` or `info`; critical where a good answer shows that the service serves, else a warning.
    pub severity: Option<Severity>,
    /// Whether a good answer shows that the service serves, where that is not as its kind says.
    pub serving: Option<bool>,
    /// Other intervals for some time after a release.
    pub after_release: Vec<Phase>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            name: None,
            interval: Span::seconds(5),
            timeout: Span::seconds(2),
            retries: 0,
            failures: 3,
            successes: 1,
            severity: None,
            serving: None,
            after_release: Vec::new(),
        }
    }
}

/// A check as configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it asks.
    pub spec: &'static Spec,
    /// What runs it.
    pub check: Arc<dyn Check>,
    /// What can be said of every check.
    pub common: Common,
}

impl Config {
    /// From `[service.check]`: exactly one kind, and what can be said of every check.
    pub fn read(mut written: toml::Table) -> Result<Self, String> {
        let kinds: Vec<&'static Spec> = ALL
            .iter()
            .filter(|spec| written.contains_key(spec.name))
            .collect();
        let names = || {
            ALL.iter()
                .map(|spec| spec.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let [spec] = kinds.as_slice() else {
            return Err(format!("a check needs exactly one of: {}", names()));
        };
        let value = written.remove(spec.name);
        let what = match value {
            Some(toml::Value::Table(table)) => table,
            Some(short) => toml::Table::from_iter([(spec.short.to_owned(), short)]),
            None => toml::Table::new(),
        };
        let check = (spec.read)(what).map_err(|why| format!("`{}`: {why}", spec.name))?;
        for (name, value) in check.usual() {
            written.entry(name).or_insert(value);
        }
        let common = Common::deserialize(written).map_err(|error| error.message().to_owned())?;
        common.sensible()?;
        Ok(Self {
            spec,
            check,
            common,
        })
    }

    /// Its name among the checks of its service.
    pub fn name(&self) -> &str {
        self.common.name.as_deref().unwrap_or(self.spec.name)
    }

    /// Whether a good answer shows that the service serves.
    pub fn serving(&self) -> bool {
        let said = self.common.serving.or_else(|| self.check.serving());
        said.unwrap_or(self.spec.serving)
    }

    /// What the core is told of it.
    pub fn rule(&self) -> model::Check {
        let serving = self.serving();
        let usual = if serving {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let phases = self.common.after_release.iter();
        model::Check {
            kind: self.spec.name.to_owned(),
            serving,
            failures: self.common.failures,
            successes: self.common.successes,
            severity: self.common.severity.unwrap_or(usual),
            after_release: phases.map(|phase| (phase.until.0, phase.every.0)).collect(),
            well: None,
            said: None,
        }
    }
}

/// Most times that a check is asked again at once, and most failures or good answers in a row that can be waited for.
const MOST: u32 = 1000;

impl Common {
    fn sensible(&self) -> Result<(), String> {
        if self.interval.0 < std::time::Duration::from_millis(10) {
            return Err("`interval` must be at least 10ms".to_owned());
        }
        if self.timeout.0.is_zero() {
            return Err("`timeout` must be more than 0".to_owned());
        }
        if self.failures == 0 || self.successes == 0 {
            return Err("`failures` and `successes` must be at least 1".to_owned());
        }
        if self.failures.max(self.successes).max(self.retries) > MOST {
            return Err(format!(
                "`failures`, `successes` and `retries` can be at most {MOST}"
            ));
        }
        Schedule::check(&self.after_release)
    }
}

#[cfg(test)]
#[path = "checks/shared/tests.rs"]
mod tests;
