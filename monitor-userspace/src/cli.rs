//! The command line: a file per subcommand. May see every stage; nothing imports it.

mod check_config;
mod demo;
mod generate_docs;
mod run;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sees trouble in the kernel the moment it happens, and repairs it, safely.
#[derive(Debug, Parser)]
#[command(name = "smart-monitor", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: observe, decide, act, verify.
    Run(run::Args),
    /// Check a configuration; mistakes are shown where they stand.
    CheckConfig(check_config::Args),
    /// A simulated service that misbehaves on request.
    Simulate(simulate::Args),
    /// Break simulated services one way after another, and watch each being repaired.
    Demo(demo::Args),
    /// Write the generated reference into a checkout.
    #[command(hide = true)]
    GenerateDocs(generate_docs::Args),
}

/// Parses and runs. Errors are one message on standard error.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Simulate(args) => simulate::run(args),
        Command::Demo(args) => demo::run(args),
        Command::GenerateDocs(args) => generate_docs::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("smart-monitor: {error:#}");
        ExitCode::from(2)
    })
}
