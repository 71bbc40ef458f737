//! How soon a killed service serves again: under us, under others, and under others whom we watch.
//!
//! A client connects every 0.2 ms from the kill on, until a new process answers; what the service itself needs from its `exec` to its
//! first answer, measured alone in the same run, is taken off. Turns with the daemon and turns without it follow each other.

#[path = "recovery/rivals.rs"]
mod rivals;
#[path = "recovery/service.rs"]
pub(crate) mod service;
#[path = "recovery/systemd.rs"]
mod systemd;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::rivals::{Rival, Running};
use self::service::{Figures, Kept, Place};
use self::systemd::Systemd;
use crate::daemon::{Daemon, Folder, sweep};
use crate::report::{Report, Samples, progress};

/// Kills of each in a turn.
const IN_A_TURN: usize = 5;
/// Between two kills: what came of the last one is over.
const REST: Duration = Duration::from_millis(100);
/// How much longer it may take when we watch, by the median: what two equal runs differ by here.
const NO_SLOWER: f64 = 1.1;

/// One who keeps the service, with what was measured without us and with us.
struct Other {
    rival: Rival,
    place: Place,
    /// The lines of the service by which we watch it.
    watch: Option<String>,
    alone: Figures,
    watched: Figures,
    /// Running, or why it is not measured.
    running: Result<Running>,
}

impl Other {
    fn start(rival: Rival, install: bool, folder: &Folder) -> Result<Self> {
        let place = Place::new(folder, rival.name(), rival.port())?;
        let started = rival.start(install, folder, &place);
        let running = started.and_then(|running| place.another(None).map(|_| running));
        Ok(Self {
            rival,
            place,
            watch: rival.watched(folder).filter(|_| running.is_ok()),
            alone: Figures::default(),
            watched: Figures::default(),
            running,
        })
    }
}

/// Measures all of them that are there; says which are not.
pub(crate) fn measure(
    binary: &Path,
    rounds: usize,
    install: bool,
    report: &mut Report,
) -> Result<()> {
    let folder = Folder::new()?;
    let own = Place::new(&folder, "own", 19210)?;
    let others = Rival::ALL.map(|rival| Other::start(rival, install, &folder));
    let mut others = others.into_iter().collect::<Result<Vec<_>>>()?;
    let (mut ours, mut start_up) = (Figures::default(), Samples::default());
    let config = config(&own, &others)?;
    let mut turns = || {
        let bare = Place::new(&folder, "bare", 19215)?;
        let mut left = rounds;
        while left > 0 {
            let count = left.min(IN_A_TURN);
            progress(&format!("recovery: {left} of {rounds} kills of each left"));
            let mut daemon = Daemon::start_with(binary, &folder, &config, |command| {
                command.env("DBUS_SYSTEM_BUS_ADDRESS", Systemd::address());
            })?;
            daemon.wait_until_up(Duration::from_millis(20))?;
            daemon.healthy("own")?;
            let mut with = vec![("own", &own, &mut ours)];
            for it in others.iter_mut().filter(|it| it.watch.is_some()) {
                daemon.healthy(it.rival.name())?;
                with.push((it.rival.name(), &it.place, &mut it.watched));
            }
            turn(count, with).context("with the daemon")?;
            daemon.stop()?;
            let without = others.iter_mut().filter(|it| it.running.is_ok());
            let without = without.map(|it| (it.rival.name(), &it.place, &mut it.alone));
            turn(count, without.collect()).context("without the daemon")?;
            for _ in 0..count {
                start_up.add(bare.start_up()?);
            }
            left -= count;
        }
        Ok(())
    };
    let ended = turns();
    show(&ours, &others, &start_up, report);
    drop(others);
    sweep()?;
    ended
}

/// Kills the service of each, one after the other, that many times.
fn turn(count: usize, whom: Vec<(&str, &Place, &mut Figures)>) -> Result<()> {
    let mut kept = Vec::new();
    for (name, place, figures) in whom {
        kept.push((name, Kept::find(place)?, figures));
    }
    for _ in 0..count {
        for (name, kept, figures) in &mut kept {
            kept.kill(figures).with_context(|| (*name).to_owned())?;
            std::thread::sleep(REST);
        }
    }
    for (_, kept, figures) in &mut kept {
        kept.settle(figures)?;
    }
    Ok(())
}

fn show(ours: &Figures, others: &[Other], start_up: &Samples, report: &mut Report) {
    let Some(its_own) = start_up.median() else {
        return report.missing("recovery", "no turn was finished");
    };
    report.section("kill -> serving again, without the service's own start-up");
    report.durations("(exec -> first answer, alone: taken off)", start_up, None);
    let own = ours.again.without(its_own);
    report.durations("smart-monitor, kind = \"command\"", &own, None);
    let measured = || others.iter().filter(|it| it.running.is_ok());
    for it in others {
        match &it.running {
            Ok(_) => {
                let again = it.alone.again.without(its_own);
                report.durations(it.rival.name(), &again, None);
            }
            Err(why) => report.missing(it.rival.name(), &format!("{why:#}")),
        }
    }
    for it in measured() {
        let name = format!("smart-monitor / {}", it.rival.name());
        ratio(
            &name,
            &own,
            &it.alone.again.without(its_own),
            Some(1.0),
            report,
        );
    }
    let name = "deaths not followed by exactly one start";
    let wrong = others.iter().map(|it| it.alone.wrong);
    let wrong = ours.wrong + wrong.sum::<u32>();
    report.number(name, f64::from(wrong), "deaths", Some(0.0));

    report.section("the same under others, while smart-monitor watches them");
    for it in measured().filter(|it| it.watch.is_some()) {
        let name = format!("{}, watched", it.rival.name());
        let (with, without) = (&it.watched.again, &it.alone.again);
        let (with, without) = (with.without(its_own), without.without(its_own));
        report.durations(&name, &with, None);
        ratio(&format!("{name} / alone"), &with, &without, None, report);
        let name = format!("{name}: deaths not followed by exactly one start");
        report.number(&name, f64::from(it.watched.wrong), "deaths", Some(0.0));
    }
}

/// How many times as long ours takes.
fn ratio(name: &str, ours: &Samples, theirs: &Samples, goal: Option<f64>, report: &mut Report) {
    for (what, share) in [("median", 0.5), ("p99", 0.99)] {
        let both = ours.quantile(share).zip(theirs.quantile(share));
        let Some((ours, theirs)) = both else {
            continue;
        };
        let goal = goal.or((share < 0.9).then_some(NO_SLOWER));
        let value = ours.as_secs_f64() / theirs.as_secs_f64();
        report.number(&format!("{name}, {what}"), value, "times as long", goal);
    }
}

/// Limits of acts are off: each death counts as the first.
fn config(own: &Place, others: &[Other]) -> Result<String> {
    let command = own.command()?;
    let mut config = format!(
        r#"
[daemon]
http = ""

[policy]
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
limit_window = "100ms"
host_limit_per_hour = 1000000

[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"

[[service]]
name = "own"
kind = "command"
command = {command:?}
check = {{ tcp = "{}", interval = "1s" }}
"#,
        own.listen
    );
    for it in others {
        if let Some(watch) = &it.watch {
            let (name, listen) = (it.rival.name(), it.place.listen);
            config = format!(
                "{config}\n[[service]]\nname = \"{name}\"\n{watch}check = {{ tcp = \"{listen}\", interval = \"1s\" }}\n"
            );
        }
    }
    Ok(config)
}
