use std::os::unix::net::UnixDatagram;

use super::*;

#[test]
fn words_are_read() {
    let all = b"READY=1\nSTATUS=serving 5\x1b[31m users\nMAINPID=4711\nERRNO=2\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=2500000\nWATCHDOG_USEC=100000\n";
    let said = Said::read(all).expect("it reads");
    let expected = Said {
        ready: true,
        alive: true,
        status: Some("serving 5[31m users".to_owned()),
        main: Some(4711),
        errno: Some(2),
        more_time: Some(Duration::from_millis(2500)),
        watchdog: Some(Duration::from_millis(100)),
        ..Said::default()
    };
    assert_eq!(said, expected);
    let more = Said::read(b"RELOADING=1\nMONOTONIC_USEC=5\nX_MINE=1").expect("it reads");
    assert!(more.reloading && more.unknown == 0);
    let more = Said::read(b"STOPPING=1\0").expect("it reads");
    assert!(more.stopping && more.unknown == 0, "with a C string's end");
    assert!(Said::read(b"WATCHDOG=trigger").expect("it reads").hangs);
}

#[test]
fn rubbish_says_nothing() {
    assert_eq!(Said::read(b""), Ok(Said::default()));
    for rubbish in [
        "READY",
        "READY=2",
        "READY=11",
        "ready=1",
        " READY=1",
        "=",
        "MAINPID=0",
        "MAINPID=1",
        "MAINPID=-4",
        "MAINPID=99999999999",
        "WATCHDOG_USEC=0",
        "EXTEND_TIMEOUT_USEC=soon",
        "EXTEND_TIMEOUT_USEC=-1",
        "ERRNO=many",
    ] {
        let expected = Said {
            unknown: 1,
            ..Said::default()
        };
        assert_eq!(Said::read(rubbish.as_bytes()), Ok(expected), "{rubbish}");
    }
    assert!(Said::read(b"READY=1\nSTATUS=\xff\xfe").is_err(), "no UTF-8");
    assert!(Said::read(&[b'a'; LONGEST + 1]).is_err(), "too long");
}

#[test]
fn what_is_kept_is_bounded() {
    let said = Said::read(format!("STATUS={}", "ä".repeat(2000)).as_bytes()).expect("it reads");
    assert_eq!(said.status.map(|text| text.chars().count()), Some(200));
    let said = Said::read(b"EXTEND_TIMEOUT_USEC=18446744073709551615").expect("it reads");
    assert_eq!(said.more_time, Some(MOST_TIME));
    let lines = "x\n".repeat(LONGEST / 2);
    assert_eq!(
        Said::read(lines.as_bytes()).map(|said| said.unknown),
        Ok(2048)
    );
}

#[test]
fn a_socket_tells_who_has_sent_what() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-notify-{}", std::process::id()));
    let path = folder.join("deep").join("shop");
    let socket = Socket::bind(&path, None).expect("it is made");
    let mut buffer = [0; 64];
    assert_eq!(socket.receive(&mut buffer), None);
    let sender = UnixDatagram::unbound().expect("it is made");
    sender.send_to(b"READY=1", &path).expect("it is sent");
    sender.send_to(&[b'a'; 100], &path).expect("it is sent");
    let own = (std::process::id(), rustix::process::getuid().as_raw());
    let expected = Datagram {
        length: 7,
        cut: false,
        sender: Some(own),
    };
    assert_eq!(socket.receive(&mut buffer), Some(expected));
    assert_eq!(buffer.get(..7), Some(b"READY=1".as_slice()));
    assert!(socket.receive(&mut buffer).is_some_and(|long| long.cut));
    let own = (own.1, getegid().as_raw());
    for (owner, expected) in [(Some(own), 0o600), (None, 0o666)] {
        socket.give(owner).expect("it is given");
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, expected, "{owner:?}");
    }
    // What an earlier daemon has left is replaced, what is something else is not.
    let again = Socket::bind(&path, None).expect("it is made anew");
    std::mem::forget(socket);
    sender.send_to(b"READY=1", &path).expect("it is sent");
    assert!(again.receive(&mut buffer).is_some());
    drop(again);
    assert!(!path.exists(), "it goes with its owner");
    std::fs::write(&path, "").expect("it is written");
    assert!(Socket::bind(&path, None).is_err());
    assert!(Socket::bind(&folder.join("a".repeat(200)), None).is_err());
    std::fs::remove_dir_all(folder).expect("it goes");
}
