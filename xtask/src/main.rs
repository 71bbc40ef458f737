//! `cargo xtask`: a file per subcommand. Nothing is installed outside the target folder, but for `rustup component add
//! rust-src`, which setup announces.

mod build;
mod paths;
mod process;
mod setup;

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
    }
    Ok(ExitCode::SUCCESS)
}
