use super::*;

const OVER: Duration = Duration::from_mins(5);
const ERRORS: Promise = Promise::Errors { most: 10_000 };
const LATENCY: Promise = Promise::Latency {
    percentile: 99,
    most: Duration::from_millis(200),
};

fn at(seconds: u64) -> Time {
    Time::default().after(Duration::from_secs(seconds))
}

/// A check every 5 s, bad where `bad` says so.
fn checks(window: &mut Window, seconds: std::ops::Range<u64>, bad: impl Fn(u64) -> bool) {
    for second in seconds.step_by(5) {
        window.add(at(second), 1, if bad(second) { WHOLE } else { 0 });
    }
}

#[test]
fn a_blip_is_no_missed_objective_and_trouble_that_goes_on_is() {
    let mut window = Window::new(OVER);
    assert_eq!(window.judge(&ERRORS, false, at(0)), None);
    checks(&mut window, 0..300, |second| second == 150);
    let kept = window.judge(&ERRORS, false, at(300)).expect("counted");
    assert!(kept.bad > 10_000 && !kept.missed, "one alone: {kept:?}");
    checks(&mut window, 300..320, |_| true);
    let kept = window.judge(&ERRORS, false, at(320)).expect("counted");
    assert!(kept.missed, "{kept:?}");
}

#[test]
fn what_is_over_again_is_cleared_though_the_window_still_knows_it() {
    let mut window = Window::new(OVER);
    checks(&mut window, 0..300, |second| second >= 270);
    assert!(window.judge(&ERRORS, false, at(300)).expect("it").missed);
    checks(&mut window, 300..330, |_| false);
    let kept = window.judge(&ERRORS, true, at(330)).expect("it");
    assert!(!kept.missed && kept.bad > 10_000, "{kept:?}");
    let again = window.judge(&ERRORS, false, at(330)).expect("it");
    assert!(!again.missed, "not raised again by what is past");
}

#[test]
fn what_a_process_did_says_nothing_about_the_next_one() {
    let mut window = Window::new(OVER);
    checks(&mut window, 0..300, |second| second >= 270);
    window.begin_anew(at(299));
    let kept = window.judge(&ERRORS, false, at(301)).expect("it");
    assert!(!kept.missed, "nothing is known of this one: {kept:?}");
    checks(&mut window, 300..315, |_| true);
    assert!(window.judge(&ERRORS, false, at(315)).expect("it").missed);
}

#[test]
fn a_quantile_that_is_just_over_misses_and_one_that_is_now_and_then_does_not() {
    let mut window = Window::new(OVER);
    for second in (0..300).step_by(5) {
        window.add(at(second), 1_000, 10_000);
    }
    assert!(window.judge(&LATENCY, false, at(300)).expect("it").missed);
    let mut window = Window::new(OVER);
    for second in (0_u64..300).step_by(5) {
        window.add(at(second), 1_000, if second % 10 == 0 { 10_000 } else { 0 });
    }
    assert!(!window.judge(&LATENCY, false, at(300)).expect("it").missed);
}

#[test]
fn a_window_is_bounded_and_forgets() {
    let mut window = Window::new(OVER);
    for second in 0..10_000 {
        window.add(at(second), u64::MAX / 2, WHOLE + 7);
        assert!(window.parts.len() <= PARTS as usize + 1);
    }
    window.add(at(20_000), 1, 0);
    assert_eq!(window.counted(), 1);
}

#[test]
fn promises_read_as_one_says_them() {
    assert_eq!(LATENCY.to_string(), "99 % of answers within 200ms");
    assert_eq!(ERRORS.to_string(), "at most 1 % of requests fail");
    assert_eq!(percent(12_345), "1.23 %");
    assert_eq!(percent(0), "0 %");
}
