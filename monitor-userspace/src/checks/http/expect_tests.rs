//! What is expected of an answer, and what is said when it is another.

use super::*;

#[derive(Deserialize)]
struct All {
    #[serde(default)]
    status: Statuses,
    body: Option<Body>,
    #[serde(default)]
    json: Jsons,
}

fn all(text: &str) -> Result<All, String> {
    let all: All = toml::from_str(text).map_err(|why| why.to_string())?;
    all.json.sensible().map(|()| all)
}

#[test]
fn statuses_are_numbers_classes_and_ranges() {
    for (text, good, bad) in [
        ("", vec![200, 399], vec![199, 400]),
        ("status = 204", vec![204], vec![200]),
        ("status = \"2xx\"", vec![200, 299], vec![300]),
        (
            "status = [200, \"401-403\", \"5xx\"]",
            vec![200, 401, 402, 599],
            vec![201, 404],
        ),
    ] {
        let read = all(text).expect(text).status;
        assert!(good.iter().all(|it| read.has(*it)), "{text}");
        assert!(!bad.iter().any(|it| read.has(*it)), "{text}");
    }
    for text in [
        "status = 99",
        "status = []",
        "status = \"6xx\"",
        "status = \"299-200\"",
        "status = \"ok\"",
        "status = true",
    ] {
        assert!(all(text).is_err(), "{text}");
    }
}

#[test]
fn a_body_is_looked_through_and_never_shown() {
    for (text, well) in [
        ("body = \"ready\"", true),
        ("body = { contains = \"steady\" }", false),
        ("body = { matches = \"^all .*y$\" }", true),
        ("body = { matches = \"secret [0-9]\" }", false),
    ] {
        let body = all(text).expect(text).body.expect("a body");
        let trouble = body.trouble(b"all is ready", false);
        assert_eq!(trouble.is_none(), well, "{text}");
        assert!(!trouble.is_some_and(|why| why.contains("all is")), "{text}");
    }
    for text in [
        "body = 1",
        "body = {}",
        "body = { matches = \"(\" }",
        "body = { matches = \"(a{1000}){1000}\" }",
    ] {
        assert!(all(text).is_err(), "{text}");
    }
}

#[test]
fn json_is_compared_at_its_path() {
    let answer = br#"{"status":"ok","queue":[{"length":7}],"full":false,"load":1.0}"#;
    for (text, why) in [
        ("json = { path = \"status\", equals = \"ok\" }", None),
        (
            "json = { path = \"status\", equals = \"down\" }",
            Some("`\"ok\"`, expected \"down\""),
        ),
        ("json = { path = \"queue.0.length\", below = 10 }", None),
        (
            "json = { path = \"queue.0.length\", above = 3, below = 7 }",
            Some("is 7, expected less than 7"),
        ),
        (
            "json = { path = \"queue.1.length\", below = 10 }",
            Some("no `1`"),
        ),
        (
            "json = { path = \"status\", below = 10 }",
            Some("no number"),
        ),
        ("json = { path = \"load\", equals = 1 }", None),
        (
            "json = [{ path = \"full\", equals = false }, { path = \"load\", above = 2 }]",
            Some("more than 2"),
        ),
    ] {
        let found = all(text).expect(text).json.trouble(answer, false);
        assert_eq!(found.is_some(), why.is_some(), "{text}: {found:?}");
        assert!(
            found.unwrap_or_default().contains(why.unwrap_or_default()),
            "{text}"
        );
    }
    let some = all("json = { path = \"a\", equals = 1 }")
        .expect("it reads")
        .json;
    assert!(
        some.trouble(b"<html>", false)
            .is_some_and(|why| why.contains("no JSON"))
    );
    assert!(
        some.trouble("[".repeat(100_000).as_bytes(), false)
            .is_some_and(|why| why.contains("no JSON"))
    );
    assert!(
        some.trouble(b"{}", true)
            .is_some_and(|why| why.contains("larger than"))
    );
    for text in [
        "json = { path = \"a\" }",
        "json = { path = \"a\", equals = 1, above = 2 }",
        "json = { path = \"\", equals = 1 }",
        "json = { path = \"a\", equals = [1] }",
        "json = 5",
    ] {
        assert!(all(text).is_err(), "{text}");
    }
}
