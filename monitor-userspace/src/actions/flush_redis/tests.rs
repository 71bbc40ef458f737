use super::*;

fn wrong(with: &str) -> Option<String> {
    let with: toml::Table = toml::from_str(with).expect("it is TOML");
    (SPEC.check)(&with).err()
}

#[test]
fn it_says_exactly_which_keys_of_which_database() {
    let base = "address = \"127.0.0.1:6379\"\n";
    let good = [
        "database = 2\npattern = \"limit:*\"",
        "database = 0\nall = true",
        "database = 0\nall = true\nuser = \"u\"\npassword_file = \"/etc/p\"",
    ];
    for lines in good {
        assert_eq!(wrong(&format!("{base}{lines}")), None);
    }
    let bad = [
        ("pattern = \"limit:*\"", "database"),
        ("database = 0", "which keys"),
        ("database = 0\npattern = \"\"", "1 to 512"),
        ("database = 0\npattern = \"*\"", "all = true"),
        ("database = 0\npattern = \"**?\"", "all = true"),
        ("database = 0\npattern = \"[^a]*\"", "all = true"),
        ("database = 0\npattern = \"a[b\"", "has no `]`"),
        ("database = 0\nall = true\npattern = \"a*\"", "not both"),
        ("database = 0\nall = true\nat_most = 5", "means nothing"),
        ("database = 70000\nall = true", "0 to 65535"),
        ("database = 0\nall = true\nwithin = \"0s\"", "within"),
        ("database = 0\nall = true\nat_most = 0", "at_most"),
        ("database = 0\nall = true\nuser = \"u\"", "password_file"),
        (
            "database = 0\nall = true\npassword = \"p\"",
            "unknown field",
        ),
        (
            "database = 0\nall = true\npassword_file = \"p\"",
            "absolute",
        ),
    ];
    for (lines, means) in bad {
        let said = wrong(&format!("{base}{lines}")).expect(lines);
        assert!(said.contains(means), "{said}");
    }
    for address in ["localhost", "unix:redis.sock", "127.0.0.1"] {
        let said = wrong(&format!(
            "address = \"{address}\"\ndatabase = 0\nall = true"
        ));
        assert!(said.expect(address).contains("address"));
    }
}
