//! `cargo xtask vm`: what the kernel half can do on the running kernel, whichever that is. Runs as root in a virtual machine, linked
//! statically, and on the host alike.
//!
//! Loads all programs, does for each probe that is on what it must see, and waits for that very event. Reports a line of JSON a probe
//! and a program, and a last line that says how many there were: what ends before it is no answer. Leaves out judging what is off.

#[path = "matrix/acts.rs"]
mod acts;
#[path = "matrix/group.rs"]
mod group;
#[path = "matrix/part.rs"]
mod part;
#[path = "matrix/stage.rs"]
mod stage;
#[path = "matrix/verifier.rs"]
mod verifier;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use monitor_common::Kind;
use monitor_common::spec::Mode;
use serde_json::{Value, json};
use smart_monitor::kernel::{ProbeState, ProbeStatus};
use smart_monitor_tests::restraints::Scene;

use self::part::{Actor, Part};
use self::stage::Stage;

/// Load every kernel program and have every probe tell a true event, on the running kernel.
#[derive(Debug, Parser)]
struct Args {
    /// Where the report goes; to the standard output when nothing is named.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Whether the whole machine may run out of memory.
    #[arg(long)]
    may_oom: bool,
    /// Be a process that the probes are to see.
    #[arg(long, value_enum, hide = true)]
    part: Option<Part>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(part) = args.part {
        return part.play();
    }
    match args.report {
        Some(path) => {
            // A serial line is no file to be made or cut.
            let opened = File::options().create(true).append(true).open(&path);
            let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
            tell(file, args.may_oom)
        }
        None => tell(std::io::stdout(), args.may_oom),
    }
}

/// Writes a line at once: what comes after may be the end of this kernel.
fn say(out: &mut impl Write, line: &Value) -> Result<()> {
    Ok(writeln!(out, "{line}").and_then(|()| out.flush())?)
}

fn tell(mut out: impl Write, may_oom: bool) -> Result<()> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    say(&mut out, &json!({"kernel": release}))?;
    let began = Instant::now();
    let mut stage = Stage::new(may_oom)?;
    eprintln!("loaded after {:?}", began.elapsed());
    let probes = stage.kernel.probes();
    for probe in &probes {
        let line = show(&mut stage, probe);
        say(&mut out, &line)?;
    }
    let scenes = smart_monitor_tests::restraints::SCENES;
    for (name, scene) in scenes.iter().chain(&[PROTECTED]) {
        let began = Instant::now();
        let outcome = scene().map_or_else(|error| format!("{error:#}"), |()| "ok".into());
        eprintln!("{name}: {:?}", began.elapsed());
        say(&mut out, &json!({"scene": name, "outcome": outcome}))?;
    }
    let programs = stage.kernel.programs();
    let costs = verifier::costs(&programs.verifier_costs());
    let runs = programs.costs();
    for (name, instructions) in &costs {
        let ran = runs.iter().find(|cost| cost.name == *name);
        let line = json!({
            "program": name,
            "instructions": instructions,
            "runs": ran.map(|cost| cost.run_count),
        });
        say(&mut out, &line)?;
    }
    say(
        &mut out,
        &json!({"end": {
            "probes": probes.len(),
            "programs": costs.len(),
            "scenes": scenes.len() + 1,
        }}),
    )
}

const PROTECTED: Scene = (
    "the_daemon_is_no_victim_where_it_has_the_right",
    the_daemon_is_no_victim_where_it_has_the_right,
);

fn the_daemon_is_no_victim_where_it_has_the_right() -> Result<()> {
    let mut actor = Actor::new(Part::Protect)?;
    actor.go()?;
    ensure!(actor.ended_well()?, "its oom_score_adj is not -900");
    Ok(())
}

/// The line of a probe.
fn show(stage: &mut Stage, probe: &ProbeStatus) -> Value {
    let name = probe.kind.name();
    match &probe.state {
        ProbeState::Off { reason, .. } => json!({"probe": name, "off": reason}),
        ProbeState::On { attached } => {
            let began = Instant::now();
            let (attach, event) = prove(stage, probe.kind);
            eprintln!("{name}: {:?}", began.elapsed());
            json!({
                "probe": name,
                "on": attached,
                "without": probe.without,
                "attach": attach,
                "event": event,
            })
        }
    }
}

/// Whether it attaches, and whether its event came: `ok`, or what went wrong.
fn prove(stage: &mut Stage, kind: Kind) -> (String, String) {
    let asked = matches!(kind.spec().mode, Mode::Demand | Mode::Bench);
    let programs = stage.kernel.programs();
    if asked && let Err(error) = programs.attach(kind) {
        return (error.to_string(), "not tried".into());
    }
    let act = acts::of(kind);
    let event = act(stage).map_or_else(|error| format!("{error:#}"), |()| "ok".into());
    if asked {
        programs.detach(kind);
    }
    ("ok".into(), event)
}
