use super::super::wire::tests::{run, saying, without_end};
use super::*;

fn wanted(text: &str) -> Result<Postgres, String> {
    let text = if text.contains("address") {
        text.to_owned()
    } else {
        format!("address = \"127.0.0.1:1\"\n{text}")
    };
    let written: toml::Table = text.parse().expect("it is TOML");
    let read = Postgres::deserialize(written).map_err(|error| error.message().to_owned())?;
    read.sensible()
}

#[test]
fn a_socket_is_named_by_itself_or_by_its_folder() {
    for (address, path) in [
        ("unix:/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
        (
            "unix:/run/postgresql/.s.PGSQL.5433",
            "/run/postgresql/.s.PGSQL.5433",
        ),
    ] {
        let read = wanted(&format!("address = \"{address}\"")).expect("it can be read");
        assert_eq!(read.address, Place::Unix(path.into()));
    }
}

#[test]
fn each_limit_has_its_words() {
    let standing = Standing {
        connections: 90.0,
        connections_max: 100.0,
        longest_transaction: 700.0,
        longest_query: 400.0,
        deadlocks: 12.0,
        replication_lag: Some(40.0),
        ..Standing::default()
    };
    for (text, word) in [
        (
            "connections_max = \"80%\"",
            "more than `connections_max`, 80% of 100",
        ),
        ("slow_query = \"5m\"", "a query runs for 400 s"),
        (
            "long_transaction = \"10m\"",
            "a transaction is open for 700 s",
        ),
        ("replication_lag = \"30s\"", "40.0 s behind"),
        ("deadlocks = 1", "2 deadlocks since the last check"),
        ("role = \"standby\"", "it is a primary, not a standby"),
    ] {
        let said = standing.troubles(&wanted(text).expect(text), Some(10.0));
        assert!(said.len() == 1 && said.concat().contains(word), "{said:?}");
    }
    let all = "connections_max = \"95%\"\nslow_query = \"10m\"\nlong_transaction = \"1h\"\nreplication_lag = \"1m\"\ndeadlocks = 5\nrole = \"primary\"";
    let said = standing.troubles(&wanted(all).expect("it can be read"), Some(10.0));
    assert!(said.is_empty(), "{said:?}");
}

#[expect(
    clippy::option_option,
    reason = "no row is not the same as a row with a null"
)]
fn judged(query: &str, row: Option<Option<&str>>) -> Result<Option<f64>, String> {
    let wanted = wanted(&format!("query = {query}")).expect(query);
    let figure = wanted.query.expect("it is there").judged(row)?;
    Ok(figure.map(|figure| figure.value()))
}

#[test]
fn a_question_of_ones_own_is_judged() {
    let value = |text| Some(Some(text));
    assert_eq!(judged("\"select 1;\"", value("1")), Ok(Some(1.0)));
    assert_eq!(judged("\"select 'x'\"", value("x")), Ok(None));
    for (query, row, word) in [
        ("\"select 1\"", None, "has no row"),
        ("\"select 1\"", Some(None), "is null"),
        (
            "{ sql = \"select 1\", equals = \"2\" }",
            value("1"),
            "is 1, not `2`",
        ),
        (
            "{ sql = \"select 1\", above = 1 }",
            value("1"),
            "not above 1",
        ),
        (
            "{ sql = \"select 1\", below = 1 }",
            value("1"),
            "not below 1",
        ),
        (
            "{ sql = \"select 1\", below = 1 }",
            value("many"),
            "should be a number",
        ),
        (
            "{ sql = \"select 1\", max_age = \"1h\" }",
            value("3700.5"),
            "longer than `max_age`, 1h",
        ),
        (
            "{ sql = \"select 1\", max_age = \"1h\" }",
            value("x"),
            "is no time",
        ),
        (
            "{ sql = \"select 1\", above = 0 }",
            value("NaN"),
            "should be a number",
        ),
    ] {
        let said = judged(query, row).expect_err(query);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn nonsense_is_refused() {
    for (text, why) in [
        ("query = \" ; \"", "must be a `select`"),
        (
            "query = { sql = \"select 1\", abov = 0 }",
            "unknown field `abov`",
        ),
        (
            "query = { sql = \"select 1\", above = 0, max_age = \"1h\" }",
            "write two checks",
        ),
        ("query_timeout = \"0s\"", "1ms to 1h"),
        ("deadlocks = -1.0", "0 or more"),
        ("password = \"x\"", "unknown field `password`"),
    ] {
        let error = wanted(text).expect_err(text);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn rubbish_ends_in_a_failure_and_is_bounded() {
    // Authentication asked for with a length that never comes, with none at all, and what is no PostgreSQL.
    for said in [
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec(),
        b"R\x7f\xff\xff\xff".to_vec(),
        b"R\0\0\0\0".to_vec(),
        b"-ERR unknown command\r\n".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 3000],
        Vec::new(),
    ] {
        run(async {
            let Place::Tcp(address) = saying(said, false).await else {
                panic!("it is at a port")
            };
            let check = wanted(&format!("address = \"{address}\"")).expect("it can be read");
            check.asked().await.expect_err("that is no PostgreSQL");
        });
    }
    run(async {
        let mut long = b"N\x7f\xff\xff\xff".to_vec();
        long.resize(1 << 16, b'x');
        let Place::Tcp(address) = without_end(long).await else {
            panic!("it is at a port")
        };
        let check = wanted(&format!("address = \"{address}\"")).expect("it can be read");
        let failure = check.asked().await.expect_err("it has no end").to_string();
        assert!(failure.contains("more than 1048576 bytes"), "{failure}");
    });
}
