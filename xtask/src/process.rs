//! The one place that makes commands, so that each starts from the same cleaned environment.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the daemon; xtask's work is to start programs"
)]
fn bare(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// A command without what `cargo run` tells the program it runs: an inner cargo would take the outer one's package
/// and library path for its own.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = bare(program);
    command.env_remove("LD_LIBRARY_PATH").env_remove("CARGO");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_package) {
            command.env_remove(name);
        }
    }
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH").and_then(|path| foreign_only(&path)) {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

fn is_of_outer_package(name: &str) -> bool {
    const PREFIXES: [&str; 4] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ];
    name == "CARGO_PRIMARY_PACKAGE" || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Cargo puts its own folders first in the library path; what the user set stays.
fn foreign_only(path: &OsStr) -> Option<std::ffi::OsString> {
    let kept = std::env::split_paths(path).filter(|part| {
        let text = part.to_string_lossy();
        !(text.contains("/toolchains/")
            || part.ancestors().any(|up| up.join("CACHEDIR.TAG").exists()))
    });
    std::env::join_paths(kept)
        .ok()
        .filter(|joined| !joined.is_empty())
}

/// The cargo that runs this xtask, and the same target folder.
pub(crate) fn cargo(paths: &Paths) -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&paths.repo)
        .env("CARGO_TARGET_DIR", &paths.target);
    command
}

/// Runs with the terminal's own input and output.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// What it printed, or an error that holds the last lines of what it said.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    capture_within(command, Duration::MAX)
}

/// As [`capture`], ended when it takes longer than `limit`.
pub(crate) fn capture_within(command: &mut Command, limit: Duration) -> Result<String> {
    let output = output_within(command, limit)?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            name(command),
            output.status,
            tail(&output)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn output_within(command: &mut Command, limit: Duration) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("{} is not installed", name(command)),
            _ => anyhow::anyhow!("cannot start {}: {error}", name(command)),
        })?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "{} did not finish within {} s",
                name(command),
                limit.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Output {
        status,
        stdout: joined(stdout),
        stderr: joined(stderr),
    })
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before a read error is still worth showing.
            let _read = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn joined(thread: JoinHandle<Vec<u8>>) -> Vec<u8> {
    thread.join().unwrap_or_default()
}

/// Its last lines; a stack backtrace after them says nothing to the user.
fn tail(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Stack backtrace"))
        .filter(|line| !line.is_empty() && !line.starts_with("info:"))
        .collect();
    let skipped = lines.len().saturating_sub(6);
    lines
        .into_iter()
        .skip(skipped)
        .collect::<Vec<_>>()
        .join("; ")
}

/// A program of that name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
