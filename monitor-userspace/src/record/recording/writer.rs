//! Writes a recording, within a size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::block::Filling;
use super::{Entry, FORMAT, Header, MAGIC, Note, What, layout};
use crate::model::Time;

/// Bytes that are kept free for the last block.
const LAST: u64 = 256;

/// Makes the file, for its owner only. One that exists is not overwritten.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Signals.
    pub signals: u64,
    /// Entries that were not written.
    pub lost: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    filling: Filling,
    /// Signals and other entries of the block that is being filled.
    waiting: (u64, u64),
    totals: Totals,
    limit: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `limit` is the most bytes that the file may have.
    pub fn new(mut to: W, header: &Header, limit: u64) -> io::Result<Self> {
        let json = serde_json::to_vec(header)?;
        let size = u32::try_from(json.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut checked = FORMAT.to_le_bytes().to_vec();
        checked.extend_from_slice(&layout().to_le_bytes());
        checked.extend_from_slice(&size.to_le_bytes());
        checked.extend_from_slice(&json);
        let check = crc32fast::hash(&checked);
        to.write_all(&MAGIC)?;
        to.write_all(&checked)?;
        to.write_all(&check.to_le_bytes())?;
        let bytes = (MAGIC.len() + checked.len() + 4) as u64;
        Ok(Self {
            to,
            filling: Filling::default(),
            waiting: (0, 0),
            totals: Totals {
                bytes,
                ..Totals::default()
            },
            limit,
        })
    }

    /// Adds an entry, and writes the block when it is full. Whether there is room for more; errors are those of the file.
    pub fn add(&mut self, entry: &Entry) -> io::Result<bool> {
        if !self.filling.add(entry) {
            self.totals.lost += 1;
        } else if matches!(entry.what, What::Signal(_)) {
            self.waiting.0 += 1;
        } else {
            self.waiting.1 += 1;
        }
        if self.filling.is_full() {
            self.flush()
        } else {
            Ok(true)
        }
    }

    /// Writes what has been added. Whether there is room for more: what finds none is lost.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.filling.is_empty() {
            return Ok(true);
        }
        let block = self.filling.close();
        let (signals, others) = std::mem::take(&mut self.waiting);
        let bytes = self.totals.bytes + block.len() as u64;
        if bytes + LAST > self.limit {
            self.totals.lost += signals + others;
            return Ok(false);
        }
        if let Err(error) = self.to.write_all(&block) {
            self.totals.lost += signals + others;
            return Err(error);
        }
        self.totals.signals += signals;
        self.totals.bytes = bytes;
        Ok(true)
    }

    /// What has been written so far.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes what is left and the last block. `lost` of the entries never came here.
    pub fn finish(mut self, lost: u64, now: Time) -> io::Result<(W, Totals)> {
        self.flush()?;
        self.totals.lost += lost;
        let end = Note::End {
            signals: self.totals.signals,
            lost: self.totals.lost,
        };
        self.filling.add(&Entry {
            at: now,
            now,
            what: What::Note(Box::new(end)),
        });
        let block = self.filling.close();
        self.to.write_all(&block)?;
        self.to.flush()?;
        self.totals.bytes += block.len() as u64;
        Ok((self.to, self.totals))
    }
}
