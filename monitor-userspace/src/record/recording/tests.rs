use std::io::Cursor;

use monitor_common::{Event, Kind};

use super::*;
use crate::kernel;
use crate::model::{CheckFailure, CheckResult, Figure, Sample};

fn at(nanos: i64) -> Time {
    Time::from_nanos(nanos)
}

fn header() -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: "b00t".to_owned(),
        host: "here".to_owned(),
        monotonic_ns: 5_000,
        unix_ns: 1_700_000_000_000_000_000,
        next: IncidentId(7),
        in_force: InForce {
            config: Some("[policy]\ndry_run = true\n".to_owned()),
            probes_off: vec![(Kind::OffCpu, "no such tracepoint".to_owned())],
            ..InForce::default()
        },
    }
}

/// A kernel event of this kind, with bytes that differ from one to the next.
fn event(kind: Kind, time: u64, seed: u8) -> Event {
    let mut bytes: Vec<u8> = (0..kind.size())
        .map(|place| u8::try_from(place % 97).unwrap().wrapping_mul(seed))
        .collect();
    bytes[..2].copy_from_slice(&kind.number().to_ne_bytes());
    bytes[4..8].copy_from_slice(&u32::try_from(kind.size()).unwrap().to_ne_bytes());
    bytes[8..16].copy_from_slice(&time.to_ne_bytes());
    kernel::decode(&bytes).unwrap()
}

/// Entries of every sort, with times that go forwards and backwards.
fn entries(count: u8) -> Vec<Entry> {
    let mut entries = Vec::new();
    for turn in 0..count {
        let base = 1_000_000_000 + i64::from(turn) * 1_000_003;
        for (place, kind) in (0_i64..).zip(Kind::ALL) {
            let own = base - place * 777;
            let event = event(*kind, u64::try_from(own).unwrap(), turn);
            // Every third says another time than the record does.
            let said = if place % 3 == 0 { own + 5 } else { own };
            entries.push(Entry {
                at: at(said),
                now: at(base + place),
                what: What::Signal(Signal::Kernel { event }),
            });
        }
        let signals = [
            Signal::Loss {
                probe: Kind::ProcessExit,
                lost: 3,
            },
            Signal::Sample {
                sample: Sample::Clock { unix_ns: i64::MAX },
            },
            Signal::Check {
                result: CheckResult {
                    said: Some("status 200".to_owned()),
                    figures: vec![Figure::new("connect_seconds", 0.25)],
                    ..CheckResult::new(
                        "web",
                        std::time::Duration::from_nanos(1_234_567_891),
                        Some(CheckFailure::Connect("refused".to_owned())),
                    )
                },
            },
        ];
        for signal in signals {
            entries.push(Entry {
                at: at(base),
                now: at(base + 100),
                what: What::Signal(signal),
            });
        }
        for note in [
            Note::Incident {
                incident: IncidentId(u64::from(turn)),
                detector: "service_down".to_owned(),
                subject: Subject::service("web"),
            },
            Note::Act {
                incident: IncidentId(u64::from(turn)),
                action: "restart_service".to_owned(),
            },
            Note::Lost { entries: 1 },
        ] {
            entries.push(Entry {
                at: at(base),
                now: at(base + 100),
                what: What::Note(Box::new(note)),
            });
        }
    }
    entries
}

fn write(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header(), u64::MAX).unwrap();
    for entry in entries {
        assert!(writer.add(entry).unwrap());
    }
    let (bytes, totals) = writer.finish(0, at(9)).unwrap();
    assert_eq!(totals.bytes, bytes.len() as u64);
    bytes
}

