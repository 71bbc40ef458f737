//! The last lines of a log: of a file that takes a service's output, of a container, of a systemd unit.
//!
//! Reads the end of a file, or asks `journalctl`, and waits for it no longer than `PATIENCE`. Blocks: for a thread of its own.
//! Left out: containers of other runtimes than Docker, and Docker's other drivers than `json-file` and `local`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::{HostError, clock};
use crate::model::Time;
use crate::model::evidence::Frozen;

/// Most bytes that are read of a log.
const END: usize = 64 << 10;
/// Most bytes of a line.
const LINE: usize = 256;
/// How long `journalctl` may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where Docker keeps its containers.
const DOCKER: &str = "/var/lib/docker/containers";

/// Where lines are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// A file of lines.
    File(PathBuf),
    /// A container of Docker's, by its full id.
    Docker(String),
    /// A unit of the host's systemd.
    Unit(String),
    /// A unit of a user's own systemd.
    UserUnit(String),
}

/// The last lines, oldest first: at most [`Frozen::LOG`], fit for a terminal. None when there is no such log.
pub fn last_lines(log: &Log) -> Result<Option<Vec<String>>, HostError> {
    let read = match log {
        Log::File(path) => end_of(path).map(|text| plain(&text)),
        Log::Docker(id) => end_of(&docker(id)).map(|text| docker_lines(&text)),
        Log::Unit(unit) => journal(&format!("--unit={unit}")).map(|text| plain(&text)),
        Log::UserUnit(unit) => {
            journal(&format!("_SYSTEMD_USER_UNIT={unit}")).map(|text| plain(&text))
        }
    };
    match read {
        Ok(lines) => Ok(Some(lines)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::System {
            what: format!("read the log {log:?}"),
            source,
        }),
    }
}

/// An id is no path: whatever is not a digit makes it one that does not exist.
fn docker(id: &str) -> PathBuf {
    let id: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    Path::new(DOCKER).join(&id).join(format!("{id}-json.log"))
}

/// The end of a file, from the beginning of a line.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let skipped = about.len().saturating_sub(END as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut text = Vec::new();
    file.take(END as u64).read_to_end(&mut text)?;
    if skipped > 0
        && let Some(first) = text.iter().position(|byte| *byte == b'\n')
    {
        text.drain(..=first);
    }
    Ok(text)
}

fn plain(text: &[u8]) -> Vec<String> {
    let lines = text.split(|byte| *byte == b'\n');
    last(lines.map(|line| fit(&String::from_utf8_lossy(line))))
}

/// A line of Docker's `json-file` driver. Of the `local` driver there is no file of this name.
#[derive(Deserialize)]
struct DockerLine {
    log: String,
    #[serde(default)]
    time: String,
}

fn docker_lines(text: &[u8]) -> Vec<String> {
    let lines = text.split(|byte| *byte == b'\n');
    let read = lines.filter_map(|line| serde_json::from_slice::<DockerLine>(line).ok());
    last(read.map(|line| match line.time.get(..19) {
        // To the second; the lines are in order anyway.
        Some(time) if !line.log.trim().is_empty() => fit(&format!("{time}Z {}", line.log)),
        _ => fit(&line.log),
    }))
}

fn last(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(Frozen::LOG));
    lines
}

/// A line without colours and other controls, and not too long.
fn fit(line: &str) -> String {
    let mut fitting = String::new();
    let mut chars = line.trim_end().chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            // ECMA-48: parameters, then one letter that ends it.
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            continue;
        }
        let c = match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if fitting.len() + c.len_utf8() > LINE {
            break;
        }
        fitting.push(c);
    }
    fitting
}

/// What `journalctl` says of this.
fn journal(of: &str) -> io::Result<Vec<u8>> {
    let lines = format!("--lines={}", Frozen::LOG);
    let format = ["--output=short-iso", "--no-pager", "--quiet"];
    let mut words = vec![of, &lines];
    words.extend(format);
    ask("journalctl", &words, PATIENCE)
}

/// What a program writes to its standard output, at most [`END`] bytes. It is ended when it takes too long.
fn ask(program: &str, words: &[&str], within: Duration) -> io::Result<Vec<u8>> {
    let deadline = clock::now().after(within);
    #[expect(
        clippy::disallowed_methods,
        reason = "host/ is where programs are started"
    )]
    let mut child = Command::new(program)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = answer(&mut child, deadline);
    if answer.is_err() {
        // It has ended by itself meanwhile, or it ends now.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let text = answer?;
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    Ok(text)
}

/// All it says, and its end; an error when that does not come in time.
fn answer(child: &mut Child, deadline: Time) -> io::Result<Vec<u8>> {
    let Some(output) = child.stdout.take() else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        wait(PollFd::new(&output, PollFlags::IN), deadline)?;
        let length = rustix::io::read(&output, &mut chunk)?;
        text.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if length == 0 {
            break;
        }
        if text.len() > END {
            return Err(io::Error::other("it says more than was asked for"));
        }
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    // Our child, not waited for yet: the number is its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    wait(PollFd::new(&pidfd, PollFlags::IN), deadline)?;
    Ok(text)
}

fn wait(fd: PollFd<'_>, deadline: Time) -> io::Result<()> {
    let left = deadline.since(clock::now());
    let timeout = Timespec::try_from(left).unwrap_or_default();
    if poll(&mut [fd], Some(&timeout))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
