//! Those who keep the service running in our place, each as it is by default.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::service::Place;
use super::systemd::Systemd;
use crate::daemon::{Folder, program};
use crate::peers::{find, run};

/// How long one may take to be there.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    Monit,
    Supervisord,
    Pm2,
    Systemd,
}

impl Rival {
    pub(super) const ALL: [Self; 4] = [Self::Monit, Self::Supervisord, Self::Pm2, Self::Systemd];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Monit => "Monit",
            Self::Supervisord => "supervisord",
            Self::Pm2 => "PM2",
            Self::Systemd => "systemd",
        }
    }

    /// The port of its service.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Monit => 19211,
            Self::Supervisord => 19212,
            Self::Pm2 => 19213,
            Self::Systemd => 19214,
        }
    }

    /// The lines that have the daemon watch the service there; none for one that it does not know.
    pub(super) fn watched(self, folder: &Folder) -> Option<String> {
        let lines = match self {
            Self::Monit => return None,
            Self::Supervisord => {
                let socket = folder.file("supervisord.sock");
                format!(
                    "kind = \"supervisord\"\nwith = {{ program = \"bench\", socket = \"{}\" }}\n",
                    socket.display()
                )
            }
            Self::Pm2 => format!(
                "kind = \"pm2\"\nwith = {{ app = \"bench\", home = \"{}\" }}\n",
                folder.file("pm2").display()
            ),
            Self::Systemd => "kind = \"systemd\"\nwith = { unit = \"bench\" }\n".to_owned(),
        };
        Some(lines)
    }

    /// Starts it with the service.
    pub(super) fn start(self, install: bool, folder: &Folder, place: &Place) -> Result<Running> {
        let command = place.command()?;
        match self {
            Self::Monit => monit(&find("monit", install, folder)?, folder, &command),
            Self::Supervisord => {
                supervisord(&find("supervisord", install, folder)?, folder, &command)
            }
            Self::Pm2 => pm2(&find("pm2", install, folder)?, folder, &command),
            Self::Systemd => Systemd::start(folder, &command).map(Running::Systemd),
        }
    }
}

/// Looks every second, which is the most often that it can.
fn monit(executable: &Path, folder: &Folder, command: &[String]) -> Result<Running> {
    // It wants programs that put themselves into the background.
    let (script, pid) = (folder.file("monit-start"), folder.file("monit-service.pid"));
    let text = format!(
        "#!/bin/sh\n{} &\necho $! >{}\n",
        command.join(" "),
        pid.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, Permissions::from_mode(0o700))?;
    let config = folder.file("monitrc");
    let file = |name| folder.file(name).display().to_string();
    let text = format!(
        "set daemon 1\nset idfile {}\nset statefile {}\nset pidfile {}\n\
         check process bench with pidfile {}\n  start program = \"{}\"\n",
        file("monit.id"),
        file("monit.state"),
        file("monit.pid"),
        pid.display(),
        script.display()
    );
    fs::write(&config, text)?;
    fs::set_permissions(&config, Permissions::from_mode(0o600))?;
    let mut start = program(executable);
    spawn(start.arg("-I").arg("-c").arg(config))
}

fn supervisord(executable: &Path, folder: &Folder, command: &[String]) -> Result<Running> {
    let config = folder.file("supervisord.conf");
    let socket = folder.file("supervisord.sock");
    let text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={}\n\
         [unix_http_server]\nfile={}\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [program:bench]\ncommand={}\nautorestart=true\n",
        folder.file("supervisord.pid").display(),
        socket.display(),
        command.join(" ")
    );
    fs::write(&config, text)?;
    let running = spawn(program(executable).arg("-c").arg(config))?;
    until(|| socket.exists(), "supervisord to listen")?;
    Ok(running)
}

fn pm2(executable: &Path, folder: &Folder, command: &[String]) -> Result<Running> {
    let (first, rest) = command.split_first().context("no command")?;
    let apps = json!({ "apps": [{
        "name": "bench", "script": first, "args": rest, "interpreter": "none",
    }]});
    let file = folder.file("bench.json");
    fs::write(&file, apps.to_string())?;
    let home = folder.file("pm2");
    let running = Running::Pm2(executable.to_owned(), home.clone());
    let mut start = program(executable);
    run(start.env("PM2_HOME", home).arg("start").arg(file))?;
    Ok(running)
}

fn spawn(start: &mut std::process::Command) -> Result<Running> {
    start.stdin(Stdio::null());
    start.stdout(Stdio::null()).stderr(Stdio::null());
    let what = format!("cannot start {start:?}");
    Ok(Running::Child(start.spawn().context(what)?))
}

pub(super) fn until(mut is_so: impl FnMut() -> bool, what: &str) -> Result<()> {
    let begin = Instant::now();
    while !is_so() {
        ensure!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A running one; ends with its owner. What it leaves is swept up with all children of the bench.
#[derive(Debug)]
pub(super) enum Running {
    Pm2(PathBuf, PathBuf),
    Child(Child),
    Systemd(#[expect(dead_code, reason = "held until it is dropped")] Systemd),
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Pm2(executable, home) => {
                let _swept_later = run(program(executable).env("PM2_HOME", home).arg("kill"));
            }
            Self::Child(child) => {
                let _swept_later = child.kill().and_then(|()| child.wait());
            }
            Self::Systemd(_) => {}
        }
    }
}
