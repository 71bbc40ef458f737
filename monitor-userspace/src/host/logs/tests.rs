use super::*;

fn file(name: &str, text: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("smart-monitor-{name}-{}", std::process::id()));
    std::fs::write(&path, text).expect("it writes");
    path
}

#[test]
fn the_last_lines_of_a_file_are_read_whatever_it_holds() {
    let mut text = vec![b'x'; 100_000];
    for number in 0..30 {
        text.extend_from_slice(format!("\nline {number}").as_bytes());
    }
    text.extend_from_slice(b"\n\n\xff end\n");
    let path = file("lines", &text);
    let lines = last_lines(&Log::File(path.clone())).expect("it reads");
    let lines = lines.expect("it is there");
    assert_eq!(lines.len(), Frozen::LOG);
    assert_eq!(lines.first().map(String::as_str), Some("line 11"));
    assert_eq!(lines.last().map(String::as_str), Some("\u{fffd} end"));
    std::fs::remove_file(&path).expect("it goes");
    assert!(matches!(last_lines(&Log::File(path)), Ok(None)));
    assert!(last_lines(&Log::File("/".into())).is_err());
}

#[test]
fn a_line_is_fit_for_a_terminal_and_short() {
    assert_eq!(
        fit("\x1b[1;31mERROR\x1b[0m\tno\x07 disk \r"),
        "ERROR no\u{fffd} disk"
    );
    assert_eq!(fit("\x1b"), "\u{fffd}");
    assert_eq!(fit("\x1b["), "");
    let long = "ü".repeat(200);
    assert_eq!(fit(&long), "ü".repeat(128));
}

#[test]
fn lines_of_a_container_are_read_and_others_are_passed_over() {
    let text = br#"half a line"}
{"log":"listening\n","stream":"stdout","time":"2026-11-22T04:41:55.000000007Z"}
{"log":"\n","stream":"stdout","time":"2026-11-22T04:41:55.000000007Z"}
{"log":"no \u001b[31mdisk\u001b[0m\r\n","stream":"stderr","time":"2026-11-22T04:41:56.1Z"}
{"log":"old driver\n"}
{"stream":"stdout"}
"#;
    let expected = [
        "2026-11-22T04:41:55Z listening",
        "2026-11-22T04:41:56Z no disk",
        "old driver",
    ];
    assert_eq!(docker_lines(text), expected);
    let path = docker("../../abc");
    assert_eq!(path, Path::new(DOCKER).join("abc/abc-json.log"));
}

#[test]
fn a_program_that_takes_too_long_or_fails_is_an_error() {
    let shell = |script, millis| ask("sh", &["-c", script], Duration::from_millis(millis));
    assert_eq!(
        shell("echo a; echo b >&2", 30_000).expect("it ends"),
        b"a\n"
    );
    let slow = shell("echo a; exec sleep 1000", 100).expect_err("it takes too long");
    assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
    let closed = shell("exec >&-; exec sleep 1000", 100).expect_err("it does not end");
    assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
    assert!(shell("exit 3", 30_000).is_err());
    assert!(shell("exec yes", 30_000).is_err());
    let missing = ask("smart-monitor-no-such-program", &[], PATIENCE);
    assert_eq!(missing.expect_err("no").kind(), io::ErrorKind::NotFound);
}
