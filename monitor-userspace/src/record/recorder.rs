//! Records signals with their times, for replay: a line a signal, JSON. For tests and for finding out what happened, not for every
//! day: with it the hot thread also formats and writes each signal. Ends by itself at a size; what comes after is counted.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::{Signal, Time};

/// Size at which a recording ends, bytes.
const SIZE: u64 = 256 << 20;

/// A recorded signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it happened.
    pub at: Time,
    /// When it arrived at the core.
    pub now: Time,
    /// What it was.
    #[serde(flatten)]
    pub signal: Signal,
}

/// An open recording.
#[derive(Debug)]
pub struct Recorder {
    file: BufWriter<File>,
    written: u64,
    dropped: u64,
}

impl Recorder {
    /// Begins a recording; an existing file is not overwritten.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create_new(path)?),
            written: 0,
            dropped: 0,
        })
    }

    /// Adds a signal.
    pub fn add(&mut self, signal: &Signal, at: Time, now: Time) {
        let line = Recorded {
            at,
            now,
            signal: signal.clone(),
        };
        let written = serde_json::to_vec(&line)
            .map_err(std::io::Error::from)
            .and_then(|mut bytes| {
                bytes.push(b'\n');
                if self.written >= SIZE {
                    return Err(std::io::ErrorKind::FileTooLarge.into());
                }
                self.file.write_all(&bytes)?;
                Ok(bytes.len())
            });
        match written {
            Ok(bytes) => self.written += u64::try_from(bytes).unwrap_or(0),
            Err(error) => {
                if self.dropped == 0 {
                    tracing::warn!(%error, "the recording of signals has ended");
                }
                self.dropped += 1;
            }
        }
    }
}
