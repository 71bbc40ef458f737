//! Running a program as root: as we are, or through sudo. Only that program is raised, never cargo.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::process::{command, on_path};

/// Tells tests and benchmarks which daemon to start.
pub(crate) const DAEMON_VARIABLE: &str = "SMART_MONITOR_BIN";

/// What sudo lets through.
const KEPT: &str = "--preserve-env=SMART_MONITOR_BIN,RUST_LOG,RUST_BACKTRACE,NO_COLOR,TERM";

pub(crate) enum Rights {
    Root,
    Sudo(PathBuf),
}

/// What this user can be raised by; `None` where nothing can.
pub(crate) fn available() -> Result<Option<Rights>> {
    // The owner of one's own folder in /proc is the effective user.
    let user = std::fs::metadata("/proc/self")
        .context("cannot read /proc/self")?
        .uid();
    Ok(if user == 0 {
        Some(Rights::Root)
    } else {
        on_path("sudo").map(Rights::Sudo)
    })
}

impl Rights {
    /// A runner for cargo, which puts it before the program it starts.
    pub(crate) fn runner(&self) -> Option<String> {
        match self {
            Self::Root => None,
            Self::Sudo(sudo) => Some(format!("{} {KEPT} --", sudo.display())),
        }
    }
}

/// Becomes that program: its exit code, and every signal sent to cargo or xtask, are its own. Returns only an error.
pub(crate) fn become_root_program(
    program: &Path,
    args: &[OsString],
    environment: &[(&str, &OsStr)],
) -> Result<Infallible> {
    let rights = available()?.ok_or_else(|| {
        anyhow!(
            "this needs root, and there is no sudo here. {}",
            as_root(program, args, environment)
        )
    })?;
    let mut command = match &rights {
        Rights::Root => command(program),
        Rights::Sudo(sudo) => {
            let mut raised = command(sudo);
            raised.args([KEPT, "--"]).arg(program);
            raised
        }
    };
    command.args(args).envs(environment.iter().copied());
    let error = command.exec();
    Err(anyhow!(error).context(format!("cannot start {}", program.display())))
}

fn as_root(program: &Path, args: &[OsString], environment: &[(&str, &OsStr)]) -> String {
    let mut words: Vec<String> = environment
        .iter()
        .map(|(name, value)| format!("{name}={}", quoted(&value.to_string_lossy())))
        .collect();
    words.push(quoted(&program.to_string_lossy()));
    words.extend(args.iter().map(|arg| quoted(&arg.to_string_lossy())));
    format!("As root, run:\n  {}", words.join(" "))
}

/// A word that a shell reads back as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_exact_command() {
        let args = ["run".into(), "--config".into(), "it's my.toml".into()];
        let environment = [(DAEMON_VARIABLE, OsStr::new("/t/smart-monitor"))];
        assert_eq!(
            as_root(Path::new("/t/x"), &args, &environment),
            "As root, run:\n  SMART_MONITOR_BIN=/t/smart-monitor /t/x run --config 'it'\\''s my.toml'"
        );
    }
}
