//! `cargo xtask vm --systemd`: the daemon as a service of systemd's, in an emulated machine with a whole, small Debian.
//!
//! In it the program `system-scenes` (see `tests/system.rs`) plays what happens to services and to the daemon on such a host, and reports
//! each scene. A machine that does not boot, hangs or tells less than all has failed.

mod root;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::kernels::{self, Debian, Wanted};
use super::machine::Boot;
use super::report::Report;
use super::{linked_statically, machine, packages, table};
use crate::build;
use crate::paths::Paths;
use crate::setup;

/// The suite whose kernel and systemd are taken when none is named.
const SUITE: &str = "trixie";

/// systemd is the first program, and says on the console what it starts.
const WORDS: &str = "rdinit=/usr/lib/systemd/systemd systemd.show_status=1";

/// MiB: the file system stands in it, too.
const MEMORY: u32 = 1024;

/// What of the checkout goes into the machine.
struct Programs {
    daemon: PathBuf,
    scenes: PathBuf,
    unit: PathBuf,
}

/// Whether every scene went as it must, on every system that was asked for.
pub(crate) fn run(paths: &Paths, names: &[String], only: Option<&str>) -> Result<bool> {
    let mut systems = Vec::new();
    let names = if names.is_empty() {
        &[SUITE.to_owned()]
    } else {
        names
    };
    for wanted in kernels::wanted(names)? {
        match wanted {
            Wanted::Debian(debian) => systems.push(debian),
            Wanted::Host => bail!("--systemd boots machines alone, and `host` is none"),
        }
    }
    let folder = paths.vm();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let _lock = setup::lock(&folder)?;
    build::programs(paths)?;
    let programs = Programs {
        daemon: linked_statically(paths, "monitor-userspace", "smart-monitor")?,
        scenes: linked_statically(paths, "smart-monitor-tests", "system-scenes")?,
        unit: paths.repo.join("config/systemd/smart-monitor.service"),
    };
    let mut all_passed = true;
    for debian in systems {
        println!("\nvm: systemd of {}", debian.suite);
        let began = Instant::now();
        let passed = match boot(paths, &debian, &programs, only) {
            Ok(report) => print(&report),
            Err(error) => {
                println!("  {} {error:#}", table::red("FAILED"));
                false
            }
        };
        println!(
            "vm: systemd of {}: {} after {:.1} s",
            debian.suite,
            table::verdict(passed),
            began.elapsed().as_secs_f64()
        );
        all_passed &= passed;
    }
    Ok(all_passed)
}

fn boot(paths: &Paths, debian: &Debian, programs: &Programs, only: Option<&str>) -> Result<Report> {
    let kernel = packages::kernel(paths, debian)?;
    let busybox = packages::busybox(paths)?;
    let emulator = packages::emulator(paths)?;
    let base = root::base(paths, debian)?;
    let logs = paths
        .vm()
        .join("logs")
        .join(format!("{}-systemd", debian.suite));
    std::fs::create_dir_all(&logs)?;
    let archive = logs.join("initramfs");
    root::write(&archive, &base, &busybox, programs, only)?;
    println!("  booting {} ({})", kernel.release, logs.display());
    let boot = Boot {
        image: &kernel.image,
        archive: &archive,
        words: WORDS,
        memory: MEMORY,
        limit: Duration::from_mins(20),
    };
    let report = machine::run(&emulator, &boot, &logs)?;
    // It is a hundred megabytes, and written anew each time.
    remove(&archive)?;
    ensure!(
        report.release == kernel.release,
        "{} was to boot, and {} answered",
        kernel.release,
        report.release
    );
    ensure!(
        !report.scenes.is_empty(),
        "no scene was played: is its name right?"
    );
    Ok(report)
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

/// Whether all went well.
fn print(report: &Report) -> bool {
    for (name, outcome) in &report.scenes {
        let measured = report.measured.get(name).map_or("", String::as_str);
        match outcome {
            Ok(()) => println!("  passed {name}: {measured}"),
            Err(error) => println!("  {} {name}: {error}", table::red("FAILED")),
        }
    }
    let good = report.scenes.iter().filter(|(_, outcome)| outcome.is_ok());
    let (good, all) = (good.count(), report.scenes.len());
    println!("  scenes that went as they must: {good} of {all}");
    good == all
}
