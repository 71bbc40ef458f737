//! What holding processes back and ending cgroups must hold to, on the running kernel, whichever that is: with cgroups of version 1 or 2, and
//! whichever of their files it has. Needs root, `sh` and `sleep`, so that it runs in a virtual machine as well as here.
//!
//! Each scene makes processes and cgroups of its own, and ends them.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::cgroup::{Cgroup, Hierarchy, place};
use smart_monitor::host::end_cgroup::end;
use smart_monitor::host::restrain::{Restrained, is_lifted, is_restrained, lift, restrain};
use smart_monitor::host::signals::Held;
use smart_monitor::host::{HostError, Opened as _, procfs};
use smart_monitor::model::{Lift, Restraint, Whole};

use self::stage::{Actor, Group, SPIN, as_nobody, hold, let_go, whole_hold};
use super::{PATIENCE, wait_until};

mod stage;

/// A name and a scene.
pub type Scene = (&'static str, fn() -> Result<()>);

/// All of them.
pub const SCENES: &[Scene] = &[
    ("freeze_holds_and_lets_go", freeze_holds_and_lets_go),
    (
        "a_bystander_is_never_held_back",
        a_bystander_is_never_held_back,
    ),
    (
        "a_cpu_limit_holds_and_is_taken_away",
        a_cpu_limit_holds_and_is_taken_away,
    ),
    (
        "a_memory_limit_where_there_is_one",
        a_memory_limit_where_there_is_one,
    ),
    ("a_fork_bomb_ends_whole", a_fork_bomb_ends_whole),
    (
        "who_leaves_when_asked_is_not_killed",
        who_leaves_when_asked_is_not_killed,
    ),
    (
        "what_others_changed_is_left_alone",
        what_others_changed_is_left_alone,
    ),
    (
        "a_cgroup_made_anew_is_another",
        a_cgroup_made_anew_is_another,
    ),
    (
        "the_subject_vanishes_at_each_step",
        the_subject_vanishes_at_each_step,
    ),
    (
        "without_rights_nothing_changes",
        without_rights_nothing_changes,
    ),
    (
        "what_is_protected_keeps_all_from_harm",
        what_is_protected_keeps_all_from_harm,
    ),
    (
        "of_two_at_once_one_is_refused",
        of_two_at_once_one_is_refused,
    ),
    (
        "cut_off_between_word_and_deed",
        cut_off_between_word_and_deed,
    ),
    (
        "forks_do_not_escape_while_it_is_moved",
        forks_do_not_escape_while_it_is_moved,
    ),
    ("a_stopped_process_goes_on", a_stopped_process_goes_on),
    ("what_is_frozen_can_be_ended", what_is_frozen_can_be_ended),
];

const FREEZE: Restraint = Restraint::Freeze { by_signal: false };
const STOP: Restraint = Restraint::Freeze { by_signal: true };
const FIFTH: Restraint = Restraint::Cpu { percent: 20 };

fn freeze_holds_and_lets_go() -> Result<()> {
    let group = Group::new()?;
    let alone = Actor::new(SPIN, None)?;
    let service = Actor::new(SPIN, Some(&group))?;
    for (actor, whole) in [
        (&alone, alone.whole.clone()),
        (&service, service.service(&group)?),
    ] {
        actor.runs_on()?;
        let done = hold(&whole, FREEZE)?;
        ensure!(done.stopped.is_none(), "{done:?}");
        is_restrained(&whole, FREEZE)?;
        // By a signal it is the one process alone.
        if done.lift != Lift::Continue {
            actor.stands_still()?;
        }
        ensure!(hold(&whole, FREEZE).is_err(), "frozen once is enough");
        let_go(&whole, &done)?;
        actor.runs_on()?;
        let again = lift(whole.process, &done.lift);
        match again {
            Ok((None, _)) | Err(HostError::OtherCgroup(_)) => {}
            other => anyhow::bail!("there is nothing left to take away: {other:?}"),
        }
    }
    Ok(())
}

fn what_is_frozen_can_be_ended() -> Result<()> {
    let actor = Actor::new(SPIN, None)?;
    let _done = hold(&actor.whole, FREEZE)?;
    let held = Held::open(actor.process())?;
    held.kill()?;
    held.release_memory();
    ensure!(held.wait(PATIENCE)?, "it stays frozen, and alive");
    Ok(())
}

fn a_bystander_is_never_held_back() -> Result<()> {
    let group = Group::new()?;
    let subject = Actor::new(SPIN, Some(&group))?;
    let bystander = Actor::new(SPIN, Some(&group))?;
    let before = place(Hierarchy::V1("cpu"), bystander.process().pid);
    for restraint in [FREEZE, FIFTH] {
        match hold(&subject.whole, restraint) {
            Ok(done) => {
                bystander.runs_on()?;
                ensure!(
                    place(Hierarchy::V1("cpu"), bystander.process().pid) == before,
                    "it was moved"
                );
                ensure!(!matches!(done.lift, Lift::File { .. }), "{done:?}");
                let_go(&subject.whole, &done)?;
            }
            Err(HostError::Untouched(why)) => {
                ensure!(why.contains("is not of") && why.contains(" alone"), "{why}");
            }
            Err(other) => return Err(other.into()),
        }
    }
    let error = end(&subject.whole, Duration::ZERO, &[]).map(|ended| ended.folder);
    ensure!(matches!(error, Err(HostError::Untouched(_))), "{error:?}");
    subject.runs_on()?;
    bystander.runs_on()
}

/// Hundredths of a CPU that it takes within half a second or more.
fn share(actor: &Actor) -> Result<u64> {
    let (began, before) = (Instant::now(), actor.ticks());
    wait_until(PATIENCE, "some time passes", || {
        (began.elapsed() > Duration::from_millis(1500)).then_some(())
    })?;
    let took = u64::try_from(began.elapsed().as_millis())?;
    Ok((actor.ticks() - before) * 1000 / took)
}

fn a_cpu_limit_holds_and_is_taken_away() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    actor.runs_on()?;
    let done = whole_hold(&whole, FIFTH)?;
    let limited = share(&actor)?;
    // Twenty, and as much again for ticks that were begun.
    ensure!(limited <= 40, "{limited} % of a CPU with a limit of 20");
    let again = hold(&whole, Restraint::Cpu { percent: 30 });
    ensure!(
        matches!(again, Err(HostError::Untouched(_))),
        "never loosened: {again:?}"
    );
    let_go(&whole, &done)?;
    // Others may want the CPUs, too; but it is not kept at a fifth of one.
    wait_until(PATIENCE, "it has its time again", || {
        share(&actor).ok().filter(|share| *share > 40)
    })?;
    ensure!(
        place(Hierarchy::V2, actor.process().pid).as_ref() == Some(&group.0),
        "it is where it was"
    );
    Ok(())
}

