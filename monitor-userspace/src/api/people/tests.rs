use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use crate::api::client::{self, ClientError};
use crate::api::{Sources, bind_socket, serve};
use crate::metrics::Own;
use crate::model::action::Risk;
use crate::model::incident::{Held, StepKind};
use crate::model::kernel_view::NoKernel;
use crate::model::view::{DetectorView, SILENCES};
use crate::model::{
    Evidence, Incident, IncidentId, Plan, Proposed, Severity, Silence, State, Subject, View,
};

/// What the stand-in for the core does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Core {
    /// What it is asked to.
    Obeys,
    /// Says that it was taken, and does nothing.
    Ignores,
    /// Cannot write the journal.
    CannotWrite,
    /// Has no room.
    Full,
}

fn incident(id: u64, proposed_until: Option<Time>) -> Incident {
    let proposed = proposed_until.map(|until| {
        Box::new(Proposed {
            action: "restart_service".to_owned(),
            plan: Plan::RestartService {
                service: "auth".to_owned(),
                process: None,
                term_grace: Duration::ZERO,
                command: Vec::new(),
            },
            reason: "the remedy asks first".to_owned(),
            until,
        })
    });
    Incident {
        proposed,
        ..Incident::new(
            IncidentId(id),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            Evidence::at(Time::default()),
            Time::default(),
        )
    }
}

/// 1 proposes something, 2 proposes nothing, 3 is over, what 4 proposes has expired.
fn view() -> View {
    let mut view = View::default();
    let later = Clock::now().time().after(Duration::from_hours(1));
    for (id, until) in [
        (1, Some(later)),
        (2, None),
        (3, None),
        (4, Some(Time::default())),
    ] {
        let mut incident = incident(id, until);
        if id == 3 {
            incident.state = State::Resolved;
        }
        view.incidents.insert(IncidentId(id), incident);
    }
    view.detectors.push(DetectorView {
        name: "service_down".to_owned(),
        summary: String::new(),
        degraded: None,
    });
    view
}

fn obey(view: &mut View, by: &str, request: Request) {
    let now = Clock::now().time();
    let mut step = |id: &IncidentId, what| {
        let incident = view.incidents.get_mut(id).expect("it was checked");
        incident.step(now, what, format!("by {by}"));
        match what {
            StepKind::Acknowledged => incident.acknowledged_by = Some(by.to_owned()),
            _ => incident.proposed = None,
        }
    };
    match request {
        Request::Approve { incident } | Request::Undo { incident } => {
            step(&incident, StepKind::Approved);
        }
        Request::Reject { incident } => step(&incident, StepKind::Rejected),
        Request::Acknowledge { incident } => step(&incident, StepKind::Acknowledged),
        Request::Act {
            action,
            subject,
            dry_run,
            ..
        } => {
            let id = view.incidents.keys().next_back().map_or(0, |id| id.0) + 1;
            let at = Evidence::at(now);
            let mut made = Incident::new(
                IncidentId(id),
                "manual",
                subject,
                Severity::Warning,
                at,
                now,
            );
            let line = format!("{action}, dry run: {dry_run}");
            made.step(now, StepKind::Detected, line);
            view.incidents.insert(IncidentId(id), made);
        }
        Request::Repair { .. } | Request::RestorePoint { .. } | Request::Watch { .. } => {}
        Request::Silence { silence } => view.silences.push(silence),
        Request::Unsilence { id } => view.silences.retain(|silence| silence.id != id),
    }
}

/// One that can be done to services, and one to folders, that this host cannot do.
fn acts() -> Acts {
    let row = |name: &str, on: &str, unable: Option<&str>| ActionRow {
        name: name.to_owned(),
        summary: String::new(),
        risk: Risk::Restores,
        on: vec![on.to_owned()],
        reversible: false,
        needs: String::new(),
        unable: unable.map(str::to_owned),
    };
    Acts {
        find: Box::new(|name| match name {
            "auth" => Ok(Subject::service("auth")),
            "spool" => Ok(Subject::Folder {
                name: "spool".to_owned(),
            }),
            other => Err(format!("nothing is called {other:?}")),
        }),
        rows: Box::new(move || {
            vec![
                row("restart_service", "service", None),
                row("clean", "folder", Some("there is no broom: buy one")),
            ]
        }),
        watch: Box::new(|_| {}),
    }
}

type Heard = Arc<Mutex<Vec<(String, Request)>>>;

/// A server on a socket of its own, and what its core has heard.
struct Server {
    socket: PathBuf,
    view: Arc<Mutex<View>>,
    heard: Heard,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.socket.parent().unwrap_or(Path::new("/nonexistent")));
    }
}