/// Everything that reads, and how it ended.
fn read(bytes: Vec<u8>, lenient: bool) -> (Vec<Entry>, Result<Ending, ReadError>) {
    let mut entries = Vec::new();
    let mut reader = match Reader::new(Cursor::new(bytes), lenient) {
        Ok(reader) => reader,
        Err(error) => return (entries, Err(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => return (entries, Ok(reader.ending().clone())),
            Err(error) => {
                assert!(reader.next().unwrap().is_none(), "it goes on after {error}");
                return (entries, Err(error));
            }
        }
    }
}

#[test]
fn what_was_written_is_read() {
    let written = entries(40);
    let bytes = write(&written);
    let reader = Reader::new(Cursor::new(bytes.clone()), false).unwrap();
    assert_eq!(reader.header(), Some(&header()));
    let (entries, ending) = read(bytes, false);
    assert!(entries == written, "entries differ");
    let ending = ending.unwrap();
    assert_eq!((ending.cut, ending.damaged, ending.lost), (None, 0, 0));
}

#[test]
fn an_event_that_contradicts_its_header_is_kept_all_the_same() {
    let mut odd = event(Kind::ProcessExit, 77, 3);
    odd.header_mut().size = 1;
    let written = vec![Entry {
        at: at(77),
        now: at(78),
        what: What::Signal(Signal::Kernel { event: odd }),
    }];
    assert!(read(write(&written), false).0 == written);
}

#[test]
fn a_size_is_kept_to_and_what_found_no_room_is_counted() {
    let limit = 20_000;
    let mut writer = Writer::new(Vec::new(), &header(), limit).unwrap();
    let written = entries(200);
    let signals = |entries: &[Entry]| {
        let all = entries.iter();
        all.filter(|entry| matches!(entry.what, What::Signal(_)))
            .count() as u64
    };
    let taken = written
        .iter()
        .take_while(|entry| writer.add(entry).unwrap())
        .count();
    assert!(taken < written.len(), "it all fits");
    let (bytes, totals) = writer.finish(5, at(9)).unwrap();
    assert!(bytes.len() as u64 <= limit && totals.bytes == bytes.len() as u64);
    let (read, ending) = read(bytes, false);
    assert!(read[..] == written[..read.len()]);
    assert_eq!(totals.signals, signals(&read));
    let given = taken + 1;
    assert_eq!(totals.lost, (given - read.len()) as u64 + 5);
    assert_eq!(ending.unwrap().lost, totals.lost);
}

#[test]
fn a_file_that_was_cut_short_reads_up_to_its_last_whole_block() {
    let written = entries(100);
    let bytes = write(&written);
    let header = write(&[]).len();
    let mut before = usize::MAX;
    for length in (header..bytes.len()).rev().step_by(997) {
        let (entries, ending) = read(bytes[..length].to_vec(), false);
        let cut = ending.unwrap().cut.expect("it says so");
        assert!(cut <= length as u64);
        assert!(entries[..] == written[..entries.len()]);
        assert!(entries.len() <= before);
        before = entries.len();
    }
    assert!(before < written.len());
}

#[test]
fn a_damaged_block_is_named_and_passed_over_when_asked() {
    let written = entries(200);
    let mut bytes = write(&written);
    let markers: Vec<usize> = (0..bytes.len())
        .filter(|place| bytes[*place..].starts_with(&block::MARKER))
        .collect();
    assert!(markers.len() > 4, "{} blocks", markers.len());
    let second = markers[1];
    bytes[second + 200] ^= 1;
    let (some, error) = read(bytes.clone(), false);
    let error = error.unwrap_err();
    assert!(
        matches!(error, ReadError::Damaged { offset, .. } if offset == second as u64),
        "{error}"
    );
    assert!(error.to_string().contains("--lenient"), "{error}");
    assert!(!some.is_empty() && some[..] == written[..some.len()]);
    // A length that lies: the next marker says where to go on.
    bytes[second + 13] ^= 0x55;
    let (rest, ending) = read(bytes, true);
    let ending = ending.unwrap();
    assert!(rest[..some.len()] == some[..]);
    assert!(rest.len() > some.len() && rest.len() < written.len());
    assert!(rest.last() == written.last(), "what comes after it is read");
    assert!(ending.damaged >= 1 && ending.damage[0].contains(&second.to_string()));
    assert_eq!(ending.cut, None);
}

#[test]
fn another_layout_or_format_is_refused_in_words() {
    let mut bytes = write(&entries(1));
    // As another version would have written it: its number, and a checksum that is right.
    bytes[10] ^= 1;
    let json = usize::try_from(u32::from_le_bytes(bytes[18..22].try_into().unwrap())).unwrap();
    let check = crc32fast::hash(&bytes[8..22 + json]);
    bytes[22 + json..26 + json].copy_from_slice(&check.to_le_bytes());
    let error = read(bytes.clone(), true).1.unwrap_err();
    assert!(matches!(error, ReadError::Layout { .. }), "{error}");
    assert!(error.to_string().contains("use that version"), "{error}");
    bytes[8] = 9;
    let error = read(bytes, true).1.unwrap_err();
    assert!(matches!(error, ReadError::Format { found: 9 }), "{error}");
    let error = read(b"hello".to_vec(), true).1.unwrap_err();
    assert!(matches!(error, ReadError::Other), "{error}");
}

#[test]
fn lines_of_json_are_read_and_a_bad_one_is_named() {
    let signal = Signal::Loss {
        probe: Kind::OomKill,
        lost: 2,
    };
    let recorded = Recorded {
        at: at(3),
        now: at(4),
        signal: signal.clone(),
    };
    let good = serde_json::to_string(&recorded).unwrap();
    let text = format!("{good}\n\n{{\"at\":1}}\n{good}\n{}", &good[..20]);
    let (entries, error) = read(text.clone().into_bytes(), false);
    assert_eq!(entries.len(), 1);
    let error = error.unwrap_err();
    assert!(matches!(error, ReadError::Line { line: 3, .. }), "{error}");
    let (entries, ending) = read(text.into_bytes(), true);
    assert_eq!(entries.len(), 2);
    assert!(
        entries
            .iter()
            .all(|entry| entry.what == What::Signal(signal.clone()))
    );
    let ending = ending.unwrap();
    assert_eq!((ending.damaged, ending.cut), (1, Some(5)));
}

/// A generator of the test's own, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[test]
fn no_damage_makes_it_panic_or_take_room_that_the_file_does_not_justify() {
    let bytes = write(&entries(30));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut whole = 0;
    for case in 0..2_000 {
        let mut damaged = bytes.clone();
        for _ in 0..=dice.below(8) {
            let place = dice.below(damaged.len());
            damaged[place] ^= 1 << dice.below(8);
        }
        if case % 3 == 0 {
            damaged.truncate(dice.below(damaged.len() + 1));
        }
        let Ok(mut reader) = Reader::new(Cursor::new(damaged), case % 2 == 0) else {
            continue;
        };
        let mut read = 0;
        while let Ok(Some(_)) = reader.next() {
            read += 1;
        }
        whole += usize::from(read > 0);
        assert!(
            reader.room() <= (1 << 20),
            "case {case}: {} bytes",
            reader.room()
        );
    }
    assert!(whole > 100, "only {whole} cases got as far as an entry");
}

#[test]
fn nonsense_under_a_right_checksum_is_damage_and_nothing_worse() {
    let some = entries(3);
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut refused = 0;
    for case in 0..2_000 {
        let mut filling = block::Filling::default();
        for entry in &some {
            assert!(filling.add(entry));
        }
        for _ in 0..=dice.below(8) {
            let place = dice.below(filling.raw.len());
            filling.raw[place] ^= 1 << dice.below(8);
        }
        let mut bytes = write(&[]);
        let end = bytes.split_off(bytes.len() - last_block(&bytes));
        bytes.extend(filling.close());
        bytes.extend(end);
        let mut reader = Reader::new(Cursor::new(bytes), false).unwrap();
        refused += loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break 0,
                Err(_) => break 1,
            }
        };
        assert!(reader.room() <= 1 << 20, "case {case}");
    }
    assert!(refused > 500, "only {refused} were seen to be nonsense");
}

#[test]
fn heads_that_lie_about_lengths_make_no_room() {
    for word in 0..4 {
        let mut head = Vec::from(block::MARKER);
        for place in 0..4 {
            let value = if place == word { u32::MAX } else { 64 };
            head.extend_from_slice(&value.to_le_bytes());
        }
        let check = crc32fast::hash(&head);
        head.extend_from_slice(&check.to_le_bytes());
        let mut bytes = write(&[]);
        bytes.splice(bytes.len() - last_block(&bytes).., head);
        bytes.extend_from_slice(&[7; 64]);
        let mut reader = Reader::new(Cursor::new(bytes), false).unwrap();
        assert!(reader.next().is_err(), "word {word}");
        assert!(
            reader.room() <= 1 << 20,
            "word {word}: {} bytes",
            reader.room()
        );
    }
}

fn last_block(bytes: &[u8]) -> usize {
    let place = (0..bytes.len()).rev();
    bytes.len()
        - place
            .filter(|place| bytes[*place..].starts_with(&block::MARKER))
            .max()
            .unwrap()
}
