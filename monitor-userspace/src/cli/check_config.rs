//! `smart-monitor check-config`: a configuration without mistakes, or where they are.

mod notes;

use std::path::PathBuf;
use std::process::ExitCode;

use super::render;
use crate::config::Config;

/// Check a configuration. What it may do and can hardly be meant is said too, as notes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file.
    file: PathBuf,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(match Config::load(&args.file) {
        Ok(config) => {
            let mut out = format!(
                "{}: good: {} services, {} remedies, {}\n",
                args.file.display(),
                config.services.len(),
                config.remedies.len(),
                mode(&config),
            );
            for note in notes::of(&config) {
                let note = render::clean(&note);
                render::add(&mut out, format_args!("note: {note}\n"));
            }
            render::show(&out)?;
            ExitCode::SUCCESS
        }
        Err(error) => {
            render::remark(error.render());
            ExitCode::FAILURE
        }
    })
}

fn mode(config: &Config) -> &'static str {
    let nothing = config.remedies.is_empty() && config.guards.is_empty();
    match (nothing, config.policy.dry_run) {
        (true, _) => "only observes",
        (false, true) => "dry run",
        (false, false) => "acts",
    }
}