impl Server {
    fn start(name: &str, core: Core) -> Self {
        let folder = std::env::temp_dir().join(format!("sm-people-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let socket = folder.join("s.sock");
        let listener = bind_socket(&socket).expect("the socket is free");
        let (view, heard) = (Arc::new(Mutex::new(view())), Heard::default());
        let people = {
            let (view, heard) = (Arc::clone(&view), Arc::clone(&heard));
            People::new(
                Box::new(|user| Some(format!("user-{user}"))),
                Box::new(|| ["auth", "batch"].map(str::to_owned).into()),
                acts(),
                Box::new(move |asked| {
                    let Asked { by, request, taken } = asked;
                    if core == Core::Full {
                        return false;
                    }
                    heard.lock().unwrap().push((by.clone(), request.clone()));
                    if core == Core::Obeys {
                        obey(&mut view.lock().unwrap(), &by, request);
                    }
                    let answer = match core {
                        Core::CannotWrite => Err("the journal is full".to_owned()),
                        _ => Ok(()),
                    };
                    taken.send(answer).is_ok()
                }),
                7,
            )
        };
        let sources = Sources {
            view: Arc::clone(&view),
            kernel: Arc::new(NoKernel),
            own: Arc::new(Own::started_now()),
            unhealthy: Box::new(Vec::new),
            limitations: Box::new(Vec::new),
            people,
            recordings: Arc::new(crate::api::recording::NoRecordings),
            take_beat: Box::new(|_, _| Ok(())),
        };
        let forever = std::future::pending::<()>();
        tokio::spawn(serve(Arc::new(sources), Some(listener), None, forever));
        Self {
            socket,
            view,
            heard,
        }
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, ClientError> {
        client::send_json(&self.socket, Method::POST, path, &body).await
    }

    async fn refused(&self, path: &str, body: Value) -> (u16, String) {
        refusal(self.post(path, body).await)
    }

    fn heard(&self) -> Vec<(String, Request)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

fn refusal(answer: Result<Value, ClientError>) -> (u16, String) {
    match answer.expect_err("it is refused") {
        ClientError::Refused { code, message, .. } => (code, message),
        ClientError::NotFound { message } => (404, message),
        other => panic!("{other}"),
    }
}

/// Who runs the test is root or, for this server, the daemon's own user.
fn own_name() -> String {
    format!("user-{}", rustix::process::geteuid().as_raw())
}

#[tokio::test]
async fn a_word_about_an_incident_reaches_the_core_and_its_answer_says_what_became_of_it() {
    let server = Server::start("word", Core::Obeys);
    let answer = server
        .post("/api/v1/incidents/1/acknowledge", json!({}))
        .await;
    assert_eq!(
        answer.expect("it is taken")["incident"]["acknowledged_by"],
        json!(own_name())
    );
    let answer = server.post("/api/v1/incidents/1/approve", json!({})).await;
    let incident = answer.expect("it is taken")["incident"].clone();
    assert_eq!(incident["steps"][1]["what"], "approved");
    let id = IncidentId(1);
    assert_eq!(
        server.heard(),
        [
            (own_name(), Request::Acknowledge { incident: id }),
            (own_name(), Request::Approve { incident: id }),
        ]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_the_core_never_hears_of_it() {
    let server = Server::start("sense", Core::Obeys);
    for (path, code, word) in [
        ("/api/v1/incidents/99/approve", 404, "no incident 99"),
        ("/api/v1/incidents/one/approve", 400, "whole number"),
        ("/api/v1/incidents/2/approve", 409, "proposes nothing"),
        ("/api/v1/incidents/2/reject", 409, "proposes nothing"),
        ("/api/v1/incidents/3/acknowledge", 409, "is over"),
        ("/api/v1/incidents/4/approve", 409, "expired"),
    ] {
        let (found, error) = server.refused(path, json!({})).await;
        assert_eq!(found, code, "{path}: {error}");
        assert!(error.contains(word), "{path}: {error}");
    }
    let unknown = server.refused("/api/v1/incidents/1/approve", json!({"force": true}));
    let (code, error) = unknown.await;
    assert_eq!(code, 400);
    assert!(error.contains("unknown field `force`"), "{error}");
    let long = json!({"on_behalf": "x".repeat(8 << 10)});
    let (code, _) = server.refused("/api/v1/incidents/1/approve", long).await;
    assert_eq!(code, 413);
    assert_eq!(server.heard(), []);
}

#[tokio::test]
async fn only_what_was_shown_is_approved() {
    let server = Server::start("shown", Core::Obeys);
    let path = "/api/v1/incidents/1/approve";
    let plan = |service: &str| json!({"plan": {"plan": "restart_service", "service": service, "process": null, "term_grace": {"secs": 0, "nanos": 0}}});
    let (code, error) = server.refused(path, plan("other")).await;
    assert_eq!(code, 409, "{error}");
    assert!(error.contains("something else"), "{error}");
    assert_eq!(server.heard(), []);
    server
        .post(path, plan("auth"))
        .await
        .expect("it is what it proposes");
}

#[tokio::test]
async fn what_the_core_did_not_do_is_not_said_to_be_done() {
    let ignores = Server::start("ignores", Core::Ignores);
    for verb in ["approve", "reject", "acknowledge"] {
        let path = format!("/api/v1/incidents/1/{verb}");
        let (code, error) = ignores.refused(&path, json!({})).await;
        assert_eq!(code, 409, "{error}");
    }
    let silence = json!({"on": "auth", "for_seconds": 60, "reason": "upgrade"});
    let (code, error) = ignores.refused("/api/v1/silences", silence).await;
    assert_eq!(code, 409, "{error}");
    assert!(error.contains("not in force"), "{error}");
    for (core, word) in [
        (Core::CannotWrite, "journal is full"),
        (Core::Full, "overloaded"),
    ] {
        let server = Server::start("broken", core);
        let (code, error) = server
            .refused("/api/v1/incidents/1/approve", json!({}))
            .await;
        assert_eq!(code, 503, "{error}");
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_silence_has_a_number_of_its_own_and_can_be_ended() {
    let server = Server::start("silence", Core::Obeys);
    let asked =
        json!({"on": "auth", "detector": "service_down", "for_seconds": 60, "reason": " upgrade "});
    let first = server
        .post("/api/v1/silences", asked)
        .await
        .expect("it is taken");
    let everything = json!({"on": "*", "for_seconds": 2_592_000, "reason": "moving house"});
    let second = server
        .post("/api/v1/silences", everything)
        .await
        .expect("it is taken");
    let silence: Silence = serde_json::from_value(first["silence"].clone()).expect("it reads");
    assert_eq!(
        (silence.id, silence.reason.as_str(), &silence.by),
        (7, "upgrade", &own_name())
    );
    let left = silence.until.since(Clock::now().time());
    assert!(
        left <= Duration::from_mins(1) && left > Duration::from_secs(30),
        "{left:?}"
    );
    assert_eq!(second["silence"]["id"], 8);

    let listed = client::get_json(&server.socket, "/api/v1/silences")
        .await
        .expect("it lists");
    assert_eq!(listed["silences"].as_array().map(Vec::len), Some(2));
    let ended = client::send_json(
        &server.socket,
        Method::DELETE,
        "/api/v1/silences/7",
        &json!({}),
    )
    .await;
    assert_eq!(ended.expect("it is ended")["silence"]["id"], 7);
    let again = client::send_json(
        &server.socket,
        Method::DELETE,
        "/api/v1/silences/7",
        &json!({}),
    )
    .await;
    assert_eq!(refusal(again).0, 404);
}

#[tokio::test]
async fn a_silence_that_cannot_be_meant_is_refused() {
    let server = Server::start("meant", Core::Obeys);
    let with = |field: &str, value: Value| {
        let mut silence = json!({"on": "auth", "for_seconds": 60, "reason": "upgrade"});
        silence[field] = value;
        silence
    };
    for (silence, word) in [
        (with("on", json!("ghost")), "auth, batch"),
        (with("detector", json!("ghost")), "no detector"),
        (with("for_seconds", json!(0)), "for_seconds"),
        (with("for_seconds", json!(2_592_001)), "30 days"),
        (with("for_seconds", json!(-1)), "body"),
        (with("reason", json!(" ")), "reason"),
        (with("reason", json!("two\nlines")), "reason"),
        (with("reason", json!("x".repeat(513))), "reason"),
        (with("until", json!(5)), "unknown field `until`"),
        (
            json!({"on": "auth", "for_seconds": 60}),
            "missing field `reason`",
        ),
        (json!([]), "body"),
    ] {
        let (code, error) = server.refused("/api/v1/silences", silence.clone()).await;
        assert_eq!(code, 400, "{silence}: {error}");
        assert!(error.contains(word), "{silence}: {error}");
    }
    assert_eq!(server.heard(), []);

    let many = (1..=SILENCES).map(|id| Silence {
        id: u64::try_from(id).unwrap_or(0),
        on: "auth".to_owned(),
        detector: None,
        until: Clock::now().time().after(Duration::from_mins(1)),
        by: "root".to_owned(),
        reason: "upgrade".to_owned(),
    });
    server.view.lock().unwrap().silences = many.collect();
    let silence = with("on", json!("*"));
    let (code, error) = server.refused("/api/v1/silences", silence).await;
    assert_eq!(code, 409);
    assert!(error.contains("256"), "{error}");
}

#[test]
fn only_root_speaks_for_others_and_who_has_no_name_is_a_number() {
    let names = Box::new(|user| (user == 0).then(|| "root".to_owned()));
    let people = People::new(
        names,
        Box::new(BTreeSet::new),
        acts(),
        Box::new(|_| false),
        1,
    );
    let who = |user, on_behalf| people.who(Peer { user }, on_behalf);
    assert_eq!(who(0, None).unwrap(), "root");
    assert_eq!(who(0, Some("alice")).unwrap(), "root (alice)");
    assert_eq!(who(998, None).unwrap(), "uid 998");
    assert_eq!(
        who(998, Some("alice")).unwrap_err().code,
        StatusCode::FORBIDDEN
    );
    for bad in ["", "two\nlines", &"x".repeat(65)] {
        assert_eq!(
            who(0, Some(bad)).unwrap_err().code,
            StatusCode::BAD_REQUEST,
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn what_somebody_wants_done_becomes_an_incident_and_that_is_the_answer() {
    let server = Server::start("act", Core::Obeys);
    let body = json!({"action": "restart_service", "subject": "auth", "dry_run": true});
    let answer = server
        .post("/api/v1/acts", body)
        .await
        .expect("it is taken");
    assert_eq!(answer["incident"]["id"], 5);
    assert_eq!(answer["incident"]["detector"], "manual");
    let story = &answer["incident"]["steps"][0]["detail"];
    assert_eq!(story, "restart_service, dry run: true");
    let request = Request::Act {
        action: "restart_service".to_owned(),
        subject: Subject::service("auth"),
        rule: None,
        dry_run: true,
    };
    assert_eq!(server.heard(), [(own_name(), request)]);
}

#[tokio::test]
async fn an_act_that_makes_no_sense_never_reaches_the_core() {
    let server = Server::start("no-act", Core::Obeys);
    let ask = |action: &str, subject: &str| json!({"action": action, "subject": subject});
    for (body, code, why) in [
        (
            ask("dance", "auth"),
            400,
            "there are restart_service, clean",
        ),
        (
            ask("restart_service", "shop"),
            400,
            "nothing is called \"shop\"",
        ),
        (ask("restart_service", "spool"), 400, "is done to a service"),
        (ask("clean", "spool"), 409, "there is no broom: buy one"),
        (json!({"action": "clean"}), 400, "missing field `subject`"),
        (
            json!({"action": "clean", "subject": "spool", "now": true}),
            400,
            "`now`",
        ),
    ] {
        let (found, said) = server.refused("/api/v1/acts", body).await;
        assert_eq!(found, code, "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(server.heard(), []);
}

#[tokio::test]
async fn an_act_that_the_core_made_nothing_of_is_no_success() {
    let server = Server::start("lost-act", Core::Ignores);
    // One that somebody asked for before is not the answer to this.
    {
        let mut view = server.view.lock().unwrap();
        let mut old = incident(5, None);
        old.detector = "manual".to_owned();
        view.incidents.insert(IncidentId(5), old);
    }
    let body = json!({"action": "restart_service", "subject": "auth"});
    let (code, said) = server.refused("/api/v1/acts", body).await;
    assert_eq!(code, 409, "{said}");
    assert!(said.contains("nothing was done"), "{said}");
}

#[tokio::test]
async fn only_what_is_in_force_can_be_undone_and_an_incident_that_is_over_too() {
    let server = Server::start("undo", Core::Obeys);
    let path = "/api/v1/incidents/3/undo";
    let (code, said) = server.refused(path, json!({})).await;
    assert_eq!(code, 409, "{said}");
    assert!(
        said.contains("nothing that was done about incident 3 is in force"),
        "{said}"
    );
    assert_eq!(server.heard(), []);
    {
        let mut view = server.view.lock().unwrap();
        let held = Held {
            action: "restart_service".to_owned(),
            rule: "calm".to_owned(),
            undo: incident(1, Some(Time::default())).proposed.unwrap().plan,
            due: None,
            tries: 0,
        };
        view.incidents.get_mut(&IncidentId(3)).unwrap().held = Some(Box::new(held));
    }
    let status = client::get_json(&server.socket, "/api/v1/status").await;
    let status = status.expect("it answers");
    assert!(
        status["view"]["incidents"]["3"]["held"].is_object(),
        "{status}"
    );
    server.post(path, json!({})).await.expect("it is taken");
    let request = Request::Undo {
        incident: IncidentId(3),
    };
    assert_eq!(server.heard(), [(own_name(), request)]);
    let actions = client::get_json(&server.socket, "/api/v1/actions").await;
    let actions = actions.expect("it answers");
    assert_eq!(
        actions["actions"][1]["unable"],
        "there is no broom: buy one"
    );
}
