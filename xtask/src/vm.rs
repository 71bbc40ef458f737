//! `cargo xtask vm`: what every probe can do on kernels of other versions, each booted in an emulated machine, and on the running one.
//!
//! In each, the program `kernel-matrix` (see `tests/matrix.rs`) loads everything, and has each probe tell one true event. What it reports
//! is shown, and compared with the record in `tests/kernel-matrix.json`. A kernel that does not boot, hangs or gives no complete
//! answer has failed: nothing is ever skipped. Nothing is installed; downloads stay under the target folder.

mod host;
mod initramfs;
mod kernels;
mod machine;
mod packages;
mod record;
mod report;
mod system;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::kernels::Wanted;
use self::record::Record;
use self::report::Report;
pub(crate) use self::system::run as run_system;
use crate::build;
use crate::paths::Paths;
use crate::process::{self, cargo};
use crate::setup;

/// The only target that a machine is emulated for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Whether every kernel that was asked for did all that is expected of it.
pub(crate) fn run(paths: &Paths, names: &[String], write_down: bool) -> Result<bool> {
    let wanted = kernels::wanted(names)?;
    let folder = paths.vm();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    // A second one would unpack over the first one's files, and the logs are the last run's.
    let _lock = setup::lock(&folder)?;
    let program = program(paths)?;
    let mut record = Record::read(&paths.repo)?;
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for kernel in wanted {
        println!("\nvm: {kernel}");
        let began = Instant::now();
        let answer = match &kernel {
            Wanted::Host => host::run(&program),
            Wanted::Debian(debian) => emulate(paths, debian, &program),
        };
        let seconds = began.elapsed().as_secs_f64();
        let problems = match answer {
            Ok(report) => {
                let running = kernel == Wanted::Host;
                if write_down && !running {
                    record.note(&report);
                }
                table::print(&report);
                let problems = record.judge(&report, running);
                reports.push(report);
                problems
            }
            Err(error) => vec![format!("{error:#}")],
        };
        for problem in &problems {
            println!("  {} {problem}", table::red("FAILED"));
        }
        println!(
            "vm: {kernel}: {} after {seconds:.1} s",
            table::verdict(problems.is_empty())
        );
        if !problems.is_empty() {
            failed.push(kernel.to_string());
        }
    }
    if reports.len() > 1 {
        table::print_all(&reports);
    }
    if write_down {
        record.write(&paths.repo)?;
    }
    if !failed.is_empty() {
        println!("vm: {}: {}", table::red("FAILED"), failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn emulate(paths: &Paths, debian: &kernels::Debian, program: &std::path::Path) -> Result<Report> {
    let kernel = packages::kernel(paths, debian)?;
    let busybox = packages::busybox(paths)?;
    let emulator = packages::emulator(paths)?;
    let logs = paths.vm().join("logs").join(debian.suite);
    std::fs::create_dir_all(&logs)?;
    let archive = logs.join("initramfs");
    initramfs::write(&archive, &busybox, program, &kernel.modules)?;
    println!("  booting {} ({})", kernel.release, logs.display());
    let boot = machine::Boot {
        image: &kernel.image,
        archive: &archive,
        words: "rdinit=/init",
        memory: 512,
        limit: Duration::from_mins(5),
    };
    let report = machine::run(&emulator, &boot, &logs)?;
    if report.release != kernel.release {
        bail!(
            "{} was to boot, and {} answered",
            kernel.release,
            report.release
        );
    }
    Ok(report)
}

/// The program that runs on every kernel.
fn program(paths: &Paths) -> Result<PathBuf> {
    build::programs(paths)?;
    linked_statically(paths, "smart-monitor-tests", "kernel-matrix")
}

/// Builds a program that needs no libraries, since the machines have none, or others.
fn linked_statically(paths: &Paths, package: &str, name: &str) -> Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "machines are emulated for x86_64 alone, and this is {}",
            std::env::consts::ARCH
        );
    }
    let mut build = cargo(paths);
    build
        .args(["build", "--package", package, "--bin", name, "--target", TARGET])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // All of the program stands in the memory of the machine.
        .env("CARGO_PROFILE_DEV_STRIP", "symbols");
    process::run(&mut build, &format!("building {name} for the machines"))?;
    let program = paths.target.join(TARGET).join("debug").join(name);
    if !program.is_file() {
        bail!("cargo built no {}", program.display());
    }
    Ok(program)
}
