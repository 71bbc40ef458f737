//! Reads a recording, trusting nothing in it: lengths are compared with bounds before there is room made for them.
//!
//! What is damaged is an error that names the place, and the end; a lenient reader passes over it, and says so at the end. A file
//! that was cut short reads up to its last whole block. Files of JSON lines are read, too.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::block::{HEAD, Head, MARKER};
use super::entry::{self, Clocks};
use super::{Entry, FORMAT, HEADER, Header, MAGIC, Note, Recorded, What, layout};

/// Longest line of a file of JSON lines, bytes.
const LINE: u64 = 16 << 20;
/// Most places of damage that are named.
const NAMED: usize = 16;

/// Why a recording does not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error(
        "this is no recording: it begins neither as one of `smart-monitor record` nor as lines of JSON"
    )]
    Other,
    /// Its first part is damaged.
    #[error("the recording's header is damaged: {why}; nothing of it can be read")]
    Header {
        /// What is wrong.
        why: String,
    },
    /// It is of a format that this version does not know.
    #[error(
        "the recording is of format {found}, this smart-monitor reads format {FORMAT}: use the version that recorded it"
    )]
    Format {
        /// Its format.
        found: u16,
    },
    /// Its kernel records are others.
    #[error(
        "the recording was made by smart-monitor {version}, whose kernel records are laid out in another way than this version's: use that version to replay it, or to make lines of JSON of it with `replay --dump`"
    )]
    Layout {
        /// The version that recorded it.
        version: String,
    },
    /// A block is damaged.
    #[error("the recording is damaged at byte {offset}: {why}; `--lenient` reads what is whole")]
    Damaged {
        /// Where the block begins.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A line is damaged.
    #[error("line {line} of the recording does not read: {why}; `--lenient` reads the others")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// How the file came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// It ends without saying so: where the last whole block ends, bytes.
    pub cut: Option<u64>,
    /// Damage that was passed over, in words; the first of it.
    pub damage: Vec<String>,
    /// How often something was passed over.
    pub damaged: u64,
    /// Entries that the recorder had no room for, as far as is known.
    pub lost: u64,
}

trait Input: Read + Seek + Send {}
impl<T: Read + Seek + Send> Input for T {}

/// See the module.
pub struct Reader {
    input: BufReader<Box<dyn Input>>,
    header: Option<Header>,
    lenient: bool,
    /// Bytes, or lines, that have been read.
    place: u64,
    packed: Vec<u8>,
    raw: Vec<u8>,
    /// Where in `raw` the next entry begins, and how many are left.
    next: (usize, u32),
    clocks: Clocks,
    /// Where the block began that is being read.
    block: u64,
    signals: u64,
    over: bool,
    ending: Ending,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file.
    pub fn open(path: &Path, lenient: bool) -> Result<Self, ReadError> {
        Self::new(File::open(path)?, lenient)
    }

    /// Reads the header.
    pub fn new(input: impl Read + Seek + Send + 'static, lenient: bool) -> Result<Self, ReadError> {
        let mut reader = Self {
            input: BufReader::with_capacity(64 << 10, Box::new(input)),
            header: None,
            lenient,
            place: 0,
            packed: Vec::new(),
            raw: Vec::new(),
            next: (0, 0),
            clocks: Clocks::default(),
            block: 0,
            signals: 0,
            over: false,
            ending: Ending::default(),
        };
        match reader.input.fill_buf()?.first() {
            Some(first) if Some(first) == MAGIC.first() => reader.read_header()?,
            Some(b'{') | None => {}
            Some(_) => return Err(ReadError::Other),
        }
        Ok(reader)
    }

    /// What stands before the signals; none for lines of JSON.
    pub const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// How it ended, once [`Reader::next`] has given none.
    pub const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Signals read so far.
    pub const fn signals(&self) -> u64 {
        self.signals
    }

