//! `cargo xtask run`: build, then be the daemon. Arguments after `--` are the daemon's.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::paths::Paths;
use crate::rights;

pub(crate) fn run(paths: &Paths, args: Vec<OsString>) -> Result<Infallible> {
    let config = paths.repo.join("config/smart-monitor.toml");
    let args = if args.is_empty() && config.is_file() {
        vec!["--config".into(), config.into()]
    } else {
        args
    };
    daemon(paths, "run", args)
}

/// Builds the daemon and becomes one of its subcommands, as root.
pub(crate) fn daemon(paths: &Paths, subcommand: &str, args: Vec<OsString>) -> Result<Infallible> {
    let binary = build::run(paths, Profile::Release)?;
    let args: Vec<OsString> = std::iter::once(subcommand.into()).chain(args).collect();
    rights::become_root_program(&binary, &args, &[])
}
