//! A process that runs a load when it is told to: a line in, a line of numbers out. It lives through all rounds, so that its own
//! start and end are not among what is measured, and its children are not the bench's. Ends when its input does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, bail};

use super::loads::{self, Load};
use crate::daemon::{Folder, program};

/// The worker itself.
pub(super) fn be(load: Load, folder: &Path) -> Result<()> {
    let mut run = loads::prepare(load, folder)?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lines() {
        line?;
        let answer = match run() {
            Ok(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
                numbers.join(" ")
            }
            Err(error) => format!("error: {error:#}"),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

/// A handle on a worker; it ends with its owner.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _folder: Folder,
}

impl Worker {
    /// Starts one, and waits until it is prepared.
    pub(super) fn start(load: Load) -> Result<Self> {
        let folder = Folder::new()?;
        let mut command = program(std::env::current_exe()?);
        command.args(["kernel-part", "worker", load.name()]);
        command.arg(&folder.0).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut worker = Self {
            child,
            orders,
            answers,
            _folder: folder,
        };
        match worker.answer()?.as_str() {
            "ready" => Ok(worker),
            other => bail!("the worker is not prepared: {other}"),
        }
    }

    /// Runs the load once.
    pub(super) fn run(&mut self) -> Result<Vec<f64>> {
        let orders = self.orders.as_mut().context("the worker is ending")?;
        writeln!(orders, "go")?;
        let answer = self.answer()?;
        let numbers = answer.split(' ').map(str::parse);
        numbers.collect::<Result<_, _>>().ok().context(answer)
    }

    /// Runs the load once; the first of its numbers.
    pub(super) fn first(&mut self) -> Result<f64> {
        let numbers = self.run()?;
        numbers.first().copied().context("no number")
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("the worker ended ({status})");
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}
