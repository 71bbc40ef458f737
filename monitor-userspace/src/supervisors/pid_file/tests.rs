use std::time::Instant;

use super::*;

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
    let long_ago = SystemTime::now() - Duration::from_hours(24 * 365);
    file.set_modified(long_ago).expect("it is ours");
    assert_eq!(process(&place.file()), Ok((None, true)));
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
