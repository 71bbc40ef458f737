//! Where the lines go: standard output, of which the reader may go away or fall behind; notices go to standard error.

use std::io::{self, Stdout, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Standard output, written past its own buffer: a batch is one write.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Stdout,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self {
            stdout: io::stdout(),
        }
    }

    /// To wait on.
    pub(super) const fn fd(&self) -> &Stdout {
        &self.stdout
    }

    /// Writes all of it, waiting for the reader; false when there is none any more.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<bool> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(&self.stdout, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Whoever shares the terminal may have set it so.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.stdout, PollFlags::OUT)], None);
                }
                Err(Errno::PIPE) => return Ok(false),
                Err(error) => anyhow::bail!("cannot write to standard output: {error}"),
            }
        }
        Ok(true)
    }
}

/// A notice. Who has closed standard error does not want it.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "smart-monitor: {text}");
}