fn a_memory_limit_where_there_is_one() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    let restraint = Restraint::Memory { high: 64 << 20 };
    let Some(had) = group.says("memory.high") else {
        let error = hold(&whole, restraint)
            .err()
            .context("there is none to set")?;
        let text = error.to_string();
        ensure!(text.contains("has no memory.high"), "{text}");
        return Ok(());
    };
    ensure!(had == "max", "{had}");
    let done = whole_hold(&whole, restraint)?;
    ensure!(
        group.says("memory.high") == Some((64 << 20).to_string()),
        "{done:?}"
    );
    let looser = hold(&whole, Restraint::Memory { high: 128 << 20 });
    ensure!(
        matches!(looser, Err(HostError::Untouched(_))),
        "never loosened: {looser:?}"
    );
    let_go(&whole, &done)?;
    ensure!(group.says("memory.high") == Some(had), "as it was");
    actor.runs_on()
}

fn a_fork_bomb_ends_whole() -> Result<()> {
    let bystander = Actor::new(SPIN, None)?;
    for grace in [Duration::ZERO, Duration::from_millis(50)] {
        let group = Group::new()?;
        // Each is deaf to SIGTERM, and lasts; so many at once, and new ones for those that end.
        let bomb = "trap '' TERM; f() { sleep 1 & (f) & wait; }; f & f & wait";
        let limited = format!("ulimit -u 4000 2>/dev/null; {bomb}");
        let actor = Actor::new(&limited, Some(&group))?;
        wait_until(PATIENCE, "it has grown", || {
            (group.pids() > 30).then_some(())
        })?;
        let ended = end(&actor.service(&group)?, grace, &[])?;
        ensure!(ended.killed > 0 && ended.folder == group.0, "{ended:?}");
        ensure!(group.pids() == 0, "{} are left", group.pids());
        ensure!(!procfs::runs(actor.process()), "it is gone");
    }
    bystander.runs_on()
}

