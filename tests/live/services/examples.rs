//! The examples in `config/examples`, as they are shipped, on the software that they are for: every service is well; one that is killed is
//! well again.
//!
//! What a test changes of an example stands in it, line by line: where things are, whatever is only said in a dry run, and, as the tests need
//! no systemd, the same program as `kind = "command"`. That systemd is told and asked as it should be is what `systemd.rs` shows.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::{Incident, Outcome, ServiceState, Subject};
use smart_monitor_tests::{Daemon, Site, binary, free_port, program, send};

use super::certificate::Authority;
use super::container::{Podman, WEB};
use super::databases::Postgres;
use super::nginx::nginx;
use super::pm2::tell;

/// Other tests, and what builds them, are no reason to leave a service alone.
const BUSY: &str = "busy_cpu = \"1000%\"\nbusy_io = \"1000%\"\nboot_grace = \"0s\"";

/// An example, with what is changed of it.
struct Example(String);

impl Example {
    fn new(name: &str) -> Result<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
        let path = Path::new(folder).join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let dry = "dry_run = true # see first what would be done; then take this line away";
        Self(text).with(&[(dry, BUSY)])
    }

    /// Every one of these stands in the example, and is replaced wherever it does.
    fn with(self, changes: &[(&str, &str)]) -> Result<Self> {
        let mut text = self.0;
        for (from, to) in changes {
            ensure!(text.contains(from), "the example does not have:\n{from}");
            text = text.replace(from, to);
        }
        Ok(Self(text))
    }

    /// Without what is between these two, the second of which stays.
    fn without(self, from: &str, to: &str) -> Result<Self> {
        let (before, after) = self.0.split_once(from).context("it is not there")?;
        let (_, after) = after.split_once(to).context("it does not end")?;
        Ok(Self(format!("{before}{to}{after}")))
    }

    fn start(&self, site: &Site) -> Result<Daemon> {
        site.configure(&self.0)?;
        let mut daemon = site.start()?;
        let names = self.0.split("[[service]]\nname = \"").skip(1);
        let names: Vec<&str> = names.filter_map(|rest| rest.split('"').next()).collect();
        ensure!(!names.is_empty(), "it has services");
        // The last word of one comes from a job.
        for name in names.into_iter().filter(|name| *name != "backup") {
            well(&mut daemon, name)?;
        }
        Ok(daemon)
    }
}

/// Waits until a service is HEALTHY.
fn well(daemon: &mut Daemon, name: &str) -> Result<()> {
    well_while(daemon, name, || {})
}

/// The same, with something done before each look.
fn well_while(daemon: &mut Daemon, name: &str, before: impl Fn()) -> Result<()> {
    let mut last = None;
    let found = daemon.wait_for(&format!("{name} is HEALTHY"), |daemon| {
        before();
        let view = daemon.status().ok()?.view.services.remove(name)?;
        let state = view.state;
        last = Some(view);
        (state == ServiceState::Healthy).then_some(())
    });
    found.with_context(|| format!("{last:#?}"))
}

/// Sends a signal to what runs a service, which ends it; the incident of that, when the service is mended.
fn recovers(
    daemon: &mut Daemon,
    name: &str,
    signal: Signal,
    before: impl Fn(),
) -> Result<Incident> {
    let old = daemon.healthy(name)?;
    send(old, signal)?;
    let subject = Subject::service(name);
    let incident = daemon.incident(&format!("{name} is mended"), |it| {
        before();
        it.subject == subject && it.detector == "service_down" && it.is_over()
    })?;
    well_while(daemon, name, before)?;
    let new = daemon.healthy(name)?;
    ensure!(new != old && procfs::runs(new), "{old} {new}");
    Ok(incident)
}

fn mended_by_us(incident: &Incident) -> Result<()> {
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(incident.actions == 1, "{incident:#?}");
    Ok(())
}

