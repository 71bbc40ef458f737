//! Finds the program of a command, opens it, and looks whether it may be run: what was looked at is what is run.
//!
//! A daemon that is root runs no program that somebody else could have written. A program that the kernel loads itself is executed by the
//! open file. One that begins with `#!` is opened again by its interpreter, by its path: so nobody else may be able to change that either.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Order;

/// Where programs are looked for when the daemon has no `PATH`.
pub(super) const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of a mode: written by the group, written by all others, and only owners remove files from the folder.
const GROUP: u32 = 0o020;
const OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// A program that may be run.
#[derive(Debug)]
pub(super) struct Executable {
    /// Opened with `O_PATH`.
    pub(super) file: File,
    /// Where it is, with no link in it; only for one that begins with `#!`.
    pub(super) script: Option<PathBuf>,
}

/// The daemon's `PATH`.
pub(super) fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| FOLDERS.to_owned())
}

/// See the module. An error says what is wrong, and what to do.
pub(super) fn open(order: &Order) -> Result<Executable, String> {
    let program = order.command.first().map(String::as_str);
    let program = program.filter(|program| !program.is_empty());
    let program = program.ok_or("the command is empty")?;
    let path = find(program, &search_path())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| {
        format!(
            "{} cannot be opened: {}",
            path.display(),
            std::io::Error::from(error)
        )
    })?;
    let file = File::from(file);
    let real = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = std::fs::read_link(real).map_err(|error| format!("its path is unknown: {error}"))?;
    let found = file
        .metadata()
        .map_err(|error| format!("it cannot be looked at: {error}"))?;
    if found.is_dir() {
        return Err(format!("{} is a folder", real.display()));
    }
    if !found.is_file() {
        return Err(format!("{} is no regular file", real.display()));
    }
    if found.mode() & 0o111 == 0 {
        return Err(format!(
            "{} is not executable: chmod +x, or name the interpreter first",
            real.display()
        ));
    }
    if rustix::process::geteuid().is_root() {
        let mut trusted = vec![0];
        trusted.extend(order.user.map(|(user, _)| user));
        nobody_else(&real, &found, &trusted)?;
        for folder in real.ancestors().skip(1) {
            let found = std::fs::metadata(folder)
                .map_err(|error| format!("{} cannot be looked at: {error}", folder.display()))?;
            nobody_else(folder, &found, &trusted)?;
        }
    }
    let script = is_script(&file).then_some(real);
    Ok(Executable { file, script })
}

/// An absolute path as it is; else the first in the folders of `PATH` that can be executed.
fn find(program: &str, search: &str) -> Result<PathBuf, String> {
    if program.starts_with('/') {
        return Ok(program.into());
    }
    if program.contains('/') {
        return Err("it is neither an absolute path nor a name to look up in PATH".to_owned());
    }
    let folders = search.split(':').filter(|folder| folder.starts_with('/'));
    let mut paths = folders.map(|folder| Path::new(folder).join(program));
    let there = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    paths
        .find(there)
        .ok_or_else(|| format!("there is none in PATH ({search}): install it, or write its path"))
}

/// Refuses what somebody else than root, or the user that the program becomes, can change.
fn nobody_else(path: &Path, found: &std::fs::Metadata, trusted: &[u32]) -> Result<(), String> {
    let what = path.display();
    if !trusted.contains(&found.uid()) {
        return Err(format!(
            "{what} belongs to user {}, who could put anything there: root does not run it; chown it to root, or let the command become that user",
            found.uid()
        ));
    }
    let kept_apart = found.is_dir() && found.mode() & STICKY != 0;
    let group = found.mode() & GROUP != 0 && found.gid() != 0;
    if !kept_apart && (group || found.mode() & OTHERS != 0) {
        return Err(format!(
            "{what} can be written by others (mode {:o}): root does not run it; chmod go-w",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

/// One that we may execute and not read is none: the kernel needs to read a script, as its interpreter does.
fn is_script(file: &File) -> bool {
    let mut start = [0; 2];
    let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    opened
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == *b"#!"
}
