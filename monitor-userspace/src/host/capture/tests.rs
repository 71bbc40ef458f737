use std::io::Write;

use super::*;

fn place(name: &str, bounds: Bounds) -> Captured {
    let name = format!("smart-monitor-capture-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    let captured = Captured::new(folder);
    captured.bound(BTreeMap::from([("shop".to_owned(), bounds)]));
    captured
}

fn write(file: &mut File, megabytes: usize, last: &str) {
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..megabytes {
        file.write_all(&chunk).expect("there is room");
    }
    file.write_all(last.as_bytes()).expect("there is room");
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").len()
}

#[test]
fn a_long_file_becomes_the_old_one_at_a_start() {
    let captured = place("start", Bounds::default());
    let mut first = captured.open("shop", None).expect("it opens");
    assert_eq!(first.metadata().expect("it is open").mode() & 0o777, 0o600);
    write(&mut first, 1, "one\n");
    let mut again = captured.open("shop", None).expect("it opens");
    write(&mut again, 8, "two\n");
    let path = file(captured.folder(), "shop");
    assert_eq!(length(&path), (9 << 20) + 8);
    drop(captured.open("shop", None).expect("it opens"));
    assert_eq!(length(&path), 0);
    assert_eq!(length(&old(&path, 1)), (9 << 20) + 8);
    fs::remove_dir_all(captured.folder()).expect("it goes");
}

#[test]
fn nothing_is_lost_while_its_service_writes() {
    let bounds = Bounds {
        max_size: 64 << 10,
        keep: 100,
    };
    let captured = place("running", bounds);
    let mut service = captured.open("shop", None).expect("it opens");
    let writer = std::thread::spawn(move || {
        for line in 0..200_000 {
            writeln!(service, "line {line}").expect("there is room");
        }
    });
    let mut rotations = 0;
    while !writer.is_finished() {
        assert!(captured.keep_short().is_empty());
        rotations += 1;
    }
    writer.join().expect("it has written");
    let path = file(captured.folder(), "shop");
    let mut files = before(&path);
    assert!(files.len() > 1 && rotations > 1, "it was made short");
    files.reverse();
    files.push(path);
    let all: Vec<u8> = files
        .iter()
        .flat_map(|path| fs::read(path).expect("it is there"))
        .collect();
    let text = String::from_utf8(all).expect("as it was written");
    let mut lines = text.lines();
    for line in 0..200_000 {
        let expected = format!("line {line}");
        assert_eq!(lines.next(), Some(expected.as_str()));
    }
    assert_eq!(lines.next(), None);
    fs::remove_dir_all(captured.folder()).expect("it goes");
}

#[test]
fn so_many_are_kept_and_no_more() {
    let bounds = Bounds {
        max_size: 1 << 20,
        keep: 3,
    };
    let captured = place("keep", bounds);
    let mut service = captured.open("shop", None).expect("it opens");
    let mut other = captured.open("other", None).expect("it opens");
    write(&mut other, 2, "\n");
    let path = file(captured.folder(), "shop");
    for megabytes in [2, 9, 2] {
        write(&mut service, megabytes, "last\n");
        assert!(captured.keep_short().is_empty());
        let files = before(&path);
        assert!(files.len() <= 3, "{files:?}");
        assert!(
            files.iter().all(|path| length(path) <= 1 << 20),
            "{files:?}"
        );
    }
    assert_eq!(before(&path).len(), 3);
    // Less is kept from now on.
    captured.bound(BTreeMap::from([(
        "shop".to_owned(),
        Bounds { keep: 1, ..bounds },
    )]));
    write(&mut service, 2, "last\n");
    assert!(captured.keep_short().is_empty());
    assert_eq!(before(&path).len(), 1);
    let other = file(captured.folder(), "other");
    assert_eq!(length(&other), (2 << 20) + 1, "it has the usual bounds");
    captured.bound(BTreeMap::from([(
        "shop".to_owned(),
        Bounds { keep: 0, ..bounds },
    )]));
    write(&mut service, 2, "last\n");
    assert!(captured.keep_short().is_empty());
    assert!(before(&path).is_empty() && length(&path) < 1 << 20);
    fs::remove_dir_all(captured.folder()).expect("it goes");
}

#[test]
fn what_is_no_file_is_refused() {
    let captured = place("link", Bounds::default());
    fs::create_dir_all(captured.folder()).expect("it is made");
    std::os::unix::fs::symlink("/dev/null", file(captured.folder(), "shop")).expect("it is made");
    assert!(captured.open("shop", None).is_err());
    fs::remove_dir_all(captured.folder()).expect("it goes");
}