/// What runs a PostgreSQL server of the test, as the lines of a service of `kind = "command"`.
fn postgres_lines(postgres: &Postgres) -> String {
    let (server, data) = (postgres.programs.join("postgres"), postgres.data.display());
    format!(
        "kind = \"command\"\nuid = {}\ngid = {}\ncommand = [\"{}\", \"-D\", \"{data}\", \"-k\", \"{data}\", \
         \"-c\", \"listen_addresses=\", \"-c\", \"fsync=off\"]",
        postgres.uid,
        postgres.gid,
        server.display()
    )
}

/// The user that the examples log in as, made before the server runs.
fn monitor(postgres: &Postgres) -> Result<()> {
    let mut single = program(postgres.programs.join("postgres"));
    single.args(["--single", "-D"]).arg(&postgres.data);
    single.arg("postgres").current_dir("/");
    let command = single.uid(postgres.uid).gid(postgres.gid);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("it has an input")?;
    input.write_all(b"create role monitor login in role pg_monitor\n")?;
    drop(input);
    ensure!(child.wait()?.success(), "the role is not made");
    Ok(())
}

fn redis_lines(port: u16) -> String {
    format!(
        "kind = \"command\"\ncommand = [\"redis-server\", \"--port\", \"{port}\", \"--bind\", \"127.0.0.1\", \"--save\", \"\"]"
    )
}

