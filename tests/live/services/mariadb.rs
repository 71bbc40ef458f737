//! MariaDB as a service of the daemon: asked as a user with a password, full of connections, crashed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::model::{Outcome, Subject};
use smart_monitor_tests::{PATIENCE, Site, program, send, wait_until};

const POLICY: &str = "[policy]\nboot_grace = \"0s\"\nbusy_cpu = \"1000%\"\nbusy_io = \"1000%\"\nbackoff_initial = \"100ms\"\n";
const RESTARTS: &str =
    "\n[[remedy]]\ndetector = \"service_down\"\non = [\"*\"]\naction = \"restart_service\"\n";
const PASSWORD: &str = "a pass phrase";

struct Maria {
    data: PathBuf,
    socket: PathBuf,
    password: PathBuf,
}

impl Maria {
    fn new(site: &Site) -> Result<Self> {
        let new = Self {
            data: site.path("mariadb"),
            socket: site.path("mariadb.sock"),
            password: site.path("password"),
        };
        std::fs::write(&new.password, format!("{PASSWORD}\n"))?;
        let mut install = program("mariadb-install-db");
        install.args(["--no-defaults", "--skip-test-db", "--user=root"]);
        install.arg("--auth-root-authentication-method=normal");
        install.arg(format!("--datadir={}", new.data.display()));
        let output = install.output();
        let output = output.context("MariaDB is missing: apt install mariadb-server-core")?;
        ensure!(output.status.success(), "mariadb-install-db: {output:?}");
        Ok(new)
    }

    fn toml(&self) -> String {
        let (data, socket) = (self.data.display(), self.socket.display());
        let password = self.password.display();
        format!(
            "\n[[service]]\nname = \"db\"\nkind = \"command\"\nstart_within = \"30s\"\n\
             command = [\"/usr/sbin/mariadbd\", \"--no-defaults\", \"--user=root\", \"--datadir={data}\", \"--socket={socket}\", \"--skip-networking\", \"--max-connections=10\", \"--innodb-flush-log-at-trx-commit=0\"]\n\
             [[service.check]]\nname = \"greets\"\nmysql = \"unix:{socket}\"\ninterval = \"200ms\"\nfailures = 2\n\
             [[service.check]]\nname = \"room\"\nmysql = {{ address = \"unix:{socket}\", user = \"monitor\", password_file = \"{password}\", connections_max = \"60%\" }}\n\
             interval = \"200ms\"\nfailures = 2\nserving = false\n"
        )
    }

    fn client(&self) -> Command {
        let mut client = program("mariadb");
        client.args(["--no-defaults", "--user=root", "--batch", "--socket"]);
        client.arg(&self.socket);
        client
    }

    fn sql(&self, sql: &str) -> Result<()> {
        let output = self.client().args(["-e", sql]).output();
        let output = output.context("its client is missing: apt install mariadb-client-core")?;
        ensure!(output.status.success(), "{sql}: {output:?}");
        Ok(())
    }
}

/// Those who have a connection, and sleep. Gone with their owner.
struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

#[test]
fn a_mariadb_is_asked_with_a_password_and_told_full_and_repaired_when_it_crashed() -> Result<()> {
    let site = Site::new()?;
    let maria = Maria::new(&site)?;
    site.configure(&(POLICY.to_owned() + RESTARTS + &maria.toml()))?;
    let mut daemon = site.start()?;
    wait_until(PATIENCE, "it takes SQL", || maria.sql("select 1").ok())?;
    daemon.incident("nobody is called monitor yet", |incident| {
        let mut facts = incident.evidence.facts.iter();
        incident.detector == "check_failing" && facts.any(|(_, said)| said.contains("monitor"))
    })?;
    maria.sql(&format!(
        "create user monitor@localhost identified by '{PASSWORD}'"
    ))?;
    let before = daemon.healthy("db")?;
    daemon.wait_for("its figures are exported", |daemon| {
        let most = daemon.metric("smart_monitor_check_figure", "figure=\"connections_max\"");
        most.ok().filter(|most| (*most - 10.0).abs() < 0.5)
    })?;

    let mut sleepers = Sleepers(Vec::new());
    for _ in 0..7 {
        let mut client = maria.client();
        client
            .args(["-e", "select sleep(60)"])
            .stdout(Stdio::null());
        sleepers.0.push(client.stderr(Stdio::null()).spawn()?);
    }
    let full = daemon.incident("it has too few connections left", |incident| {
        let mut facts = incident.evidence.facts.iter();
        incident.detector == "check_failing"
            && !incident.is_over()
            && facts.any(|(_, said)| said.contains("connections"))
    })?;
    ensure!(full.actions == 0, "nobody has consented: {full:#?}");
    drop(sleepers);
    daemon.healthy("db")?;

    send(before, Signal::KILL)?;
    let incident = daemon.incident("the crash is repaired", |incident| {
        incident.detector == "service_down"
            && incident.subject == Subject::service("db")
            && incident.outcome == Some(Outcome::Fixed)
    })?;
    ensure!(incident.actions == 1, "{incident:#?}");
    ensure!(daemon.healthy("db")? != before, "it is another process");
    let journal = format!("{:?}", site.journal()?);
    ensure!(journal.contains("db"), "it tells of the service");
    ensure!(!journal.contains(PASSWORD), "a password is in the journal");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
