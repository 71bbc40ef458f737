//! The same kills of the same service under other supervisors, on the same machine in the same run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use smart_monitor::host::Opened as _;

use crate::daemon::{Folder, program, sweep};
use crate::down::{AGAIN_WITHIN, Back};
use crate::report::{Report, Samples, progress};
use crate::service::{Ear, command, hold, now};

/// Some of them call a service unstable that ran for less than a second.
const REST: Duration = Duration::from_millis(1200);

/// Measures those that are there; says which are not.
pub(crate) fn measure(rounds: usize, install: bool, own: Option<&Back>, report: &mut Report) {
    report.section("The same service and kill under other supervisors");
    if let Some(own) = own {
        report.durations("smart-monitor: kill -> exec'd", &own.begun, None);
        report.durations("smart-monitor: kill -> listens", &own.serving, None);
    }
    for peer in [Peer::Pm2, Peer::Supervisord] {
        progress(&format!("peers: {rounds} kills under {}", peer.name()));
        match kills(peer, rounds, install) {
            Ok(back) => show(peer.name(), &back, own, report),
            Err(error) => report.missing(peer.name(), &format!("{error:#}")),
        }
        if let Err(error) = sweep() {
            report.missing(peer.name(), &format!("left over: {error:#}"));
        }
    }
}

fn show(name: &str, back: &Back, own: Option<&Back>, report: &mut Report) {
    report.durations(&format!("{name}: kill -> exec'd"), &back.begun, None);
    report.durations(&format!("{name}: kill -> listens"), &back.serving, None);
    let ratio = |theirs: &Samples, ours: &Samples| {
        let (theirs, ours) = theirs.median().zip(ours.median())?;
        Some(theirs.as_secs_f64() / ours.as_secs_f64())
    };
    if let Some(ratio) = own.and_then(|own| ratio(&back.serving, &own.serving)) {
        let what = format!("{name} / smart-monitor, median kill -> listens");
        report.number(&what, ratio, "times as long", None);
    }
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Pm2,
    Supervisord,
}

impl Peer {
    const fn name(self) -> &'static str {
        match self {
            Self::Pm2 => "PM2",
            Self::Supervisord => "supervisord",
        }
    }

    const fn executable(self) -> &'static str {
        match self {
            Self::Pm2 => "pm2",
            Self::Supervisord => "supervisord",
        }
    }

    fn start(self, executable: &Path, folder: &Folder, command: &[String]) -> Result<Supervisor> {
        let (first, rest) = command.split_first().context("no command")?;
        match self {
            Self::Pm2 => {
                let file = folder.file("bench.json");
                let app = json!({ "apps": [{
                    "name": "bench", "script": first, "args": rest, "interpreter": "none",
                    "autorestart": true, "restart_delay": 0, "max_restarts": 1_000_000,
                }]});
                std::fs::write(&file, app.to_string())?;
                let home = folder.file("pm2");
                let supervisor = Supervisor::Pm2(executable.to_owned(), home.clone());
                run(program(executable)
                    .env("PM2_HOME", home)
                    .arg("start")
                    .arg(file))?;
                Ok(supervisor)
            }
            Self::Supervisord => {
                let file = folder.file("supervisord.conf");
                let text = format!(
                    "[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={}\n\
                     [program:bench]\ncommand={}\nautorestart=true\nstartsecs=0\n",
                    folder.file("supervisord.pid").display(),
                    command.join(" ")
                );
                std::fs::write(&file, text)?;
                let mut start = program(executable);
                start.arg("-c").arg(file).stdin(Stdio::null());
                start.stdout(Stdio::null()).stderr(Stdio::null());
                Ok(Supervisor::Child(start.spawn()?))
            }
        }
    }
}

/// A running one; ends with its owner.
#[derive(Debug)]
enum Supervisor {
    Pm2(PathBuf, PathBuf),
    Child(Child),
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        match self {
            Self::Pm2(executable, home) => {
                let _swept_later = run(program(executable).env("PM2_HOME", home).arg("kill"));
            }
            Self::Child(child) => {
                let _swept_later = child.kill().and_then(|()| child.wait());
            }
        }
    }
}

fn kills(peer: Peer, rounds: usize, install: bool) -> Result<Back> {
    let folder = Folder::new()?;
    let executable = find(peer.executable(), install, &folder)?;
    let ear = Ear::new(&folder.0)?;
    let listen: SocketAddr = ([127, 0, 0, 1], 19203).into();
    let supervisor = peer.start(&executable, &folder, &command(&ear, listen)?)?;
    let mut back = Back::default();
    let mut service = ear.next(AGAIN_WITHIN)?;
    for round in 0..rounds {
        std::thread::sleep(REST);
        let held = hold(service.pid)?;
        let killed = now();
        held.kill()?;
        service = ear
            .next(AGAIN_WITHIN)
            .with_context(|| format!("kill {round}"))?;
        back.begun.add(service.begun.saturating_sub(killed));
        back.serving.add(service.serving.saturating_sub(killed));
    }
    drop(supervisor);
    Ok(back)
}

/// The program on the path, or else one that is installed into the folder.
pub(crate) fn find(executable: &str, install: bool, folder: &Folder) -> Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&paths)
        .map(|path| path.join(executable))
        .find(|path| path.is_file());
    let (by_hand, fetch): (_, fn(&Folder) -> Result<PathBuf>) = match executable {
        "pm2" => ("npm install -g pm2", fetch_pm2),
        "monit" => ("apt-get install monit", fetch_monit),
        _ => ("pip install supervisor", fetch_supervisord),
    };
    match here {
        Some(path) => Ok(path),
        None if install => fetch(folder),
        None => {
            bail!("not installed; `{by_hand}`, or --peers, which puts it into a temporary folder")
        }
    }
}

fn fetch_pm2(folder: &Folder) -> Result<PathBuf> {
    let prefix = folder.file("npm");
    let mut npm = program("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.arg("--prefix").arg(&prefix).arg("pm2"))?;
    Ok(prefix.join("node_modules/.bin/pm2"))
}

fn fetch_supervisord(folder: &Folder) -> Result<PathBuf> {
    let venv = folder.file("venv");
    run(program("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = venv.join("bin/pip");
    run(program(pip).args(["install", "--quiet", "supervisor", "setuptools<81"]))?;
    Ok(venv.join("bin/supervisord"))
}

/// Debian's package, unpacked: its service is never started.
fn fetch_monit(folder: &Folder) -> Result<PathBuf> {
    Ok(unpack("monit", folder)?.join("usr/bin/monit"))
}

/// Downloads a package of the distribution and unpacks it; the folder of that.
pub(crate) fn unpack(package: &str, folder: &Folder) -> Result<PathBuf> {
    let place = folder.file(&format!("{package}-package"));
    std::fs::create_dir_all(&place)?;
    let mut get = program("apt-get");
    run(get
        .args(["download", "--quiet", package])
        .current_dir(&place))?;
    for entry in std::fs::read_dir(&place)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(program("dpkg").arg("-x").arg(&path).arg(&place))?;
        }
    }
    Ok(place)
}

pub(crate) fn run(command: &mut std::process::Command) -> Result<()> {
    let what = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| what.clone())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{what} failed: {}",
            said.trim().lines().last().unwrap_or("it says nothing")
        );
    }
    Ok(())
}
