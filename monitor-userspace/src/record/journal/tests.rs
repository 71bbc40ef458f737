use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;
use crate::config::units::Bytes;

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-journal-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> Journal {
        Journal::open(&self.0, Config::default()).expect("it opens")
    }

    /// A journal that keeps so many older generations, of which every entry begins one.
    fn open_short(&self, keep: u32) -> Journal {
        let config = Config {
            size: Bytes(1),
            keep,
            ..Config::default()
        };
        Journal::open(&self.0, config).expect("it opens")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file("journal.jsonl")).expect("it reads")
    }

    fn put(&self, text: &str) {
        std::fs::write(self.file("journal.jsonl"), text).expect("it writes");
    }

    fn entries(&self) -> (Vec<Entry>, u64) {
        let mut all = Vec::new();
        let found = read(&self.0, u64::MAX, |line| all.push(line.entry)).expect("it reads");
        all.retain(|entry| !matches!(entry, Entry::Continued { .. }));
        (all, found.unreadable)
    }

    fn verify(&self) -> Report {
        verify(&Stored::open(&self.0).expect("it opens")).expect("it reads")
    }

    /// Lines of the current file in which something is wrong.
    fn broken(&self) -> Vec<u64> {
        let report = self.verify();
        report.breaks.iter().map(|at| at.line).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(number: usize) -> Entry {
    Entry::Reloaded {
        file: format!("file {number}"),
    }
}

fn write(journal: &Journal, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        journal
            .append(Time::default(), 0, vec![entry(number)])
            .expect("it writes");
    }
}

fn all(numbers: impl IntoIterator<Item = usize>) -> (Vec<Entry>, u64) {
    (numbers.into_iter().map(entry).collect(), 0)
}

#[test]
fn a_torn_line_is_cut_off_and_the_chain_goes_on() {
    let folder = Folder::new("torn");
    write(&folder.open(), 0..2);
    let whole = folder.text();
    for torn in ["{\"unix_ns\":1", "\0\0\0\0", &whole[..whole.len() / 2 - 1]] {
        folder.put(&(whole.clone() + torn));
        let report = folder.verify();
        assert!(
            report.torn && report.verdict == Verdict::Whole && report.lines == 2,
            "{report:?}"
        );
        write(&folder.open(), 2..3);
        assert_eq!(folder.entries(), all(0..3));
        let report = folder.verify();
        assert!(
            report.verdict == Verdict::Whole && !report.torn && report.lines == 3,
            "{report:?}"
        );
    }
    // Torn from the very beginning, and longer than what is read at once.
    folder.put(&"x".repeat(3 << 20));
    write(&folder.open(), 0..1);
    assert_eq!(folder.entries(), all(0..1));
    assert!(folder.verify().verdict == Verdict::Whole);
}

