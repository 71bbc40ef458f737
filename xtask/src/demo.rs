//! `cargo xtask demo`: build, then show the daemon at work. What is shown is the daemon's own affair.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::paths::Paths;
use crate::run;

pub(crate) fn run(paths: &Paths, args: Vec<OsString>) -> Result<Infallible> {
    run::daemon(paths, "demo", args)
}
