//! Incidents of a daemon that does not run, from its journal.

use std::path::{Path, PathBuf};

use crate::api::answers::{Clock, Incidents, OneIncident};
use crate::config::Config;
use crate::model::IncidentId;
use crate::record;

/// Where the journal is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Stored {
    /// State folder to read when the daemon does not run; /var/lib/smart-monitor unless given.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

impl Stored {
    /// The folder that is read.
    pub(super) fn folder(&self) -> PathBuf {
        let named = self.state_dir.clone();
        named.unwrap_or_else(|| Config::defaults().daemon.state_dir)
    }

    /// Every incident of the journal, oldest first; why not, in words.
    pub(super) fn incidents(&self) -> Result<Incidents, String> {
        let folder = self.folder();
        incidents(&folder).map_err(|error| {
            format!("cannot read the journal in {}: {error}; name its folder with --state-dir, or run with sudo", folder.display())
        })
    }

    /// One of them; none when the journal does not have it.
    pub(super) fn incident(&self, id: IncidentId) -> Result<Option<OneIncident>, String> {
        let Incidents { clock, incidents } = self.incidents()?;
        let others = incidents.iter().filter(|one| one.caused_by == Some(id));
        let causes = others.map(|one| one.id).collect();
        let below = incidents.iter().filter(|one| one.suppressed_by == Some(id));
        let suppresses = below.map(|one| one.id).collect();
        let found = incidents.into_iter().find(|one| one.id == id);
        Ok(found.map(|incident| OneIncident {
            clock,
            incident,
            causes,
            suppresses,
        }))
    }
}

fn incidents(folder: &Path) -> std::io::Result<Incidents> {
    // Reading a journal that is not there finds nothing in it, which would look like peace.
    std::fs::read_dir(folder)?;
    let clock = Clock::now();
    let recovered = record::recovery::recover(folder, clock.time(), clock.unix_ns)?;
    Ok(Incidents {
        clock,
        incidents: recovered.incidents,
    })
}
