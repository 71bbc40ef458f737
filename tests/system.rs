//! `cargo xtask vm --systemd`: what becomes of the daemon and of services where systemd is the first process. Runs as root in a machine of its
//! own, of which it may change everything.
//!
//! Plays each scene, and reports a line of JSON for it; the last line says how many there were: what ends before it is no answer.

#[path = "system/daemon.rs"]
mod daemon;
#[path = "system/limits.rs"]
mod limits;
#[path = "system/stage.rs"]
mod stage;
#[path = "system/unit_stage.rs"]
mod unit_stage;
#[path = "system/units.rs"]
mod units;
#[path = "system/user_units.rs"]
mod user_units;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

/// A name and a scene, which says what it measured.
type Scene = (&'static str, fn() -> Result<String>);

/// Play every scene on this system, which must be a machine made for it.
#[derive(Debug, Parser)]
struct Args {
    /// Where the report goes.
    #[arg(long)]
    report: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // Scenes write units, and end what runs.
    let first = std::fs::read_to_string("/proc/1/cmdline")?;
    ensure!(
        first.contains("systemd") && PathBuf::from("/etc/scenes.env").exists(),
        "this is no machine that was made for the scenes: cargo xtask vm --systemd"
    );
    // A serial line is no file to be made or cut.
    let opened = File::options().append(true).open(&args.report);
    let mut out = opened.with_context(|| format!("cannot open {}", args.report.display()))?;
    let release = rustix::system::uname();
    say(
        &mut out,
        &json!({"kernel": release.release().to_string_lossy()}),
    )?;
    let scenes = daemon::SCENES
        .iter()
        .chain(limits::SCENES)
        .chain(units::SCENES)
        .chain(user_units::SCENES);
    // Only scenes whose name holds this.
    let only = std::env::var("SYSTEM_SCENE").unwrap_or_default();
    let mut played = 0;
    for (name, scene) in scenes.filter(|(name, _)| name.contains(&only)) {
        let began = Instant::now();
        let line = match scene() {
            Ok(measured) => json!({"scene": name, "outcome": "ok", "measured": measured}),
            Err(error) => json!({"scene": name, "outcome": format!("{error:#}")}),
        };
        eprintln!("{name}: {:?}", began.elapsed());
        say(&mut out, &line)?;
        played += 1;
    }
    say(
        &mut out,
        &json!({"end": {"probes": 0, "programs": 0, "scenes": played}}),
    )
}

/// Writes a line at once: what comes after may be the end of this system.
fn say(out: &mut impl Write, line: &Value) -> Result<()> {
    Ok(writeln!(out, "{line}").and_then(|()| out.flush())?)
}
