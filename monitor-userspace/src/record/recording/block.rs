//! A block: its head, and entries compressed with LZ4.
//!
//! The head: a marker by which the next one is found after damage, the number of entries, bytes before and after compression, the
//! CRC-32 of the compressed bytes, and that of the head itself. All little-endian, 32 bits each.

use super::Entry;
use super::entry::{self, Clocks};

/// First bytes of each block.
pub(super) const MARKER: [u8; 4] = *b"\xb7BLK";
/// Bytes of a head.
pub(super) const HEAD: usize = 24;
/// A block is closed when it holds so many bytes.
pub(super) const FULL: usize = 64 << 10;
/// Most bytes of a block before compression.
const MOST: usize = FULL + entry::LARGEST + 64;
/// LZ4 makes no byte into more than so many.
const RATIO: usize = 255;

/// What a head says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Entries.
    pub(super) entries: u32,
    /// Bytes before compression.
    pub(super) raw: usize,
    /// Bytes after it.
    pub(super) packed: usize,
    /// CRC-32 of those.
    pub(super) check: u32,
}

impl Head {
    /// Reads one; why not, when it is none. What it says is within bounds then.
    pub(super) fn read(bytes: &[u8; HEAD]) -> Result<Self, &'static str> {
        let (words, _) = bytes.as_chunks::<4>();
        let [marker, entries, raw, packed, check, own] = words else {
            return Err("it has no head");
        };
        if *marker != MARKER {
            return Err("no block begins here");
        }
        let said = bytes.get(..HEAD - 4).unwrap_or_default();
        if crc32fast::hash(said) != u32::from_le_bytes(*own) {
            return Err("the checksum of its head is wrong");
        }
        let number = |word: &[u8; 4]| u32::from_le_bytes(*word);
        let (raw, packed) = (number(raw) as usize, number(packed) as usize);
        if raw > MOST || packed > lz4_flex::block::get_maximum_output_size(MOST) {
            return Err("it is larger than a block may be");
        }
        if raw > packed.saturating_mul(RATIO) {
            return Err("it says that it holds more than it can");
        }
        Ok(Self {
            entries: number(entries),
            raw,
            packed,
            check: number(check),
        })
    }

    /// Unpacks what follows the head.
    pub(super) fn unpack(&self, packed: &[u8], raw: &mut Vec<u8>) -> Result<(), &'static str> {
        if crc32fast::hash(packed) != self.check {
            return Err("its checksum is wrong");
        }
        raw.clear();
        raw.resize(self.raw, 0);
        match lz4_flex::block::decompress_into(packed, raw) {
            Ok(length) if length == self.raw => Ok(()),
            _ => Err("it does not unpack to what its head says"),
        }
    }
}

/// A block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    pub(super) raw: Vec<u8>,
    clocks: Clocks,
    entries: u32,
    scratch: Vec<u8>,
}

impl Filling {
    /// Adds an entry; false when it is larger than may be.
    pub(super) fn add(&mut self, entry: &Entry) -> bool {
        let added = entry::write(entry, &mut self.clocks, &mut self.raw, &mut self.scratch);
        self.entries += u32::from(added);
        added
    }

    /// Whether it is to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.raw.len() >= FULL
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Closes it: its bytes, with their head. It is empty then.
    pub(super) fn close(&mut self) -> Vec<u8> {
        let packed = lz4_flex::block::compress(&self.raw);
        let mut out = Vec::with_capacity(HEAD + packed.len());
        out.extend_from_slice(&MARKER);
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        for word in [
            self.entries,
            size(self.raw.len()),
            size(packed.len()),
            crc32fast::hash(&packed),
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let own = crc32fast::hash(&out);
        out.extend_from_slice(&own.to_le_bytes());
        out.extend_from_slice(&packed);
        self.raw.clear();
        self.entries = 0;
        self.clocks = Clocks::default();
        out
    }
}
