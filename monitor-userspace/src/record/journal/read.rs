//! Reading a journal, all generations of it, oldest line first, while it may be written on.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::chain::{self, Sum};
use super::entry::{Entry, Line};
use super::generations;
use super::verify::{Chain, Report};

/// Longest line that is read back; an incident with a full story is below 32 KiB.
pub(super) const LINE: u64 = 1 << 20;

/// The files of a journal, as long as they were when they were opened: each walk over them sees the same lines.
#[derive(Debug)]
pub struct Stored {
    /// Oldest first.
    files: Vec<Piece>,
    /// Something older is there that is left out.
    cut: bool,
}

#[derive(Debug)]
struct Piece {
    name: String,
    file: File,
    inode: (u64, u64),
    /// What stands before this is left out, up to the end of the line there.
    from: u64,
    length: u64,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file's name within the state folder.
    pub file: &'a str,
    /// Line, from 1 where the file is read from its beginning.
    pub line: u64,
    /// How it ends.
    pub shape: Shape,
    /// Whether it is in the file that is being written.
    pub current: bool,
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it should.
    Whole,
    /// Without an end: it is being written, or the writing was cut short.
    Torn,
    /// Beyond what is read: these are its first bytes.
    TooLong,
}

impl Stored {
    /// All of them.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::newest(folder, u64::MAX)
    }

    /// The last so many bytes of them.
    pub fn newest(folder: &Path, mut bytes: u64) -> io::Result<Self> {
        let mut stored = Self {
            files: Vec::new(),
            cut: false,
        };
        // From the newest on: while they are being moved up, one may be met twice, and none is missed.
        stored.take(folder, generations::CURRENT, &mut bytes)?;
        let highest = generations::numbers(folder)?.pop().unwrap_or(0);
        let mut number = 1;
        while bytes > 0 {
            let there = stored.take(folder, &generations::name(number), &mut bytes)?;
            if !there && number > highest {
                break;
            }
            number += 1;
        }
        stored.cut = number <= highest || stored.files.last().is_some_and(|oldest| oldest.from > 0);
        stored.files.reverse();
        Ok(stored)
    }

    fn take(&mut self, folder: &Path, name: &str, bytes: &mut u64) -> io::Result<bool> {
        let file = match File::open(folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        let inode = (about.dev(), about.ino());
        if self.files.iter().all(|piece| piece.inode != inode) {
            let length = about.len();
            let from = length.saturating_sub(*bytes);
            *bytes = bytes.saturating_sub(length);
            self.files.push(Piece {
                name: name.to_owned(),
                file,
                inode,
                from,
                length,
            });
        }
        Ok(true)
    }

    /// Whether something older is left out.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The oldest file, and how many of its lines are left out. Reads what is left out.
    pub(super) fn passed_over(&self) -> io::Result<(&str, u64)> {
        let Some(oldest) = self.files.first() else {
            return Ok(("", 0));
        };
        let mut file = &oldest.file;
        file.seek(SeekFrom::Start(0))?;
        // The line in whose middle the reading begins is one of them.
        let mut before = BufReader::new(file.take(oldest.from));
        let mut lines = 0_u64;
        while before.skip_until(b'\n')? > 0 {
            lines = lines.saturating_add(1);
        }
        Ok((&oldest.name, lines))
    }

    /// Names of the files, oldest first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|piece| piece.name.as_str())
    }

    /// Hands every line to `each`, without its end, until that breaks off.
    pub fn each(
        &self,
        mut each: impl FnMut(Place<'_>, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for piece in &self.files {
            if piece.each(&mut each)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The sum of the last line that has one.
    pub(super) fn last_sum(&self) -> io::Result<Option<Sum>> {
        for piece in self.files.iter().rev() {
            let mut last = None;
            let mut note = |_: Place<'_>, line: &[u8]| {
                last = chain::split(line).map(|(_, sum)| sum).or(last);
                ControlFlow::Continue(())
            };
            // Nearly always it is the very last line.
            let near = Piece {
                from: piece.length.saturating_sub(LINE),
                ..piece.again()?
            };
            let _ = near.each(&mut note)?;
            if last.is_none() && near.from > 0 {
                let _ = piece.each(&mut |_, line: &[u8]| {
                    last = chain::split(line).map(|(_, sum)| sum).or(last);
                    ControlFlow::Continue(())
                })?;
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Which generation the newest file with a line in it is, as its first line says; 0 where that says nothing.
    pub(super) fn generation(&self) -> io::Result<u64> {
        let Some(piece) = self.files.iter().rev().find(|piece| piece.length > 0) else {
            return Ok(0);
        };
        let mut generation = 0;
        let _ = piece.each(&mut |_, line: &[u8]| {
            if let Some(Entry::Continued {
                generation: number, ..
            }) = entry(line)
            {
                generation = number;
            }
            ControlFlow::Break(())
        })?;
        Ok(generation)
    }
}

impl Piece {
    fn again(&self) -> io::Result<Self> {
        Ok(Self {
            name: self.name.clone(),
            file: self.file.try_clone()?,
            ..*self
        })
    }

    fn each(
        &self,
        each: &mut impl FnMut(Place<'_>, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let mut file = &self.file;
        // One byte earlier: where that ends a line, the next one is whole.
        let begin = self.from.saturating_sub(1);
        file.seek(SeekFrom::Start(begin))?;
        let mut reader =
            BufReader::with_capacity(64 << 10, file.take(self.length.saturating_sub(begin)));
        if self.from > 0 {
            reader.skip_until(b'\n')?;
        }
        let mut text = Vec::new();
        let mut number = 0;
        loop {
            text.clear();
            if reader.by_ref().take(LINE).read_until(b'\n', &mut text)? == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            number += 1;
            let shape = if text.pop_if(|last| *last == b'\n').is_some() {
                Shape::Whole
            } else if reader.skip_until(b'\n')? > 0 {
                Shape::TooLong
            } else {
                Shape::Torn
            };
            let current = self.name == generations::CURRENT;
            let place = Place {
                file: &self.name,
                line: number,
                shape,
                current,
            };
            if each(place, &text).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice::<Line>(line)
        .ok()
        .map(|line| line.entry)
}

/// What was found where a journal was read.
#[derive(Debug, Default)]
pub struct Found {
    /// Lines that do not read (written by a newer version, damaged): they are passed over.
    pub unreadable: u64,
    /// What the chain of sums says about what was read.
    pub chain: Report,
}

/// Reads the last so many bytes of a state folder's journal, oldest line first, and checks the chain of sums along the way.
pub fn read(folder: &Path, bytes: u64, mut each: impl FnMut(Line)) -> io::Result<Found> {
    let mut unreadable = 0;
    let stored = match Stored::newest(folder, bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::default()),
        stored => stored?,
    };
    let mut chain = Chain::of(&stored);
    stored.each(|place, text| {
        let line = serde_json::from_slice(text);
        chain.line(place, text, line.is_ok());
        match line {
            Ok(line) => each(line),
            Err(_) => unreadable += 1,
        }
        ControlFlow::Continue(())
    })?;
    let chain = chain.end(&stored)?;
    Ok(Found { unreadable, chain })
}