#[test]
fn whatever_is_done_to_a_line_is_found_and_where() {
    let folder = Folder::new("edits");
    write(&folder.open(), 0..6);
    assert!(folder.verify().verdict == Verdict::Whole);
    let text = folder.text();
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: Vec<&str>| {
        folder.put(&(lines.join("\n") + "\n"));
        folder.broken()
    };
    let edited = lines[2].replace("file 2", "file 7");
    let resummed = lines[2]
        .replace("\"sum\":\"", "\"sum\":\"0")
        .replacen("0\"}", "\"}", 1);
    let stripped = lines[2]
        .split(",\"sum\"")
        .next()
        .expect("a line")
        .to_owned()
        + "}";
    assert_ne!(edited, lines[2]);
    // Changed: it, or its sum, or without any.
    assert_eq!(with([&lines[..2], &[&edited], &lines[3..]].concat()), [3]);
    assert_eq!(
        with([&lines[..2], &[&stripped], &lines[3..]].concat()),
        [3, 4]
    );
    assert!(with([&lines[..2], &[&resummed], &lines[3..]].concat()).contains(&3));
    // Removed: in the middle, at the beginning.
    assert_eq!(with([&lines[..2], &lines[3..]].concat()), [3]);
    assert_eq!(with(lines[1..].to_vec()), [1]);
    // Inserted: made up without a sum, and a copy of another one.
    assert_eq!(
        with([&lines[..2], &["{\"entry\":\"ended\"}"], &lines[2..]].concat()),
        [3]
    );
    assert_eq!(with([&lines[..4], &lines[1..2], &lines[4..]].concat()), [5]);
    // Two that changed places.
    let swapped = with([&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat());
    assert_eq!(swapped, [3, 5]);
    // Cut off in the end: nothing in the file shows it, but the sum that was noted does.
    assert_eq!(with(lines[..4].to_vec()), [0; 0]);
    let cut = folder.verify().last;
    folder.put(&text);
    assert_ne!(folder.verify().last, cut);
    assert_eq!(with(lines), [0; 0]);
}

#[test]
fn what_was_cut_off_under_a_running_daemon_is_found() {
    let folder = Folder::new("cut");
    let journal = folder.open();
    write(&journal, 0..3);
    let text = folder.text();
    let kept = text.lines().next().expect("a line").len() + 1;
    let file = OpenOptions::new().write(true).open(journal.path());
    file.and_then(|file| file.set_len(u64::try_from(kept).expect("small")))
        .expect("it is cut");
    write(&journal, 3..4);
    assert_eq!(folder.broken(), [2]);
}

#[test]
fn damage_does_not_stop_the_chain() {
    let folder = Folder::new("damage");
    write(&folder.open(), 0..3);
    let length = folder.text().len();
    let file = OpenOptions::new()
        .write(true)
        .open(folder.file("journal.jsonl"));
    let at = u64::try_from(length - 20).expect("small");
    file.and_then(|file| file.write_all_at(b"\xff\xff", at))
        .expect("it is damaged");
    write(&folder.open(), 3..5);
    assert_eq!(folder.broken(), [3]);
    assert_eq!(folder.entries().1, 1);
}

#[test]
fn lines_of_an_older_version_read_and_count_as_unchecked() {
    let folder = Folder::new("older");
    std::fs::create_dir_all(&folder.0).expect("it is made");
    let old = "{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"reloaded\",\"file\":\"file 0\"}\n";
    std::fs::write(folder.file("journal.1.jsonl"), old).expect("it writes");
    folder.put(old);
    write(&folder.open(), [0, 0]);
    assert_eq!(folder.entries(), all([0; 4]));
    let report = folder.verify();
    assert!(report.verdict == Verdict::Unchecked, "{report:?}");
    assert_eq!((report.lines, report.unchecked), (4, 2));
    // After the chain has begun, a line without a sum is none of those.
    folder.put(&(folder.text() + old));
    write(&folder.open(), 0..1);
    assert_eq!(folder.broken(), [4]);
    assert_eq!(folder.entries(), all([0; 6]));
}

#[test]
fn the_chain_goes_on_over_generations_and_restarts() {
    let folder = Folder::new("chain");
    for round in 0..3 {
        write(&folder.open_short(8), 2 * round..2 * round + 2);
    }
    assert_eq!(folder.entries(), all(0..6));
    let report = folder.verify();
    assert!(
        report.verdict == Verdict::Whole && report.generations_gone == 0,
        "{report:?}"
    );
    assert!(folder.file("journal.5.jsonl").exists());
    // A generation that is missing, and one that was edited.
    let third = folder.file("journal.3.jsonl");
    let text = std::fs::read_to_string(&third).expect("it reads");
    std::fs::remove_file(&third).expect("it goes");
    let report = folder.verify();
    let expected = [("journal.2.jsonl".to_owned(), 1)];
    let found: Vec<_> = report
        .breaks
        .into_iter()
        .map(|at| (at.file, at.line))
        .collect();
    assert_eq!(found, expected);
    std::fs::write(&third, text.replace("file", "life")).expect("it writes");
    let report = folder.verify();
    let places: Vec<_> = report
        .breaks
        .iter()
        .map(|at| (at.file.as_str(), at.line))
        .collect();
    assert_eq!(places, [("journal.3.jsonl", 2)]);
}

#[test]
fn the_oldest_generation_goes_and_the_rest_is_still_checked() {
    let folder = Folder::new("bounded");
    let journal = folder.open_short(3);
    write(&journal, 0..10);
    let mut files: Vec<_> = std::fs::read_dir(&folder.0)
        .expect("it reads")
        .map(|file| file.expect("it is there").file_name())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "journal.1.jsonl",
            "journal.2.jsonl",
            "journal.3.jsonl",
            "journal.jsonl"
        ]
    );
    assert_eq!(folder.entries(), all(6..10));
    let report = folder.verify();
    assert!(report.verdict == Verdict::Whole, "{report:?}");
    assert_eq!((report.generations_gone, report.lines), (6, 8));
    let second = Journal::open(&folder.0, Config::default());
    assert!(second.is_err(), "the new generation is locked too");
    // Without its first line, what is left begins nowhere.
    let oldest = folder.file("journal.3.jsonl");
    let text = std::fs::read_to_string(&oldest).expect("it reads");
    let (_, rest) = text.split_once('\n').expect("two lines");
    std::fs::write(&oldest, rest).expect("it writes");
    assert!(folder.verify().verdict != Verdict::Whole);
    // Fewer are kept from now on.
    drop(journal);
    write(&folder.open_short(1), 10..11);
    assert_eq!(folder.entries(), all(9..11));
    assert!(folder.verify().verdict == Verdict::Whole);
}

