//! `cargo xtask`: a file per subcommand. Nothing is installed outside the target folder, but for `rustup component add
//! rust-src`, which setup announces.

mod apt;
mod bench;
mod build;
mod demo;
mod docs;
mod fmt;
mod lint;
mod paths;
mod process;
mod rights;
mod run;
mod setup;
mod test;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::paths::Paths;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Set up, build, run, show and test Smart-Monitor"
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prepare the eBPF toolchain under the target folder; does nothing when it is ready
    Setup {
        /// A Rust source tree of nightly's minor version, to use where rustup has no rust-src
        #[arg(long, value_name = "PATH", env = setup::RUST_SRC_VARIABLE)]
        rust_src: Option<PathBuf>,
    },
    /// Build the kernel programs, then the daemon that embeds them
    Build {
        /// Build the daemon unoptimised; the kernel programs are always optimised
        #[arg(long)]
        debug: bool,
    },
    /// Build, then run the daemon as root; with no arguments it reads config/smart-monitor.toml where there is one
    Run {
        /// Arguments of `smart-monitor run`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Build, then show what the daemon does, as root
    Demo {
        /// Arguments of `smart-monitor demo`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Host tests without root, then the live-kernel tests as root
    Test {
        /// Only the tests that need no rights
        #[arg(long, conflicts_with = "live")]
        host: bool,
        /// Only the tests against the live kernel
        #[arg(long)]
        live: bool,
        /// Only tests whose name holds this
        filter: Option<String>,
    },
    /// Build, then run the benchmarks as root
    Bench {
        /// Only this benchmark
        name: Option<OsString>,
        /// Further arguments of the benchmark program
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Boot other kernels in virtual machines: which probe loads there, attaches, and tells a true event
    Vm {
        /// Only this kernel: `host`, a Debian suite, or a version such as 6.12; may be given again
        #[arg(long, value_name = "KERNEL")]
        kernel: Vec<String>,
        /// Write down what was measured as what is expected from now on
        #[arg(long, conflicts_with = "systemd")]
        record: bool,
        /// The daemon in a whole Debian with systemd as its first process, instead of the probes; of suite trixie unless a kernel is named
        #[arg(long)]
        systemd: bool,
        /// With --systemd, only scenes whose name holds this
        #[arg(long, requires = "systemd")]
        scene: Option<String>,
    },
    /// Format every tracked Rust file
    Fmt {
        /// Only say what would change
        #[arg(long)]
        check: bool,
    },
    /// Format check, clippy, rustdoc, generated documents, long files, dependencies
    Lint {
        /// Install cargo-deny under the target folder where it is missing (some minutes)
        #[arg(long)]
        deny: bool,
        /// Let cargo-deny look for known vulnerabilities too, which needs the network
        #[arg(long)]
        advisories: bool,
    },
    /// Write the generated reference documents
    Docs {
        /// Only say which are out of date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let task = Cli::parse().command;
    match Paths::find().and_then(|paths| dispatch(task, &paths)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(task: Task, paths: &Paths) -> anyhow::Result<ExitCode> {
    match task {
        Task::Setup { rust_src } => setup::run(paths, rust_src.as_deref())?,
        Task::Build { debug } => {
            build::run(paths, build::Profile::from_debug(debug))?;
        }
        Task::Run { args } => match run::run(paths, args)? {},
        Task::Demo { args } => match demo::run(paths, args)? {},
        Task::Test { host, live, filter } => {
            let wanted = test::Wanted {
                host: !live,
                live: !host,
            };
            if !test::run(paths, wanted, filter.as_deref())? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Task::Bench { name, args } => match bench::run(paths, name, args)? {},
        Task::Vm {
            kernel,
            record,
            systemd,
            scene,
        } => {
            let passed = if systemd {
                vm::run_system(paths, &kernel, scene.as_deref())?
            } else {
                vm::run(paths, &kernel, record)?
            };
            if !passed {
                return Ok(ExitCode::FAILURE);
            }
        }
        Task::Fmt { check } => fmt::run(paths, check)?,
        Task::Lint { deny, advisories } => lint::run(paths, deny, advisories)?,
        Task::Docs { check } => docs::run(paths, check)?,
    }
    Ok(ExitCode::SUCCESS)
}
