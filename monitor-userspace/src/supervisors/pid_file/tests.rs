use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use super::super::Phase;
use super::*;
use crate::host::exec::{self, Program};
use crate::host::{clock, procfs};

/// The process that a file names, and whether there is such a file.
fn process(file: &Path) -> Result<(Option<ProcessKey>, bool), String> {
    let found = file::find(file, None)?;
    Ok((found.process, found.there))
}

/// A path of this test's own, in a folder that goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-pid-file-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("it is made");
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("pid")
    }

    fn holds(&self, text: &[u8]) -> Result<(Option<ProcessKey>, bool), String> {
        std::fs::write(self.file(), text).expect("it is written");
        process(&self.file())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn own() -> ProcessKey {
    procfs::stat(std::process::id()).expect("it is us").key
}

#[test]
fn a_process_is_known_by_its_file() {
    let place = Place::new("known");
    assert_eq!(process(&place.file()), Ok((None, false)));
    let text = format!(" {}\n", std::process::id());
    assert_eq!(place.holds(text.as_bytes()), Ok((Some(own()), true)));
    // Far above the largest number that there can be.
    assert_eq!(place.holds(b"4194999\n"), Ok((None, true)));
}

#[test]
fn one_that_began_after_the_file_was_written_is_another() {
    let place = Place::new("reused");
    let text = std::process::id().to_string();
    std::fs::write(place.file(), text).expect("it is written");
    let file = File::options()
        .write(true)
        .open(place.file())
        .expect("it is there");
    let (running, _) = process(&place.file()).expect("it names us");
    let started = Duration::from_nanos(own().start_time_ns());
    let ran = clock::since_boot().saturating_sub(started);
    let before = SystemTime::now() - ran - Duration::from_mins(1);
    file.set_modified(before).expect("it is ours");
    assert_eq!(
        (running, process(&place.file())),
        (Some(own()), Ok((None, true)))
    );
    // It was seen to be the one, and only the clock has changed since.
    let seen = Found {
        there: true,
        process: running,
        written: Some(before),
    };
    assert_eq!(file::find(&place.file(), Some(&seen)), Ok(seen));
    let other = Found {
        process: Some(ProcessKey {
            pid: own().pid,
            start_ticks: 1,
        }),
        ..seen
    };
    let found = file::find(&place.file(), Some(&other)).expect("it reads");
    assert_eq!(found.process, None);
}

#[test]
fn a_file_in_memory_that_is_older_than_the_machines_start_has_no_age() {
    let minutes = Duration::from_mins;
    let own = |age, in_memory| file::is_own(Some(minutes(age)), minutes(5), minutes(60), in_memory);
    for in_memory in [false, true] {
        assert!(own(4, in_memory) && own(5, in_memory));
        assert!(!own(6, in_memory) && !own(59, in_memory));
        assert!(file::is_own(None, minutes(5), minutes(60), in_memory));
    }
    assert!(own(61, true) && !own(61, false));
}

#[test]
fn who_ends_it_is_given_time_to_take_the_file_away() {
    let path = Path::new("/run/web.pid");
    let gone = Found {
        there: true,
        ..Found::default()
    };
    let runs = Found {
        process: Some(own()),
        ..gone
    };
    let begin = Instant::now();
    let after = |millis| begin + Duration::from_millis(millis);
    let failed = |phase| matches!(phase, Phase::Failed { gave_up: false, .. });
    let mut memory = Memory::default();
    assert!(failed(memory.judge(path, &gone, begin)), "it never ran");
    assert_eq!(memory.judge(path, &runs, begin), Phase::Running);
    assert_eq!(memory.judge(path, &gone, after(1000)), Phase::Stopping);
    assert_eq!(memory.judge(path, &gone, after(1299)), Phase::Stopping);
    let none = Found::default();
    let mut stopped = memory.clone();
    assert_eq!(stopped.judge(path, &none, after(1299)), Phase::Stopped);
    assert!(failed(memory.judge(path, &gone, after(1300))));
    assert!(failed(memory.judge(path, &gone, after(1301))));
    assert_eq!(memory.judge(path, &runs, after(2000)), Phase::Running);
    assert_eq!(memory.judge(path, &gone, after(9000)), Phase::Stopping);
}

#[test]
fn what_was_started_anew_is_awaited_and_then_missed() {
    let path = Path::new("/run/web.pid");
    let none = Found::default();
    let runs = Found {
        there: true,
        process: Some(own()),
        written: None,
    };
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    let mut memory = Memory::default();
    memory.awaits_still(Some("no".to_owned()), begin);
    assert_eq!(memory.judge(path, &none, begin), Phase::Stopped);
    memory.awaits(None, begin);
    assert_eq!(memory.judge(path, &none, after(4)), Phase::Starting);
    let missed = memory.judge(path, &none, after(5));
    assert!(
        matches!(&missed, Phase::Failed { why, .. } if why.contains("not there after 5s")),
        "{missed:?}"
    );
    assert_eq!(memory.judge(path, &runs, after(6)), Phase::Running);
    assert_eq!(memory.judge(path, &none, after(7)), Phase::Stopped);
}

#[test]
fn one_that_was_ended_to_be_started_anew_and_does_not_start_was_not_stopped() {
    let place = Place::new("anew");
    let sleeper = Program {
        command: vec!["sleep".to_owned(), "100".to_owned()],
        ..Program::default()
    };
    let held = exec::start(&sleeper, None, None).expect("it starts");
    let text = held.process().pid.to_string();
    std::fs::write(place.file(), text).expect("it is written");
    let source = PidFiles {
        runner: Arc::new(Runner::new(&place.0)),
        services: Mutex::default(),
    };
    let with = |start: &str| {
        let with = format!("file = {:?}\nstart = [{start:?}]", place.file());
        let with = with.parse::<toml::Table>().expect("it is TOML");
        source.configure(&BTreeMap::from([("web".to_owned(), with)]));
    };
    let phase = || source.look("web").expect("it is known").phase;
    let failed = || matches!(phase(), Phase::Failed { why, .. } if why.contains("/no/web"));
    with("/no/web");
    assert_eq!(phase(), Phase::Running);
    let grace = Duration::from_secs(10);
    source.restart("web", grace).expect_err("no such program");
    held.bury();
    assert!(!place.file().exists());
    assert!(failed() && failed(), "{:?}", phase());
    // What is to mend it must not have it forgotten.
    with("/no/web2");
    assert!(failed(), "{:?}", phase());
    source.start("web").expect_err("no such program, either");
    assert!(failed(), "{:?}", phase());
    source.stop("web", grace).expect("it does not run");
    assert_eq!(phase(), Phase::Stopped);
    source.start("web").expect_err("no such program");
    assert_eq!(phase(), Phase::Stopped, "as it was");
}

#[test]
fn rubbish_is_told_in_words() {
    let place = Place::new("rubbish");
    for rubbish in [
        &b""[..],
        b"0",
        b"-1",
        b"nginx",
        b"12 34",
        b"\xff\xfe",
        &vec![b'1'; 1 << 20],
    ] {
        let why = place.holds(rubbish).expect_err("it is no PID");
        assert!(why.contains("has no PID in it") && why.len() < 300, "{why}");
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let place = Place::new("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, place.file(), mode).expect("it is made");
    let began = Instant::now();
    let why = process(&place.file()).expect_err("nobody writes to it");
    assert!(
        why.contains("no regular file") && began.elapsed() < Duration::from_secs(5),
        "{why}"
    );
    let why = process(&place.0).expect_err("a folder");
    assert!(why.contains("no regular file"), "{why}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let with = |text: &str| read("web", &text.parse().expect("it is TOML"));
    assert_eq!(
        with("file = \"/run/web.pid\"\nstart = [\"web\", \"-d\"]"),
        Ok(["/run/web.pid", "web", "-d"].map(str::to_owned).to_vec())
    );
    for wrong in [
        "",
        "file = \"web.pid\"",
        "file = \"/a\"\nstart = []",
        "file = \"/a\"\nstop = [\"\"]",
        "file = \"/a\"\npid = 1",
    ] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
}
