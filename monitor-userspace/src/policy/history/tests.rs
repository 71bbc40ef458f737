use super::*;

const WINDOW: Duration = Duration::from_mins(15);
const RESET: Duration = Duration::from_mins(10);

fn at(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn a_target_is_given_up_at_its_limit_and_not_before() {
    let mut history = History::default();
    for n in 0..4 {
        history.note("restart a", at(n), at(n), 5, WINDOW, RESET);
        assert_eq!(history.given_up("restart a", RESET, at(n)), None);
    }
    history.note("restart a", at(4), at(4), 5, WINDOW, RESET);
    assert!(
        history.given_up("restart a", RESET, at(5_000)).is_some(),
        "time alone does not forgive"
    );
    assert!(
        history.given_up("restart b", RESET, at(5)).is_none(),
        "others are not concerned"
    );
}

#[test]
fn a_target_that_stayed_well_starts_afresh() {
    let mut history = History::default();
    for n in 0..5 {
        history.note("a", at(n), at(n), 5, WINDOW, RESET);
    }
    history.note("a", at(3_700), at(3_700), 5, WINDOW, RESET);
    history.note_fixed("a", at(3_701));
    assert!(
        history.given_up("a", RESET, at(3_800)).is_some(),
        "one good try is not enough yet"
    );
    assert_eq!(history.given_up("a", RESET, at(4_400)), None);
    history.note("a", at(4_400), at(4_400), 5, WINDOW, RESET);
    assert_eq!(history.given_up("a", RESET, at(4_401)), None);
}

#[test]
fn a_streak_ends_where_the_target_was_left_alone() {
    let mut history = History::default();
    for seconds in [0, 1_000, 1_001, 1_003] {
        history.note("a", at(seconds), at(seconds), 5, WINDOW, RESET);
    }
    assert_eq!(history.streak("a", RESET, at(1_010)), 3);
    assert_eq!(history.streak("a", RESET, at(2_000)), 0);
    history.set_reset(Duration::from_secs(2));
    let shorter = Duration::from_secs(2);
    assert_eq!(history.streak("a", shorter, at(1_004)), 1);
    history.set_reset(2 * RESET);
    assert_eq!(history.streak("a", 2 * RESET, at(1_010)), 4);
}

#[test]
fn it_is_bounded() {
    let mut history = History::default();
    for n in 0..3_000 {
        history.note(&format!("target {n}"), at(n), at(n), 5, WINDOW, RESET);
    }
    assert!(history.targets.len() <= TARGETS && history.host.len() <= HOST_ACTIONS);
    assert!(history.last("target 2999").is_some() && history.last("target 0").is_none());
}

#[test]
fn what_helps_is_told_from_what_does_not_and_what_says_nothing_does_not_count() {
    let mut history = History::default();
    for outcome in [
        Outcome::Fixed,
        Outcome::NoEffect,
        Outcome::Refused,
        Outcome::Worse,
        Outcome::WouldHave,
        Outcome::Unknown,
        Outcome::Failed,
    ] {
        history.note_outcome("a/restart", outcome);
    }
    assert_eq!(history.rate("a/restart"), Rate { helped: 1, of: 4 });
    assert_eq!(history.in_vain("a/restart").0, 3);
    history.note_outcome("a/restart", Outcome::Fixed);
    assert_eq!(history.in_vain("a/restart").0, 0);
    assert_eq!(history.rate("b/restart"), Rate::default());
    for _ in 0..100 {
        history.note_outcome("a/restart", Outcome::NoEffect);
    }
    assert_eq!(
        history.rate("a/restart"),
        Rate {
            helped: 0,
            of: OUTCOMES
        }
    );
}
