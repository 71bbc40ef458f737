//! Deletes files of a folder, the oldest first, by the rules of its `[[folder]]`: no more than is needed, and only what was listed before.
//!
//! The plan holds the rules, and which folder the path led to; what files they mean is found, listed and deleted by `host::clean`. On
//! behalf of `disk_full` it ends when there is room again, on behalf of a person when nothing is left that the rules allow. There
//! is no undo.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Executed, Spec, Struck, Target, check, refused};
use crate::config::units::Bytes;
use crate::host::Host;
use crate::host::clean::Cleaned;
use crate::model::abilities::Abilities;
use crate::model::action::Risk;
use crate::model::incident::MANUAL;
use crate::model::{Cleaning, EffectResult, Enough, Incident, Plan, Subject, World, folder};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "clean_folder",
    summary: "deletes files of a folder by age and size, the oldest first; lists them before",
    risk: Risk::Destructive,
    reversible: false,
    on: &[Target::Folder],
    needs: "write access to the folder",
    able,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// Most files of one act.
const FILES: u32 = 10_000;

/// What a rung can say to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most files that one act deletes.
    pub at_most: u32,
    /// Most bytes that one act deletes.
    pub at_most_bytes: Option<Bytes>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            at_most: FILES,
            at_most_bytes: None,
        }
    }
}

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        if self.at_most == 0 || self.at_most > FILES {
            return Err(format!("`at_most` must be 1 to {FILES} files"));
        }
        if self.at_most_bytes == Some(Bytes(0)) {
            return Err("`at_most_bytes` of 0 deletes nothing".to_owned());
        }
        Ok(())
    }
}

fn able(abilities: &Abilities) -> Result<(), String> {
    // Without it, a path cannot be kept from leading out of the folder.
    if abilities.kernel < (5, 6) {
        return Err("the kernel has no `openat2`: it needs Linux 5.6".to_owned());
    }
    Ok(())
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let Subject::Folder { name } = &incident.subject else {
        return Err(format!("{} is not a folder", incident.subject));
    };
    let folder = world.folders.get(name);
    let folder = folder.ok_or_else(|| format!("no folder {name}"))?.clone();
    let settings: Settings = super::settings(&rung.with)?;
    let enough = if incident.detector == MANUAL {
        Enough::All
    } else {
        Enough::Room {
            full: folder.full.saturating_sub(folder::AIMS),
            inodes: folder.inodes.saturating_sub(folder::AIMS),
        }
    };
    Ok(Plan::CleanFolder {
        cleaning: Box::new(Cleaning {
            id: world.folder_ids.get(name).copied(),
            folder,
            enough,
            at_most: settings.at_most,
            at_most_bytes: settings.at_most_bytes.map(|size| size.0),
        }),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::CleanFolder { cleaning } = permit.plan() else {
        return Executed::not_mine(SPEC.name);
    };
    let cleaned = match host.clean_folder(permit.incident(), cleaning) {
        Ok(cleaned) => cleaned,
        Err(error) => return Executed::nothing(refused(&error)),
    };
    let said = words(&cleaned);
    let half = cleaned.failed.0 > 0 || cleaned.files == 0 || cleaned.called_off.is_some();
    let result = if half {
        EffectResult::Failed { reason: said }
    } else {
        EffectResult::Done { detail: said }
    };
    match cleaned.acted {
        Some(acted) => Executed::at(acted, result),
        None => Executed::nothing(result),
    }
}

/// What was done, in words: `3.1 GiB in 214 files; 2.9 GiB came back; ...`.
fn words(cleaned: &Cleaned) -> String {
    let s = if cleaned.files == 1 { "" } else { "s" };
    let mut said = format!(
        "{} in {} file{s} deleted",
        size(cleaned.bytes),
        cleaned.files
    );
    let mut add = |text: &str| {
        // A text takes what is written to it.
        let _ = write!(said, "; {text}");
    };
    add(&format!("{} came back", size(cleaned.came_back)));
    if !cleaned.enough {
        add("that is not enough, or not all");
    }
    if let Some(why) = &cleaned.called_off {
        add(&format!("called off: {why}"));
    }
    if cleaned.changed > 0 {
        add(&format!(
            "{} were gone or changed since they were listed",
            cleaned.changed
        ));
    }
    if let (failed, Some(why)) = &cleaned.failed {
        add(&format!("{failed} could not be deleted ({why})"));
    }
    let (open, written) = &cleaned.open;
    if !open.is_empty() {
        add(&format!("some are still open by {}", some(open)));
    }
    if !written.is_empty() {
        add(&format!(
            "left what {} can write to: it must open its files anew first",
            some(written)
        ));
    }
    if !cleaned.unseen.is_empty() {
        add(&cleaned.unseen);
    }
    if let Some(list) = &cleaned.list {
        add(&format!("the list is {}", list.display()));
    }
    said
}

/// Most processes that are named.
const NAMED: usize = 5;

fn some(who: &std::collections::BTreeSet<String>) -> String {
    let named: Vec<&str> = who.iter().take(NAMED).map(String::as_str).collect();
    match who.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn size(bytes: u64) -> String {
    const STEPS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let step = STEPS.iter().find(|(_, step)| bytes >= *step);
    let Some((name, step)) = step else {
        return format!("{bytes} B");
    };
    let tenths = bytes.saturating_mul(10) / step;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::CleanFolder { cleaning } = plan else {
        return Err("it is not a plan to clean a folder".to_owned());
    };
    host.cleaned(cleaning)
}

#[cfg(test)]
mod tests;
