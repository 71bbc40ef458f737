//! One boot of an emulated machine, from power on to its answer. Software emulation: it needs no right and no hardware, and behaves the
//! same inside of a machine that is virtual itself.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::packages::Emulator;
use super::report::Report;
use crate::process::command;

/// Without `cx16`, under which kernels crash at random in qemu 7.2.
const CPU: &str = "Haswell-v4,-cx16";
/// A panic ends the machine at once.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 cgroup_enable=memory";

/// What is booted.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) image: &'a Path,
    /// The file system, as the kernel unpacks it.
    pub(super) archive: &'a Path,
    /// The first program, and what else the kernel is told.
    pub(super) words: &'a str,
    /// MiB.
    pub(super) memory: u32,
    /// Many times what it takes on an idle host; then it hangs.
    pub(super) limit: Duration,
}

/// Boots, and waits for the machine to end. The logs are left in the folder.
pub(super) fn run(emulator: &Emulator, boot: &Boot<'_>, logs: &Path) -> Result<Report> {
    let (console, report) = (logs.join("console"), logs.join("report"));
    let words = logs.join("emulator");
    for log in [&console, &report] {
        fs::write(log, "").with_context(|| format!("cannot write {}", log.display()))?;
    }
    let mut machine = command(&emulator.program);
    if let Some(root) = &emulator.root {
        let libraries = [
            "usr/lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu",
            "usr/lib",
            "lib",
        ];
        let libraries = std::env::join_paths(libraries.map(|folder| root.join(folder)))?;
        machine.env("LD_LIBRARY_PATH", libraries);
        machine.env(
            "QEMU_MODULE_DIR",
            root.join("usr/lib/x86_64-linux-gnu/qemu"),
        );
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            machine.arg("-L").arg(root.join(data));
        }
    }
    machine
        .args(["-accel", "tcg", "-cpu", CPU, "-smp", "1"])
        .args(["-m", &boot.memory.to_string()])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", report.display()))
        .arg("-kernel")
        .arg(boot.image)
        .arg("-initrd")
        .arg(boot.archive)
        .args(["-append", &format!("{COMMAND_LINE} {}", boot.words)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&words)?);
    let mut machine = machine.spawn().context("cannot start the emulator")?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = machine.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > boot.limit {
            machine.kill()?;
            machine.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (console, report, words) = (text(&console)?, text(&report)?, text(&words)?);
    match status {
        None => bail!(
            "it hung: no end after {} s; {}",
            boot.limit.as_secs(),
            last_words(&console)
        ),
        Some(status) if !status.success() => {
            bail!("the emulator ended with {status}: {}", words.trim())
        }
        Some(_) => judge(&console, &report),
    }
}

/// The answer of a machine that has ended, if it is one.
fn judge(console: &str, report: &str) -> Result<Report> {
    if let Some((_, panic)) = console.split_once("Kernel panic - not syncing: ") {
        bail!(
            "kernel panic: {}",
            panic.lines().next().unwrap_or_default().trim()
        );
    }
    Report::parse(report).map_err(|error| anyhow!("{error:#}; {}", last_words(console)))
}

/// The last line of the console.
fn last_words(console: &str) -> String {
    let last = console
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    match last {
        Some(line) => format!("its console ends with `{line}`"),
        None => "its console is empty".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        "{\"kernel\":\"6.12.1\"}\n{\"end\":{\"probes\":0,\"programs\":0,\"scenes\":0}}\n";

    #[test]
    fn a_panic_is_named_even_after_an_answer() {
        let console = "[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n[    1.1] CPU: 0\r\n";
        let error = judge(console, WHOLE).unwrap_err().to_string();
        assert_eq!(
            error,
            "kernel panic: Attempted to kill init! exitcode=0x00000100"
        );
    }

    #[test]
    fn no_answer_is_a_failure_with_the_last_words() {
        let error = judge("Booting\ninit: kernel-matrix ended with 1\r\n\r\n", "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no complete answer: 0 probes were reported, and then nothing; its console ends with `init: kernel-matrix ended with 1`"
        );
        let silent = judge("", "").unwrap_err().to_string();
        assert!(silent.ends_with("; its console is empty"), "{silent}");
    }

    #[test]
    fn a_whole_answer_is_one() {
        assert_eq!(judge("quiet\n", WHOLE).unwrap().release, "6.12.1");
    }
}
