use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use super::*;

/// A server that takes one connection, and says this to each command, in turn; then it closes, or stalls until the client goes.
fn server(answers: Vec<Vec<u8>>, stalls: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = [0; 4096];
        for answer in answers {
            if stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                // The client may have had enough of it.
                let _ = stream.write_all(&answer);
            }
        }
        while stalls && stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    address
}

fn at(address: String) -> Flush {
    Flush {
        address,
        database: 0,
        pattern: Some("limit:*".to_owned()),
        at_most: 1000,
        within: Duration::from_millis(500),
        left: 0,
        user: None,
        password_file: None,
    }
}

const MASTER: &[u8] = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const OK: &[u8] = b"+OK\r\n";

fn error(answers: &[&[u8]], stalls: bool) -> String {
    let address = server(
        answers.iter().map(|answer| answer.to_vec()).collect(),
        stalls,
    );
    flush(&at(address))
        .expect_err("it cannot be done")
        .to_string()
}

#[test]
fn errors_are_named_with_what_to_do() {
    for (answer, means) in [
        (
            b"-NOAUTH Authentication required.\r\n".as_slice(),
            "password_file",
        ),
        (
            b"-LOADING Redis is loading the dataset in memory\r\n",
            "still reading its data",
        ),
        (b"-BUSY Redis is busy running a script.\r\n", "SCRIPT KILL"),
        (
            b"-NOPERM this user has no permissions\r\n",
            "may not do this",
        ),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "cluster"),
        (
            b"-READONLY You can't write against a read only replica.\r\n",
            "replica",
        ),
        (
            b"*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n$1\r\nx\r\n:1\r\n",
            "replica",
        ),
        (b"*2\r\n$8\r\nsentinel\r\n*0\r\n", "no master"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak as Redis"),
        (b":x\r\n", "no number"),
        (b"$5\r\nabcdefgh\r\n", "longer than it says"),
        (b"$99999999999\r\n", "more than"),
        (b"*99999999\r\n", "more than"),
        (b"$-5\r\n", "no list"),
        (b"+OK\n", "carriage return"),
        (b"\r\n", "empty line"),
        (b"", "closed the connection"),
    ] {
        let said = error(&[answer], false);
        assert!(said.contains(means), "{said}");
        assert!(!said.contains('\r') && said.len() < 400, "{said}");
    }
    let deep = [b"*1\r\n".repeat(1000), b":1\r\n".to_vec()].concat();
    assert!(error(&[&deep], false).contains("lists in lists"));
}

#[test]
fn who_stalls_or_never_ends_is_left_in_time() {
    assert!(error(&[b""], true).contains("in time"));
    assert!(error(&[b"$10\r\nabc"], true).contains("in time"));
    let line = vec![b'+'; 1 << 20];
    assert!(error(&[&line], true).contains("longer than"));
    let many = [b"*100001\r\n".to_vec(), b":1\r\n".repeat(100_001)].concat();
    assert!(error(&[&many], true).contains("more than"));
    let mut long = b"*90\r\n".to_vec();
    for _ in 0..90 {
        long.extend(b"$1000000\r\n");
        long.extend(vec![b'x'; 1_000_000]);
        long.extend(b"\r\n");
    }
    let said = error(&[&long], true);
    assert!(
        said.contains("longer than") || said.contains("in time"),
        "{said}"
    );
    // A cursor that never comes back to 0.
    let endless = b"*2\r\n$1\r\n7\r\n*0\r\n".to_vec();
    let answers: Vec<Vec<u8>> = [MASTER.to_vec(), OK.to_vec()]
        .into_iter()
        .chain(std::iter::repeat_n(endless, 1_000_000))
        .collect();
    let said = flush(&at(server(answers, true)))
        .expect_err("it never ends")
        .to_string();
    assert!(said.contains("in time"), "{said}");
}

#[test]
fn what_was_done_before_it_broke_is_told() {
    let keys = b"*2\r\n$1\r\n7\r\n*2\r\n$7\r\nlimit:1\r\n$7\r\nlimit:2\r\n".to_vec();
    let answers = vec![
        MASTER.to_vec(),
        OK.to_vec(),
        keys.clone(),
        b":2\r\n".to_vec(),
    ];
    let flushed = flush(&at(server(answers.clone(), false))).expect("it was begun");
    assert_eq!(flushed.keys, 2);
    assert!(
        flushed.acted.is_some() && flushed.stopped.is_some(),
        "{flushed:?}"
    );
    let mut few = at(server(answers, false));
    few.at_most = 1;
    let flushed = flush(&few).expect("it was begun");
    let stopped = flushed.stopped.expect("there are more");
    assert!(stopped.contains("at_most"), "{stopped}");
    let unsure = vec![
        MASTER.to_vec(),
        OK.to_vec(),
        keys,
        b"-MISCONF no saving\r\n".to_vec(),
    ];
    let flushed = flush(&at(server(unsure, false))).expect("it was begun");
    assert!(flushed.stopped.expect("it refused").contains("cannot save"));
}

#[test]
fn a_password_stands_in_a_file_and_in_no_message() {
    let path: PathBuf =
        std::env::temp_dir().join(format!("smart-monitor-redis-{}", std::process::id()));
    std::fs::write(&path, "secret-word\nmore\n").expect("it can be written");
    let mut wanted = at(server(
        vec![b"-WRONGPASS invalid username-password pair\r\n".to_vec()],
        false,
    ));
    wanted.password_file = Some(path.clone());
    let said = flush(&wanted).expect_err("it is wrong").to_string();
    assert!(
        said.contains("password is wrong") && !said.contains("secret-word"),
        "{said}"
    );
    std::fs::write(&path, "\n").expect("it can be written");
    assert!(secret::first_line(&path).is_err());
    std::fs::remove_file(&path).expect("it goes");
    assert!(secret::first_line(&path).is_err());
    assert!(secret::first_line(std::path::Path::new("/dev/zero")).is_err());
}
