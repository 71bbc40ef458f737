//! Reads the release of a service whenever that starts: a task a service, on the slow side.
//!
//! What is in place right after a start counts as what was started. What cannot be read is tried again while the same process runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::inbox::Inbox;
use super::teller::Teller;
use crate::config::Config;
use crate::host::{Host, clock};
use crate::model::{Releases, Sample, Signal};

/// When what could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Starts them; dropping the set ends them.
pub(super) fn start(
    config: &Config,
    host: &Arc<dyn Host>,
    teller: &Arc<Teller>,
    inbox: &Inbox,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for service in &config.services {
        if let Some(release) = &service.release {
            let reader = Reader {
                service: service.name.clone(),
                how: release.how.clone(),
                host: Arc::clone(host),
                teller: Arc::clone(teller),
                inbox: inbox.clone(),
            };
            tasks.spawn(reader.repeat());
        }
    }
    tasks
}

struct Reader {
    service: String,
    how: Releases,
    host: Arc<dyn Host>,
    teller: Arc<Teller>,
    inbox: Inbox,
}

impl Reader {
    async fn repeat(self) {
        let mut starts = self.teller.starts(&self.service);
        let mut last = None;
        loop {
            // Before the first start there is nothing to read.
            let read = *starts.borrow_and_update() == 0 || self.read(&mut last).await;
            tokio::select! {
                changed = starts.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(AGAIN), if !read => {}
            }
        }
    }

    /// Whether it was read, or there is nothing to be read.
    async fn read(&self, last: &mut Option<String>) -> bool {
        let Some(process) = self.teller.running(&self.service) else {
            return true;
        };
        let (host, how) = (Arc::clone(&self.host), self.how.clone());
        let found = tokio::task::spawn_blocking(move || host.release(&how)).await;
        let (release, why) = match found {
            Ok(Ok(release)) => (Some(release), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(why) = &why {
            tracing::warn!(service = %self.service, %why, "the release that it runs is not known");
        }
        let read = release.is_some();
        if let Some(release) = &release
            && last.as_ref().is_some_and(|last| last != release)
        {
            self.teller.released(&self.service);
        }
        if read {
            last.clone_from(&release);
        }
        let sample = Sample::Release {
            service: self.service.clone(),
            process,
            release,
            why,
        };
        self.inbox.signal(clock::now(), Signal::Sample { sample });
        read
    }
}
