use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::model::Folder;

/// A folder of a test's own, which goes with it: what is cleaned, what is not, and a state folder.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().canonicalize().expect("it is there");
        let path = path.join(format!(
            "smart-monitor-clean-{}-{number}",
            std::process::id()
        ));
        for inside in ["folder/inside", "outside", "state"] {
            fs::create_dir_all(path.join(inside)).expect("it can be made");
        }
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of so many KiB, last written to so many hours ago.
    fn file(&self, name: impl AsRef<Path>, kib: usize, hours: u64) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, vec![b'x'; kib << 10]).expect("it can be written");
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("it opens");
        file.set_modified(then).expect("it can be set");
        path
    }

    fn cleaner(&self) -> Cleaner {
        Cleaner::new(&self.path("state"))
    }

    fn rules(&self) -> Folder {
        Folder {
            name: "logs".to_owned(),
            path: self.path("folder"),
            patterns: vec!["*.log.*".to_owned()],
            older_than: Duration::from_hours(1),
            keep_newest: 0,
            shrink_to: None,
            recursive: true,
            hard_links: false,
            full: 9_000,
            inodes: 9_000,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it can be removed");
    }
}

fn all(folder: Folder) -> Cleaning {
    Cleaning {
        folder,
        id: None,
        enough: Enough::All,
        at_most: 10_000,
        at_most_bytes: None,
    }
}

fn clean(place: &Place, cleaning: &Cleaning) -> Result<Cleaned, HostError> {
    place.cleaner().clean(IncidentId(7), cleaning, &|| None)
}

#[test]
fn old_files_that_match_go_and_are_listed_before() {
    let place = Place::new();
    let gone = [
        place.file("folder/shop.log.1", 8, 2),
        place.file("folder/inside/shop.log.2", 4, 3),
        place.file(
            Path::new("folder").join(OsStr::from_bytes(b"a\n\xff.log.3")),
            4,
            4,
        ),
    ];
    let stay = [
        place.file("folder/shop.log", 4, 9),
        place.file("folder/young.log.1", 4, 0),
        place.file("folder/.hidden.log.1", 4, 9),
        place.file("outside/shop.log.1", 4, 9),
    ];
    let hand = place.cleaner();
    let order = all(place.rules());
    let cleaned = hand
        .clean(IncidentId(7), &order, &|| None)
        .expect("it cleans");
    assert_eq!((cleaned.files, cleaned.bytes), (3, 16 << 10), "{cleaned:?}");
    assert!(cleaned.acted.is_some() && cleaned.enough, "{cleaned:?}");
    assert!(gone.iter().all(|path| !path.exists()));
    assert!(stay.iter().all(|path| path.exists()));
    let list = fs::read_to_string(cleaned.list.expect("it is listed")).expect("it reads");
    let names: Vec<&str> = list
        .lines()
        .skip(2)
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(
        names,
        ["a\\n\\xff.log.3", "inside/shop.log.2", "shop.log.1"],
        "the oldest first"
    );
    let proof = hand.proof(&order).expect("they are gone");
    assert!(proof.contains("3 files"), "{proof}");
    let again = hand
        .clean(IncidentId(7), &order, &|| None)
        .expect_err("nothing is left");
    let said = again.to_string();
    assert!(
        said.contains("1 files match, 1 were written to too recently"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_back_is_no_proof() {
    let place = Place::new();
    let path = place.file("folder/a.log.1", 4, 2);
    let held = fs::hard_link(&path, place.path("outside/kept"));
    held.expect("it can be linked");
    let (cleaner, mut cleaning) = (place.cleaner(), all(place.rules()));
    cleaning.folder.hard_links = true;
    cleaner
        .clean(IncidentId(1), &cleaning, &|| None)
        .expect("it cleans");
    fs::hard_link(place.path("outside/kept"), &path).expect("it comes back");
    let said = cleaner.proof(&cleaning).expect_err("it is back");
    assert!(said.contains("still there"), "{said}");
}

#[test]
fn no_link_leads_out() {
    let place = Place::new();
    let outside = place.file("outside/precious.log.1", 4, 9);
    symlink(&outside, place.path("folder/file.log.1")).expect("a link");
    symlink(place.path("outside"), place.path("folder/dir.log.d")).expect("a link");
    fs::hard_link(&outside, place.path("folder/hard.log.1")).expect("a link");
    let said = clean(&place, &all(place.rules()))
        .expect_err("nothing is to be deleted")
        .to_string();
    assert!(
        said.contains("1 files match, 1 have another name"),
        "{said}"
    );
    symlink(place.path("folder"), place.path("way")).expect("a link");
    let mut rules = place.rules();
    rules.path = place.path("way");
    let said = clean(&place, &all(rules))
        .expect_err("the folder is a link")
        .to_string();
    assert!(said.contains("is a link"), "{said}");
    let mut rules = place.rules();
    symlink(&place.0, place.path("outside/up")).expect("a link");
    rules.path = place.path("outside/up/folder");
    let said = clean(&place, &all(rules))
        .expect_err("a parent is a link")
        .to_string();
    assert!(said.contains("is a link"), "{said}");
    assert!(outside.exists());
}

#[test]
fn a_folder_that_is_swapped_for_a_link_leads_nowhere() {
    let place = Place::new();
    // The same names and ages on both sides: only the way there differs.
    for n in 0..200 {
        place.file(format!("outside/{n}.log.1"), 0, 9);
    }
    let stop = AtomicBool::new(false);
    let (inside, aside) = (place.path("folder/inside"), place.path("aside"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&inside, &aside).expect("it moves");
                symlink(place.path("outside"), &inside).expect("a link");
                fs::remove_file(&inside).expect("the link goes");
                fs::rename(&aside, &inside).expect("it moves back");
            }
        });
        let mut deleted = 0;
        for round in 0..40 {
            for n in 0..20 {
                // Where it is by now: both names are the same folder.
                let name = format!("{round}-{n}.log.1");
                let written = [&inside, &aside].into_iter().any(|folder| {
                    let folder = mounts::open_folder(folder, OFlags::PATH);
                    folder.is_ok_and(|folder| old_file(&folder, &name))
                });
                deleted += u32::from(written);
            }
            let _raced = clean(&place, &all(place.rules()));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(deleted > 0, "the race was not run");
    });
    let left = fs::read_dir(place.path("outside"))
        .expect("it reads")
        .count();
    assert_eq!(left, 200, "something outside was deleted");
}