fn who_leaves_when_asked_is_not_killed() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new("sleep 1000 & sleep 1000 & wait", Some(&group))?;
    wait_until(PATIENCE, "all of it runs", || {
        (group.pids() == 3).then_some(())
    })?;
    // As a process with a cgroup that holds it and its descendants alone.
    let ended = end(&actor.whole, PATIENCE, &[])?;
    ensure!(ended.processes == 3 && ended.killed == 0, "{ended:?}");
    ensure!(group.pids() == 0, "all are gone");
    Ok(())
}

fn what_others_changed_is_left_alone() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    let done = whole_hold(&whole, FIFTH)?;
    let (folder, file, other) = match &done.lift {
        Lift::File { folder, file, .. } => (folder, file, "70000 100000"),
        Lift::Made { folder, file, .. } => (folder, file, "70000"),
        Lift::Continue => anyhow::bail!("no limit is a signal"),
    };
    fs::write(folder.join(file), other)?;
    let (acted, said) = lift(whole.process, &done.lift)?;
    ensure!(
        acted.is_none() && said.contains("somebody else has changed it"),
        "{said}"
    );
    ensure!(
        fs::read_to_string(folder.join(file))?.trim_end() == other,
        "it was changed"
    );
    // And back as we left it, it is ours again.
    let (Lift::File { set, .. } | Lift::Made { set, .. }) = &done.lift else {
        anyhow::bail!("no limit is a signal");
    };
    fs::write(folder.join(file), set)?;
    let_go(&whole, &done)
}

fn a_cgroup_made_anew_is_another() -> Result<()> {
    let group = Group::new()?;
    let mut actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    let done = whole_hold(&whole, FREEZE)?;
    let Lift::File { folder, id, .. } = &done.lift else {
        anyhow::bail!("a service's own cgroup is frozen: {done:?}");
    };
    let_go(&whole, &done)?;
    actor.end();
    wait_until(PATIENCE, "it can be removed", || {
        fs::remove_dir(folder).ok()
    })?;
    let gone = lift(whole.process, &done.lift);
    ensure!(matches!(gone, Err(HostError::OtherCgroup(_))), "{gone:?}");
    is_lifted(whole.process, &done.lift)?;
    fs::create_dir(folder)?;
    let successor = Actor::new(SPIN, Some(&group))?;
    ensure!(group.id()? != *id, "numbers are not used again");
    fs::write(folder.join("cgroup.freeze"), "1")?;
    let other = lift(whole.process, &done.lift);
    ensure!(matches!(other, Err(HostError::OtherCgroup(_))), "{other:?}");
    ensure!(
        group.says("cgroup.freeze").as_deref() == Some("1"),
        "it was touched"
    );
    fs::write(folder.join("cgroup.freeze"), "0")?;
    // An act that means the old one, on a process that is in the new one.
    let meant = Whole {
        cgroup_id: *id,
        ..successor.service(&group)?
    };
    for error in [
        hold(&meant, FREEZE).map(|_| ()),
        end(&meant, Duration::ZERO, &[]).map(|_| ()),
    ] {
        ensure!(matches!(error, Err(HostError::OtherCgroup(_))), "{error:?}");
    }
    successor.runs_on()
}

