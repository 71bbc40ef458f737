//! What runs on this host: found, proposed as a configuration that works, and observed where there is none.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::config::Config;
use smart_monitor::model::{Service, ServiceState};
use smart_monitor_tests::{
    Daemon, PATIENCE, Site, binary, free_port, http_get, program, send, wait_until,
};

/// A program in the foreground; killed with it.
struct Running(Child);

impl Running {
    fn start(site: &Site, words: &[&str]) -> Result<Self> {
        let (first, rest) = words.split_first().context("a program")?;
        let mut command = program(first);
        command.args(rest).current_dir(site.path(""));
        // What it starts goes away with the site.
        command.env("SMART_MONITOR_STATE_DIR", site.state());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("no {first}: .ci/run installs it"))?;
        Ok(Self(child))
    }

    /// Something that listens there.
    fn listening(site: &Site, words: &[&str], at: SocketAddr) -> Result<Self> {
        let running = Self::start(site, words)?;
        let listens = || std::net::TcpStream::connect(at).ok();
        wait_until(PATIENCE, "it listens", listens)?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn redis(site: &Site, at: SocketAddr) -> Result<Running> {
    let port = at.port().to_string();
    let words = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--port",
        &port,
    ];
    Running::listening(site, &words, at)
}

/// With one program that is not started anew.
fn supervisord(site: &Site) -> Result<Running> {
    let folder = site.path("");
    let folder = folder.display();
    let script = site.script("sleeper", "exec sleep 1000")?;
    let text = format!(
        "[supervisord]\nnodaemon=true\nlogfile={folder}/sd.log\npidfile={folder}/sd.pid\nuser=root\n\
        [unix_http_server]\nfile={folder}/sd.sock\n\
        [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
        [program:sleeper]\ncommand={}\nstartsecs=0\nautorestart=false\n",
        script.display()
    );
    let config = site.path("sd.conf");
    fs::write(&config, text)?;
    let config = config.to_str().context("a path in UTF-8")?;
    let running = Running::start(site, &["supervisord", "-c", config])?;
    wait_until(PATIENCE, "supervisord has started it", || {
        let log = fs::read_to_string(site.path("sd.log")).ok()?;
        log.contains("success: sleeper").then_some(())
    })?;
    Ok(running)
}

fn pm2(site: &Site, words: &[&str]) -> Result<()> {
    let mut command = program("pm2");
    command.args(words).env("PM2_HOME", site.path("pm2"));
    command.env("SMART_MONITOR_STATE_DIR", site.state());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let ended = command.status();
    let ended = ended.context("no pm2: .ci/run installs it")?;
    ensure!(ended.success(), "pm2 {words:?}: {ended}");
    Ok(())
}

fn discover(words: &[&str]) -> Result<Output> {
    let mut command = program(binary()?);
    command.arg("discover").args(words).stdin(Stdio::null());
    Ok(command.output()?)
}

/// The one that is this, by what is acted on.
fn whose<'a>(config: &'a Config, kind: &str, words: &[&str]) -> Result<&'a Service> {
    let mut services = config.services.iter();
    let found = services.find(|it| it.kind == kind && it.command == words);
    found.with_context(|| format!("{kind} {words:?} is not proposed: {:?}", config.text))
}

fn asks(config: &Config, service: &Service) -> Vec<String> {
    let checks = config.checks.get(&service.name).into_iter().flatten();
    checks.map(|check| check.spec.name.to_owned()).collect()
}

