use super::*;

fn written(text: &str) -> toml::Table {
    text.parse().expect("it is TOML")
}

#[test]
fn every_example_can_be_read() {
    for spec in ALL {
        let config = Config::read(written(spec.example));
        let config = config.unwrap_or_else(|why| panic!("{}: {why}", spec.name));
        assert_eq!(config.spec.name, spec.name);
        assert_eq!(config.name(), spec.name);
        assert_eq!(config.rule().serving, spec.serving);
    }
}

#[test]
fn one_that_looks_at_something_else_is_a_warning_and_proves_nothing() {
    let text = "tcp = \"127.0.0.1:1\"\nserving = false";
    let rule = Config::read(written(text)).expect("it is good").rule();
    assert!(!rule.serving);
    assert_eq!(rule.severity, Severity::Warning);
    let text = "tcp = \"127.0.0.1:1\"\nserving = false\nseverity = \"critical\"";
    let rule = Config::read(written(text)).expect("it is good").rule();
    assert_eq!((rule.serving, rule.severity), (false, Severity::Critical));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    for (text, why) in [
        ("interval = \"5s\"", "exactly one of"),
        (
            "tcp = \"127.0.0.1:1\"\nhttp = \"http://127.0.0.1/\"",
            "exactly one of",
        ),
        ("tcp = \"localhost\"", "`tcp`"),
        (
            "tcp = { adress = \"127.0.0.1:1\" }",
            "unknown field `adress`",
        ),
        (
            "tcp = \"127.0.0.1:1\"\nintervall = \"5s\"",
            "unknown field `intervall`",
        ),
        ("tcp = \"127.0.0.1:1\"\ninterval = \"1ms\"", "at least 10ms"),
        ("tcp = \"127.0.0.1:1\"\ntimeout = \"0s\"", "more than 0"),
        ("tcp = \"127.0.0.1:1\"\nfailures = 0", "at least 1"),
        ("tcp = \"127.0.0.1:1\"\nretries = 2000", "at most 1000"),
        (
            "tcp = \"127.0.0.1:1\"\nafter_release = [{ until = \"6h\", every = \"1m\" }, { until = \"2h\", every = \"1m\" }]",
            "later than the one before",
        ),
    ] {
        let error = Config::read(written(text)).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}
