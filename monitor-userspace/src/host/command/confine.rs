//! Keeps a program to files and folders (Landlock). What the kernel cannot do in full is refused, never done in part: before 6.2, a
//! program could empty files that it may not write to.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError,
};

use super::Confined;

/// The least that does all of it: reading, writing, executing, moving between folders, and emptying files (Linux 6.2).
const LEAST: ABI = ABI::V3;

/// What every program needs to be one: read and executed by all of them, where it is there.
const SYSTEM: [&str; 8] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/alternatives",
];
/// Devices that lead nowhere: written by all of them.
const NOWHERE: &str = "/dev/null";

/// The rules of a program, to be put on by the child. An error says why there can be none, and what to do.
pub(super) fn fence(confined: &Confined, program: &File) -> Result<OwnedFd, String> {
    let unable = |error: RulesetError| {
        format!(
            "the kernel cannot confine it ({error}): that needs Linux 6.2 with Landlock switched on (`lsm=landlock,...`); leave out `read` and `write` to run it unconfined"
        )
    };
    let (read, write) = (AccessFs::from_read(LEAST), AccessFs::from_all(LEAST));
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(write)
        .and_then(Ruleset::create)
        .map_err(unable)?;
    for path in SYSTEM.map(Path::new) {
        if path.exists() {
            rules = allow(rules, path, read)?;
        }
    }
    rules = allow(rules, Path::new(NOWHERE), write)?;
    for path in &confined.read {
        rules = allow(rules, path, read)?;
    }
    for path in &confined.write {
        rules = allow(rules, path, write)?;
    }
    let own = PathBeneath::new(program.as_fd(), AccessFs::Execute | AccessFs::ReadFile);
    rules = rules.add_rule(own).map_err(unable)?;
    let file: Option<OwnedFd> = rules.into();
    file.ok_or_else(|| "the kernel cannot confine it: it gave no rules".to_owned())
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!(
            "it cannot be allowed to reach {}: {error}; what `read` and `write` name must be there",
            path.display()
        )
    };
    let file = PathFd::new(path).map_err(|error| wrong(&error))?;
    // Some rights mean something for folders alone, and are refused for files.
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(LEAST)
    };
    rules
        .add_rule(PathBeneath::new(file, access))
        .map_err(|error| wrong(&error))
}