fn the_subject_vanishes_at_each_step() -> Result<()> {
    for restraint in [FREEZE, FIFTH, STOP] {
        // Before it.
        let mut actor = Actor::new(SPIN, None)?;
        actor.end();
        let gone = hold(&actor.whole, restraint);
        ensure!(
            matches!(gone, Err(HostError::Gone(_) | HostError::Reused(_))),
            "{gone:?}"
        );
        let gone = end(&actor.whole, Duration::ZERO, &[]);
        ensure!(
            matches!(gone, Err(HostError::Gone(_) | HostError::Reused(_))),
            "{gone:?}"
        );

        // Between the word and the deed.
        let group = Group::new()?;
        let mut actor = Actor::new(SPIN, Some(&group))?;
        let whole = actor.whole.clone();
        let mut word = None;
        let result = restrain(&whole, restraint, &[], &mut |lift: &Lift| {
            word = Some(lift.clone());
            actor.end();
            Ok(())
        });
        let Some(word) = word else {
            // Where there is no such limit: found before a word.
            let named = matches!(result, Err(HostError::Untouched(_)));
            ensure!(named && restraint == FIFTH, "{restraint:?}: {result:?}");
            continue;
        };
        if let Lift::Made { folder, .. } = &word {
            ensure!(result.is_err() && !folder.exists(), "{result:?}");
        }
        match lift(whole.process, &word) {
            Ok(_) | Err(HostError::OtherCgroup(_) | HostError::Gone(_) | HostError::Reused(_)) => {}
            Err(other) => return Err(other.into()),
        }

        // After it.
        let mut actor = Actor::new(SPIN, None)?;
        match hold(&actor.whole, restraint) {
            Ok(done) => {
                actor.end_held(&done);
                match lift(actor.process(), &done.lift) {
                    Ok(_) | Err(HostError::Gone(_) | HostError::Reused(_)) => {}
                    Err(other) => return Err(other.into()),
                }
                if let Lift::Made { folder, .. } = &done.lift {
                    ensure!(!folder.exists(), "{} is left behind", folder.display());
                }
            }
            // In a cgroup that is others', too, and no other way.
            Err(HostError::Untouched(_)) => ensure!(restraint == FIFTH, "{restraint:?}"),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

fn without_rights_nothing_changes() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let service = actor.service(&group)?;
    let folders = |pid| {
        [
            Hierarchy::V2,
            Hierarchy::V1("cpu"),
            Hierarchy::V1("freezer"),
        ]
        .map(|tree| place(tree, pid))
    };
    let before = folders(actor.process().pid);
    for restraint in [FREEZE, STOP, FIFTH] {
        for whole in [&service, &actor.whole] {
            let refused = as_nobody(|| hold(whole, restraint))?;
            let error = refused.err().context("nobody may")?;
            ensure!(
                matches!(
                    error,
                    HostError::Cgroup { .. } | HostError::System { .. } | HostError::Untouched(_)
                ),
                "{error:?}"
            );
            let state = procfs::stat(actor.process().pid).context("it runs")?.state;
            ensure!(state != 'T', "it is stopped");
            ensure!(folders(actor.process().pid) == before, "it was moved");
        }
    }
    let refused = as_nobody(|| end(&service, Duration::ZERO, &[]))?;
    ensure!(
        matches!(
            refused,
            Err(HostError::Cgroup { .. } | HostError::System { .. })
        ),
        "{refused:?}"
    );
    actor.runs_on()
}

fn what_is_protected_keeps_all_from_harm() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new("sleep 1000 & while :; do :; done", Some(&group))?;
    wait_until(PATIENCE, "both run", || {
        let pids = group.says("cgroup.procs")?;
        let mut pids = pids
            .lines()
            .filter_map(|pid| procfs::stat(pid.parse().ok()?));
        pids.any(|stat| stat.comm == "sleep").then_some(())
    })?;
    let spared = Whole {
        spared: vec!["sleep".to_owned()],
        ..actor.whole.clone()
    };
    let mut word = |_: &Lift| Ok(());
    for refused in [
        restrain(&spared, FREEZE, &[], &mut word).map(|_| ()),
        restrain(&actor.whole, FIFTH, &["sleep"], &mut word).map(|_| ()),
        end(&spared, Duration::ZERO, &[]).map(|_| ()),
        end(&actor.whole, Duration::ZERO, &["sleep"]).map(|_| ()),
    ] {
        let text = refused.err().context("it is protected")?.to_string();
        ensure!(
            text.contains("sleep [") && text.contains("is protected"),
            "{text}"
        );
    }
    // Ourselves: whoever started us has us among its descendants.
    let own = procfs::stat(std::process::id()).context("we run")?;
    let parent = procfs::stat(own.parent).context("somebody started us")?;
    for stat in [own, parent] {
        let whole = Whole {
            process: stat.key,
            comm: stat.comm,
            cgroup_id: 0,
            named: false,
            spared: Vec::new(),
        };
        for refused in [
            restrain(&whole, FREEZE, &[], &mut word).map(|_| ()),
            end(&whole, Duration::ZERO, &[]).map(|_| ()),
        ] {
            let text = refused.err().context("it is us")?.to_string();
            ensure!(
                text.contains("never touched") || text.contains("no cgroup of its own"),
                "{text}"
            );
        }
    }
    actor.runs_on()
}

fn of_two_at_once_one_is_refused() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    for _ in 0..5 {
        let both = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| hold(&whole, FIFTH)));
            threads.map(|thread| thread.join().ok())
        });
        let done: Vec<Restrained> = both.into_iter().flatten().flatten().collect();
        ensure!(!done.is_empty(), "one of them does it");
        // Where both came to the same file, both know what it said before either.
        for done in &done {
            match lift(whole.process, &done.lift) {
                Ok(_) | Err(HostError::OtherCgroup(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        ensure!(is_restrained(&whole, FIFTH).is_err(), "it is let go");
        if let Some(text) = group.says("cpu.max") {
            ensure!(text.starts_with("max"), "{text}");
        }
    }
    actor.runs_on()
}

fn cut_off_between_word_and_deed() -> Result<()> {
    let group = Group::new()?;
    let actor = Actor::new(SPIN, Some(&group))?;
    let whole = actor.service(&group)?;
    for restraint in [FREEZE, FIFTH, STOP] {
        let mut word = None;
        // A daemon that is killed there says nothing more, and cleans up nothing.
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            restrain(&whole, restraint, &[], &mut |lift: &Lift| {
                word = Some(lift.clone());
                std::panic::resume_unwind(Box::new(()))
            })
        }));
        ensure!(cut.is_err(), "it went on");
        let word = word.context("it gave its word")?;
        actor.runs_on()?;
        lift(whole.process, &word)?;
        if let Lift::Made { folder, .. } = &word {
            ensure!(!folder.exists(), "{} is left behind", folder.display());
        }
        // A word that cannot be written down: nothing is done.
        let refused = restrain(&whole, restraint, &[], &mut |_: &Lift| {
            Err(HostError::Journal("no room".to_owned()))
        });
        ensure!(matches!(refused, Err(HostError::Journal(_))), "{refused:?}");
        ensure!(is_restrained(&whole, restraint).is_err(), "{restraint:?}");
    }
    actor.runs_on()
}

