//! What must hold whatever happens: random configurations, random sequences of signals, and after each of them a book-keeper that
//! knows nothing of how the core decides.
//!
//! `PROPTEST_RNG_SEED` plays other sequences than those of every day, `PROPTEST_CASES` more of them.

#![expect(
    clippy::indexing_slicing,
    reason = "numbers choose among what is there; a test fails by panicking"
)]

#[path = "properties/happen.rs"]
mod happen;
#[path = "properties/keeper.rs"]
mod keeper;
#[path = "properties/play.rs"]
mod play;
#[path = "properties/setup.rs"]
mod setup;
#[path = "properties/standing.rs"]
mod standing;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// Sequences of each of the four tests.
const SEQUENCES: u32 = 2_500;

fn run(number: u64) {
    let set = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let config = Config {
        cases: set("PROPTEST_CASES")
            .and_then(|cases| u32::try_from(cases).ok())
            .unwrap_or(SEQUENCES),
        rng_seed: RngSeed::Fixed(set("PROPTEST_RNG_SEED").unwrap_or(0) * 4 + number),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&setup::cases(), |case| {
        play::play(&case).map_err(TestCaseError::fail)
    });
    assert!(
        result.is_ok(),
        "{}",
        result.map_or_else(|error| error.to_string(), |()| String::new())
    );
}

#[test]
fn nothing_is_done_that_nobody_allowed_1() {
    run(0);
}

#[test]
fn nothing_is_done_that_nobody_allowed_2() {
    run(1);
}

#[test]
fn nothing_is_done_that_nobody_allowed_3() {
    run(2);
}

#[test]
fn nothing_is_done_that_nobody_allowed_4() {
    run(3);
}
