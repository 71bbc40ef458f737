use std::collections::BTreeSet;

use super::*;

#[test]
fn what_was_done_is_told_with_what_it_was_worth() {
    let cleaned = Cleaned {
        files: 214,
        bytes: 3_328_700_000,
        came_back: 3_113_851_290,
        enough: true,
        open: (BTreeSet::from(["nginx [123]".to_owned()]), BTreeSet::new()),
        ..Cleaned::default()
    };
    assert_eq!(
        words(&cleaned),
        "3.1 GiB in 214 files deleted; 2.9 GiB came back; some are still open by nginx [123]"
    );
    let half = Cleaned {
        files: 1,
        failed: (2, Some("a: Permission denied".to_owned())),
        ..Cleaned::default()
    };
    let said = words(&half);
    assert!(
        said.contains("not enough") && said.contains("2 could not be deleted"),
        "{said}"
    );
    let many = (0..9).map(|n| format!("p [{n}]")).collect();
    assert!(some(&many).ends_with("and 4 more"));
}

#[test]
fn its_bounds_make_sense() {
    for (with, good) in [
        ("", true),
        ("at_most = 10\nat_most_bytes = \"1GiB\"", true),
        ("at_most = 0", false),
        ("at_most = 10001", false),
        ("at_most_bytes = \"0B\"", false),
        ("files = 1", false),
    ] {
        let with: toml::Table = toml::from_str(with).expect("it is TOML");
        assert_eq!((SPEC.check)(&with).is_ok(), good, "{with:?}");
    }
}
