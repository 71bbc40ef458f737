//! `bench policy`: how fast it is decided what may be done, with 500 rules loaded, and how soon after the kernel saw the trouble it is
//! done.
//!
//! The core alone is measured beside a core without rules, in turns; the daemon as users run it. Leaves out the detectors, whose findings
//! are made up for the core alone, and the journal, which has its part in the times of the daemon.

#[path = "policy/core.rs"]
mod core;
#[path = "policy/kill.rs"]
mod kill;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use smart_monitor::model::Plan;

use self::core::{Core, Decided, config, name};
use crate::report::{Goal, Report, Samples, Values, progress};

/// Services, each with a rule of its own.
pub(super) const RULES: usize = 500;
/// Services behind one database.
const BEHIND: usize = 1000;
/// Incidents, or events, between two looks at the stopwatch.
const BATCH: usize = 20_000;
/// Nothing of this stands in the way of an act.
const UNLIMITED: &str = "backoff_initial = \"0s\"\nbackoff_max = \"0s\"\nlimit = 1000\n\
                         host_limit_per_hour = 1000000\nconcurrent = 16";

/// After one act on a service, none is due for the rest of the day.
const SLOW: &str = "backoff_initial = \"1h\"\nbackoff_max = \"1h\"\nbackoff_reset = \"24h\"\nlimit = 1000\n\
                    host_limit_per_hour = 1000000";

pub(crate) fn measure(
    binary: &Path,
    turns: usize,
    kills: usize,
    report: &mut Report,
) -> Result<()> {
    alone(turns.max(1), report)?;
    storm(turns.max(1), report)?;
    kill::measure(binary, kills, report)
}

/// A variant of the core alone.
struct Variant {
    name: &'static str,
    core: Core,
    expected: Decided,
    goal: Option<Goal>,
    rates: Values,
}

fn variants() -> Result<Vec<Variant>> {
    let variant = |name, text: &str, expected, goal| {
        Ok::<_, anyhow::Error>(Variant {
            name,
            core: Core::new(text)?,
            expected,
            goal,
            rates: Values::default(),
        })
    };
    let goal = Some(Goal::AtLeast(200.0));
    let (refused, permitted) = (Decided::Refused, Decided::Permitted);
    let bare = config(RULES, false, UNLIMITED, "");
    let full = config(RULES, true, UNLIMITED, "");
    let dry = config(RULES, true, UNLIMITED, "dry_run = true");
    let slow = config(RULES, true, SLOW, "");
    let mut database = bare.replace("[[service]]", "[[service]]\ndepends_on = [\"database\"]");
    database += "[[service]]\nname = \"database\"\nkind = \"command\"\ncommand = [\"database\"]\n";
    let mut all = vec![
        variant("no rule: refused for lack of consent", &bare, refused, None)?,
        variant("500 rules: permitted, done, proven", &full, permitted, goal)?,
        variant("500 rules: refused by a dry run", &dry, refused, goal)?,
        variant("500 rules: refused by a cooldown", &slow, refused, goal)?,
        variant(
            "behind a failed database: suppressed",
            &database,
            Decided::Suppressed,
            goal,
        )?,
    ];
    for variant in &mut all {
        if variant.name.contains("cooldown") {
            for _ in 0..RULES {
                variant.core.incident(permitted)?;
            }
        }
        if variant.expected == Decided::Suppressed {
            variant.core.fail_first()?;
        }
    }
    Ok(all)
}

/// Incidents a second, and events that are nobody's.
fn alone(turns: usize, report: &mut Report) -> Result<()> {
    progress(&format!(
        "policy: {turns} turns of {BATCH} incidents of each kind"
    ));
    let mut all = variants()?;
    let [mut strangers, mut bare] = std::array::from_fn(|_| Values::default());
    let mut nobodys = [
        Core::new(&config(RULES, true, UNLIMITED, ""))?,
        Core::new("")?,
    ];
    for _ in 0..turns {
        for variant in &mut all {
            let begin = spent();
            for _ in 0..BATCH {
                variant.core.incident(variant.expected)?;
            }
            variant
                .rates
                .add(thousands(BATCH, spent().saturating_sub(begin)));
            variant.core.check(variant.expected)?;
        }
        for (core, rates) in nobodys.iter_mut().zip([&mut strangers, &mut bare]) {
            let begin = spent();
            for pid in (100_000..).take(BATCH) {
                core.stranger(pid);
            }
            rates.add(thousands(BATCH, spent().saturating_sub(begin)));
        }
    }
    report.section_of_values("The core alone, by the CPU time of its one thread");
    for variant in &all {
        report.values(
            variant.name,
            &variant.rates,
            "thousand incidents/s",
            variant.goal,
        );
    }
    let unit = "thousand events/s";
    report.values("exits of strangers, nothing configured", &bare, unit, None);
    report.values(
        "exits of strangers, 500 services and rules",
        &strangers,
        unit,
        None,
    );
    Ok(())
}

/// What this thread has had of a CPU: others that run meanwhile do not count.
fn spent() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a number to read")]
fn thousands(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1000.0
}

/// A database fails, and all that depends on it fails with it, in the same instant: one act.
fn storm(turns: usize, report: &mut Report) -> Result<()> {
    progress(&format!(
        "policy: {turns} times {BEHIND} services behind a failed database"
    ));
    let text = config(BEHIND, true, UNLIMITED, "");
    let text = text.replace("[[service]]", "[[service]]\ndepends_on = [\"database\"]");
    let text = format!(
        "{text}[[service]]\nname = \"database\"\nkind = \"command\"\ncommand = [\"database\"]\n"
    );
    let [mut decided, mut over] = std::array::from_fn(|_| Samples::default());
    for turn in 0..turns {
        let mut core = Core::new(&text)?;
        // The first by name is the database. Half of the turns hear of it before all others, half after them.
        let first_heard = turn % 2 == 0;
        let begin = spent();
        let order: Vec<usize> = if first_heard {
            (0..=BEHIND).collect()
        } else {
            (0..=BEHIND).rev().collect()
        };
        for at in order {
            core.raise("service_down", at)?;
        }
        // Past the wait for word of a root, and all other waits that are not a person's.
        core.pass(Duration::from_secs(3));
        let permits = core.permits();
        decided.add(spent().saturating_sub(begin));
        ensure!(
            matches!(permits.as_slice(), [only] if matches!(only.plan(), Plan::RestartService { service, .. } if service == "database")),
            "one act, on the database, was expected: {permits:#?}"
        );
        for permit in &permits {
            core.done(permit);
        }
        core.pass(Duration::from_millis(10));
        for at in 0..=BEHIND {
            core.clear("service_down", at)?;
        }
        core.pass(Duration::from_mins(1));
        over.add(spent().saturating_sub(begin));
        ensure!(core.permits().is_empty(), "nothing is left to be done");
        ensure!(core.open() == 0, "{} incidents are not over", core.open());
    }
    report.section("1000 services and the database they depend on fail at once");
    report.durations("all decided: one act, on the database", &decided, None);
    report.durations("all over, proven", &over, None);
    Ok(())
}
