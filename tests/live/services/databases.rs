//! Redis and PostgreSQL, as services of the daemon: crashed, full, busy, without a free connection. What the check says, and what is done.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, Outcome, Subject};
use smart_monitor_tests::{Daemon, PATIENCE, Site, program, send, wait_until};

const POLICY: &str = "[policy]\nboot_grace = \"0s\"\nbusy_cpu = \"1000%\"\nbusy_io = \"1000%\"\nbackoff_initial = \"100ms\"\n";
const RESTARTS: &str =
    "\n[[remedy]]\ndetector = \"service_down\"\non = [\"*\"]\naction = \"restart_service\"\n";

fn is_over(incident: &Incident, detector: &str, service: &str) -> bool {
    incident.detector == detector
        && incident.subject == Subject::service(service)
        && incident.is_over()
}

fn is_fixed(incident: &Incident, detector: &str, service: &str) -> bool {
    is_over(incident, detector, service) && incident.outcome == Some(Outcome::Fixed)
}

/// Waits until a check of the service fails for this reason.
fn fails(daemon: &mut Daemon, service: &str, reason: &str) -> Result<Incident> {
    daemon.incident(&format!("{service} fails: {reason}"), |incident| {
        let facts = &incident.evidence.facts;
        incident.detector == "check_failing"
            && incident.subject == Subject::service(service)
            && facts.iter().any(|(_, said)| said.contains(reason))
    })
}

/// A Redis server that the daemon runs, on a socket in the site's folder.
struct Redis(PathBuf);

impl Redis {
    fn new(site: &Site) -> Self {
        Self(site.path("redis.sock"))
    }

    fn toml(&self, arguments: &str, settings: &str) -> String {
        let socket = self.0.display();
        format!(
            "\n[[service]]\nname = \"redis\"\nkind = \"command\"\n\
             command = [\"redis-server\", \"--port\", \"0\", \"--save\", \"\", \"--unixsocket\", \"{socket}\"{arguments}]\n\
             [service.check]\nredis = {{ address = \"unix:{socket}\"{settings} }}\n\
             interval = \"100ms\"\ntimeout = \"1s\"\nfailures = 2\n"
        )
    }

    fn cli(&self, words: &[&str]) -> Result<String> {
        let output = program("redis-cli")
            .arg("-s")
            .arg(&self.0)
            .args(words)
            .output()
            .context("redis-cli is missing: apt install redis-server")?;
        // Some versions say errors here, others there.
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }
}

