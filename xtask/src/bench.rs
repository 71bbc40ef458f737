//! `cargo xtask bench`: build, then be the benchmark program, as root.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::paths::Paths;
use crate::process::{self, cargo};
use crate::rights::{self, DAEMON_VARIABLE};

pub(crate) fn run(
    paths: &Paths,
    name: Option<OsString>,
    args: Vec<OsString>,
) -> Result<Infallible> {
    let daemon = build::run(paths, Profile::Release)?;
    let mut build = cargo(paths);
    build.args([
        "build",
        "--release",
        "--package",
        "smart-monitor-tests",
        "--bin",
        "bench",
    ]);
    process::run(&mut build, "building the benchmarks")?;
    let bench = paths.target.join("release/bench");
    let args: Vec<OsString> = name.into_iter().chain(args).collect();
    rights::become_root_program(&bench, &args, &[(DAEMON_VARIABLE, daemon.as_os_str())])
}
