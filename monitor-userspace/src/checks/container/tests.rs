use super::*;

fn says(state: &str) -> Result<Answer, String> {
    let text = format!("{{\"State\":{state}}}");
    judge("web", &serde_json::from_str(&text).expect("it reads"))
}

#[test]
fn what_its_own_check_says_is_told() {
    let healthy = says(r#"{"Status":"running","Health":{"Status":"healthy"}}"#);
    assert_eq!(healthy, Ok(Answer::well().saying("healthy")));
    let log = r#"{"Status":"running","Health":{"Status":"unhealthy","FailingStreak":3,"Log":[
        {"ExitCode":0,"Output":"well"},{"ExitCode":7,"Output":"connecting\nrefused\n\n"}]}}"#;
    let why = says(log).expect_err("it is unhealthy");
    assert!(
        why.contains("unhealthy")
            && why.contains("3 times")
            && why.contains("exit code 7, saying \"refused\""),
        "{why}"
    );
    let why = says(r#"{"Status":"running","Health":{"Status":"starting","Log":null}}"#);
    assert!(
        why.expect_err("not yet")
            .contains("starting: its own check has not been run yet")
    );
    let why = says(r#"{"Status":"exited"}"#).expect_err("it does not run");
    assert!(why.contains("is exited, not running"), "{why}");
    for none in [
        r#"{"Status":"running"}"#,
        r#"{"Status":"running","Health":{"Status":"","Log":null}}"#,
    ] {
        let why = says(none).expect_err("it has none");
        assert!(
            why.contains("no health check: give it a HEALTHCHECK"),
            "{why}"
        );
    }
}

#[test]
fn a_long_output_is_clipped() {
    let output = "x".repeat(100_000);
    let state = format!(
        r#"{{"Status":"running","Health":{{"Status":"unhealthy","Log":[{{"ExitCode":1,"Output":"{output}"}}]}}}}"#
    );
    let why = says(&state).expect_err("it is unhealthy");
    assert!(why.len() < 500, "{}", why.len());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let read = |text: &str| (SPEC.read)(text.parse().expect("it is TOML"));
    assert!(read("name = \"web\"\nsocket = \"/run/docker.sock\"").is_ok());
    for wrong in [
        "",
        "name = \"\"",
        "name = \"a/b\"",
        "name = \"web\"\nsocket = \"docker.sock\"",
        "name = \"web\"\nport = 1",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
