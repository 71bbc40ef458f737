//! Notes of the cgroups that commands run in, in the state folder: a daemon that is killed meanwhile finds and ends at its next start what
//! is left of them. A file each; none is there while no command runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::service_cgroup::{Place, ServiceCgroup};
use crate::host::{HostError, procfs};

/// Most notes that are read at a start: more commands than there are hands do not run at a time.
const MOST: usize = 256;

#[derive(Serialize, Deserialize)]
struct Note {
    /// Cgroups mean something only within one boot of the machine.
    boot: String,
    place: Place,
}

/// The note of a command that runs. Removed with the cgroup when it is dropped.
#[derive(Debug)]
pub(super) struct Leftover {
    path: PathBuf,
    place: Place,
}

fn folder(instance: &Path) -> PathBuf {
    instance.join("commands")
}

impl Leftover {
    /// Written before anything runs there.
    pub(super) fn note(
        instance: &Path,
        name: &str,
        cgroup: &ServiceCgroup,
    ) -> Result<Self, HostError> {
        let path = folder(instance).join(name);
        let note = Note {
            boot: procfs::boot_id(),
            place: cgroup.place(),
        };
        let written = serde_json::to_vec(&note)
            .map_err(std::io::Error::from)
            .and_then(|text| {
                std::fs::create_dir_all(folder(instance))?;
                std::fs::write(&path, text)
            });
        match written {
            Ok(()) => Ok(Self {
                path,
                place: note.place,
            }),
            Err(source) => {
                let _empty = cgroup.remove();
                Err(HostError::System {
                    what: format!("write {}", path.display()),
                    source,
                })
            }
        }
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let removed = ServiceCgroup::at(&self.place).map_or(Ok(()), |cgroup| cgroup.remove());
        match removed {
            Ok(()) => {
                let _gone = std::fs::remove_file(&self.path);
            }
            // The note stays: the next start tries again.
            Err(error) => tracing::warn!(%error, "the cgroup of a command stays behind"),
        }
    }
}

/// Ends what commands of an earlier run of the daemon have left.
pub(super) fn end_all(instance: &Path) {
    let Ok(entries) = std::fs::read_dir(folder(instance)) else {
        return;
    };
    for entry in entries.flatten().take(MOST) {
        let path = entry.path();
        let text = std::fs::read(&path).unwrap_or_default();
        let note = serde_json::from_slice::<Note>(&text).ok();
        let note = note.filter(|note| note.boot == procfs::boot_id());
        if let Some(note) = note
            && let Some(cgroup) = ServiceCgroup::at(&note.place)
        {
            match cgroup.end() {
                Ok(left) => {
                    tracing::warn!(
                        left,
                        "a command was under way when the daemon ended: it is ended"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "what a command left is not ended");
                    continue;
                }
            }
            let _next_time = cgroup.remove();
        }
        let _gone = std::fs::remove_file(path);
    }
}