#[test]
fn a_rotation_that_was_cut_short_anywhere_is_finished() {
    // Before each step, between the last two (moved away, and no new file), and by a daemon that goes on or one that starts.
    for running in [true, false] {
        for done in 0..=5 {
            let folder = Folder::new("rotation");
            let journal = folder.open_short(3);
            write(&journal, 0..6);
            assert_eq!(folder.entries(), all(2..6));
            let journal = running.then_some(journal);
            let taken = generations::numbers(&folder.0).expect("it reads");
            let steps = generations::steps(&taken, 3);
            assert_eq!(steps.len(), 3);
            for step in steps.iter().take(done) {
                step.take(&folder.0).expect("it is done");
            }
            let path = folder.file("journal.jsonl");
            if done > 3 {
                std::fs::rename(&path, folder.file("journal.1.jsonl")).expect("it moves");
            }
            // The new file is there, and its first line is not.
            match &journal {
                Some(journal) if done == 5 => {
                    journal.begin(&mut journal.lock()).expect("it begins");
                }
                None if done == 5 => drop(File::create(&path).expect("it is made")),
                _ => {}
            }
            let journal = journal.unwrap_or_else(|| folder.open_short(3));
            write(&journal, 6..7);
            assert_eq!(folder.entries(), all(3..7), "after {done} steps");
            assert!(
                folder.verify().verdict == Verdict::Whole,
                "after {done} steps"
            );
            write(&journal, 7..8);
            assert_eq!(folder.entries(), all(4..8), "after {done} steps");
        }
    }
}

#[test]
fn room_for_a_generation_is_made_off_the_hot_path_and_loses_nothing_twice() {
    let folder = Folder::new("ahead");
    let journal = folder.open_short(2);
    write(&journal, 0..3);
    journal.sync().expect("it syncs");
    assert!(!folder.file("journal.1.jsonl").exists(), "it is free");
    assert_eq!(folder.entries(), all(1..3));
    assert!(folder.verify().verdict == Verdict::Whole);
    write(&journal, 3..4);
    assert_eq!(folder.entries(), all(1..4));
    // While generations are being moved, it goes on in the file it has.
    let moving = journal.moving.lock().expect("it is free");
    write(&journal, 4..6);
    drop(moving);
    assert_eq!(folder.entries(), all(1..6));
    assert!(folder.verify().verdict == Verdict::Whole);
}

#[test]
fn what_was_left_behind_by_a_rotation_is_forced_to_the_disk_too() {
    let folder = Folder::new("left");
    let journal = folder.open_short(2);
    write(&journal, 0..3);
    assert_eq!(journal.lock().left.len(), 2);
    journal.sync().expect("it syncs");
    let open = journal.lock();
    assert!(open.left.is_empty() && !open.dirty && !open.new);
}

#[test]
fn an_intent_is_forced_before_when_that_is_asked_for() {
    let folder = Folder::new("before");
    let config = Config {
        intent: Intent::Before,
        ..Config::default()
    };
    let journal = Journal::open(&folder.0, config).expect("it opens");
    journal
        .announce(Time::default(), 0, entry(0))
        .expect("it is forced");
    assert!(!journal.lock().new, "its name is on the disk as well");
    assert_eq!(folder.entries(), all(0..1));
    // What takes the line and cannot be forced: nothing may be done.
    let (_reader, writer) = rustix::pipe::pipe().expect("a pipe");
    journal.lock().file = writer.into();
    let why = journal
        .announce(Time::default(), 0, entry(1))
        .expect_err("it cannot be forced");
    assert!(why.to_string().contains("force to the disk"), "{why}");
    journal
        .append(Time::default(), 0, vec![entry(1)])
        .expect("only what is announced is forced");
}

