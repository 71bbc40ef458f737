//! wrk, on one CPU, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::super::tools;
use crate::daemon::program;

#[derive(Debug)]
pub(super) struct Wrk {
    path: PathBuf,
    cpu: usize,
}

/// What it says.
#[derive(Debug)]
pub(super) struct Asked {
    /// Requests in a second.
    pub(super) rate: f64,
    pub(super) requests: f64,
    /// Half and 99 of 100 were answered within so many microseconds.
    pub(super) quantiles: [f64; 2],
}

impl Wrk {
    pub(super) fn find(cpu: usize) -> Result<Self> {
        let path = tools::find(&["wrk"]).context("no wrk: install it")?;
        Ok(Self { path, cpu })
    }

    pub(super) fn ask(&self, connections: u32, time: Duration, url: &str) -> Result<Asked> {
        let mut command = program("taskset");
        command.args(["-c", &self.cpu.to_string()]).arg(&self.path);
        let seconds = format!("{}s", time.as_secs());
        command.args(["-t1", "-c", &connections.to_string(), "-d", &seconds]);
        command.args(["--latency", "-H", "Accept-Encoding: gzip", url]);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        read(&text).with_context(|| format!("wrk says otherwise: {text}"))
    }
}

fn read(text: &str) -> Option<Asked> {
    let after = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(name));
        value.map(str::trim)
    };
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    Some(Asked {
        rate: after("Requests/sec:")?.parse().ok()?,
        requests: requests.split_whitespace().next()?.parse().ok()?,
        quantiles: [micros(after("50%")?)?, micros(after("99%")?)?],
    })
}

/// A time as it writes it.
fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}