#[test]
fn the_web_stack_is_well_and_its_application_comes_back() -> Result<()> {
    let site = Site::new()?;
    let (front, secure, app, redis) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let certificates = site.path("certificates");
    Authority::new(&certificates)?.sign("site.pem", 2099)?;
    let postgres = Postgres::new(&site)?;
    monitor(&postgres)?;
    let at = certificates.display();
    let servers = super::nginx::proxy(&front.to_string(), &app.to_string())
        + &format!(
            "  server {{\n    listen {secure} ssl;\n    ssl_certificate {at}/site.pem;\n    ssl_certificate_key {at}/site.key;\n  }}\n"
        );
    let nginx = nginx(&site, &servers)?;
    fs::create_dir_all(site.path("releases/v1"))?;
    fs::create_dir_all(site.path("logs"))?;
    symlink("releases/v1", site.path("current"))?;
    let path = |name: &str| format!("\"{}\"", site.path(name).display());
    let example = Example::new("web-stack")?.with(&[
        // Who runs them.
        (
            "kind = \"systemd\"\nreload = \"supervisor\"",
            &format!("kind = \"command\"\ncommand = [{nginx}]\nreload = {{ signal = \"SIGHUP\" }}"),
        ),
        (
            "kind = \"systemd\"\nwith = { unit = \"shop.service\" }",
            &format!(
                "kind = \"command\"\ncommand = [\"smart-monitor\", \"simulate\", \"--name\", \"app\", \"--listen\", \"{app}\"]"
            ),
        ),
        (
            "kind = \"systemd\"\nwith = { unit = \"postgresql@15-main.service\" }",
            &postgres_lines(&postgres),
        ),
        (
            "kind = \"systemd\"\nwith = { unit = \"redis-server.service\" }",
            &redis_lines(redis.port()),
        ),
        // Where they are.
        ("127.0.0.1:8000", &app.to_string()),
        ("127.0.0.1:80", &front.to_string()),
        ("127.0.0.1:6379", &redis.to_string()),
        ("unix:/run/postgresql", &format!("unix:{}", postgres.data.display())),
        ("\"/srv/shop/current\"", &path("current")),
        ("\"/srv/shop/releases\"", &path("releases")),
        ("\"/var/log/shop\"", &path("logs")),
        // Whom the certificate is trusted by.
        (
            "\"127.0.0.1:443\", server_name = \"shop.example.org\"",
            &format!("\"{secure}\", server_name = \"shop.test\", ca_file = {}", path("certificates/ca.pem")),
        ),
    ])?;
    let mut daemon = example.start(&site)?;
    daemon.wait_for("the certificate is looked at", |daemon| {
        let service = daemon.status().ok()?.view.services.remove("nginx")?.service;
        (service.checks.get("certificate")?.well == Some(true)).then_some(())
    })?;
    let front = daemon.healthy("nginx")?;
    mended_by_us(&recovers(&mut daemon, "app", Signal::KILL, || {})?)?;
    well(&mut daemon, "nginx")?;
    ensure!(daemon.service("nginx") == Some(front), "it was let be");
    mended_by_us(&recovers(&mut daemon, "redis", Signal::KILL, || {})?)?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_database_host_is_well_and_postgres_comes_back() -> Result<()> {
    let site = Site::new()?;
    let redis = free_port()?;
    let postgres = Postgres::new(&site)?;
    monitor(&postgres)?;
    let backups = site.path("backups");
    fs::create_dir(&backups)?;
    fs::write(backups.join("today.dump"), vec![1; 2 << 20])?;
    let data = postgres.data.display().to_string();
    let example = Example::new("database-host")?.with(&[
        // Who runs them.
        (
            "kind = \"systemd\"\nwith = { unit = \"postgresql@15-main.service\" }",
            &postgres_lines(&postgres),
        ),
        (
            "kind = \"systemd\"\nwith = { unit = \"redis-server.service\" }",
            &redis_lines(redis.port()),
        ),
        // Where they are.
        ("unix:/run/postgresql", &format!("unix:{data}")),
        ("\"/var/lib/postgresql\"", &format!("\"{data}\"")),
        ("127.0.0.1:6379", &redis.to_string()),
        ("/var/backups/postgres", &backups.display().to_string()),
        // How often the job's word is looked for.
        (
            "missing = 1 }\ninterval = \"1m\"",
            "missing = 1 }\ninterval = \"100ms\"",
        ),
    ])?;
    let mut daemon = example.start(&site)?;
    let mut says = program(binary()?);
    says.args(["heartbeat", "backup", "--socket"]);
    ensure!(says.arg(site.socket()).status()?.success(), "it is heard");
    well(&mut daemon, "backup")?;
    let mut last = Vec::new();
    let all = daemon.wait_for("every check is well", |daemon| {
        let services = daemon.status().ok()?.view.services;
        let checks = services.into_values().flat_map(|it| it.service.checks);
        last = checks.filter(|(_, it)| it.well != Some(true)).collect();
        last.is_empty().then_some(())
    });
    all.with_context(|| format!("{last:#?}"))?;
    mended_by_us(&recovers(&mut daemon, "postgres", Signal::KILL, || {})?)?;
    mended_by_us(&recovers(&mut daemon, "redis", Signal::KILL, || {})?)?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn applications_of_pm2_are_well_and_come_back() -> Result<()> {
    let site = Site::new()?;
    let (api, alive) = (free_port()?, site.path("alive"));
    let folder = site.path("apps");
    fs::create_dir(&folder)?;
    let server = format!(
        "require('http').createServer((_, answer) => answer.end('ok')).listen({}, '127.0.0.1');\n",
        api.port()
    );
    fs::write(folder.join("api.js"), server)?;
    let worker = format!(
        "setInterval(() => require('fs').writeFileSync('{}', ''), 100);\n",
        alive.display()
    );
    fs::write(folder.join("worker.js"), worker)?;
    for name in ["api", "worker"] {
        let script = folder.join(format!("{name}.js")).display().to_string();
        tell(&site, &["start", &script, "--name", name])?;
    }
    let example = Example::new("node-pm2")?.with(&[
        // Where they are.
        ("/home/deploy/.pm2", &site.path("pm2").display().to_string()),
        ("127.0.0.1:3000", &api.to_string()),
        ("/run/worker/alive", &alive.display().to_string()),
    ])?;
    let mut daemon = example.start(&site)?;
    // PM2 does that by itself, and is given the time.
    let theirs = recovers(&mut daemon, "api", Signal::KILL, || {})?;
    ensure!(theirs.actions == 0, "{theirs:#?}");
    recovers(&mut daemon, "worker", Signal::KILL, || {})?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn containers_are_well_and_the_database_comes_back() -> Result<()> {
    let site = Site::new()?;
    let podman = Podman::start(&site)?;
    let port = free_port()?;
    let health = [
        "--health-cmd",
        "test -d /bin",
        "--health-interval",
        "disable",
    ];
    let listen = port.to_string();
    fs::write(podman.folder.join("rootfs/index.html"), "well")?;
    let serve = ["/bin/httpd", "-f", "-p", &listen, "-h", "/"];
    let web = [&["--network=host"], &health[..]].concat();
    podman.container_of("shop_web", &web, &serve)?;
    let db = [&["--network=none"], &health[..]].concat();
    podman.container_of("shop_db", &db, &["/bin/sh", "-c", WEB])?;
    // By hand: podman has systemd run it where there is one.
    let looks = || {
        for name in ["shop_web", "shop_db"] {
            let _not_up_yet = podman.run(&["healthcheck", "run", name]);
        }
    };
    looks();
    let example = Example::new("containers")?.with(&[
        // Where they are.
        (
            "/run/podman/podman.sock",
            &podman.socket().display().to_string(),
        ),
        ("127.0.0.1:8080", &listen),
        // How often what podman knows is looked at.
        ("interval = \"5s\"", "interval = \"200ms\""),
    ])?;
    let mut daemon = example.start(&site)?;
    // An end of its own, with an exit code that no stop has.
    mended_by_us(&recovers(&mut daemon, "db", Signal::USR1, looks)?)?;
    well(&mut daemon, "web")?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

/// A resolver of the test's own; killed with it.
struct Resolver(Child);

impl Drop for Resolver {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_laptop_is_well_and_the_users_service_comes_back() -> Result<()> {
    let site = Site::new()?;
    let (names, sync) = (free_port()?, free_port()?);
    fs::create_dir(site.path("thumbnails"))?;
    let mut resolver = program("dnsmasq");
    resolver.args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
    ]);
    resolver.args(["--conf-file=/dev/null", "--pid-file=", "--user=root"]);
    resolver.args([
        "--listen-address=127.0.0.1",
        "--address=/example.org/192.0.2.1",
    ]);
    resolver.arg(format!("--port={}", names.port()));
    let resolver = resolver.stderr(Stdio::null()).spawn();
    let _resolver = Resolver(resolver.context("dnsmasq is missing: apt install dnsmasq-base")?);
    let example = Example::new("laptop")?
        // Networks are repaired in namespaces of their own, in `actions/network.rs`, and never that of the host.
        .without("# The way out", "# Run by the user's own systemd")?
        .without("[[remedy]]\nname = \"wifi\"", "[[remedy]]\nname = \"sync-down\"")?
        .with(&[
            // Who runs it.
            (
                "kind = \"systemd\"\nwith = { unit = \"syncthing.service\", user = 1000 }",
                &format!(
                    "kind = \"command\"\ncommand = [\"smart-monitor\", \"simulate\", \"--name\", \"sync\", \"--listen\", \"{sync}\"]"
                ),
            ),
            // Where they are.
            ("127.0.0.1:8384/rest/noauth/health", &format!("{sync}/health")),
            ("127.0.0.53:53", &names.to_string()),
            (
                "/home/user/.cache/thumbnails",
                &site.path("thumbnails").display().to_string(),
            ),
            // Nothing of whoever uses this host.
            (
                "\"firefox\", \"Web Content\", \"Isolated Web Co\", \"chromium\", \"chrome\"",
                "\"not-a-browser\"",
            ),
            ("\"cc1plus\", \"rustc\", \"ld\"", "\"not-a-build\""),
        ])?;
    let mut daemon = example.start(&site)?;
    mended_by_us(&recovers(&mut daemon, "syncthing", Signal::KILL, || {})?)?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