#[test]
fn a_second_daemon_on_the_same_folder_is_refused() {
    let folder = Folder::new("lock");
    let _first = folder.open();
    let second = Journal::open(&folder.0, Config::default()).expect_err("it is locked");
    assert!(
        second.to_string().contains("another smart-monitor"),
        "{second}"
    );
}

#[test]
fn a_damaged_line_is_counted_and_passed_over() {
    let folder = Folder::new("damaged");
    std::fs::create_dir_all(&folder.0).expect("it is made");
    let long = "x".repeat(3 << 20);
    folder.put(&format!(
        "not json\n{{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"ended\"}}\n\n{long}\n"
    ));
    assert_eq!(folder.entries(), (vec![Entry::Ended], 3));
    let told: Vec<_> = (folder.verify().breaks.into_iter())
        .map(|at| (at.line, at.what))
        .collect();
    assert_eq!(told.len(), 3, "all but the one that reads: {told:?}");
    assert!(told[0].1.contains("cannot be read"), "{told:?}");
    assert!(told[1].0 == 3 && told[2].1.contains("longer"), "{told:?}");
}

#[test]
fn only_the_newest_part_is_read_where_only_that_is_wanted() {
    let folder = Folder::new("newest");
    write(&folder.open_short(9), 0..6);
    let line =
        u64::try_from(folder.text().lines().last().expect("a line").len() + 1).expect("small");
    let last = |bytes| {
        let mut all = Vec::new();
        read(&folder.0, bytes, |line| all.push(line.entry)).expect("it reads");
        all.retain(|entry| !matches!(entry, Entry::Continued { .. }));
        all
    };
    assert_eq!(last(line), [entry(5)]);
    assert_eq!(last(line + 1), [entry(5)], "half a line is none");
    assert_eq!(last(line - 1), []);
    assert_eq!(last(4 * line), [entry(4), entry(5)]);
    assert_eq!(last(u64::MAX).len(), 6);
}

#[test]
fn a_journal_that_is_deleted_is_begun_anew() {
    let folder = Folder::new("deleted");
    let journal = folder.open();
    std::fs::remove_file(journal.path()).expect("it goes");
    write(&journal, 0..1);
    assert_eq!(folder.entries(), all(0..1));
    std::fs::remove_file(journal.path()).expect("it goes");
    write(&journal, 1..2);
    assert_eq!(folder.entries(), all(1..2));
    assert_eq!(folder.verify().generations_gone, 2, "which shows");
    std::fs::remove_dir_all(&folder.0).expect("it goes");
    let gone = journal.append(Time::default(), 0, vec![Entry::Ended]);
    assert!(gone.is_err(), "without its folder nothing can be written");
}

#[test]
fn no_journal_that_was_changed_is_called_whole() {
    let folder = Folder::new("hostile");
    write(&folder.open(), 0..4);
    let text = folder.text();
    let forged = "{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"ended\"}\n";
    let stripped: String = text
        .lines()
        .map(|line| line.split(",\"sum\"").next().expect("a line").to_owned() + "}\n")
        .collect();
    let mut random = blake3::Hasher::new().finalize_xof();
    let mut bytes = vec![0; 100_000];
    random.fill(&mut bytes);
    let verdict = |bytes: &[u8]| {
        std::fs::write(folder.file("journal.jsonl"), bytes).expect("it writes");
        let report = folder.verify();
        (report.verdict, report.unchecked, report.breaks.len())
    };
    assert_eq!(verdict(text.as_bytes()), (Verdict::Whole, 0, 0));
    assert_eq!(verdict(b""), (Verdict::Nothing, 0, 0));
    // Without sums before the first that has one, and nothing but such.
    let put_before = forged.repeat(3) + &text;
    assert_eq!(
        verdict(put_before.as_bytes()),
        (Verdict::Unchecked, 3, 0),
        "put before the first line"
    );
    assert_eq!(verdict(stripped.as_bytes()), (Verdict::Unchecked, 4, 0));
    let crlf = text.replace('\n', "\r\n");
    assert_eq!(verdict(crlf.as_bytes()), (Verdict::Broken, 0, 4));
    let (state, _, breaks) = verdict(&bytes);
    assert!(state == Verdict::Broken && breaks > 300, "{breaks}");
    bytes.push(b'\n');
    bytes.extend_from_slice(text.as_bytes());
    assert_eq!(verdict(&bytes).0, Verdict::Broken);
    // Sums that are right over what cannot be read.
    let mut made = Vec::new();
    let sum = chain::add(&mut made, b"{\"unix_ns\":1}", Sum::NONE);
    chain::add(
        &mut made,
        b"{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"of a newer version\"}",
        sum,
    );
    assert_eq!(verdict(&made), (Verdict::Broken, 0, 1));
}

