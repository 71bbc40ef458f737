//! A certificate that has expired: told by a check, renewed by what the configuration names, and proven with the new one.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, Outcome, ProcessKey, Severity, Subject};
use smart_monitor_tests::{Daemon, Site, free_port, program, send};

use super::nginx::nginx;

/// An authority of the test's own, which gives certificates for any time.
pub(super) struct Authority<'a>(&'a Path);

impl<'a> Authority<'a> {
    pub(super) fn new(folder: &'a Path) -> Result<Self> {
        fs::create_dir_all(folder.join("made"))?;
        let at = folder.display();
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {at}/index\nserial = {at}/serial\nnew_certs_dir = {at}/made\n\
             certificate = {at}/ca.pem\nprivate_key = {at}/ca.key\ndefault_md = sha256\npolicy = any\nunique_subject = no\n\
             copy_extensions = copy\n[any]\ncommonName = supplied\n"
        );
        fs::write(folder.join("ca.conf"), text)?;
        fs::write(folder.join("index"), "")?;
        fs::write(folder.join("serial"), "01\n")?;
        let authority = Self(folder);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        authority.openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"
        ))?;
        authority.openssl(&format!(
            "req -new {key} -keyout site.key -out site.csr -subj /CN=shop.test -addext subjectAltName=DNS:shop.test"
        ))?;
        Ok(authority)
    }

    fn openssl(&self, words: &str) -> Result<()> {
        let mut command = program("openssl");
        let output = command
            .args(words.split(' '))
            .current_dir(self.0)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {words}: {said}");
        Ok(())
    }

    /// A certificate from 2020 until the beginning of this year.
    pub(super) fn sign(&self, name: &str, until: u32) -> Result<()> {
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -in site.csr -out {name} -startdate 20200101000000Z -enddate {until}0101000000Z"
        ))
    }
}

const OFTEN: &str = "interval = \"100ms\"\nfailures = 2";

/// A site with a good certificate, an expired one beside it, and a rule that renews it by `script`.
/// The certificate is looked at as `often` says.
fn configure(site: &Site, often: &str, script: &str, steps: &str) -> Result<()> {
    let folder = site.path("certificates");
    let authority = Authority::new(&folder)?;
    authority.sign("old.pem", 2021)?;
    authority.sign("new.pem", 2099)?;
    fs::copy(folder.join("new.pem"), folder.join("site.pem"))?;
    let (at, plain, secure) = (folder.display(), free_port()?, free_port()?);
    let servers = format!(
        "  server {{\n    listen {plain};\n    location = /nginx-alive {{ return 204; }}\n  }}\n  \
         server {{\n    listen {secure} ssl;\n    ssl_certificate {at}/site.pem;\n    ssl_certificate_key {at}/site.key;\n  }}\n"
    );
    let command = nginx(site, &servers)?;
    let script = site.script("renew", &format!("cd {at} && {script}"))?;
    site.configure(&format!(
        r#"
[policy] # other tests, and what builds them, are no reason to wait
busy_cpu = "1000%"
busy_io = "1000%"

[[service]]
name = "front"
kind = "command"
command = [{command}]
reload = {{ signal = "SIGHUP" }}
[[service.check]]
http = "http://{plain}/nginx-alive"
interval = "100ms"
[[service.check]]
name = "certificate"
tls = {{ address = "{secure}", server_name = "shop.test", ca_file = "{at}/ca.pem", days = 14 }}
{often}

[[remedy]]
name = "certificate"
detector = "check_failing"
severity = "warning"
on = ["front"]
when = 'evidence.check == "certificate"'
verify_within = "2s"
[[remedy.step]]
action = "run_command"
with = {{ command = ["{script}"], timeout = "10s" }}
{steps}
"#,
        script = script.display()
    ))
}

/// From now on it shows the expired one. The process that does so.
fn expires(site: &Site, daemon: &mut Daemon) -> Result<ProcessKey> {
    let nginx = daemon.healthy("front")?;
    daemon.wait_for("its status says how long the certificate lasts", lasts)?;
    let folder = site.path("certificates");
    fs::copy(folder.join("old.pem"), folder.join("site.pem"))?;
    send(nginx, Signal::HUP)?;
    Ok(nginx)
}

fn lasts(daemon: &Daemon) -> Option<()> {
    let service = daemon.status().ok()?.view.services.remove("front")?.service;
    let check = service.checks.get("certificate")?.clone();
    (check.well == Some(true) && check.said?.contains("2099")).then_some(())
}

fn front(incident: &Incident) -> bool {
    incident.detector == "check_failing" && incident.subject == Subject::service("front")
}

fn decided(incident: &Incident) -> Vec<&str> {
    let steps = incident.steps.iter();
    let decided = steps.filter(|step| step.what == StepKind::Decided);
    decided.map(|step| step.detail.as_str()).collect()
}

#[test]
fn an_expired_certificate_is_renewed_and_the_new_one_is_the_proof() -> Result<()> {
    let site = Site::new()?;
    // As `certbot renew --deploy-hook` does it.
    let renew = "cp new.pem site.pem && kill -HUP $(cat ../nginx/pid)";
    configure(&site, OFTEN, renew, "")?;
    let mut daemon = site.start()?;
    let nginx = expires(&site, &mut daemon)?;
    let incident = daemon.incident("it is renewed", |it| front(it) && it.is_over())?;
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(incident.severity == Severity::Warning, "{incident:#?}");
    ensure!(incident.actions == 1, "{incident:#?}");
    let facts = &incident.evidence.facts;
    let why = facts.iter().find(|(what, _)| *what == "it says");
    ensure!(
        why.is_some_and(|(_, why)| why.contains("shop.test expired on 2021-01-01")),
        "{incident:#?}"
    );
    let proof = incident.steps.iter();
    let mut proof = proof.filter(|step| step.what == StepKind::Recovered);
    ensure!(
        proof.any(|step| step.detail.contains("its check certificate is well again")),
        "{incident:#?}"
    );
    daemon.wait_for("its status says how long the new one lasts", lasts)?;
    ensure!(
        daemon.healthy("front")? == nginx && procfs::runs(nginx),
        "nginx was not restarted"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_renewal_that_nginx_has_not_read_is_followed_by_a_reload() -> Result<()> {
    let site = Site::new()?;
    let reload = "[[remedy.step]]\naction = \"reload_service\"";
    configure(&site, OFTEN, "cp new.pem site.pem", reload)?;
    let mut daemon = site.start()?;
    let nginx = expires(&site, &mut daemon)?;
    let incident = daemon.incident("it is renewed", |it| front(it) && it.is_over())?;
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(incident.actions == 2, "{incident:#?}");
    let ladder = ["run_command", "reload_service"].map(|it| format!("{it} (rule certificate)"));
    ensure!(decided(&incident) == ladder, "{incident:#?}");
    ensure!(procfs::runs(nginx), "nginx was not restarted");
    Ok(())
}

#[test]
fn what_is_looked_at_every_hour_is_proven_as_soon_as_it_is_done() -> Result<()> {
    let site = Site::new()?;
    let hourly = "interval = \"1h\"\nfailures = 1";
    let renew = "cp new.pem site.pem && kill -HUP $(cat ../nginx/pid)";
    configure(&site, hourly, renew, "")?;
    let folder = site.path("certificates");
    fs::copy(folder.join("old.pem"), folder.join("site.pem"))?;
    let mut daemon = site.start()?;
    let incident = daemon.incident("it is renewed", |it| front(it) && it.is_over())?;
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(incident.actions == 1, "{incident:#?}");
    Ok(())
}
