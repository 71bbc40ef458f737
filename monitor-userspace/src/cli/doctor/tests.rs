use super::*;

fn checks() -> Vec<Check> {
    vec![
        Check::ok("kernel", "version", "6.18"),
        Check::new("kernel", "types (BTF)", Level::Warning, "poor ".repeat(60)).fix("boot another"),
        Check::ok(probes::SECTION, "process_exit", "on: sched_process_exit"),
    ]
}

#[test]
fn a_problem_decides_and_what_is_unknown_is_not_called_well() {
    let mut checks = checks();
    assert_eq!(observes(&checks), Some(true));
    checks.push(Check::new(
        probes::SECTION,
        "all probes",
        Level::Unknown,
        "not root",
    ));
    assert_eq!(observes(&checks), None);
    checks.push(Check::new("kernel", "version", Level::Problem, "too old"));
    assert_eq!(observes(&checks), Some(false));
    assert!(verdict(&checks, Paint::none()).contains("cannot observe here: see version"));
}

#[test]
fn lines_are_aligned_and_none_is_too_wide() {
    let text = text(&checks(), Paint::none());
    assert!(
        text.contains("kernel\n  ok       version       6.18\n"),
        "{text}"
    );
    assert!(
        text.contains("  warning  types (BTF)   poor poor"),
        "{text}"
    );
    assert!(
        text.contains("                         -> boot another\n"),
        "{text}"
    );
    assert!(
        text.ends_with("The daemon can observe here; 1 warning.\n"),
        "{text}"
    );
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}
