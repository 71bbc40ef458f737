//! Health checks of services: a file each, and a line in `checks!` below.
//!
//! Run on the slow side, one task a service; emit check results. After a start, a check is repeated quickly until the first good
//! answer, so that recovery is proven when it happens and not an interval later. A check never takes longer than its timeout.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::Span;
use crate::model::CheckFailure;

/// What a check declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, and key in `[service.check]`.
    pub name: &'static str,
    /// What it asks, in one line.
    pub summary: &'static str,
}

macro_rules! checks {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every kind of check.
        pub const ALL: &[Spec] = &[$($name::SPEC,)*];

        /// `[service.check]`: exactly one kind, and how often.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] pub $name: Option<String>,)*
            /// Time between the starts of two checks.
            #[serde(default = "interval")]
            pub interval: Span,
            /// After which a check has failed.
            #[serde(default = "timeout")]
            pub timeout: Span,
        }

        /// A check that can be run.
        #[derive(Clone, Debug)]
        enum Target {
            $(#[expect(non_camel_case_types, reason = "named after its file")] $name($name::Target),)*
        }

        impl Config {
            fn target(&self) -> Result<Target, String> {
                let mut found = Vec::new();
                $(if let Some(text) = &self.$name {
                    found.push(Target::$name($name::Target::parse(text)?));
                })*
                let one = "a check needs exactly one of: ";
                let names = [$(stringify!($name),)*].join(", ");
                if found.len() > 1 {
                    return Err(format!("{one}{names}"));
                }
                found.pop().ok_or_else(|| format!("{one}{names}"))
            }
        }

        impl Target {
            async fn ask(&self) -> Result<(), CheckFailure> {
                match self {
                    $(Self::$name(target) => target.ask().await,)*
                }
            }
        }
    };
}

checks! {
    http,
    tcp,
}

fn interval() -> Span {
    Span::seconds(5)
}

fn timeout() -> Span {
    Span::seconds(2)
}

impl Config {
    /// Whether it can be run.
    pub fn resolve(&self) -> Result<(), String> {
        if self.interval.0 < Duration::from_millis(10) {
            return Err("`interval` must be at least 10ms".to_owned());
        }
        if self.timeout.0.is_zero() {
            return Err("`timeout` must be more than 0".to_owned());
        }
        self.target().map(|_| ())
    }
}

/// A check that runs again and again.
#[derive(Debug)]
pub struct Runner {
    target: Target,
    interval: Duration,
    timeout: Duration,
    /// Wait before the next check of a service that has just started.
    eager: Option<Duration>,
}

/// First wait between checks of a service that has just started; doubles up to the interval.
const EAGER: Duration = Duration::from_millis(1);

impl Runner {
    /// From a configuration that was resolved.
    pub fn new(config: &Config) -> Result<Self, String> {
        let target = config.target()?;
        Ok(Self {
            target,
            interval: config.interval.0,
            timeout: config.timeout.0,
            eager: Some(EAGER),
        })
    }

    /// The service has started just now.
    pub fn started(&mut self) {
        self.eager = Some(EAGER);
    }

    /// Asks once: how long it took, and what went wrong.
    pub async fn ask(&mut self) -> (Duration, Option<CheckFailure>) {
        let began = tokio::time::Instant::now();
        let failure = match tokio::time::timeout(self.timeout, self.target.ask()).await {
            Ok(answer) => answer.err(),
            Err(_) => Some(CheckFailure::Timeout),
        };
        if failure.is_none() {
            self.eager = None;
        }
        (began.elapsed(), failure)
    }

    /// How long to wait before asking again.
    pub fn pause(&mut self, took: Duration) -> Duration {
        let regular = self.interval.saturating_sub(took);
        match self.eager {
            Some(wait) if wait < regular => {
                self.eager = Some(wait.saturating_mul(2));
                wait
            }
            _ => regular,
        }
    }
}
