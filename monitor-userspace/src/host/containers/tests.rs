use super::*;

#[test]
fn lines_are_put_together_and_those_too_long_passed_over() {
    let mut lines = Lines::default();
    let mut seen = Vec::new();
    let mut take = |bytes: &[u8]| lines.take(bytes, |line| seen.push(line.len()));
    take(b"{\"a\"");
    take(b":1}\n\n{}\r\n");
    for _ in 0..100 {
        take(&[b'x'; 10_000]);
    }
    take(b"\nabc\nleft");
    assert_eq!(seen, [7, 2, 3]);
    assert!(lines.rest.len() <= EVENT && lines.rest == b"left");
}

#[test]
fn nulls_and_what_is_left_out_are_no_obstacle() {
    let text = r#"{"Id":null,"State":{"Status":"exited","Pid":0,"Health":{"Status":"","Log":null}},"Config":{"StopSignal":15}}"#;
    let read: Container = serde_json::from_str(text).expect("it reads");
    let state = read.state.expect("it is there");
    assert_eq!(
        (state.status.as_deref(), state.oom_killed),
        (Some("exited"), None)
    );
    assert!(serde_json::from_str::<Container>("{").is_err());
    let event: Event = serde_json::from_str("{}").expect("it reads");
    assert!(event.action.is_none());
}

#[test]
fn names_are_those_that_engines_allow() {
    assert!(is_name("web") && is_name("shop_web-1.2"));
    for wrong in ["", "-web", "a/b", "a b", "a?t=1", "ä", &"a".repeat(256)] {
        assert!(!is_name(wrong), "{wrong:?}");
    }
}

#[test]
fn what_an_engine_says_is_told_in_one_short_line() {
    let body = format!(r#"{{"message":"port is\n{}"}}"#, "x".repeat(5000)).into_bytes();
    let why = Answer {
        status: 500,
        podman: false,
        body,
    }
    .why();
    assert!(
        why.starts_with("it answered with status 500: port is\\n") && why.len() < 400,
        "{why}"
    );
}
