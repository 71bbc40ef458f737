//! `cargo xtask test`: the host tests, which need no rights, then the tests against the live kernel, as root.
//!
//! What cannot run is a failure that says so, never a skip. The last line is `N passed, N failed` over all test programs.
//!
//! A live test measures a kernel that others use too, and a busy machine can make it fail. So a few that failed run once more, each
//! alone, and those that then pass are named: a test that is named often is a fault to look for.

mod results;
mod targets;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};

use self::results::{Counts, Failures};
use self::targets::Targets;
use crate::build::{self, Profile};
use crate::paths::Paths;
use crate::process::{capture, cargo, command};
use crate::rights::{self, DAEMON_VARIABLE};

const ONE_PASSED: Counts = Counts {
    passed: 1,
    failed: 0,
};

/// More live tests than this that fail are no chance.
const SECOND_TRIES: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) host: bool,
    pub(crate) live: bool,
}

/// Whether all that was asked for ran and passed.
pub(crate) fn run(paths: &Paths, wanted: Wanted, filter: Option<&str>) -> Result<bool> {
    let targets = Targets::of(paths)?;
    let mut counts = Counts::default();
    let mut all_ran = true;
    if wanted.host {
        for selection in targets.host() {
            let mut test = cargo(paths);
            test.args(["test", "--no-fail-fast"])
                .args(selection)
                .args(filter);
            counts += stream(&mut test)?.0;
        }
    }
    if wanted.live {
        match live(paths, &targets, filter) {
            Ok(live) => counts += live,
            Err(error) => {
                eprintln!("test: the live-kernel tests did NOT run: {error:#}");
                all_ran = false;
            }
        }
    }
    let any = counts.passed + counts.failed > 0;
    if !any {
        eprintln!(
            "test: no test ran{}",
            filter
                .map(|filter| format!("; none matches `{filter}`"))
                .unwrap_or_default()
        );
    }
    println!("{counts}");
    Ok(all_ran && any && counts.failed == 0)
}

fn live(paths: &Paths, targets: &Targets, filter: Option<&str>) -> Result<Counts> {
    let selection = targets.live().context(
        "there is no test target named `live` in the workspace; it belongs in tests/live.rs",
    )?;
    let rights = rights::available()?.ok_or_else(|| {
        anyhow!("they load kernel programs, which needs root, and there is no sudo here; as root, run `cargo xtask test --live`")
    })?;
    let daemon = build::run(paths, Profile::Release)?;
    let runner = match rights.runner() {
        Some(runner) => Some((runner_variable()?, runner)),
        None => None,
    };
    let cargo_test = |filter: Option<&str>, more: &[&str]| {
        let mut test = cargo(paths);
        // One at a time: they share one kernel, and measure it.
        test.args(["test", "--no-fail-fast"])
            .args(&selection)
            .args(filter)
            .args(["--", "--test-threads=1"])
            .args(more);
        test.env(DAEMON_VARIABLE, &daemon);
        if let Some((variable, runner)) = &runner {
            test.env(variable, runner);
        }
        test
    };
    let (mut counts, failed) = stream(&mut cargo_test(filter, &[]))?;
    if failed.len() > SECOND_TRIES {
        return Ok(counts);
    }
    for name in failed {
        println!("test: {name} failed; once more, alone");
        if stream(&mut cargo_test(Some(&name), &["--exact"]))?.0 == ONE_PASSED {
            println!("test: {name} passed at the second try");
            counts.passed += 1;
            counts.failed -= 1;
        }
    }
    Ok(counts)
}

/// Where cargo looks for a program to run test programs with.
fn runner_variable() -> Result<String> {
    Ok(format!(
        "CARGO_TARGET_{}_RUNNER",
        host_triple()?.to_uppercase().replace('-', "_")
    ))
}

fn host_triple() -> Result<String> {
    let text = capture(command(Path::new("rustc")).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Shows what the tests print as they print it, counts, and names those that failed.
fn stream(test: &mut Command) -> Result<(Counts, Vec<String>)> {
    let mut child = test
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut lines = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let (mut counts, mut failures) = (Counts::default(), Failures::default());
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        let shown = String::from_utf8_lossy(&line);
        counts += Counts::of_line(&shown);
        failures.line(&shown);
        line.clear();
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        eprintln!(
            "test: cargo test failed ({status}) with no failed test: it did not compile, or a test program died"
        );
        counts.failed = 1;
    }
    Ok((counts, failures.names))
}
