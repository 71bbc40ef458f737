use super::*;
use crate::api::answers::{Clock, OneIncident};
use crate::model::incident::StepKind;
use crate::model::{Evidence, Incident, Outcome, ProcessKey, Severity, State, Subject, Time};

const SEEN: i64 = 1_000_000_000;

fn after(micros: i64) -> Time {
    Time::from_nanos(SEEN + micros * 1_000)
}

fn fixed() -> OneIncident {
    let process = ProcessKey {
        pid: 4242,
        start_ticks: 9,
    };
    let evidence = Evidence::at(after(0))
        .from_probe(monitor_common::Kind::ProcessExit)
        .about(process, "auth")
        .fact("exit", "signal 9 (SIGKILL)");
    let mut incident = Incident {
        closed: Some(after(3_204)),
        caused_by: Some(IncidentId(16)),
        outcome: Some(Outcome::Fixed),
        actions: 1,
        state: State::Resolved,
        ..Incident::new(
            IncidentId(17),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            evidence,
            after(41),
        )
    };
    incident.step(after(0), StepKind::Seen, "auth [4242] ended");
    incident.step(after(41), StepKind::Detected, "service_down");
    incident.step(
        after(66),
        StepKind::Acted,
        "started as pid 4311 ".repeat(12),
    );
    incident.step(
        after(3_204),
        StepKind::Recovered,
        "answers\x1b[2J on 127.0.0.1:8101",
    );
    let clock = Clock {
        monotonic_ns: SEEN,
        unix_ns: 1_000_000_000_000_000_000,
    };
    OneIncident {
        clock,
        incident,
        causes: vec![IncidentId(18), IncidentId(19)],
        suppresses: (20..40).map(IncidentId).collect(),
    }
}

#[test]
fn the_story_goes_from_the_kernel_event_to_the_verdict() {
    let text = story::full(&fixed(), Paint::none());
    let at = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("no {part} in\n{text}"))
    };
    let order = [
        "incident 17: service_down, service auth  critical, resolved",
        ", category service",
        "brought about by an action on incident 16",
        "an action on it brought about incidents 18, 19",
        "held back because they follow from it: incidents 20, 21, 22, 23, 24, 25, 26, 27 and 12 more",
        "+0 us  seen          auth [4242] ended",
        "+41 us  detected      service_down",
        "+66 us  acted         started as pid 4311",
        "+3.20 ms  recovered ",
        "evidence",
        "  process  auth [4242]",
        "  exit     signal 9 (SIGKILL)",
        "Fixed in 3.20 ms: detected after 41 us, acted after 66 us, recovered after 3.20 ms.",
    ];
    assert!(order.map(at).is_sorted(), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= render::WIDTH, "{line}");
    }
}

#[test]
fn what_became_of_it_is_said_in_plain_words() {
    let verdict = |change: &dyn Fn(&mut Incident)| {
        let mut incident = fixed().incident;
        change(&mut incident);
        verdict::of(&incident, after(12_000_000)).0
    };
    let escalated = verdict(&|incident: &mut Incident| {
        incident.state = State::Escalated;
        incident.step(after(5_000), StepKind::Escalated, "restart limit used up");
    });
    assert_eq!(escalated, "A person is needed: restart limit used up.");
    let dry = verdict(&|incident: &mut Incident| {
        incident.state = State::Open;
        incident.outcome = Some(Outcome::WouldHave);
        incident.actions = 0;
        incident.step(
            after(50),
            StepKind::Refused,
            "dry_run: would have restarted auth",
        );
    });
    assert_eq!(
        dry,
        "Open for 12.0 s: dry run, nothing was changed (dry_run: would have restarted auth)."
    );
    let alone = verdict(&|incident: &mut Incident| {
        incident.outcome = None;
        incident.actions = 0;
    });
    assert_eq!(
        alone,
        "Over after 3.20 ms without an action: no remedy is configured for it."
    );
    let asked = |incident: &mut Incident| {
        incident.outcome = None;
        incident.actions = 0;
        incident.step(after(50), StepKind::Refused, "consent: the remedy waits");
        let line = "consent: the remedy asks first; within 5m: smart-monitor approve 17";
        incident.step(after(60), StepKind::Proposed, line);
    };
    let unanswered = verdict(&asked);
    assert_eq!(
        unanswered,
        "Over after 3.20 ms without an action: an action was proposed and never allowed (consent: the remedy asks first)."
    );
    let forbidden = verdict(&|incident: &mut Incident| {
        asked(incident);
        incident.step(after(70), StepKind::Rejected, "restart_service: by root");
        incident.step(after(80), StepKind::Acknowledged, "by root");
    });
    assert_eq!(
        forbidden,
        "Over after 3.20 ms without an action: what was proposed was not allowed (restart_service: rejected by root)."
    );
    let later = verdict(&|incident: &mut Incident| incident.actions = 3);
    assert!(
        later.starts_with("Fixed in 3.20 ms by the last of 3 actions: "),
        "{later}"
    );
}

#[test]
fn the_head_says_where_it_stands_in_the_word_of_the_listings() {
    let mut one = fixed();
    one.incident.state = State::Open;
    let plan = crate::model::Plan::RestartService {
        service: "auth".to_owned(),
        process: None,
        term_grace: std::time::Duration::ZERO,
        command: Vec::new(),
    };
    one.incident.proposed = Some(Box::new(crate::model::Proposed {
        action: "restart_service".to_owned(),
        plan,
        reason: String::new(),
        until: after(1),
    }));
    let head = |one: &OneIncident| {
        let text = story::full(one, Paint::none());
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert!(head(&one).ends_with("critical, proposed"), "{}", head(&one));
    one.clock.monotonic_ns += 1_000;
    assert!(head(&one).ends_with("critical, open"), "{}", head(&one));
}
