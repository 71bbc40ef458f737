use super::*;
use crate::supervisors::systemd::memory::Memory;

/// One that became active at 100, and left that at 200.
fn unit(active: &str, sub: &str, result: &str, main_exit: u64) -> Unit {
    let text = str::to_owned;
    Unit {
        load_state: text("loaded"),
        active_state: text(active),
        sub_state: text(sub),
        result: text(result),
        kind: text("simple"),
        restart: text("no"),
        invocation: vec![1],
        restarts: Some(0),
        exit_code: 1,
        inactive_exit: 90,
        active_enter: 100,
        active_exit: 200,
        main_start: 95,
        main_exit,
        ..Unit::default()
    }
}

fn is_fault(unit: &Unit) -> bool {
    matches!(unit.phase(false), Phase::Failed { gave_up: false, .. })
}

#[test]
fn a_stop_leaves_active_first_whatever_comes_of_it() {
    let stopped = unit("inactive", "dead", "success", 201);
    assert_eq!(stopped.phase(false), Phase::Stopped);
    for result in ["exit-code", "signal", "timeout", "core-dump"] {
        let badly = unit("failed", "failed", result, 201);
        assert_eq!(badly.phase(false), Phase::Stopped, "{result}");
        assert!(is_fault(&unit("failed", "failed", result, 199)), "{result}");
    }
}

#[test]
fn what_systemd_ends_without_an_order_is_a_fault() {
    assert!(is_fault(&unit("failed", "failed", "watchdog", 250)));
    assert!(is_fault(&unit("failed", "failed", "oom-kill", 250)));
    let long = Unit {
        runtime_max: 100,
        ..unit("failed", "failed", "timeout", 250)
    };
    assert!(is_fault(&long), "RuntimeMaxSec=");
    let unlimited = Unit {
        runtime_max: u64::MAX,
        ..long
    };
    assert_eq!(unlimited.phase(false), Phase::Stopped, "TimeoutStopSec=");
}

#[test]
fn a_clean_end_by_itself_is_a_fault_of_what_is_meant_to_go_on() {
    let ended = unit("inactive", "dead", "success", 199);
    assert!(is_fault(&ended));
    let kind = |kind: &str| Unit {
        kind: kind.to_owned(),
        ..ended.clone()
    };
    assert_eq!(kind("oneshot").phase(false), Phase::Stopped);
    assert_eq!(kind("dbus").phase(false), Phase::Stopped);
    let triggered = Unit {
        triggered: true,
        ..ended.clone()
    };
    assert_eq!(triggered.phase(false), Phase::Stopped);
    // Stopped while systemd waited to start it anew.
    let always = Unit {
        restart: "always".to_owned(),
        ..ended.clone()
    };
    assert_eq!(always.phase(false), Phase::Stopped);
    // Loaded anew: nothing is known of it.
    let forgotten = Unit {
        active_enter: 0,
        active_exit: 0,
        inactive_exit: 0,
        main_start: 0,
        main_exit: 0,
        ..ended
    };
    assert_eq!(forgotten.phase(false), Phase::Stopped);
}

#[test]
fn states_on_the_way() {
    let at = |active, sub, exit| unit(active, sub, "success", exit).phase(false);
    assert_eq!(at("active", "running", 0), Phase::Running);
    assert_eq!(at("active", "exited", 150), Phase::Stopped);
    assert_eq!(at("reloading", "reload", 0), Phase::Running);
    assert_eq!(at("activating", "auto-restart", 150), Phase::Starting);
    assert_eq!(at("activating", "start-pre", 0), Phase::Starting);
    assert_eq!(
        at("failed", "failed-before-auto-restart", 199),
        Phase::Starting
    );
    assert_eq!(at("deactivating", "stop-post", 199), Phase::Stopping);
    assert_eq!(at("deactivating", "stop-post", 201), Phase::Stopped);
    assert_eq!(at("maintenance", "cleaning", 201), Phase::Stopped);
    let rubbish = Unit::read(&HashMap::from([("MainPID", Variant::U64(7))]));
    assert_eq!(
        (rubbish.main_pid, rubbish.phase(false)),
        (0, Phase::Stopped)
    );
}

#[test]
fn it_heals_as_long_as_something_will_come_of_it() {
    let mut healed = unit("activating", "auto-restart", "exit-code", 199);
    healed.restart = "on-failure".to_owned();
    healed.restart_pause = 100_000;
    healed.start_limit = u64::MAX;
    let told = healed.healer(&healed.phase(false));
    let told = told.expect("Restart= says so");
    let expected = Duration::from_millis(100) + LONGEST + MARGIN;
    assert_eq!((&*told.name, told.patience), ("systemd", expected));
    healed.active_state = "failed".to_owned();
    healed.restarts = Some(5);
    let gave_up = healed.phase(false);
    assert!(
        matches!(gave_up, Phase::Failed { gave_up: true, .. }),
        "{gave_up:?}"
    );
    healed.restart = "on-watchdog".to_owned();
    let uncovered = healed.phase(false);
    assert!(
        matches!(uncovered, Phase::Failed { gave_up: false, .. }),
        "{uncovered:?}"
    );
    assert_eq!(healed.healer(&uncovered), None);
}

#[test]
fn a_restart_by_hand_between_two_looks_was_a_stop() {
    let running = |invocation: u8, restarts: u32| Unit {
        invocation: vec![invocation],
        restarts: Some(restarts),
        ..unit("active", "running", "success", 0)
    };
    let mut memory = Memory::default();
    assert_eq!(memory.judge(&running(1, 0)), (Phase::Running, false));
    assert_eq!(memory.judge(&running(2, 0)), (Phase::Stopped, true));
    assert_eq!(memory.judge(&running(2, 0)), (Phase::Running, false));
    assert_eq!(
        memory.judge(&running(3, 1)),
        (Phase::Running, false),
        "Restart="
    );
    memory.is_ordered();
    assert_eq!(
        memory.judge(&running(4, 0)),
        (Phase::Running, false),
        "ours"
    );
}

#[test]
fn one_that_is_told_to_stop_before_it_is_ready_is_not_to_run() {
    let mut memory = Memory::default();
    let mut starting = unit("activating", "start", "success", 0);
    // Of the run before.
    starting.inactive_exit = 300;
    starting.main_start = 300;
    starting.main_pid = 7;
    assert_eq!(memory.judge(&starting).0, Phase::Starting);
    let mut failing = starting.clone();
    starting.active_state = "deactivating".to_owned();
    assert_eq!(memory.judge(&starting).0, Phase::Stopping);
    failing.active_state = "failed".to_owned();
    failing.result = "exit-code".to_owned();
    failing.main_pid = 0;
    failing.main_exit = 400;
    assert_eq!(memory.judge(&failing).0, Phase::Stopped);
    failing.invocation = vec![2];
    assert!(
        matches!(memory.judge(&failing).0, Phase::Failed { .. }),
        "not told"
    );
}