#[test]
fn what_is_found_is_a_configuration_that_works() -> Result<()> {
    let site = Site::new()?;
    let (at, web_at) = (free_port()?, free_port()?);
    let _redis = redis(&site, at)?;
    let port = web_at.port().to_string();
    let words = ["python3", "-m", "http.server", "--bind", "127.0.0.1", &port];
    let _web = Running::listening(&site, &words, web_at)?;
    let _supervisord = supervisord(&site)?;
    let script = site.script("app", "exec sleep 1000")?;
    let script = script.to_str().context("a path in UTF-8")?;
    let start = ["start", script, "--interpreter", "none", "--name", "my app"];
    pm2(&site, &start)?;

    let path = site.path("proposed.toml");
    let output = path.to_str().context("a path in UTF-8")?;
    let done = discover(&["--output", output])?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{said}");
    let text = fs::read_to_string(&path)?;
    let mut check = program(binary()?);
    let good = check.arg("check-config").arg(&path).output()?;
    let shown = String::from_utf8_lossy(&good.stdout);
    ensure!(
        good.status.success() && shown.contains("only observes"),
        "{shown}\n{text}"
    );

    let config = Config::parse(&text, &path).map_err(|error| anyhow::anyhow!(error.render()))?;
    let (at, web_at) = (at.to_string(), web_at.to_string());
    let redis = whose(&config, "listener", &[&at])?;
    ensure!(asks(&config, redis) == ["redis"], "{text}");
    let web = whose(&config, "listener", &[&web_at])?;
    ensure!(asks(&config, web) == ["http"], "{text}");
    let socket = site.path("sd.sock").display().to_string();
    let sleeper = whose(&config, "supervisord", &[&socket, "sleeper"])?;
    ensure!(
        asks(&config, sleeper).is_empty(),
        "it listens nowhere: {text}"
    );
    let home = site.path("pm2").display().to_string();
    let app = whose(&config, "pm2", &[&home, "my app"])?;
    ensure!(app.name.starts_with("my-app"), "{}", app.name);
    let mine = [redis, web, sleeper, app].map(|service| service.name.clone());

    let again = discover(&["--output", output])?;
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(
        !again.status.success() && why.contains("must not be there yet"),
        "{why}"
    );
    ensure!(fs::read_to_string(&path)? == text, "it is not overwritten");

    let rest = discover(&["--config", output, "--no-probe", "--kind", "listener,pm2"])?;
    let (rest, why) = (
        String::from_utf8_lossy(&rest.stdout).into_owned(),
        String::from_utf8_lossy(&rest.stderr).into_owned(),
    );
    ensure!(!rest.contains(&at) && !rest.contains("my app"), "{rest}");
    let left_out = why.lines().find(|line| line.starts_with("left out"));
    ensure!(
        left_out.is_some_and(|line| line.contains(&app.name)),
        "{why}"
    );

    site.configure(&text)?;
    let mut daemon = site.start()?;
    for name in &mine {
        daemon.healthy(name)?;
    }
    Ok(())
}

/// A configuration for this place that names no service, and would do much.
fn nothing_named(site: &Site) -> Result<()> {
    let text = format!(
        "[daemon]\nstate_dir = \"{}\"\nsocket = \"{}\"\nhttp = \"{}\"\ndiscover_every = \"1s\"\n\
        [[remedy]]\ndetector = \"service_down\"\non = [\"*\"]\naction = \"restart_service\"\n",
        site.state().display(),
        site.socket().display(),
        site.http,
    );
    Ok(fs::write(site.config(), text)?)
}

/// The service that is this, once it is there and in this state.
fn observed(daemon: &mut Daemon, last_word: &str, state: ServiceState) -> Result<Service> {
    let what = format!("{last_word} is {}", state.name());
    daemon.wait_for(&what, |daemon| {
        let services = daemon.status().ok()?.view.services.into_values();
        let mut own = services.filter(|row| {
            let last = row.service.command.last();
            last.is_some_and(|word| word == last_word) && row.state == state
        });
        own.next().map(|row| row.service)
    })
}

#[test]
fn without_a_configuration_it_is_observed_and_never_acted_upon() -> Result<()> {
    let site = Site::new()?;
    let at = free_port()?;
    let first = redis(&site, at)?;
    let _supervisord = supervisord(&site)?;
    nothing_named(&site)?;
    let mut daemon = site.start()?;
    let sleeper = observed(&mut daemon, "sleeper", ServiceState::Healthy)?;
    let found = observed(&mut daemon, &at.to_string(), ServiceState::Healthy)?;
    ensure!(found.observe_only && sleeper.observe_only && found.checks.is_empty());
    let (_, page) = http_get(site.http, "/metrics")?;
    let row = format!("service=\"{}\"", sleeper.name);
    ensure!(page.contains(&row), "it is in the metrics");

    send(sleeper.process.context("it runs")?, Signal::KILL)?;
    let incident = daemon.incident("its end is told", |it| {
        it.subject.configured_name() == Some(&*sleeper.name)
            && it
                .steps
                .iter()
                .any(|step| step.detail.contains("only observed"))
    })?;
    ensure!(incident.actions == 0, "{incident:#?}");
    observed(&mut daemon, "sleeper", ServiceState::Down)?;

    // Who listens no more is forgotten; who comes is found.
    drop(first);
    let gone = at.to_string();
    daemon.wait_for("the listener is forgotten", |daemon| {
        let services = daemon.status().ok()?.view.services;
        let there = services
            .values()
            .any(|row| row.service.command.contains(&gone));
        (!there).then_some(())
    })?;
    let later = free_port()?;
    let _second = redis(&site, later)?;
    observed(&mut daemon, &later.to_string(), ServiceState::Healthy)?;
    Ok(())
}
