//! Containers of a real podman, over its socket: an end by itself, one that was meant, one that podman repairs itself, and its health.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::State;
use smart_monitor::model::{ProcessKey, ServiceState};
use smart_monitor_tests::{Daemon, PATIENCE, Site, program, send, wait_until};

/// Ends by itself when it is sent SIGUSR1, and in good order when it is told to.
pub(super) const WEB: &str = "trap 'exit 3' USR1; trap 'exit 0' TERM; while :; do sleep 0.05; done";

const RULES: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#;

/// A podman with everything of its own below the folder of a site, and no network.
pub(super) struct Podman {
    pub(super) folder: PathBuf,
    service: Child,
}

impl Podman {
    pub(super) fn start(site: &Site) -> Result<Self> {
        let folder = site.path("podman");
        let bin = folder.join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        let config = "[containers]\ndefault_ulimits = []\n[network]\n";
        fs::write(folder.join("containers.conf"), config)?;
        let found = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = found
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or(false));
        let busybox = busybox.context("no busybox: apt-get install busybox-static")?;
        fs::copy(busybox, bin.join("busybox"))?;
        for name in ["sh", "sleep", "test", "httpd"] {
            symlink("busybox", bin.join(name))?;
        }
        let mut command = Self::command(&folder);
        command.args(["system", "service", "-t", "0"]);
        command.arg(format!("unix://{}", folder.join("socket").display()));
        let log = fs::File::create(folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let service = command.spawn().context("cannot start podman")?;
        let podman = Self { folder, service };
        wait_until(PATIENCE, "podman listens", || {
            std::os::unix::net::UnixStream::connect(podman.socket()).ok()
        })?;
        Ok(podman)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// In a mount namespace of its own, where the cgroups are those of version 2 whatever the host has.
    fn command(folder: &std::path::Path) -> Command {
        let script = "mount -t cgroup2 none /sys/fs/cgroup && exec podman \"$@\"";
        let mut command = program("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.arg("--root").arg(folder.join("root"));
        command.arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--runtime", "crun", "--events-backend", "file"]);
        command.env("CONTAINERS_CONF", folder.join("containers.conf"));
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let output = Self::command(&self.folder).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "podman {words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn container(&self, name: &str, more: &[&str]) -> Result<()> {
        let more = [&["--network=none"], more].concat();
        self.container_of(name, &more, &["/bin/sh", "-c", WEB])
    }

    pub(super) fn container_of(&self, name: &str, more: &[&str], program: &[&str]) -> Result<()> {
        let rootfs = self.folder.join("rootfs").display().to_string();
        let mut words = vec!["run", "--detach", "--ulimit=host"];
        words.extend(["--cgroups=disabled", "--name", name]);
        words.extend(more);
        words.extend(["--rootfs", &rootfs]);
        words.extend(program);
        self.run(&words).map(|_| ())
    }

    fn get(&self, name: &str, what: &str) -> Result<String> {
        self.run(&["inspect", "--format", what, name])
    }

    /// A `[[service]]` that is this container.
    fn service(&self, name: &str, more: &str) -> String {
        let socket = self.socket().display().to_string();
        format!(
            "[[service]]\nname = \"{name}\"\nkind = \"container\"\nwith = {{ socket = \"{socket}\" }}\n{more}\n"
        )
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["rm", "--all", "--force", "--time", "0"]) {
            eprintln!("containers are left: {error:#}");
        }
        let _gone = self.service.kill();
        let _reaped = self.service.wait();
    }
}

fn state(daemon: &Daemon, name: &str) -> Option<ServiceState> {
    let services = daemon.status().ok()?.view.services;
    services.get(name).map(|service| service.state)
}

fn stopped(daemon: &mut Daemon, name: &str) -> Result<()> {
    daemon.wait_for("it is told as stopped", |daemon| {
        (state(daemon, name) == Some(ServiceState::Stopped)).then_some(())
    })
}

fn runs_anew(daemon: &mut Daemon, name: &str, old: ProcessKey) -> Result<ProcessKey> {
    daemon.wait_for("it runs as another process", |daemon| {
        let new = daemon.service(name)?;
        let healthy = state(daemon, name) == Some(ServiceState::Healthy);
        (new != old && healthy && procfs::runs(new)).then_some(new)
    })
}

/// Restarts that the daemon set out to do.
fn restarts(daemon: &Daemon) -> Result<u32> {
    Ok(daemon.incidents()?.iter().map(|it| it.actions).sum())
}

#[test]
fn what_ends_by_itself_is_restarted_and_what_was_stopped_is_not() -> Result<()> {
    let site = Site::new()?;
    let podman = Podman::start(&site)?;
    podman.container("web", &[])?;
    site.configure(&(podman.service("web", "") + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    send(first, Signal::USR1)?;
    let second = runs_anew(&mut daemon, "web", first)?;
    let incident = daemon.incident("the crash is repaired", |it| it.state == State::Resolved)?;
    ensure!(incident.detector == "service_down", "{incident:#?}");
    ensure!(restarts(&daemon)? == 1, "{:#?}", daemon.incidents()?);

    // Quickly, and so that podman before 4.7 tells of nothing but the end.
    podman.run(&["stop", "web"])?;
    stopped(&mut daemon, "web")?;
    ensure!(!procfs::runs(second), "it has ended");
    podman.run(&["start", "web"])?;
    let third = runs_anew(&mut daemon, "web", second)?;
    podman.run(&["kill", "web"])?;
    stopped(&mut daemon, "web")?;
    podman.run(&["start", "web"])?;
    runs_anew(&mut daemon, "web", third)?;
    podman.run(&["rm", "--force", "web"])?;
    stopped(&mut daemon, "web")?;
    ensure!(daemon.incidents()?.len() == 1, "{:#?}", daemon.incidents()?);
    ensure!(restarts(&daemon)? == 1, "{:#?}", daemon.incidents()?);
    ensure!(daemon.stop()?.success(), "{}", daemon.log());
    Ok(())
}

#[test]
fn what_podman_repairs_is_left_to_it_until_it_gives_up() -> Result<()> {
    let site = Site::new()?;
    let podman = Podman::start(&site)?;
    podman.container("web", &["--restart", "on-failure:1"])?;
    site.configure(&(podman.service("web", "") + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    send(first, Signal::USR1)?;
    let second = runs_anew(&mut daemon, "web", first)?;
    ensure!(restarts(&daemon)? == 0, "{:#?}", daemon.incidents()?);
    ensure!(podman.get("web", "{{.RestartCount}}")? == "1", "podman did");

    // Once is all that it may.
    send(second, Signal::USR1)?;
    runs_anew(&mut daemon, "web", second)?;
    ensure!(restarts(&daemon)? == 1, "{:#?}", daemon.incidents()?);
    Ok(())
}

#[test]
fn its_own_health_check_says_how_it_is() -> Result<()> {
    let site = Site::new()?;
    let podman = Podman::start(&site)?;
    // Run by hand below: podman has systemd run it where there is one.
    let health = "echo looked for /ok; test -f /ok";
    let own = [
        "--health-cmd",
        health,
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
    ];
    podman.container("web", &own)?;
    let socket = podman.socket().display().to_string();
    let check = format!(
        "check = {{ container = {{ name = \"web\", socket = \"{socket}\" }}, interval = \"100ms\" }}"
    );
    site.configure(&podman.service("web", &check))?;
    fs::write(podman.folder.join("rootfs/ok"), "")?;
    podman.run(&["healthcheck", "run", "web"])?;
    let mut daemon = site.start()?;
    daemon.healthy("web")?;
    fs::remove_file(podman.folder.join("rootfs/ok"))?;
    let failed = podman.run(&["healthcheck", "run", "web"]);
    ensure!(failed.is_err(), "the file is gone");
    let incident = daemon.incident("it is unhealthy", |it| it.detector == "check_failing")?;
    let told = format!("{incident:?}");
    ensure!(told.contains("looked for /ok"), "{told}");
    Ok(())
}
