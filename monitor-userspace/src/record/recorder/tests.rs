use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::Sample;
use crate::record::recording::{Ending, Reader};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("sm-recorder-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("a.rec")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn clock(unix_ns: i64) -> Signal {
    Signal::Sample {
        sample: Sample::Clock { unix_ns },
    }
}

/// Signals and lost entries that stand in the file, and its end.
fn read(path: &Path) -> (u64, u64, Ending) {
    let mut reader = Reader::open(path, false).unwrap();
    let mut lost = 0;
    while let Some(entry) = reader.next().unwrap() {
        if let What::Note(note) = entry.what
            && let Note::Lost { entries } = *note
        {
            lost += entries;
        }
    }
    (reader.signals(), lost, reader.ending().clone())
}

fn until(recording: &Recording, done: impl Fn(&Progress) -> bool) -> Progress {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let progress = recording.progress();
        if done(&progress) {
            return progress;
        }
        assert!(Instant::now() < deadline, "{progress:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_finds_no_room_is_counted_at_its_place_and_nobody_waits() {
    // Nobody takes anything out of the channel.
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::<Shared>::default();
    let mut recorder = Recorder {
        sender,
        shared: Arc::clone(&shared),
        lost: 0,
        named: BTreeSet::new(),
        over: false,
    };
    let mut give = |times: u64| {
        for _ in 0..times {
            recorder.signal(&clock(1), Time::default(), Time::default());
        }
    };
    give(WAITING as u64 + 500);
    assert_eq!(shared.lost.load(Ordering::Relaxed), 500);
    // There is room again: what was lost stands before what comes next.
    let taken: Vec<Message> = receiver.try_iter().collect();
    assert_eq!(taken.len(), WAITING);
    give(1);
    let next: Vec<Message> = receiver.try_iter().collect();
    let [Message::Entry(lost), Message::Entry(signal)] = next.as_slice() else {
        panic!("{next:?}");
    };
    assert!(
        matches!(&lost.what, What::Note(note) if matches!(**note, Note::Lost { entries: 500 }))
    );
    assert!(matches!(signal.what, What::Signal(_)));
}

#[test]
fn a_recording_is_its_owners_alone_and_overwrites_nothing() {
    let folder = Folder::new("mode");
    let (recorder, mut recording) = start(&folder.file(), Bounds::default()).unwrap();
    let mode = std::fs::metadata(folder.file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = start(&folder.file(), Bounds::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    drop(recorder);
    recording.finish();
}

#[test]
fn losses_stand_between_what_came_before_and_after_them() {
    let folder = Folder::new("lost");
    let (mut recorder, mut recording) = start(&folder.file(), Bounds::default()).unwrap();
    recorder.begin(Header::default());
    // Faster than anybody writes, until something was lost and there is room again.
    let (mut given, deadline) = (0_u64, Instant::now() + Duration::from_secs(30));
    while recording.progress().totals.lost == 0 {
        recorder.signal(&clock(1), Time::default(), Time::default());
        given += 1;
        assert!(Instant::now() < deadline, "nothing is ever lost");
    }
    until(&recording, |progress| progress.totals.signals > 0);
    let before = recorder.lost;
    recorder.signal(&clock(2), Time::default(), Time::default());
    given += 1;
    assert!(before > 0 && recorder.lost == 0, "it found room");
    drop(recorder);
    let lost = recording.progress().totals.lost;
    let progress = until(&recording, |progress| progress.over.is_some());
    recording.finish();
    let (signals, noted, ending) = read(&folder.file());
    assert_eq!((signals + lost, noted, ending.lost), (given, lost, lost));
    assert_eq!(
        (progress.totals.signals, progress.totals.lost),
        (signals, lost)
    );
    assert_eq!(ending.cut, None);
}

#[test]
fn it_ends_after_its_time_at_its_size_and_when_asked() {
    let bounds = |size, millis| Bounds {
        size,
        time: Some(Duration::from_millis(millis)),
    };
    for (name, bounds, expected) in [
        ("time", bounds(SIZE, 1), Over::Time),
        ("size", bounds(2_000, 60_000), Over::Size),
        ("asked", bounds(SIZE, 60_000), Over::Asked),
    ] {
        let folder = Folder::new(name);
        let (mut recorder, mut recording) = start(&folder.file(), bounds).unwrap();
        recorder.begin(Header::default());
        if expected == Over::Asked {
            recording.stop();
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut dice = 1_i64;
        while !recorder.is_over() {
            dice = dice
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            recorder.signal(&clock(dice), Time::default(), Time::default());
            assert!(Instant::now() < deadline, "{name}: it never ends");
        }
        let progress = until(&recording, |progress| progress.over.is_some());
        recording.finish();
        assert_eq!(progress.over, Some(expected), "{name}");
        let size = std::fs::metadata(folder.file()).unwrap().len();
        assert!(
            size <= bounds.size && size == progress.totals.bytes,
            "{name}: {size}"
        );
        let (signals, _, ending) = read(&folder.file());
        assert_eq!(
            (signals, ending.cut),
            (progress.totals.signals, None),
            "{name}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_the_recording_and_not_the_daemon() {
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::<Shared>::default();
    let writing = Writing {
        receiver,
        shared: Arc::clone(&shared),
        bounds: Bounds::default(),
    };
    sender
        .send(Message::Begin(Box::default()))
        .expect("it waits");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    writing.run(full.unwrap());
    let over = shared.lock().over.clone();
    assert!(matches!(over, Some(Over::Failed(_))), "{over:?}");
}
