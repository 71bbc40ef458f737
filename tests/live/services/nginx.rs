//! nginx in front of an application: what it hands on is not its own trouble.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::State;
use smart_monitor::model::{Incident, Outcome, Subject};
use smart_monitor_tests::{PATIENCE, Site, binary, free_port, http_get, send, wait_until};

/// Writes a configuration with these servers; what runs nginx with it, in the foreground, as the words of a `command`.
pub(super) fn nginx(site: &Site, servers: &str) -> Result<String> {
    let folder = site.path("nginx");
    fs::create_dir_all(&folder)?;
    let at = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"];
    let temporary = temporary.map(|what| format!("  {what}_temp_path {at}/{what};\n"));
    let temporary = temporary.concat();
    let text = format!(
        "user root;\nworker_processes 1;\ndaemon off;\npid {at}/pid;\nevents {{}}\n\
         http {{\n  access_log off;\n{temporary}{servers}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), text)?;
    Ok(format!(
        "\"nginx\", \"-p\", \"{at}\", \"-c\", \"{at}/nginx.conf\", \"-e\", \"stderr\""
    ))
}

/// A server that answers `/nginx-alive` itself and hands all else on.
pub(super) fn proxy(at: &str, upstream: &str) -> String {
    format!(
        "  server {{\n    listen {at};\n    location = /nginx-alive {{ return 204; }}\n    \
         location / {{ proxy_pass http://{upstream}; proxy_connect_timeout 1s; proxy_read_timeout 1s; }}\n  }}\n"
    )
}

/// The application waits before it begins while there is the file `hold`.
fn application(site: &Site, at: &str) -> Result<PathBuf> {
    let (hold, binary) = (site.path("hold"), binary()?);
    site.script(
        "application",
        &format!(
            "while [ -e {} ]; do sleep 0.02; done\nexec {} simulate --name app --listen {at}",
            hold.display(),
            binary.display()
        ),
    )
}

fn of(name: &str, detector: &str) -> impl Fn(&Incident) -> bool {
    let (subject, detector) = (Subject::service(name), detector.to_owned());
    move |incident| incident.subject == subject && incident.detector == detector
}

#[test]
fn a_dead_upstream_is_restarted_and_nginx_is_not() -> Result<()> {
    let site = Site::new()?;
    let (front, app) = (free_port()?, free_port()?);
    let command = nginx(&site, &proxy(&front.to_string(), &app.to_string()))?;
    let script = application(&site, &app.to_string())?;
    // Consent to restart both: what keeps nginx from it is that the upstream is at fault.
    site.configure(&format!(
        r#"
[policy] # other tests, and what builds them, are no reason to wait
busy_cpu = "1000%"
busy_io = "1000%"

[[service]]
name = "front"
kind = "command"
command = [{command}]
depends_on = ["app"]
[[service.check]]
name = "alive"
http = "http://{front}/nginx-alive"
interval = "50ms"
[[service.check]]
name = "site"
http = "http://{front}/health"
interval = "50ms"
failures = 2

[[service]]
name = "app"
kind = "command"
command = ["{script}"]
[service.check]
http = "http://{app}/health"
interval = "50ms"

[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
verify_within = "20s"

[[remedy]]
detector = "check_failing"
on = ["*"]
action = "restart_service"

[[remedy]]
detector = "connect_failure"
on = ["*"]
action = "restart_service"
"#,
        script = script.display()
    ))?;
    let mut daemon = site.start()?;
    let (nginx, first) = (daemon.healthy("front")?, daemon.healthy("app")?);

    fs::write(site.path("hold"), "")?;
    send(first, Signal::KILL)?;
    let down = daemon.incident("the upstream is down", of("app", "service_down"))?;
    let bad = daemon.incident("nginx answers 502 for it, and waits", |incident| {
        of("front", "check_failing")(incident) && incident.state == State::Suppressed
    })?;
    ensure!(bad.suppressed_by == Some(down.id), "{bad:#?}");
    let facts = &bad.evidence.facts;
    let says = |text: &str| facts.iter().any(|(_, said)| said.contains(text));
    ensure!(says("502") && says("site"), "{bad:#?}");
    let names = |it: &&smart_monitor::model::incident::Step| it.detail.contains("service app");
    ensure!(bad.steps.iter().any(|it| names(&it)), "{bad:#?}");
    ensure!(http_get(front, "/nginx-alive")?.0 == 204, "it is well");

    fs::remove_file(site.path("hold"))?;
    let down = daemon.incident("the upstream is back", |incident| {
        incident.id == down.id && incident.is_over()
    })?;
    ensure!(down.outcome == Some(Outcome::Fixed), "{down:#?}");
    ensure!(down.actions == 1, "one restart: {down:#?}");
    let bad = daemon.incident("nginx is well by itself", |incident| {
        incident.id == bad.id && incident.is_over()
    })?;
    ensure!(bad.actions == 0, "nothing was done to it: {bad:#?}");
    ensure!(
        daemon.healthy("front")? == nginx && procfs::runs(nginx),
        "it is the same nginx"
    );
    ensure!(daemon.healthy("app")? != first, "another application");
    wait_until(PATIENCE, "the site is there", || {
        let (code, _) = http_get(front, "/health").ok()?;
        (code == 200).then_some(())
    })?;
    let all = daemon.incidents()?;
    ensure!(all.iter().all(Incident::is_over), "{all:#?}");
    ensure!(
        all.iter().map(|it| it.actions).sum::<u32>() == 1,
        "{all:#?}"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
