//! Has a check asked, as the daemon would.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::checks::{About, Config, Metrics, Running, Tools};
use crate::host::command::Runner;
use crate::model::{CheckFailure, ProcessKey};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(1);
/// How long all of them may take together: afterwards nothing is tried any more.
const ALL: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Trials {
    runtime: Runtime,
    about: About,
    until: Instant,
}

/// Nothing is known of who runs, and nothing is exported.
#[derive(Debug)]
struct Nobody;

impl Running for Nobody {
    fn process(&self, _: &str) -> Option<ProcessKey> {
        None
    }
}

impl Metrics for Nobody {
    fn page(&self) -> Result<Arc<str>, String> {
        Err("no daemon runs".to_owned())
    }
}

impl Trials {
    pub(super) fn new() -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let tools = Tools {
            running: Box::new(Nobody),
            runner: Arc::new(Runner::new(Path::new("/run/smart-monitor/discover"))),
            logs: None,
            beats: Arc::default(),
            metrics: Box::new(Nobody),
            notices: Arc::default(),
        };
        Ok(Self {
            runtime: runtime.map_err(|error| format!("cannot wait for answers: {error}"))?,
            about: About {
                service: "discover".to_owned(),
                check: "discover".to_owned(),
                tools: Arc::new(tools),
            },
            until: Instant::now() + ALL,
        })
    }

    /// Whether there is time for more.
    pub(super) fn in_time(&self) -> bool {
        Instant::now() < self.until
    }

    /// Asks once, and once more where no answer comes in time: why it is not well.
    pub(super) fn ask(&self, check: &toml::Table) -> Result<(), String> {
        let config = Config::read(check.clone())?;
        for _ in 0..2 {
            let asked = async { tokio::time::timeout(WITHIN, config.check.ask(&self.about)).await };
            match self.runtime.block_on(asked) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(CheckFailure::Connect(why) | CheckFailure::Answer(why))) => return Err(why),
                Ok(Err(CheckFailure::Timeout)) | Err(_) => {}
            }
        }
        Err(format!("twice no answer within {WITHIN:?}"))
    }
}
