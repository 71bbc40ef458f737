//! The two rings through which events come, and their decoding.
//!
//! Consumes the bytes of a ring; emits [`Event`]s by value, without allocating. Records that are not as the shared types
//! say are counted, never trusted. Leaves out waiting: the reader polls [`Ring::fd`] of the urgent ring and drains both each
//! time it wakes, and at least every 100 ms, since the bulk ring wakes nobody until it is half full. Needs 5.8.
#![expect(unsafe_code, reason = "records are read from bytes")]

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use monitor_common::probes::{ReadRecord, Record, WriteRecord};
use monitor_common::{Event, Kind};

/// Both rings; movable to the thread that reads them.
#[derive(Debug)]
pub struct Rings {
    /// Ends of watched processes and of the daemon's children, OOM kills, failed connections: wakes its reader at once.
    pub urgent: Ring,
    /// Everything else: wakes its reader only when half full.
    pub bulk: Ring,
}

/// One ring.
pub struct Ring {
    map: RingBuf<MapData>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// What one [`Ring::drain`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events handed on.
    pub count: usize,
    /// Records thrown away because they are not as the shared types say: the object is of another version.
    pub malformed: usize,
}

impl Ring {
    pub(super) const fn new(map: RingBuf<MapData>) -> Self {
        Self { map }
    }

    /// Readable while the ring holds records and its programs ask to wake the reader.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Hands at most so many records on, in the order in which the kernel reserved them.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(Event)) -> Drained {
        let mut drained = Drained::default();
        while drained.count + drained.malformed < limit {
            let Some(record) = self.map.next() else { break };
            match decode(&record) {
                Some(event) => {
                    drained.count += 1;
                    each(event);
                }
                None => drained.malformed += 1,
            }
        }
        drained
    }
}

/// Reads a record; none when its size and its kind do not agree with each other and with the shared types.
pub fn decode(record: &[u8]) -> Option<Event> {
    let kind: [u8; 2] = record.get(..2)?.try_into().ok()?;
    let kind = Kind::from_number(u16::from_ne_bytes(kind))?;
    let event = Event::read(kind, &Bytes(record))?;
    (event.header().size as usize == record.len()).then_some(event)
}

/// Appends the bytes of a record as the kernel writes them; whether [`decode`] reads them again.
pub fn encode(event: &Event, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    event.write(&mut Appended(out));
    let header = event.header();
    header.kind == event.kind().number() && header.size as usize == out.len() - before
}

struct Appended<'a>(&'a mut Vec<u8>);

impl WriteRecord for Appended<'_> {
    #[inline]
    fn write<T: Record>(&mut self, record: &T) {
        // SAFETY: a record is made of integers without gaps, so each of its bytes is initialised.
        let bytes = unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>())
        };
        self.0.extend_from_slice(bytes);
    }
}

/// Bytes from the kernel.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl ReadRecord for Bytes<'_> {
    #[inline]
    fn read<T: Record>(&self) -> Option<T> {
        // SAFETY: the bytes are as many as the record has, and a record is made of integers, of which all values are valid.
        (self.0.len() == size_of::<T>())
            .then(|| unsafe { self.0.as_ptr().cast::<T>().read_unaligned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, size: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&u32::try_from(size).unwrap().to_ne_bytes());
        bytes
    }

    #[test]
    fn a_record_of_each_kind_is_read() {
        for kind in Kind::ALL {
            let size = kind.size();
            let event = decode(&record(kind.number(), size, size)).expect("well formed");
            assert_eq!(event.kind(), *kind);
            let mut bytes = Vec::new();
            assert!(encode(&event, &mut bytes));
            assert_eq!(decode(&bytes), Some(event), "and written again");
        }
    }

    #[test]
    fn a_malformed_record_is_nothing() {
        let size = Kind::ProcessExit.size();
        let number = Kind::ProcessExit.number();
        assert_eq!(
            decode(&record(number, size, size + 8)),
            None,
            "longer than its kind"
        );
        assert_eq!(
            decode(&record(number, size, size - 8)),
            None,
            "shorter than its kind"
        );
        assert_eq!(
            decode(&record(number, size + 8, size)),
            None,
            "lies about its size"
        );
        assert_eq!(decode(&record(0, size, size)), None, "of no kind");
        assert_eq!(decode(&record(u16::MAX, size, size)), None, "of no kind");
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[3]), None);
    }
}