#[test]
fn a_redis_that_crashed_is_restarted_and_proven_by_its_own_check() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::new(&site);
    let service = redis.toml(
        "",
        ", role = \"master\", clients_max = \"90%\", memory_max = \"1GiB\"",
    );
    site.configure(&(POLICY.to_owned() + RESTARTS + &service))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("redis")?;
    daemon.wait_for("its figures are exported", |daemon| {
        let used = daemon.metric("smart_monitor_check_figure", "figure=\"used_memory_bytes\"");
        used.ok().filter(|used| *used > 100_000.0)
    })?;
    send(before, Signal::KILL)?;
    let incident = daemon.incident("the crash is repaired", |incident| {
        is_fixed(incident, "service_down", "redis")
    })?;
    ensure!(incident.actions == 1, "{incident:#?}");
    let mut steps = incident.steps.iter();
    let proof = steps.find(|step| step.what == StepKind::Recovered);
    let proof = proof.context("no proof")?;
    ensure!(proof.detail.contains("its check answers"), "{incident:#?}");
    ensure!(daemon.healthy("redis")? != before, "it is another process");
    ensure!(redis.cli(&["ping"])? == "PONG", "it answers");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_full_redis_says_so_and_serves_again_when_keys_are_deleted() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::new(&site);
    let flushes = format!(
        "\n[[remedy]]\ndetector = \"check_failing\"\non = [\"redis\"]\naction = \"flush_redis\"\n\
         with = {{ address = \"unix:{}\", database = 0, pattern = \"cache:*\" }}\n",
        redis.0.display()
    );
    let service = redis.toml(", \"--maxmemory\", \"6mb\"", "");
    site.configure(&(POLICY.to_owned() + &flushes + &service))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("redis")?;
    redis.cli(&["set", "user:1", "stays"])?;
    let fill = "for n = 1, 100000 do redis.call('set', 'cache:' .. n, string.rep('x', 1000)) end";
    redis.cli(&["eval", fill, "0"])?;
    // A script that has begun to write goes on.
    let said = redis.cli(&["set", "user:3", "x"])?;
    ensure!(said.contains("OOM"), "it is full: {said}");
    fails(&mut daemon, "redis", "its memory is full")?;
    let incident = daemon.incident("keys were deleted, and that helped", |incident| {
        is_fixed(incident, "check_failing", "redis")
    })?;
    ensure!(incident.actions == 1, "{incident:#?}");
    ensure!(
        redis.cli(&["set", "user:2", "x"])? == "OK",
        "it takes writes"
    );
    ensure!(
        redis.cli(&["get", "user:1"])? == "stays",
        "others' keys are there"
    );
    ensure!(
        daemon.service("redis") == Some(before),
        "it is the same process"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_redis_that_a_script_keeps_busy_is_told_with_what_to_do() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::new(&site);
    let service = redis.toml(", \"--lua-time-limit\", \"100\"", "");
    site.configure(&(POLICY.to_owned() + &service))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("redis")?;
    let mut endless = program("redis-cli");
    endless
        .arg("-s")
        .arg(&redis.0)
        .args(["eval", "while true do end", "0"]);
    let mut endless = endless.stdout(Stdio::null()).spawn()?;
    let told = fails(&mut daemon, "redis", "see SCRIPT KILL");
    wait_until(PATIENCE, "the script ends", || {
        redis.cli(&["script", "kill"]).ok()?;
        endless.try_wait().ok().flatten()
    })?;
    ensure!(told?.actions == 0, "nobody has consented to anything");
    daemon.incident("it is over by itself", |incident| {
        is_over(incident, "check_failing", "redis")
    })?;
    ensure!(
        daemon.service("redis") == Some(before),
        "it is the same process"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_redis_that_sleeps_is_slow_and_no_answer_is_no_wrong_answer() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::new(&site);
    let slow = "[detectors.latency_spike]\nthreshold = \"300ms\"\nchecks = 2\ngrace = \"500ms\"\n";
    let service = redis.toml(", \"--enable-debug-command\", \"local\"", "");
    site.configure(&(POLICY.to_owned() + slow + &service.replace("\"1s\"", "\"400ms\"")))?;
    let mut daemon = site.start()?;
    daemon.healthy("redis")?;
    let mut sleeps = program("redis-cli");
    sleeps.arg("-s").arg(&redis.0).args(["debug", "sleep", "3"]);
    let mut sleeps = sleeps.stdout(Stdio::null()).spawn()?;
    daemon.incident("it is slow", |incident| {
        incident.detector == "latency_spike" && incident.subject == Subject::service("redis")
    })?;
    ensure!(sleeps.wait()?.success(), "it slept");
    daemon.incident("it is quick again", |incident| {
        is_over(incident, "latency_spike", "redis")
    })?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

/// A cluster of PostgreSQL in the site's folder, run by the daemon as the user that the package made.
pub(super) struct Postgres {
    pub(super) programs: PathBuf,
    pub(super) data: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Postgres {
    pub(super) fn new(site: &Site) -> Result<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql");
        let mut versions = versions.context("PostgreSQL is missing: apt install postgresql")?;
        let programs = versions
            .find_map(|version| {
                let programs = version.ok()?.path().join("bin");
                programs.join("initdb").exists().then_some(programs)
            })
            .context("PostgreSQL is missing: apt install postgresql")?;
        let users = std::fs::read_to_string("/etc/passwd")?;
        let user = users
            .lines()
            .find_map(|line| line.strip_prefix("postgres:"));
        let mut ids = user
            .context("there is no user postgres")?
            .split(':')
            .skip(1);
        let mut id = || ids.next().and_then(|id| id.parse().ok()).context("no id");
        let new = Self {
            programs,
            data: site.path("postgres"),
            uid: id()?,
            gid: id()?,
        };
        std::fs::create_dir(&new.data)?;
        chown(&new.data, Some(new.uid), Some(new.gid))?;
        let mut initdb = program(new.programs.join("initdb"));
        initdb.uid(new.uid).gid(new.gid).current_dir("/");
        initdb.args([
            "--no-sync",
            "--auth",
            "trust",
            "--username",
            "postgres",
            "-D",
        ]);
        let output = initdb.arg(&new.data).output()?;
        ensure!(output.status.success(), "initdb: {output:?}");
        Ok(new)
    }

    fn toml(&self, settings: &str) -> String {
        let (server, data) = (self.programs.join("postgres"), self.data.display());
        format!(
            "\n[[service]]\nname = \"db\"\nkind = \"command\"\nuid = {}\ngid = {}\nstart_within = \"30s\"\n\
             command = [\"{}\", \"-D\", \"{data}\", \"-k\", \"{data}\", \"-c\", \"listen_addresses=\", \"-c\", \"max_connections=10\", \"-c\", \"max_wal_senders=0\", \"-c\", \"fsync=off\"]\n\
             [service.check]\npostgres = {{ address = \"unix:{data}\"{settings} }}\n\
             interval = \"200ms\"\ntimeout = \"2s\"\nfailures = 2\n",
            self.uid,
            self.gid,
            server.display()
        )
    }

    fn psql(&self, user: &str) -> std::process::Command {
        let mut psql = program(self.programs.join("psql"));
        psql.arg("-h")
            .arg(&self.data)
            .args(["-U", user, "-d", "postgres"]);
        psql.args(["-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    fn sql(&self, sql: &str) -> Result<String> {
        let output = self.psql("postgres").args(["-c", sql]).output()?;
        ensure!(output.status.success(), "{sql}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Somebody who has a connection, and does nothing with it. Gone with its owner.
struct Idle(Child);

impl Idle {
    fn new(postgres: &Postgres, said: &Path) -> Result<Self> {
        let mut psql = postgres.psql("monitor");
        psql.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.stdout(std::fs::File::create(said)?).spawn()?;
        let input = child.stdin.as_mut().context("it has an input")?;
        input.write_all(b"select 'connected';\n")?;
        let idle = Self(child);
        wait_until(PATIENCE, "it is connected", || {
            let text = std::fs::read_to_string(said).ok()?;
            text.contains("connected").then_some(())
        })?;
        Ok(idle)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_postgres_that_crashed_recovers_in_peace_and_is_proven() -> Result<()> {
    let site = Site::new()?;
    let postgres = Postgres::new(&site)?;
    let fresh = ", role = \"primary\", query = { sql = \"select count(*) from pg_database -- all\", above = 0 }";
    site.configure(&(POLICY.to_owned() + RESTARTS + &postgres.toml(fresh)))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("db")?;
    // Something to recover: what was committed stands in the log alone.
    postgres.sql("create table kept as select generate_series(1, 300000) as n")?;
    send(before, Signal::KILL)?;
    let incident = daemon.incident("the crash is repaired", |incident| {
        is_fixed(incident, "service_down", "db")
    })?;
    ensure!(
        incident.actions == 1,
        "one start, and it was let be: {incident:#?}"
    );
    let after = daemon.healthy("db")?;
    ensure!(after != before, "it is another process");
    ensure!(
        postgres.sql("select count(*) from kept")? == "300000",
        "it has recovered"
    );
    ensure!(daemon.service("db") == Some(after), "nobody restarted it");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_postgres_without_a_free_connection_or_with_old_data_says_which() -> Result<()> {
    let site = Site::new()?;
    let postgres = Postgres::new(&site)?;
    let settings = ", user = \"postgres\", slow_query = \"1h\"";
    site.configure(&(POLICY.to_owned() + &postgres.toml(settings)))?;
    let mut daemon = site.start()?;
    daemon.healthy("db")?;
    postgres.sql("create role monitor login in role pg_monitor")?;
    postgres.sql("create table orders as select now() - interval '2 hours' as at")?;
    let asks = ", user = \"monitor\", connections_max = \"50%\", query = { sql = \"select max(at) from orders\", max_age = \"1h\" }";
    postgres.sql("grant select on orders to monitor")?;
    site.configure(&(POLICY.to_owned() + &postgres.toml(asks)))?;
    daemon.signal(Signal::HUP)?;
    fails(&mut daemon, "db", "longer than `max_age`")?;
    postgres.sql("insert into orders values (now())")?;
    daemon.incident("the data is fresh", |incident| {
        is_over(incident, "check_failing", "db")
    })?;
    let mut idle = Vec::new();
    for n in 0..6 {
        idle.push(Idle::new(&postgres, &site.path(&format!("idle-{n}")))?);
    }
    fails(&mut daemon, "db", "more than `connections_max`, 50% of 10")?;
    // Three of the ten are kept for the superuser.
    idle.push(Idle::new(&postgres, &site.path("idle-last"))?);
    daemon.wait_for("the status names the reason", |daemon| {
        let status = format!("{:?}", daemon.status().ok()?.view.services.remove("db")?);
        status
            .contains("all of its connections are taken")
            .then_some(())
    })?;
    drop(idle);
    daemon.wait_for("it is over", |daemon| {
        let all = daemon.incidents().ok()?;
        all.iter().all(Incident::is_over).then_some(())
    })?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
