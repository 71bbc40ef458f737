use super::*;
use crate::api::answers::{Clock, Cost};
use crate::model::kernel_view::ProbeRow;
use crate::model::view::DetectorView;
use crate::model::{
    Evidence, IncidentId, Plan, ProcessKey, Proposed, Service, Silence, Subject, Time, View,
};

fn status() -> Status {
    let mut view = View::default();
    for (name, state) in [
        ("auth", ServiceState::Healthy),
        ("payment", ServiceState::Healthy),
    ] {
        let mut service = Service::new(name);
        service.starts = 2;
        // No process has this PID: the kernel's largest is 4194304.
        service.process = Some(ProcessKey {
            pid: 4_294_967,
            start_ticks: 1,
        });
        service.started = Some(Time::from_nanos(0));
        view.services
            .insert(name.to_owned(), ServiceView { service, state });
    }
    Status {
        clock: Clock {
            monotonic_ns: 725_000_000_000,
            unix_ns: 1_000_000_000_000_000_000,
        },
        version: "0.1.0".to_owned(),
        uptime_seconds: 11_520.0,
        own: Cost {
            cpu_seconds: 11.52,
            bpf_seconds: None,
            resident_bytes: 19_293_798,
        },
        view,
        limitations: Vec::new(),
        probes: Vec::new(),
    }
}

fn add_incident(status: &mut Status, severity: Severity) {
    let incident = Incident::new(
        IncidentId(7),
        "service_down",
        Subject::service("auth"),
        severity,
        Evidence::at(Time::from_nanos(0)),
        Time::from_nanos(665_000_000_000),
    );
    status.view.incidents.insert(incident.id, incident);
}

#[test]
fn a_healthy_host_takes_three_lines_and_a_table() {
    let text = text(&status(), Paint::none());
    assert!(
        text.starts_with("ALL WELL  2 services, all healthy; no open incident\n"),
        "{text}"
    );
    assert!(text.contains("has run for 3 h 12 min; CPU 0.10 % of a core, kernel programs not measured; memory 18.4 MiB"), "{text}");
    assert!(
        text.contains("auth     HEALTHY  4294967  12 min 5 s       2       -\n"),
        "{text}"
    );
    assert!(!Sums::of(&status()).trouble());
}

#[test]
fn a_service_that_is_down_or_a_critical_incident_is_trouble() {
    let mut down = status();
    if let Some(row) = down.view.services.get_mut("auth") {
        row.state = ServiceState::Down;
    }
    assert!(Sums::of(&down).trouble());
    assert!(text(&down, Paint::none()).starts_with("TROUBLE  1 of 2 services down;"));

    let mut critical = status();
    add_incident(&mut critical, Severity::Critical);
    assert!(Sums::of(&critical).trouble());
    let shown = text(&critical, Paint::none());
    assert!(shown.contains("1 open incident (1 critical)"), "{shown}");
    assert!(
        shown.contains("       7  1 min 0 s  service_down  service auth  critical"),
        "{shown}"
    );

    let mut warning = status();
    add_incident(&mut warning, Severity::Warning);
    assert!(!Sums::of(&warning).trouble());
    assert!(text(&warning, Paint::none()).starts_with("ATTENTION"));
}

#[test]
fn what_waits_for_a_word_and_what_persons_have_said_is_shown() {
    let mut status = status();
    add_incident(&mut status, Severity::Critical);
    let incident = status.view.incidents.get_mut(&IncidentId(7)).unwrap();
    incident.acknowledged_by = Some("root (alice)".to_owned());
    let after = |seconds| status.clock.time().after(Duration::from_secs(seconds));
    incident.proposed = Some(Box::new(Proposed {
        action: "restart_service".to_owned(),
        plan: Plan::RestartService {
            service: "auth".to_owned(),
            process: None,
            term_grace: Duration::ZERO,
            command: Vec::new(),
        },
        reason: String::new(),
        until: after(250),
    }));
    status.view.silences.push(Silence {
        id: 3,
        on: "payment".to_owned(),
        detector: None,
        until: after(7200),
        by: "root".to_owned(),
        reason: "upgrade".to_owned(),
    });
    status.view.maintenance.push("nightly".to_owned());
    let shown = text(&status, Paint::none());
    for line in [
        "incident 7 proposes restart_service on service auth: `sudo smart-monitor approve 7` or `reject 7` (4 min 10 s left)",
        "incident 7 is acknowledged by root (alice)",
        "maintenance window nightly is open",
    ] {
        assert!(shown.lines().any(|it| it == line), "no {line} in\n{shown}");
    }
    assert!(
        shown.contains("service auth  critical  proposed"),
        "{shown}"
    );
    assert!(
        shown.contains("silence 3: nothing is done about payment for 2 h 0 min, until "),
        "{shown}"
    );

    // A word that comes too late is not asked for.
    status.clock.monotonic_ns += 251_000_000_000;
    let late = text(&status, Paint::none());
    assert!(late.contains("service auth  critical  open"), "{late}");
    assert!(!late.contains("approve"), "{late}");
}

#[test]
fn what_is_not_seen_or_not_done_is_said() {
    let mut status = status();
    status.view.dry_run = true;
    status.limitations.push("the port is taken".to_owned());
    status.view.halted = Some("the journal is full".to_owned());
    status.probes.push(ProbeRow {
        name: "oom_kill".to_owned(),
        reason: Some("no such tracepoint".to_owned()),
        fix: Some("boot 5.8".to_owned()),
        ..ProbeRow::default()
    });
    status.view.detectors.push(DetectorView {
        name: "memory_pressure".to_owned(),
        summary: String::new(),
        degraded: Some("oom_kill is off".to_owned()),
    });
    let text = text(&status, Paint::none());
    for line in [
        "HALTED: nothing is acted on: the journal is full",
        "DRY RUN: the daemon only says what it would have done",
        "the port is taken",
        "probe oom_kill is off: no such tracepoint (boot 5.8)",
        "detector memory_pressure sees less than it should: oom_kill is off",
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "no {line} in\n{text}"
        );
    }
}

#[test]
fn checks_are_listed_with_what_they_said_and_failing_ones_first() {
    let mut status = status();
    let spec = crate::checks::Config::read("tcp = \"127.0.0.1:1\"".parse().unwrap()).unwrap();
    let auth = status.view.services.get_mut("auth").unwrap();
    for n in 0..60 {
        let mut check = spec.rule();
        check.well = Some(n != 59);
        check.said = Some(if n == 59 { "no connection" } else { "fine" }.to_owned());
        auth.service.checks.insert(format!("check-{n:02}"), check);
    }
    let text = checks::table(&status, None, Paint::none());
    let first = text.lines().nth(1).unwrap();
    assert!(
        first.contains("check-59") && first.contains("FAILING") && first.contains("no connection"),
        "{text}"
    );
    assert!(text.contains("and 10 more"), "{text}");
    assert!(!text.contains("check-50"), "{text}");
    let other = checks::table(&status, Some("payment"), Paint::none());
    assert_eq!(other, "no checks are configured\n");
}
