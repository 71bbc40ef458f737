use super::super::wire::tests::{run, saying, without_end};
use super::*;

fn packet(number: u8, said: &[u8]) -> Vec<u8> {
    let length = u32::try_from(said.len())
        .expect("it is short")
        .to_le_bytes();
    [&length[..3], &[number], said].concat()
}

fn greeting(plugin: &str) -> Vec<u8> {
    let mut said = vec![10];
    said.extend(b"8.0.36\0");
    said.extend([1, 0, 0, 0]);
    said.extend(b"12345678\0");
    said.extend([0xff, 0xff, 45, 2, 0, 0xff, 0xff, 21]);
    said.extend([0; 10]);
    said.extend(b"123456789012\0");
    said.extend(plugin.as_bytes());
    said.push(0);
    packet(0, &said)
}

async fn asked(said: Vec<u8>, more: &str) -> Result<Answer, CheckFailure> {
    let Place::Tcp(address) = saying(said, true).await else {
        panic!("it is at a port")
    };
    let written = format!("address = \"{address}\"\n{more}").parse::<toml::Table>();
    let read = Mysql::deserialize(written.expect("it is TOML")).expect("it can be read");
    let check = read.sensible().expect("it makes sense");
    let asked = tokio::time::timeout(Duration::from_millis(500), check.asked());
    asked.await.unwrap_or(Err(CheckFailure::Timeout))
}

fn string(text: &str) -> Vec<u8> {
    [
        &[u8::try_from(text.len()).expect("it is short")],
        text.as_bytes(),
    ]
    .concat()
}

fn table(columns: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let mut said = packet(1, &[u8::try_from(columns.len()).expect("few")]);
    for column in columns {
        let mut one: Vec<u8> = ["def", "", "", ""]
            .iter()
            .flat_map(|text| string(text))
            .collect();
        one.extend(string(column));
        said.extend(packet(2, &one));
    }
    said.extend(packet(3, &[0xfe, 0, 0, 2, 0]));
    for row in rows {
        let row: Vec<u8> = row.iter().flat_map(|text| string(text)).collect();
        said.extend(packet(4, &row));
    }
    said.extend(packet(5, &[0xfe, 0, 0, 2, 0]));
    said
}

/// A whole conversation, said before it is asked for: who answers reads it in order.
fn conversation(connected: &str, lag: &str) -> Vec<u8> {
    let pair = ["Variable_name", "Value"];
    [
        greeting("mysql_native_password"),
        packet(2, &[0, 0, 0, 2, 0, 0, 0]),
        table(
            &pair,
            &[&["Threads_connected", connected], &["Uptime", "5"]],
        ),
        table(&pair, &[&["max_connections", "100"], &["read_only", "OFF"]]),
        table(
            &["Seconds_Behind_Source", "Last_IO_Error"],
            &[&[lag, "cannot reach it"]],
        ),
    ]
    .concat()
}

#[test]
fn a_greeting_is_enough_without_a_user() {
    run(async {
        let answer = asked(greeting("caching_sha2_password"), "")
            .await
            .expect("it greets");
        assert_eq!(answer.said.as_deref(), Some("8.0.36 greets"));
    });
}

#[test]
fn with_a_user_limits_are_looked_at() {
    let user = "user = \"m\"\nconnections_max = \"80%\"\nreplication_lag = \"10s\"";
    for (connected, lag, word) in [
        ("81", "0", "81 connections are open"),
        ("80", "11", "replication is 11 s behind"),
        (
            "80",
            "none",
            "its replication does not run: see SHOW REPLICA STATUS (cannot reach it)",
        ),
        ("many", "0", "does not tell `Threads_connected`"),
    ] {
        run(async {
            let failure = asked(conversation(connected, lag), user).await;
            let failure = failure.expect_err(word).to_string();
            assert!(failure.contains(word), "{failure}");
        });
    }
    run(async {
        let answer = asked(conversation("80", "10"), user)
            .await
            .expect("it is well");
        assert_eq!(
            answer.said.as_deref(),
            Some("8.0.36, 80 of 100 connections")
        );
        let figures = answer
            .figures
            .iter()
            .map(crate::model::signal::Figure::value);
        assert!(figures.into_iter().any(|value| (value - 10.0).abs() < 0.01));
    });
}

#[test]
fn errors_are_explained() {
    let user = "user = \"m\"";
    let denied = [
        greeting("mysql_native_password"),
        packet(2, b"\xff\x15\x04#28000Access denied"),
    ]
    .concat();
    let other = [
        greeting("mysql_native_password"),
        packet(2, b"\xfeclient_ed25519\0abc"),
    ]
    .concat();
    let tls = [greeting("caching_sha2_password"), packet(2, &[1, 4])].concat();
    for (said, more, word) in [
        (
            packet(0, b"\xff\x10\x04Too many connections"),
            "",
            "all of its connections are taken (1040: Too many connections)",
        ),
        (
            packet(0, b"\xff\x69\x04Host is blocked"),
            "",
            "see FLUSH HOSTS",
        ),
        (packet(0, b"\x09old"), "", "version 9 of the protocol"),
        (
            denied,
            user,
            "the password is wrong, or may not come from this host (1045: Access denied)",
        ),
        (other, user, "`client_ed25519`, which is not spoken"),
        (tls, user, "wants TLS"),
    ] {
        run(async {
            let failure = asked(said, more).await.expect_err(word).to_string();
            assert!(failure.contains(word), "{failure}");
        });
    }
}

#[test]
fn nonsense_is_refused() {
    for (more, why) in [
        ("connections_max = \"80%\"", "only the greeting"),
        ("password_env = \"X\"", "only the greeting"),
        ("user = \"\"", "name of a user"),
    ] {
        let written = format!("address = \"127.0.0.1:1\"\n{more}");
        let error = read::<Mysql>(written.parse().expect("it is TOML")).expect_err(more);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn every_cut_and_every_flipped_byte_ends_without_a_panic() {
    let user = "user = \"m\"\nreplication_lag = \"10s\"";
    let whole = conversation("1", "0");
    run(async {
        for at in (0..whole.len()).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            flipped.truncate(whole.len() - at / 2);
            let Place::Tcp(address) = saying(flipped, false).await else {
                panic!("it is at a port")
            };
            let written = format!("address = \"{address}\"\n{user}").parse::<toml::Table>();
            let check = Mysql::deserialize(written.expect("it is TOML")).expect("it reads");
            let _either = check.asked().await;
        }
        let Place::Tcp(address) = without_end(vec![0xff; 1 << 16]).await else {
            panic!("it is at a port")
        };
        let written = format!("address = \"{address}\"").parse::<toml::Table>();
        let check = Mysql::deserialize(written.expect("it is TOML")).expect("it reads");
        let failure = check
            .asked()
            .await
            .expect_err("that is no MySQL")
            .to_string();
        assert!(failure.contains("a packet of 16777215 bytes"), "{failure}");
    });
}