/// Makes an old, empty file beneath an open folder.
fn old_file(folder: &OwnedFd, name: &str) -> bool {
    use rustix::fs::{Mode, Timespec, Timestamps, futimens, openat};
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW;
    let Ok(file) = openat(folder, name, flags, Mode::from_raw_mode(0o600)) else {
        return false;
    };
    let old = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: old,
        last_modification: old,
    };
    futimens(&file, &times).is_ok()
}

#[test]
fn a_file_that_changed_since_it_was_listed_stays() {
    let place = Place::new();
    let path = place.file("folder/a.log.1", 4, 9);
    let cleaning = all(place.rules());
    let root = place.cleaner().open(&cleaning).expect("it opens");
    let found = walk::look(&root, &cleaning.folder);
    let [file] = found.matching.as_slice() else {
        panic!("one matches: {found:?}");
    };
    fs::write(&path, "news").expect("it is written to");
    assert_eq!(delete_one(&root, file, false), Ok(false), "written to");
    fs::remove_file(&path).expect("it goes");
    assert_eq!(delete_one(&root, file, false), Ok(false), "gone");
    fs::create_dir(&path).expect("a folder of its name");
    assert_eq!(delete_one(&root, file, false), Ok(false), "a folder by now");
    fs::remove_dir(&path).expect("it goes");
    fs::remove_dir_all(place.path("folder")).expect("all of it goes");
    assert_eq!(
        delete_one(&root, file, false),
        Ok(false),
        "the folder is gone"
    );
}

#[test]
fn another_folder_or_none_is_refused() {
    let place = Place::new();
    place.file("folder/a.log.1", 4, 9);
    let (id, _) = mounts::folder(&place.path("folder")).expect("it is there");
    let mut cleaning = all(place.rules());
    cleaning.id = Some(id);
    fs::rename(place.path("folder"), place.path("old")).expect("it moves");
    let said = clean(&place, &cleaning)
        .expect_err("it is gone")
        .to_string();
    assert!(said.contains("No such file"), "{said}");
    fs::create_dir(place.path("folder")).expect("another of its name");
    place.file("folder/a.log.1", 4, 9);
    let said = clean(&place, &cleaning)
        .expect_err("it is another")
        .to_string();
    assert!(said.contains("another folder"), "{said}");
    let mut rules = place.rules();
    rules.path.clone_from(&place.0);
    let said = clean(&place, &all(rules))
        .expect_err("it holds the state folder")
        .to_string();
    assert!(said.contains("Smart-Monitor itself"), "{said}");
}