fn forks_do_not_escape_while_it_is_moved() -> Result<()> {
    // Children that come and go, of children that come and go.
    let actor = Actor::new(
        "f() { while :; do (sleep 0.01; :) & sleep 0.005; done; }; f & f & while :; do (sleep 0.02; :); done",
        None,
    )?;
    for _ in 0..5 {
        for restraint in [FIFTH, FREEZE] {
            match hold(&actor.whole, restraint) {
                Ok(done) => {
                    ensure!(done.stopped.is_none(), "{done:?}");
                    is_restrained(&actor.whole, restraint)?;
                    let_go(&actor.whole, &done)?;
                    if let Lift::Made { folder, .. } = &done.lift {
                        let above = folder.parent().context("it was in one")?;
                        let back = Cgroup::open(above)?.processes()?;
                        ensure!(back.contains(&actor.process().pid), "it is where it was");
                    }
                }
                Err(HostError::Untouched(why)) => ensure!(why.contains("cgroup"), "{why}"),
                Err(other) => return Err(other.into()),
            }
        }
    }
    Ok(())
}

fn a_stopped_process_goes_on() -> Result<()> {
    let actor = Actor::new("while :; do :; done", None)?;
    let done = whole_hold(&actor.whole, STOP)?;
    ensure!(done.lift == Lift::Continue, "{done:?}");
    let again = hold(&actor.whole, STOP);
    ensure!(
        matches!(again, Err(HostError::Untouched(_))),
        "stopped once: {again:?}"
    );
    let_go(&actor.whole, &done)?;
    actor.runs_on()?;
    // One that runs again by somebody else's word is left alone.
    let (acted, _) = lift(actor.process(), &done.lift)?;
    ensure!(acted.is_none(), "it was signalled");
    Ok(())
}
