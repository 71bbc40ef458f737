//! Holding processes back, and ending cgroups: the scenes that other kernels play, too (`cargo xtask vm`), and the daemon itself.

use anyhow::{Context as _, Result, ensure};
use smart_monitor_tests::restraints::SCENES;

fn play(name: &str) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the live tests need root: cargo xtask test --live, or sudo"
    );
    let found = SCENES.iter().find(|(known, _)| *known == name);
    let (_, scene) = found.context("no such scene")?;
    scene()
}

macro_rules! scenes {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            play(stringify!($name))
        })*

        #[test]
        fn every_scene_is_played() {
            let played = [$(stringify!($name)),*];
            let all: Vec<&str> = SCENES.iter().map(|(name, _)| *name).collect();
            assert_eq!(played.as_slice(), all);
        }
    };
}

scenes! {
    freeze_holds_and_lets_go,
    a_bystander_is_never_held_back,
    a_cpu_limit_holds_and_is_taken_away,
    a_memory_limit_where_there_is_one,
    a_fork_bomb_ends_whole,
    who_leaves_when_asked_is_not_killed,
    what_others_changed_is_left_alone,
    a_cgroup_made_anew_is_another,
    the_subject_vanishes_at_each_step,
    without_rights_nothing_changes,
    what_is_protected_keeps_all_from_harm,
    of_two_at_once_one_is_refused,
    cut_off_between_word_and_deed,
    forks_do_not_escape_while_it_is_moved,
    a_stopped_process_goes_on,
    what_is_frozen_can_be_ended,
}
