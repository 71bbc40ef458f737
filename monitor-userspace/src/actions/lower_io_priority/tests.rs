use super::*;
use crate::model::ProcessKey;

const PROCESS: ProcessKey = ProcessKey {
    pid: 70,
    start_ticks: 7,
};

fn lower(ioprio: i32) -> Plan {
    Plan::LowerIoPriority {
        process: PROCESS,
        comm: "backup".to_owned(),
        ioprio,
    }
}

const fn best_effort(level: i32) -> i32 {
    (BEST_EFFORT << SHIFT) | level
}

#[test]
fn no_thread_is_put_forward() {
    let idle = IDLE << SHIFT;
    let real_time = (1 << SHIFT) | 3;
    for (plan, had, gets) in [
        (best_effort(7), 0, best_effort(7)),
        (best_effort(7), best_effort(2), best_effort(7)),
        (best_effort(7), real_time, best_effort(7)),
        (best_effort(7), idle, idle),
        (best_effort(2), 0, 0),
        (best_effort(2), best_effort(5), best_effort(5)),
        (idle, best_effort(7), idle),
        (idle, idle | 3, idle | 3),
    ] {
        assert_eq!(wanted(&lower(plan), 70, had), gets, "{plan} after {had}");
    }
}

#[test]
fn each_thread_gets_back_what_it_had_unless_it_was_changed_since() {
    let set = best_effort(7);
    let restore = Plan::RestoreIoPriority {
        process: PROCESS,
        comm: "backup".to_owned(),
        set,
        ioprio: vec![(70, 0), (71, best_effort(1))],
    };
    assert_eq!(wanted(&restore, 70, set), 0);
    assert_eq!(wanted(&restore, 71, set), best_effort(1));
    // Born meanwhile, of one that waits.
    assert_eq!(wanted(&restore, 90, set), 0);
    assert_eq!(wanted(&restore, 71, best_effort(3)), best_effort(3));
    let other = Plan::SetOomScore {
        process: PROCESS,
        comm: String::new(),
        score: 1,
    };
    assert_eq!(wanted(&other, 70, 5), 5);
}

#[test]
fn priorities_are_said_in_words() {
    assert_eq!(name(0), "as its nice value says");
    assert_eq!(name(best_effort(7)), "best effort, level 7");
    assert_eq!(name(IDLE << SHIFT), "idle");
    assert_eq!(name((1 << SHIFT) | 2), "real time, level 2");
}
