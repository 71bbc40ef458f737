use super::*;

fn with(text: &str) -> toml::Table {
    text.parse().expect("it is a table")
}

#[test]
fn a_unit_is_named_as_for_systemctl() {
    let words = |service: &str, text: &str| read(service, &with(text));
    assert_eq!(words("nginx", ""), Ok(vec!["nginx.service".to_owned()]));
    let user = words("app", "unit = \"web@3\"\nuser = 1000");
    assert_eq!(
        user,
        Ok(vec!["web@3.service".to_owned(), "user=1000".to_owned()])
    );
    for (text, said) in [
        ("unit = \"nginx.socket\"", "only units of type service"),
        ("unit = \"web@.service\"", "web@1.service"),
        ("unit = \"a b\"", "cannot be the name"),
        ("unit = \"../x\"", "cannot be the name"),
        ("units = \"x\"", "unknown field"),
        ("user = -1", "invalid value"),
    ] {
        let error = words("x", text).expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
    }
    let long = format!("unit = \"{}\"", "x".repeat(300));
    assert!(words("x", &long).is_err());
}
