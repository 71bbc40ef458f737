//! How likely a victim of the kernel a process is when memory runs out: `/proc/PID/oom_score_adj`, -1000 (never) to 1000.
//!
//! The file is opened first, and the process looked at after: what was opened belongs to it, and fails once it has ended.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use super::signals::Held;
use super::{HostError, Opened as _};

pub(super) fn read(held: &Held) -> Result<i32, HostError> {
    let mut text = String::new();
    let read = open(held, false)?.read_to_string(&mut text);
    read.map_err(|source| failed(held, "read", source))?;
    let number = text.trim().parse();
    number.map_err(|_| failed(held, "read", std::io::ErrorKind::InvalidData.into()))
}

pub(super) fn write(held: &Held, score: i32) -> Result<(), HostError> {
    let written = open(held, true)?.write_all(score.to_string().as_bytes());
    written.map_err(|source| failed(held, "change", source))
}

fn open(held: &Held, write: bool) -> Result<File, HostError> {
    let path = format!("/proc/{}/oom_score_adj", held.process().pid);
    let opened = File::options().read(!write).write(write).open(path);
    if held.wait(Duration::ZERO)? {
        return Err(HostError::Gone(held.process()));
    }
    opened.map_err(|source| failed(held, "open", source))
}

fn failed(held: &Held, what: &str, source: std::io::Error) -> HostError {
    if source.raw_os_error() == Some(libc::ESRCH) {
        return HostError::Gone(held.process());
    }
    let advice = match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            " (lower than it ever was needs CAP_SYS_RESOURCE; another user's process needs root)"
        }
        _ => "",
    };
    HostError::System {
        what: format!("{what} the oom_score_adj of {}{advice}", held.process()),
        source,
    }
}
