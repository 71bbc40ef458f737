use super::super::wire::tests::{run, saying, without_end};
use super::bson::Value;
use super::*;

/// Writes what the reader reads.
fn written(document: &[(&str, Value)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in document {
        let (kind, bytes) = match value {
            Value::Number(number) => (1, number.to_le_bytes().to_vec()),
            Value::Text(text) => {
                let length = i32::try_from(text.len() + 1).expect("it is short");
                (2, [&length.to_le_bytes(), text.as_bytes(), &[0]].concat())
            }
            Value::Document(document) => {
                let pairs: Vec<(&str, Value)> = document
                    .0
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.clone()))
                    .collect();
                (3, written(&pairs))
            }
            Value::Other => (0x0a, Vec::new()),
        };
        all.push(kind);
        all.extend(name.as_bytes());
        all.push(0);
        all.extend(bytes);
    }
    all.push(0);
    let length = i32::try_from(all.len() + 4).expect("it is short");
    [&length.to_le_bytes(), all.as_slice()].concat()
}

fn document(pairs: &[(&str, Value)]) -> Value {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value::Document(Document(pairs.collect()))
}

fn message(document: &[(&str, Value)]) -> Vec<u8> {
    let document = written(document);
    let length = u32::try_from(HEAD + document.len()).expect("it is short");
    let mut all = Vec::new();
    for number in [length, 7, 1, OP_MSG, 0] {
        all.extend(number.to_le_bytes());
    }
    all.push(0);
    all.extend(document);
    all
}

fn n(number: f64) -> Value {
    Value::Number(number)
}

fn hello(secondary: f64) -> Vec<u8> {
    let set = Value::Text("rs0".to_owned());
    message(&[
        ("ok", n(1.0)),
        ("isWritablePrimary", n(1.0 - secondary)),
        ("secondary", n(secondary)),
        ("setName", set),
    ])
}

fn status() -> Vec<u8> {
    let connections = document(&[("current", n(90.0)), ("available", n(10.0))]);
    let reads = document(&[("latency", n(5e6)), ("ops", n(10.0))]);
    message(&[
        ("ok", n(1.0)),
        ("connections", connections),
        ("opLatencies", document(&[("reads", reads)])),
    ])
}

fn members() -> Vec<u8> {
    let primary = document(&[("state", n(1.0)), ("optimeDate", n(100_000.0))]);
    let own = document(&[
        ("state", n(2.0)),
        ("optimeDate", n(80_000.0)),
        ("self", n(1.0)),
    ]);
    message(&[
        ("ok", n(1.0)),
        ("members", document(&[("0", primary), ("1", own)])),
    ])
}

fn denied() -> Vec<u8> {
    message(&[
        ("ok", n(0.0)),
        ("code", n(13.0)),
        ("errmsg", Value::Text("requires authentication".to_owned())),
    ])
}

async fn asked(said: Vec<u8>, more: &str) -> Result<Answer, CheckFailure> {
    let Place::Tcp(address) = saying(said, true).await else {
        panic!("it is at a port")
    };
    let written = format!("address = \"{address}\"\n{more}").parse::<toml::Table>();
    let check = Mongodb::deserialize(written.expect("it is TOML")).expect("it can be read");
    let asked = tokio::time::timeout(std::time::Duration::from_millis(500), check.asked());
    asked.await.unwrap_or(Err(CheckFailure::Timeout))
}

#[test]
fn what_a_server_says_is_judged() {
    for (more, word) in [
        ("role = \"primary\"", "it is a secondary, not a primary"),
        ("replica_set = \"rs1\"", "its replica set is rs0, not rs1"),
        (
            "connections_max = \"80%\"",
            "90 connections are open, more than `connections_max`, 80% of 100",
        ),
        ("replication_lag = \"10s\"", "20.0 s behind"),
    ] {
        run(async {
            let said = [hello(1.0), status(), members()].concat();
            let failure = asked(said, more).await.expect_err(word).to_string();
            assert!(failure.contains(word), "{failure}");
        });
    }
    run(async {
        let said = [hello(1.0), status(), members()].concat();
        let well = "role = \"secondary\"\nconnections_max = \"90%\"\nreplication_lag = \"20s\"";
        let answer = asked(said, well).await.expect("it is well");
        assert_eq!(answer.said.as_deref(), Some("secondary of rs0"));
        let values: Vec<f64> = answer
            .figures
            .iter()
            .map(crate::model::signal::Figure::value)
            .collect();
        for value in [90.0, 10.0, 0.5, 20.0] {
            assert!(
                values.iter().any(|is| (is - value).abs() < 1e-6),
                "{value}: {values:?}"
            );
        }
    });
}

#[test]
fn without_a_login_hello_is_enough_and_what_is_missing_is_said() {
    run(async {
        let answer = asked([hello(0.0), denied(), denied()].concat(), "").await;
        let said = answer.expect("it is well").said.expect("it says so");
        assert!(
            said.contains("primary of rs0; serverStatus is not allowed"),
            "{said}"
        );
        let failure = asked(
            [hello(0.0), denied(), denied()].concat(),
            "replication_lag = \"1s\"",
        )
        .await;
        let failure = failure.expect_err("it cannot be known").to_string();
        assert!(failure.contains("13: requires authentication"), "{failure}");
    });
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_document_ends_without_a_panic() {
    for whole in [hello(1.0), status(), members()] {
        let whole = &whole[HEAD..];
        assert!(Document::read(whole).is_ok());
        for at in 0..whole.len() {
            assert!(Document::read(&whole[..at]).is_err(), "cut off at {at}");
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff] {
                let mut flipped = whole.to_vec();
                flipped[at] = value;
                let _either = Document::read(&flipped);
            }
        }
    }
    let mut deep = document(&[]);
    for _ in 0..40 {
        deep = document(&[("in", deep)]);
    }
    let deep = Document::read(&written(&[("in", deep)])).expect_err("it is deep");
    assert!(deep.contains("documents in documents"), "{deep}");
    let many: Vec<(&str, Value)> = (0..30_000).map(|_| ("", Value::Other)).collect();
    let many = Document::read(&written(&many)).expect_err("they are many");
    assert!(many.contains("more than 20000 values"), "{many}");
}

#[test]
fn what_is_no_mongodb_is_left() {
    run(async {
        let failure = asked(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "").await;
        let failure = failure.expect_err("that is HTTP").to_string();
        assert!(
            failure.contains("does not speak as MongoDB 3.6"),
            "{failure}"
        );
        let Place::Tcp(address) = without_end(vec![0xff; 1 << 16]).await else {
            panic!("it is at a port")
        };
        let written = format!("address = \"{address}\"").parse::<toml::Table>();
        let check = Mongodb::deserialize(written.expect("it is TOML")).expect("it reads");
        let failure = check.asked().await.expect_err("it has no end").to_string();
        assert!(
            failure.contains("a message of 4294967295 bytes"),
            "{failure}"
        );
    });
}
