//! What a rung can say.

use super::*;

fn mistake(with: &str) -> String {
    let table: toml::Table = with.parse().expect("it is TOML");
    (SPEC.check)(&table).expect_err(with)
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let long = format!("command = [\"x\", \"{}\"]", "y".repeat(BYTES));
    let many = format!("command = [{}]", "\"x\", ".repeat(WORDS + 1));
    let cases = [
        ("", "missing field `command`"),
        ("command = []", "`command` is empty"),
        ("command = [\"\"]", "`command` is empty"),
        ("command = [\"bin/x\"]", "absolute path, or a name"),
        ("command = \"x\"", "invalid type: string"),
        (
            "command = [\"x\"]\ntimeot = \"1s\"",
            "unknown field `timeot`",
        ),
        ("command = [\"x\"]\ntimeout = \"0s\"", "`timeout` must be"),
        ("command = [\"x\"]\ntimeout = \"601s\"", "at most 10m"),
        ("command = [\"x\"]\nuser = 5", "need each other"),
        (
            "command = [\"x\"]\nwrite = []",
            "need a `user` other than 0",
        ),
        (
            "command = [\"x\"]\nread = [\"/etc\"]\nuser = 0\ngroup = 0",
            "need a `user` other than 0",
        ),
        ("command = [\"x\"]\naccept_exit = []", "must name a status"),
        ("command = [\"x\"]\naccept_exit = [256]", "`with`"),
        (
            "command = [\"x\"]\nread = [\"etc\"]\nuser = 5\ngroup = 5",
            "`etc` is not an absolute path",
        ),
        (
            "command = [\"x\"]\nfolder = \"etc\"",
            "`etc` is not an absolute path",
        ),
        (
            "command = [\"x\"]\nenvironment = { \"A=B\" = \"c\" }",
            "can be called `A=B`",
        ),
        (
            "command = [\"x\"]\nenvironment = { SMART_MONITOR_RULE = \"c\" }",
            "can be called `SMART_MONITOR_RULE`",
        ),
        ("command = [\"x\", \"a\\u0000b\"]", "NUL"),
        (&long, "put it into a script"),
        (&many, "put it into a script"),
    ];
    for (with, expected) in cases {
        let said = mistake(with);
        assert!(said.contains(expected), "{with}: {said}");
    }
    let good = "command = [\"/bin/x\", \"-y\"]\ntimeout = \"10m\"\nuser = 5\ngroup = 6\nread = []\nwrite = [\"/tmp\"]\nnetwork = false\n\
                environment = { A = \"b=c\" }\nfolder = \"/tmp\"\naccept_exit = [0, 255]";
    let table: toml::Table = good.parse().expect("it is TOML");
    assert_eq!((SPEC.check)(&table), Ok(()));
}
