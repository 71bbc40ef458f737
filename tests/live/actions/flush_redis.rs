//! Keys of a real Redis server: deleted by pattern, all of one database, and not at all where that must not be.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::redis::{flush, keys};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Flush, Outcome, Subject};
use smart_monitor_tests::{PATIENCE, Simulated, Site, program, wait_until};

/// A server of a test's own, on a socket in its folder. Ends with its owner.
struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    fn start(site: &Site, name: &str, arguments: &[&str]) -> Result<Self> {
        let socket = site.path(&format!("{name}.sock"));
        let mut command = program("redis-server");
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--daemonize",
            "no",
            "--unixsocket",
        ]);
        command
            .arg(&socket)
            .args(arguments)
            .arg("--dir")
            .arg(site.path(""));
        command.stdout(Stdio::null()).stdin(Stdio::null());
        let child = command
            .spawn()
            .context("redis-server is missing: apt install redis-server")?;
        let redis = Self { child, socket };
        wait_until(PATIENCE, "the server answers", || {
            redis
                .cli(&["ping"])
                .ok()
                .filter(|said| said.contains("PONG") || said.contains("NOAUTH"))
        })?;
        Ok(redis)
    }

    fn cli(&self, words: &[&str]) -> Result<String> {
        let output = program("redis-cli")
            .arg("-s")
            .arg(&self.socket)
            .args(words)
            .output()?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes so many keys with this beginning.
    fn fill(&self, database: &str, prefix: &str, many: u32) -> Result<()> {
        let script = "for n = 1, ARGV[2] do redis.call('set', ARGV[1] .. n, n) end";
        self.cli(&[
            "-n",
            database,
            "eval",
            script,
            "0",
            prefix,
            &many.to_string(),
        ])?;
        Ok(())
    }

    fn size(&self, database: &str) -> Result<u64> {
        Ok(self.cli(&["-n", database, "dbsize"])?.parse()?)
    }

    fn flush(&self) -> Flush {
        Flush {
            address: format!("unix:{}", self.socket.display()),
            database: 0,
            pattern: Some("limit:*".to_owned()),
            at_most: 100_000,
            within: Duration::from_secs(10),
            left: 0,
            user: None,
            password_file: None,
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn keys_go_by_pattern_or_altogether_and_no_others() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::start(&site, "redis", &[])?;
    redis.fill("0", "limit:", 20_000)?;
    redis.fill("0", "session:", 3_000)?;
    redis.fill("1", "limit:", 50)?;
    let by_pattern = redis.flush();
    ensure!(keys(&by_pattern)? > 0, "they are there");
    let mut few = by_pattern.clone();
    few.at_most = 700;
    let flushed = flush(&few)?;
    ensure!(flushed.keys == 700, "{flushed:?}");
    ensure!(
        flushed.stopped.is_some_and(|why| why.contains("at_most")),
        "it says so"
    );
    let flushed = flush(&by_pattern)?;
    ensure!(
        flushed.keys == 19_300 && flushed.stopped.is_none(),
        "{flushed:?}"
    );
    ensure!(keys(&by_pattern)? == 0, "they are gone");
    ensure!(
        (redis.size("0")?, redis.size("1")?) == (3_000, 50),
        "others are there"
    );
    let mut all = by_pattern;
    (all.pattern, all.database) = (None, 1);
    ensure!(flush(&all)?.keys == 50, "all of the one database");
    ensure!(
        (redis.size("0")?, redis.size("1")?, keys(&all)?) == (3_000, 0, 0),
        "others are there"
    );
    all.database = 99;
    let said = flush(&all)
        .err()
        .context("there is no such database")?
        .to_string();
    ensure!(said.contains("no database of this number"), "{said}");
    Ok(())
}

#[test]
fn who_may_not_is_told_so_and_nothing_is_deleted() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::start(&site, "redis", &["--requirepass", "swordfish"])?;
    let mut wanted = redis.flush();
    let said = flush(&wanted)
        .err()
        .context("it wants a password")?
        .to_string();
    ensure!(said.contains("password_file"), "{said}");
    let file = site.path("password");
    wanted.password_file = Some(file.clone());
    std::fs::write(&file, "wrong\n")?;
    let said = flush(&wanted).err().context("it is wrong")?.to_string();
    ensure!(
        said.contains("password is wrong") && !said.contains("wrong\n"),
        "{said}"
    );
    std::fs::write(&file, "swordfish\n")?;
    ensure!(flush(&wanted)?.keys == 0, "there are none");
    let cli =
        |words: &[&str]| redis.cli(&[&["-a", "swordfish", "--no-auth-warning"], words].concat());
    cli(&["set", "limit:1", "x"])?;
    cli(&[
        "acl",
        "setuser",
        "reader",
        "on",
        ">swordfish",
        "~*",
        "+scan",
        "+select",
        "+role",
    ])?;
    wanted.user = Some("reader".to_owned());
    let flushed = flush(&wanted)?;
    ensure!(flushed.keys == 0, "{flushed:?}");
    let why = flushed.stopped.context("it was stopped")?;
    ensure!(why.contains("may not do this"), "{why}");
    ensure!(cli(&["dbsize"])? == "1", "it is there");
    Ok(())
}

#[test]
fn a_replica_is_left_alone_and_a_server_that_is_gone_is_named() -> Result<()> {
    let site = Site::new()?;
    let port = smart_monitor_tests::free_port()?.port().to_string();
    let master = Redis::start(&site, "master", &["--port", &port, "--bind", "127.0.0.1"])?;
    master.fill("0", "limit:", 10)?;
    let replica = Redis::start(
        &site,
        "replica",
        &[
            "--replicaof",
            "127.0.0.1",
            &port,
            "--replica-read-only",
            "no",
        ],
    )?;
    wait_until(PATIENCE, "the replica has the keys", || {
        (replica.size("0").ok()? == 10).then_some(())
    })?;
    let said = flush(&replica.flush())
        .err()
        .context("it is a replica")?
        .to_string();
    ensure!(said.contains("is a replica"), "{said}");
    ensure!(
        (master.size("0")?, replica.size("0")?) == (10, 10),
        "nothing is deleted"
    );
    let gone = replica.flush();
    drop(replica);
    let said = flush(&gone).err().context("it is gone")?.to_string();
    ensure!(said.contains("cannot connect"), "{said}");
    // One that is stopped takes connections, and never answers.
    let mut stopped = master.flush();
    stopped.within = Duration::from_millis(300);
    let pid = rustix::process::Pid::from_child(&master.child);
    let process = smart_monitor::host::procfs::stat(master.child.id())
        .context("it runs")?
        .key;
    smart_monitor_tests::send(process, rustix::process::Signal::STOP)?;
    let said = flush(&stopped).err().map(|error| error.to_string());
    smart_monitor_tests::send(process, rustix::process::Signal::CONT)?;
    ensure!(said.is_some_and(|said| said.contains("in time")), "{pid:?}");
    Ok(())
}

#[test]
fn a_daemon_deletes_the_counters_of_a_service_in_trouble() -> Result<()> {
    let site = Site::new()?;
    let redis = Redis::start(&site, "redis", &[])?;
    redis.fill("2", "limit:", 500)?;
    redis.fill("2", "user:", 5)?;
    let auth = Simulated::new("auth")?;
    let lines = format!(
        "[policy]\nboot_grace = \"0s\"\nbusy_cpu = \"1000%\"\n[detectors.latency_spike]\nthreshold = \"300ms\"\nchecks = 2\ngrace = \"1s\"\n{}\n\
         [[remedy]]\ndetector = \"latency_spike\"\non = [\"auth\"]\nseverity = \"warning\"\naction = \"flush_redis\"\nverify_within = \"1s\"\n\
         with = {{ address = \"unix:{}\", database = 2, pattern = \"limit:*\" }}\n",
        auth.toml(),
        redis.socket.display()
    );
    site.configure(&lines)?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    auth.fault("hang", &[("deaf", "1")])?;
    let incident = daemon.incident("the counters were deleted in vain", |incident| {
        incident.subject == Subject::service("auth")
            && incident
                .steps
                .iter()
                .any(|step| step.what == StepKind::Unproven)
    })?;
    let acted = incident
        .steps
        .iter()
        .find(|step| step.what == StepKind::Acted);
    ensure!(
        acted.is_some_and(|step| step.detail.contains("500 keys")),
        "{incident:#?}"
    );
    ensure!(
        incident.outcome != Some(Outcome::Fixed),
        "the service hangs as before"
    );
    ensure!(redis.size("2")? == 5, "others are there");
    let effects = site.journal()?;
    let verified = effects
        .iter()
        .find_map(|line| line.pointer("/effect/verified")?.as_str());
    ensure!(verified == Some("no such key is there"), "{verified:?}");
    Ok(())
}
