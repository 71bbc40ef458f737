//! Commands that are run as an action: what comes of them on a made-up host.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use smart_monitor::actions;
use smart_monitor::config::Config;
use smart_monitor::detectors::MANUAL;
use smart_monitor::engine::{self, Engine};
use smart_monitor::host::command::{Ended, Finished, Kept, Order};
use smart_monitor::host::{Host, HostError, Opened, Restarted};
use smart_monitor::model::{
    Effect, EffectResult, IncidentId, ProcessKey, Request, Signal, Subject, Time,
};

/// A host on which every program ends so.
#[derive(Debug)]
struct Ends {
    status: u32,
    ended: Option<Ended>,
    asked: Mutex<Vec<Order>>,
}

impl Host for Ends {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Err(HostError::Gone(process))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn run_command(&self, order: &Order) -> Result<Finished, HostError> {
        self.asked
            .lock()
            .expect("nobody panics")
            .push(order.clone());
        let mut output = Kept::default();
        output.take(b"hello\n");
        Ok(Finished {
            status: self.status,
            ended: self.ended.clone(),
            started: Time::from_nanos(5),
            took: Duration::from_millis(20),
            output,
            errors: Kept::default(),
            left: true,
            limitation: None,
        })
    }

    fn now(&self) -> Time {
        Time::from_nanos(9)
    }
}

/// What a person gets who asks for it, on this host.
fn asked_for(with: &str, host: &Ends) -> Effect {
    let text = format!(
        "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\n[[remedy]]\nname = \"by-hand\"\n\
         detector = \"{MANUAL}\"\non = [\"a\"]\naction = \"run_command\"\nwith = {{ {with} }}\n"
    );
    let config = Config::parse(&text, Path::new("test.toml"));
    let config = config.unwrap_or_else(|error| panic!("{}", error.render()));
    let settings = config.settings(false, &[], &[]);
    let mut engine = Engine::new(settings, IncidentId(7));
    let mut orders = Vec::new();
    let request = Request::Act {
        action: "run_command".to_owned(),
        subject: Subject::service("a"),
        rule: None,
        dry_run: false,
    };
    let at = Time::from_nanos(1_000_000_000_000);
    let by = "root".to_owned();
    engine.observe(&Signal::Person { by, request }, at, at, &mut orders);
    let permit = orders.into_iter().find_map(|order| match order {
        engine::Order::Execute { permit, .. } => Some(permit),
        engine::Order::Record(_) | engine::Order::Releases { .. } => None,
    });
    actions::execute(permit.expect("it is permitted"), None, host)
}

fn ends(status: u32, ended: Option<Ended>) -> Ends {
    let asked = Mutex::default();
    Ends {
        status,
        ended,
        asked,
    }
}

#[test]
fn only_an_accepted_exit_of_its_own_is_good() {
    let with = "command = [\"x\"], accept_exit = [0, 3]";
    let cases = [
        (
            0x000,
            None,
            true,
            "x: exit status 0 after 20.0ms; what it left behind was ended; output (6 bytes): hello\\n",
        ),
        (0x300, None, true, "exit status 3"),
        (0x100, None, false, "exit status 1"),
        (9, None, false, "ended by signal 9"),
        (
            0,
            Some(Ended::Time),
            false,
            "its time limit of 30s was over",
        ),
        (0, Some(Ended::Processes), false, "more than 512 processes"),
        (
            0,
            Some(Ended::CalledOff("halted".to_owned())),
            false,
            "called off: halted",
        ),
    ];
    for (status, ended, good, expected) in cases {
        let effect = asked_for(with, &ends(status, ended));
        let (done, text) = match &effect.result {
            EffectResult::Done { detail } => (true, detail),
            EffectResult::Failed { reason } | EffectResult::Refused { reason } => (false, reason),
        };
        assert_eq!(done, good, "{effect:?}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(effect.acted, Some(Time::from_nanos(5)));
        assert_eq!(effect.verified.is_some(), good);
    }
}

#[test]
fn it_is_told_what_it_is_about() {
    let host = ends(0, None);
    asked_for("command = [\"x\"], environment = { A = \"b\" }", &host);
    let asked = host.asked.lock().expect("nobody panics");
    let has = |name: &str| {
        let all = &asked[0].environment;
        all.iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(has("A"), Some("b"));
    assert_eq!(has("SMART_MONITOR_INCIDENT"), Some("7"));
    assert_eq!(has("SMART_MONITOR_SUBJECT"), Some("service a"));
    assert_eq!(has("SMART_MONITOR_RULE"), Some("by-hand"));
    assert!(asked[0].confined.is_none() && !asked[0].no_network && asked[0].user.is_none());
}
