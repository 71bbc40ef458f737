//! One entry of a block: what it is, how much later than the one before, and its bytes.
//!
//! Times are zigzag varints of the difference to the entry before, nanoseconds; the first of a block counts from 0.

use super::{Entry, Note, What};
use crate::kernel;
use crate::model::{Signal, Time};

/// A kernel record whose own time is the entry's, and stands as 0.
const KERNEL: u8 = 0;
/// A kernel record with a time of its own.
const KERNEL_TIMED: u8 = 1;
/// A signal in JSON.
const SIGNAL: u8 = 2;
/// A note in JSON.
const NOTE: u8 = 3;

/// Where the time stands in a kernel record: see `monitor_common::Header`.
const TIME: std::ops::Range<usize> = 8..16;
/// Where its size stands.
const SIZE: std::ops::Range<usize> = 4..8;

/// Largest JSON of an entry, bytes: a process table of some fifty thousand.
pub(super) const LARGEST: usize = 8 << 20;

/// Times of the entry before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    at: i64,
    now: i64,
}

/// Appends an entry; false, and nothing, when it is larger than may be. `scratch` is kept for its room.
pub(super) fn write(
    entry: &Entry,
    clocks: &mut Clocks,
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> bool {
    scratch.clear();
    let tag = match &entry.what {
        What::Signal(Signal::Kernel { event }) if kernel::encode(event, scratch) => {
            let timed = Time::from_kernel(event.time_ns()) != entry.at;
            match scratch.get_mut(TIME) {
                Some(time) if !timed => {
                    time.fill(0);
                    KERNEL
                }
                _ => KERNEL_TIMED,
            }
        }
        What::Signal(signal) => {
            scratch.clear();
            if serde_json::to_writer(&mut *scratch, signal).is_err() {
                return false;
            }
            SIGNAL
        }
        What::Note(note) => {
            if serde_json::to_writer(&mut *scratch, note).is_err() {
                return false;
            }
            NOTE
        }
    };
    if scratch.len() > LARGEST {
        return false;
    }
    out.push(tag);
    let (at, now) = (entry.at.nanos(), entry.now.nanos());
    varint(zigzag(at.wrapping_sub(clocks.at)), out);
    varint(zigzag(now.wrapping_sub(clocks.now)), out);
    *clocks = Clocks { at, now };
    if matches!(tag, SIGNAL | NOTE) {
        varint(scratch.len() as u64, out);
    }
    out.extend_from_slice(scratch);
    true
}

/// Takes an entry off the front; why not, when it does not read.
pub(super) fn read(bytes: &mut &[u8], clocks: &mut Clocks) -> Result<Entry, String> {
    let short = || "an entry is cut short".to_owned();
    let tag = take(bytes, 1).and_then(|tag| tag.first().copied());
    let tag = tag.ok_or_else(short)?;
    let at = clocks
        .at
        .wrapping_add(unzigzag(read_varint(bytes).ok_or_else(short)?));
    let now = clocks
        .now
        .wrapping_add(unzigzag(read_varint(bytes).ok_or_else(short)?));
    *clocks = Clocks { at, now };
    let (at, now) = (Time::from_nanos(at), Time::from_nanos(now));
    let what = match tag {
        KERNEL | KERNEL_TIMED => {
            let size = bytes.get(SIZE).and_then(|size| size.try_into().ok());
            let size = size.map_or(0, u32::from_ne_bytes) as usize;
            let record = take(bytes, size).ok_or_else(short)?;
            let mut event = kernel::decode(record)
                .ok_or_else(|| "a kernel record is not as this version knows it".to_owned())?;
            if tag == KERNEL {
                event.header_mut().time_ns = u64::try_from(at.nanos()).unwrap_or(0);
            }
            What::Signal(Signal::Kernel { event })
        }
        SIGNAL | NOTE => {
            let length = read_varint(bytes).ok_or_else(short)?;
            let length = usize::try_from(length).map_err(|_| short())?;
            let json = take(bytes, length).ok_or_else(short)?;
            if tag == SIGNAL {
                let signal = serde_json::from_slice(json);
                What::Signal(signal.map_err(|error| format!("a signal does not read: {error}"))?)
            } else {
                let note = serde_json::from_slice::<Note>(json);
                What::Note(Box::new(
                    note.map_err(|error| format!("a note does not read: {error}"))?,
                ))
            }
        }
        other => return Err(format!("an entry is of the unknown kind {other}")),
    };
    Ok(Entry { at, now, what })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is left is below 128")]
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_times_are_read_as_written() {
        for value in [0, 1, -1, 127, 128, -300, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            varint(zigzag(value), &mut bytes);
            let mut left = bytes.as_slice();
            assert_eq!(read_varint(&mut left).map(unzigzag), Some(value));
            assert!(left.is_empty());
        }
        assert_eq!(read_varint(&mut [0xff; 11].as_slice()), None);
    }
}
