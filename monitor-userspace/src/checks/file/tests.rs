use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A folder of the test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-file-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("it is made");
        Self(folder)
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("it is written");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(text: &str) -> Result<File, String> {
    let read = toml::from_str::<Settled>(text).map_err(|error| error.to_string())?;
    read.sensible().map(|settled| settled.file)
}

fn look(path: &Path, more: &str) -> Result<Answer, String> {
    let text = format!("path = \"{}\"\n{more}", path.display());
    settings(&text)
        .expect("it makes sense")
        .look(&mut Kept::default())
}

fn wrong(path: &Path, more: &str, says: &str) {
    let why = look(path, more).expect_err(more);
    assert!(why.contains(says), "{more}: {why}");
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        "path = \"relative\"",
        "path = \"/a\"\nnewest = \"/b/*\"",
        "newest = \"/a/*/b\"",
        "path = \"/a\"\nmode = \"rw\"",
        "path = \"/a\"\nblake3 = \"12\"",
        "path = \"/a\"\ncontains = \"(\"",
        "path = \"/a\"\nabsent = true\nmin_size = \"1B\"",
        "path = \"/a\"\nmin_age = \"2h\"\nmax_age = \"1h\"",
        "path = \"/a\"\nsha1 = \"00\"",
    ] {
        assert!(settings(text).is_err(), "{text}");
    }
}

#[test]
fn a_file_is_as_expected_or_it_is_said_why_not() {
    let place = Place::new("plain");
    let path = place.write("a", b"all went well\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let hash = blake3::hash(b"all went well\n").to_hex();
    let good = format!(
        "max_age = \"1h\"\nmin_size = \"10B\"\nmax_size = \"1KiB\"\nmode = \"0640\"\ncontains = \"^all .* well$\"\nblake3 = \"{hash}\""
    );
    let answer = look(&path, &good).expect("all is well");
    assert_eq!(answer.figures.len(), 2);
    wrong(
        &path,
        "min_size = \"1KiB\"",
        "14 bytes, expected at least 1KiB",
    );
    wrong(&path, "max_size = \"1B\"", "expected at most 1B");
    wrong(&path, "min_age = \"1h\"", "expected at least 1h");
    wrong(&path, "mode = \"0600\"", "mode 0640, expected 0600");
    wrong(&path, "uid = 4294967", "expected 4294967");
    wrong(&path, "contains = \"failed\"", "do not match");
    wrong(&path, "contains_not = \"went\"", "is not to");
    wrong(&path, &format!("blake3 = \"{}\"", "0".repeat(64)), "BLAKE3");
    wrong(&path, "absent = true", "is there, and is not to be");
    let old = fs::File::options()
        .write(true)
        .open(&path)
        .expect("it opens");
    old.set_modified(SystemTime::now() - Duration::from_hours(2))
        .expect("it is ours");
    wrong(&path, "max_age = \"1h\"", "2h ago, expected at most 1h");
    wrong(&place.0.join("none"), "", "is not there");
    assert!(look(&place.0.join("none"), "absent = true").is_ok());
}

#[test]
fn what_is_no_file_is_never_waited_for() {
    let place = Place::new("odd");
    let link = place.0.join("link");
    symlink(place.write("target", b"x"), &link).expect("it is made");
    wrong(&link, "", "symbolic link");
    assert!(look(&link, "follow = true\ncontains = \"x\"").is_ok());
    let pipe = place.0.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("it is made");
    wrong(&pipe, "contains = \"x\"", "it is a pipe");
    wrong(Path::new("/dev/zero"), "contains = \"x\"", "it is a device");
    wrong(&place.0, "contains = \"x\"", "it is a folder");
}

#[test]
fn only_both_ends_of_a_long_file_are_read() {
    let place = Place::new("long");
    let mut text = vec![b'.'; 1 << 20];
    text[10..15].copy_from_slice(b"first");
    text[500_000..506_000].fill(b'm');
    let end = text.len() - 20;
    text[end..end + 4].copy_from_slice(b"last");
    let path = place.write("long", &text);
    assert!(look(&path, "contains = \"first\"").is_ok());
    assert!(look(&path, "contains = \"last\"").is_ok());
    wrong(&path, "contains = \"m\"", "do not match");
    let path = place.write("middle", &text[..100_000]);
    assert!(
        look(&path, "contains_not = \"\\n\"").is_ok(),
        "its two parts meet"
    );
}

#[test]
fn the_newest_counts() {
    let place = Place::new("newest");
    let old = place.write("1.tar", b"old");
    let old = fs::File::options().write(true).open(old).expect("it opens");
    old.set_modified(SystemTime::now() - Duration::from_hours(2))
        .expect("it is ours");
    place.write("9.txt", b"another");
    let newest = |more: &str| {
        let text = format!("newest = \"{}/*.tar\"\n{more}", place.0.display());
        settings(&text)
            .expect("it makes sense")
            .look(&mut Kept::default())
    };
    let why = newest("max_age = \"1h\"").expect_err("it is old");
    assert!(why.contains("1.tar was changed"), "{why}");
    place.write("2.tar", b"new");
    assert!(newest("max_age = \"1h\"").is_ok());
    let none =
        settings(&format!("newest = \"{}/*.zip\"", place.0.display())).expect("it makes sense");
    assert!(
        none.look(&mut Kept::default())
            .is_err_and(|why| why.contains("no file matches"))
    );
}

#[test]
fn a_file_that_is_to_grow_does() {
    let mut kept = Kept::default();
    assert_eq!(kept.unchanged(10), Duration::ZERO);
    let first = kept.unchanged(10);
    assert!(kept.unchanged(10) >= first);
    assert_eq!(kept.unchanged(11), Duration::ZERO);
    assert_eq!(kept.unchanged(3), Duration::ZERO, "it was begun anew");
}