    /// Bytes that it keeps room for, besides what an entry is.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.packed.capacity() + self.raw.capacity() + self.input.capacity()
    }

    fn read_header(&mut self) -> Result<(), ReadError> {
        let damaged = |why: &str| ReadError::Header {
            why: why.to_owned(),
        };
        let mut fixed = [0; 22];
        let length = fill(&mut self.input, &mut fixed)?;
        if !fixed.starts_with(&MAGIC) {
            return Err(ReadError::Other);
        }
        if length < fixed.len() {
            return Err(damaged("it is cut short"));
        }
        let [_, _, _, _, _, _, _, _, f0, f1, records @ .., s0, s1, s2, s3] = &fixed;
        let format = u16::from_le_bytes([*f0, *f1]);
        let size = u32::from_le_bytes([*s0, *s1, *s2, *s3]) as usize;
        if format != FORMAT {
            return Err(ReadError::Format { found: format });
        }
        if size > HEADER {
            return Err(damaged("it says that it is larger than a header may be"));
        }
        let mut rest = Vec::new();
        let wanted = size as u64 + 4;
        (&mut self.input).take(wanted).read_to_end(&mut rest)?;
        let Some((json, check)) = rest
            .split_last_chunk::<4>()
            .filter(|_| rest.len() == size + 4)
        else {
            return Err(damaged("it is cut short"));
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(fixed.get(MAGIC.len()..).unwrap_or_default());
        hasher.update(json);
        if hasher.finalize() != u32::from_le_bytes(*check) {
            return Err(damaged("its checksum is wrong"));
        }
        let header: Header =
            serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        if *records != layout().to_le_bytes() {
            return Err(ReadError::Layout {
                version: header.version,
            });
        }
        self.header = Some(header);
        self.place = (fixed.len() + rest.len()) as u64;
        Ok(())
    }

    /// The next entry; none at the end. After an error there is nothing more.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends no entries and ends at the first error"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.over {
            return Ok(None);
        }
        let next = if self.header.is_some() {
            self.next_entry()
        } else {
            self.next_line()
        };
        match &next {
            Ok(Some(entry)) => match &entry.what {
                What::Signal(_) => self.signals += 1,
                What::Note(note) => {
                    if let Note::Lost { entries } = note.as_ref() {
                        self.ending.lost = self.ending.lost.saturating_add(*entries);
                    }
                }
            },
            Ok(None) | Err(_) => self.over = true,
        }
        next
    }

    fn next_line(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            self.packed.clear();
            let read = (&mut self.input)
                .take(LINE)
                .read_until(b'\n', &mut self.packed)?;
            if read == 0 {
                return Ok(None);
            }
            self.place += 1;
            if self.packed.trim_ascii().is_empty() {
                continue;
            }
            let error = match serde_json::from_slice(&self.packed) {
                Ok(Recorded { at, now, signal }) => {
                    return Ok(Some(Entry {
                        at,
                        now,
                        what: What::Signal(signal),
                    }));
                }
                Err(error) => error,
            };
            if error.is_eof()
                && self.packed.last() != Some(&b'\n')
                && read < usize::try_from(LINE).unwrap_or(usize::MAX)
            {
                self.ending.cut = Some(self.place);
                return Ok(None);
            }
            let why = error.to_string();
            let line = self.place;
            self.pass_over(format!("line {line}: {why}"), ReadError::Line { line, why })?;
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let (from, left) = self.next;
            if left == 0 {
                if !self.next_block()? {
                    return Ok(None);
                }
                continue;
            }
            let mut bytes = self.raw.get(from..).unwrap_or_default();
            let before = bytes.len();
            match entry::read(&mut bytes, &mut self.clocks) {
                Ok(entry) => {
                    self.next = (from + before - bytes.len(), left - 1);
                    if let What::Note(note) = &entry.what
                        && let Note::End { signals, lost } = note.as_ref()
                    {
                        return self.end(*signals, *lost);
                    }
                    return Ok(Some(entry));
                }
                Err(why) => {
                    self.next = (0, 0);
                    self.damage(self.block, why)?;
                }
            }
        }
    }

    fn end(&mut self, signals: u64, lost: u64) -> Result<Option<Entry>, ReadError> {
        self.ending.lost = lost;
        if self.next.1 > 0 || !self.input.fill_buf()?.is_empty() {
            self.damage(self.place, "something follows the end".to_owned())?;
        }
        if signals != self.signals {
            let why = format!("it has {} signals of {signals}", self.signals);
            self.damage(self.block, why)?;
        }
        Ok(None)
    }

    /// Reads the next block that is whole; false when there is none.
    fn next_block(&mut self) -> Result<bool, ReadError> {
        loop {
            let start = self.place;
            let mut head = [0; HEAD];
            if fill(&mut self.input, &mut head)? < HEAD {
                self.ending.cut = Some(start);
                return Ok(false);
            }
            let head = match Head::read(&head) {
                Ok(head) => head,
                Err(why) => {
                    self.damage(start, why.to_owned())?;
                    if !self.find_block(start + 1)? {
                        self.ending.cut = Some(start);
                        return Ok(false);
                    }
                    continue;
                }
            };
            self.packed.clear();
            (&mut self.input)
                .take(head.packed as u64)
                .read_to_end(&mut self.packed)?;
            if self.packed.len() < head.packed {
                self.ending.cut = Some(start);
                return Ok(false);
            }
            self.place = start + (HEAD + head.packed) as u64;
            match head.unpack(&self.packed, &mut self.raw) {
                Ok(()) => {
                    self.next = (0, head.entries);
                    self.clocks = Clocks::default();
                    self.block = start;
                    return Ok(true);
                }
                Err(why) => self.damage(start, why.to_owned())?,
            }
        }
    }

    /// Goes to the next marker from here on; false when there is none.
    fn find_block(&mut self, from: u64) -> io::Result<bool> {
        self.place = self.input.seek(SeekFrom::Start(from))?;
        let mut seen = [0; MARKER.len()];
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let mut used = 0;
            for byte in bytes {
                used += 1;
                seen.rotate_left(1);
                if let Some(last) = seen.last_mut() {
                    *last = *byte;
                }
                if seen == MARKER {
                    break;
                }
            }
            self.input.consume(used);
            self.place += used as u64;
            if seen == MARKER {
                self.place -= MARKER.len() as u64;
                self.input.seek(SeekFrom::Start(self.place))?;
                return Ok(true);
            }
        }
    }

    fn damage(&mut self, offset: u64, why: String) -> Result<(), ReadError> {
        self.pass_over(
            format!("byte {offset}: {why}"),
            ReadError::Damaged { offset, why },
        )
    }

    fn pass_over(&mut self, said: String, error: ReadError) -> Result<(), ReadError> {
        if !self.lenient {
            return Err(error);
        }
        self.ending.damaged += 1;
        if self.ending.damage.len() < NAMED {
            self.ending.damage.push(said);
        }
        Ok(())
    }
}

/// Reads as much as there is, at most as much as there is room for.
fn fill(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(left) = room.get_mut(filled..).filter(|left| !left.is_empty()) {
        match from.read(left) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
