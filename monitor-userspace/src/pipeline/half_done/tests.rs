use super::*;
use crate::detectors::service_down;
use crate::model::release::Source;
use crate::model::{Evidence, Held, Releases, Severity, Subject};

/// An incident whose roll-back is to be changed back then.
fn rolled_back(due: Option<i64>) -> Incident {
    let how = Releases {
        source: Source::Git {
            path: "/srv/shop".into(),
        },
        build: vec!["make".to_owned()],
        schema_check: Vec::new(),
        backup_check: Vec::new(),
        limit: Duration::from_mins(1),
        proven_after: Duration::from_mins(5),
    };
    let undo = Plan::SwitchRelease {
        service: "shop".to_owned(),
        from: "v1".to_owned(),
        to: "v2".to_owned(),
        forward: true,
        how: Box::new(how),
        process: None,
        ran: None,
        term_grace: Duration::from_secs(5),
        command: vec!["shop".to_owned()],
    };
    let now = Time::from_nanos(1);
    let mut incident = Incident::new(
        IncidentId(7),
        service_down::SPEC.name,
        Subject::service("shop"),
        Severity::Critical,
        Evidence::at(now),
        now,
    );
    incident.held = Some(Box::new(Held {
        action: "rollback_release".to_owned(),
        rule: "rule".to_owned(),
        undo,
        due: due.map(Time::from_nanos),
        tries: 0,
    }));
    incident
}

#[test]
fn a_service_waits_for_what_is_due_and_for_nothing_else() {
    let now = Time::from_nanos(100);
    let waits = |incident| of(&[incident], now).remove("shop");
    let half_done = waits(rolled_back(Some(100))).expect("it waits");
    assert_eq!(
        half_done.to_string(),
        "waits until rollback_release of incident 7 is changed back, for 90s at most"
    );
    assert_eq!(waits(rolled_back(Some(101))), None, "it is being judged");
    assert_eq!(waits(rolled_back(None)), None, "a person may ask for it");
    let mut other = rolled_back(Some(100));
    if let Some(held) = &mut other.held {
        held.undo = Plan::StartService {
            service: "shop".to_owned(),
            command: vec!["shop".to_owned()],
        };
    }
    assert_eq!(
        waits(other),
        None,
        "one that was stopped stays so until then"
    );
}

#[test]
fn it_waits_until_nothing_is_to_come_of_it_and_not_for_ever() {
    let (soon, within) = (Duration::from_secs(1), Duration::from_secs(90));
    let due = rolled_back(Some(100));
    assert_eq!(over(None, soon, within), None, "nothing is shown yet");
    assert_eq!(over(Some(&due), soon, within), None);
    for shown in [None, Some(&due)] {
        assert_eq!(
            over(shown, within, within),
            Some("it was not changed back in time")
        );
    }
    let given_up = rolled_back(None);
    assert_eq!(
        over(Some(&given_up), soon, within),
        Some("changing it back was given up")
    );
    let mut lifted = rolled_back(None);
    lifted.held = None;
    assert!(over(Some(&lifted), soon, within).is_some());
}
