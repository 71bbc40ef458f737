//! The last lines of the log of what an incident is about: a thread of its own, asked when an incident is written down.
//!
//! `journalctl` may take seconds, and holds up nobody here but the next question. What is found comes back through the inbox, decides
//! nothing, and so does not matter to a replay. The same thread keeps the files short that services write to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::inbox::{Inbox, Message};
use super::knowing::Known;
use crate::host::capture::Captured;
use crate::host::logs::{Log, last_lines};
use crate::host::{capture, clock};
use crate::model::who::Runtime;
use crate::model::{Incident, IncidentId, Subject};

/// Most questions that wait.
const CAPACITY: usize = 64;
/// Most questions that are remembered as asked.
const ASKED: usize = 1024;
/// How often the length of the services' files is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The log of an incident's subject is in one of these: in the first that there is.
#[derive(Debug)]
struct Question {
    incident: IncidentId,
    places: Vec<Log>,
}

/// The hot thread's end.
#[derive(Debug)]
pub(super) struct Logs {
    sender: SyncSender<Question>,
    known: Arc<Known>,
    /// Where services write to; none where they write to what the daemon does.
    captured: Option<Arc<Captured>>,
    /// Asked before and after it was known whose process it is.
    asked: BTreeSet<(IncidentId, bool)>,
}

impl Logs {
    /// Starts the thread, which ends with the returned value.
    pub(super) fn start(
        inbox: Inbox,
        known: Arc<Known>,
        captured: Option<Arc<Captured>>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        let (cut, shown) = (captured.clone(), Arc::clone(&known));
        Builder::new()
            .name("logs".to_owned())
            .stack_size(512 << 10)
            .spawn(move || run(&receiver, &inbox, cut.as_deref(), &shown))?;
        Ok(Self {
            sender,
            known,
            captured,
            asked: BTreeSet::new(),
        })
    }

    /// Asks for the log of an incident's subject, unless it was asked for. Never waits.
    pub(super) fn ask(&mut self, incident: &Incident) {
        let frozen = incident.evidence.frozen.as_ref();
        if frozen.is_none_or(|frozen| !frozen.log.is_empty()) {
            return;
        }
        let places = places(incident, self.captured.as_deref().map(Captured::folder));
        let known = incident.evidence.who.is_some();
        if places.is_empty() || !self.asked.insert((incident.id, known)) {
            return;
        }
        while self.asked.len() > ASKED {
            self.asked.pop_first();
        }
        let question = Question {
            incident: incident.id,
            places,
        };
        if self.sender.try_send(question).is_err() {
            self.known.count_unread_log();
        }
    }
}

/// Where the log of an incident's subject may be, best first.
fn places(incident: &Incident, captured: Option<&Path>) -> Vec<Log> {
    let mut places = Vec::new();
    if let (Subject::Service { name }, Some(folder)) = (&incident.subject, captured) {
        places.push(Log::File(capture::file(folder, name)));
    }
    let Some(who) = &incident.evidence.who else {
        return places;
    };
    let place = &who.place;
    match (&place.container, &place.user_unit, &place.unit) {
        (Some(container), _, _) => {
            if container.runtime == Runtime::Docker {
                places.push(Log::Docker(container.id.clone()));
            }
        }
        (None, Some(unit), _) => places.push(Log::UserUnit(unit.clone())),
        (None, None, Some(unit)) => places.push(Log::Unit(unit.clone())),
        (None, None, None) => {}
    }
    places
}

fn run(receiver: &Receiver<Question>, inbox: &Inbox, captured: Option<&Captured>, known: &Known) {
    let mut looked = clock::now();
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(question) => answer(&question, inbox, known),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = clock::now();
        if let Some(captured) = captured.filter(|_| now.since(looked) >= LOOK) {
            looked = now;
            for error in captured.keep_short() {
                tracing::warn!("{error}");
            }
        }
    }
}

fn answer(question: &Question, inbox: &Inbox, known: &Known) {
    let incident = question.incident;
    for place in &question.places {
        match last_lines(place) {
            Ok(None) => {}
            Ok(Some(lines)) => {
                if !lines.is_empty() {
                    inbox.send(Message::Log { incident, lines });
                }
                return;
            }
            Err(error) => {
                known.count_unread_log();
                tracing::info!(incident = incident.0, "cannot {error}");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Frozen;
    use crate::model::who::{Container, Place};
    use crate::model::{Evidence, Identity, Severity, Time};

    fn incident(id: u64, subject: Subject, place: Option<Place>) -> Incident {
        let (at, severity) = (Time::default(), Severity::Warning);
        let mut incident =
            Incident::new(IncidentId(id), "d", subject, severity, Evidence::at(at), at);
        incident.evidence.frozen = Some(Box::default());
        let who = place.map(|place| Identity {
            place,
            ..Identity::default()
        });
        incident.evidence.who = who.map(Box::new);
        incident
    }

    #[test]
    fn a_log_is_looked_for_where_the_subject_writes() {
        let unit = Place {
            unit: Some("nginx.service".to_owned()),
            ..Place::default()
        };
        let within = |runtime| Place {
            container: Some(Container {
                runtime,
                id: "ab".to_owned(),
            }),
            ..unit.clone()
        };
        let shop = Subject::service("shop");
        let folder = Some(Path::new("/l"));
        let file = Log::File("/l/shop.log".into());
        let of = Log::Unit("nginx.service".to_owned());
        let cases = [
            (shop.clone(), None, folder, vec![file.clone()]),
            (shop.clone(), None, None, vec![]),
            (
                shop.clone(),
                Some(unit.clone()),
                folder,
                vec![file, of.clone()],
            ),
            (Subject::Host, Some(unit.clone()), folder, vec![of]),
            (Subject::Host, None, folder, vec![]),
            (
                Subject::Host,
                Some(within(Runtime::Docker)),
                None,
                vec![Log::Docker("ab".to_owned())],
            ),
            (Subject::Host, Some(within(Runtime::Podman)), None, vec![]),
        ];
        for (subject, place, captured, expected) in cases {
            assert_eq!(places(&incident(1, subject, place), captured), expected);
        }
    }

    #[test]
    fn an_incidents_log_is_asked_for_once_and_a_full_queue_is_counted() {
        let (sender, receiver) = sync_channel(2);
        let known = Arc::new(Known::default());
        let mut logs = Logs {
            sender,
            known: Arc::clone(&known),
            captured: Some(Arc::new(Captured::new("/l".into()))),
            asked: BTreeSet::new(),
        };
        let shop = || Subject::service("shop");
        logs.ask(&incident(1, shop(), None));
        logs.ask(&incident(1, shop(), None));
        let mut has = incident(2, shop(), None);
        let log = vec!["a".to_owned()];
        has.evidence.frozen = Some(Box::new(Frozen {
            log,
            ..Frozen::default()
        }));
        logs.ask(&has);
        logs.ask(&incident(3, Subject::Host, None));
        logs.ask(&incident(4, shop(), None));
        logs.ask(&incident(5, shop(), None));
        let asked: Vec<u64> = receiver.try_iter().map(|it| it.incident.0).collect();
        assert_eq!(asked, [1, 4]);
        assert_eq!(known.logs_unread(), 1);
    }
}