#[test]
fn no_more_than_the_rules_and_bounds_allow() {
    let place = Place::new();
    for n in 1..=9_u64 {
        place.file(format!("folder/{n}.log.x"), 8, n + 1);
    }
    let left = || {
        fs::read_dir(place.path("folder"))
            .expect("it reads")
            .count()
            - 1
    };
    let mut cleaning = all(place.rules());
    cleaning.at_most = 2;
    let cleaned = clean(&place, &cleaning).expect("it cleans");
    assert_eq!((cleaned.files, cleaned.enough, left()), (2, false, 7));
    cleaning.at_most = 100;
    cleaning.at_most_bytes = Some(20 << 10);
    assert_eq!(clean(&place, &cleaning).expect("it cleans").files, 2);
    cleaning.at_most_bytes = None;
    cleaning.folder.shrink_to = Some(30 << 10);
    assert_eq!(clean(&place, &cleaning).expect("it cleans").files, 2);
    cleaning.folder.shrink_to = None;
    cleaning.folder.keep_newest = 2;
    assert_eq!(clean(&place, &cleaning).expect("it cleans").files, 1);
    assert_eq!(left(), 2);
    assert!(place.path("folder/1.log.x").exists() && place.path("folder/2.log.x").exists());
}

#[test]
fn what_somebody_writes_to_is_left_and_named() {
    let place = Place::new();
    let path = place.file("folder/a.log.1", 4, 9);
    place.file("folder/b.log.1", 4, 8);
    #[expect(clippy::disallowed_methods, reason = "somebody else must have it open")]
    let mut tail = std::process::Command::new("sh")
        .args(["-c", "exec 3>>\"$0\"; echo; exec cat"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut ready = [0];
    let mut output = tail.stdout.take().expect("it has one");
    std::io::Read::read_exact(&mut output, &mut ready).expect("it has opened it");
    // Opening it did not write to it.
    let cleaned = clean(&place, &all(place.rules())).expect("it cleans");
    assert_eq!(cleaned.files, 1);
    let (_, writers) = &cleaned.open;
    assert!(
        writers
            .iter()
            .any(|who| who.contains(&format!("[{}]", tail.id()))),
        "{writers:?}"
    );
    assert!(path.exists());
    drop(tail.stdin.take());
    tail.wait().expect("it ends");
}

#[test]
fn what_is_called_off_ends_before_the_next_file() {
    let place = Place::new();
    for n in 0..9 {
        place.file(format!("folder/{n}.log.1"), 0, 9);
    }
    let asked = AtomicU32::new(0);
    let enough = || (asked.fetch_add(1, Ordering::Relaxed) == 4).then(|| "says bob".to_owned());
    let cleaning = all(place.rules());
    let cleaned = place.cleaner().clean(IncidentId(7), &cleaning, &enough);
    let cleaned = cleaned.expect("it was begun");
    assert_eq!(
        (cleaned.files, cleaned.called_off.as_deref()),
        (4, Some("says bob"))
    );
}

#[test]
fn two_at_once_delete_each_file_once() {
    let place = Place::new();
    for n in 0..300 {
        place.file(format!("folder/{n}.log.1"), 0, 9);
    }
    let cleaner = place.cleaner();
    let cleaning = all(place.rules());
    let count = |cleaned: Result<Cleaned, HostError>| cleaned.map_or(0, |cleaned| cleaned.files);
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| count(cleaner.clean(IncidentId(2), &cleaning, &|| None)));
        let one = count(cleaner.clean(IncidentId(1), &cleaning, &|| None));
        (one, other.join().expect("it ends"))
    });
    assert_eq!(one + two, 300);
}

#[test]
fn lists_are_bounded_in_length_and_number() {
    let place = Place::new();
    let file = Matching {
        path: PathBuf::from("x".repeat(1000)),
        is: Is {
            device: 1,
            inode: 1,
            size: 0,
            written: (0, 0),
        },
        takes: 0,
        names: 1,
    };
    let many: Vec<&Matching> = std::iter::repeat_n(&file, 5_000).collect();
    let (text, fit) = list::text(IncidentId(1), &place.rules(), &many);
    assert!(text.len() <= list::ROOM && fit < 5_000, "{fit}");
    assert_eq!(text.lines().count(), fit + 2, "every line is whole");
    let lists = Lists::new(&place.path("state"));
    lists.reserve().expect("there is room");
    for n in 0..70 {
        lists.write(IncidentId(n), "x").expect("it can be written");
    }
    let kept = fs::read_dir(place.path("state/cleaned"))
        .expect("it reads")
        .count();
    assert_eq!(kept, 65, "64 and what is reserved");
}

#[test]
fn without_a_list_nothing_is_deleted() {
    let place = Place::new();
    let path = place.file("folder/a.log.1", 4, 9);
    fs::write(place.path("state/cleaned"), "in the way").expect("it can be written");
    let said = clean(&place, &all(place.rules()))
        .expect_err("it cannot be listed")
        .to_string();
    assert!(said.contains("list of what would be deleted"), "{said}");
    assert!(path.exists());
}
