//! `smart-monitor check-config`: a configuration without mistakes, or where they are.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;

/// Check a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file.
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    match Config::load(&args.file) {
        Ok(config) => {
            println!(
                "{}: good: {} services, {} remedies, {}",
                args.file.display(),
                config.services.len(),
                config.remedies.len(),
                mode(&config),
            );
            for name in without_remedy(&config) {
                println!("note: no remedy brings service {name} back when it goes down");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.render());
            ExitCode::FAILURE
        }
    }
}

fn mode(config: &Config) -> &'static str {
    let nothing = config.remedies.is_empty() && config.guards.is_empty();
    match (nothing, config.policy.dry_run) {
        (true, _) => "only observes",
        (false, true) => "dry run",
        (false, false) => "acts",
    }
}

fn without_remedy(config: &Config) -> Vec<&str> {
    let covered = |name: &str| {
        config.remedies.iter().any(|remedy| {
            remedy.detector == "service_down" && remedy.on.iter().any(|on| on == "*" || on == name)
        })
    };
    let names = config.services.iter().map(|service| service.name.as_str());
    names.filter(|name| !covered(name)).collect()
}