#[test]
fn a_break_is_named_by_its_line_also_where_only_the_newest_part_is_read() {
    let folder = Folder::new("part");
    write(&folder.open(), 0..40);
    let text = folder.text();
    let length = u64::try_from(text.len()).expect("small");
    let part = |bytes| read(&folder.0, bytes, drop).expect("it reads").chain;
    for bytes in [length / 2, length / 2 + 1, length - 1, length, 2 * length] {
        let found = part(bytes);
        assert_eq!(found.verdict, Verdict::Whole, "{bytes} of {length}");
    }
    folder.put(&text.replace("file 35", "file 99"));
    for bytes in [length / 2, length / 2 + 1, length - 1, length, 2 * length] {
        let found = part(bytes);
        let places: Vec<_> = found.breaks.iter().map(|at| at.line).collect();
        assert_eq!(places, [36], "{bytes} of {length}");
    }
    // A generation that is left out is not missing.
    let folder = Folder::new("left-out");
    write(&folder.open_short(9), 0..6);
    let length = u64::try_from(folder.text().len()).expect("small");
    let found = read(&folder.0, length, drop).expect("it reads").chain;
    assert_eq!((found.verdict, found.lines), (Verdict::Whole, 2));
}

#[test]
fn a_journal_that_is_moved_away_or_replaced_is_begun_anew_before_the_next_act() {
    let folder = Folder::new("moved");
    let journal = folder.open();
    write(&journal, 0..1);
    assert!(!journal.take_begun());
    let away = folder.file("x");
    std::fs::rename(journal.path(), &away).expect("it moves");
    write(&journal, 1..2);
    assert_eq!(folder.entries(), all(1..2));
    assert!(journal.take_begun() && !journal.take_begun());
    assert_eq!(folder.verify().verdict, Verdict::Whole);
    assert_eq!(folder.verify().generations_gone, 1);
    // By an empty file, as a log's rotation does it.
    std::fs::rename(journal.path(), &away).expect("it moves");
    folder.put("");
    write(&journal, 2..3);
    assert_eq!(folder.entries(), all(2..3));
    // By an edited copy: that is kept, and its edit is found.
    let edited = folder.text().replace("file 2", "file 7");
    std::fs::write(&away, edited).expect("it writes");
    std::fs::rename(&away, journal.path()).expect("it moves");
    write(&journal, 3..4);
    assert_eq!(folder.entries(), all([7, 3]));
    let places: Vec<_> = (folder.verify().breaks.into_iter())
        .map(|at| (at.file, at.line))
        .collect();
    assert_eq!(places, [("journal.1.jsonl".to_owned(), 2)]);
    // By a directory: nothing is written, until it is gone.
    std::fs::rename(journal.path(), &away).expect("it moves");
    std::fs::create_dir(journal.path()).expect("it is made");
    let why = journal
        .announce(Time::default(), 0, entry(4))
        .expect_err("it is in the way");
    assert!(why.to_string().contains("not a file"), "{why}");
    assert!(journal.append(Time::default(), 0, vec![entry(4)]).is_err());
    std::fs::remove_dir(journal.path()).expect("it goes");
    write(&journal, 5..6);
    assert_eq!(folder.entries(), all([7, 5]));
    // The new one is locked as well.
    assert!(Journal::open(&folder.0, Config::default()).is_err());
}
