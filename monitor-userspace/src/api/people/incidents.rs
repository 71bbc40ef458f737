//! A word about an incident: do it, do not do it, undo it, I have seen it.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::{Denied, Peer, number, read};
use crate::api::answers::{Approval, Clock, OneIncident, Word};
use crate::api::routes::Shown;
use crate::model::incident::StepKind;
use crate::model::{Incident, IncidentId, Plan, Request, Time};

type Body = Result<Bytes, BytesRejection>;
type Answer = Result<Json<OneIncident>, Denied>;

pub(super) async fn approve(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let Approval { plan, on_behalf } = read(body)?;
    let ask = |incident| Request::Approve { incident };
    say(&shown, peer, &id, on_behalf, plan, ask).await
}

/// A word that needs no more than its incident.
macro_rules! word {
    ($name:ident, $request:ident) => {
        pub(super) async fn $name(
            State(shown): State<Shown>,
            Extension(peer): Extension<Peer>,
            Path(id): Path<String>,
            body: Body,
        ) -> Answer {
            let Word { on_behalf } = read(body)?;
            let ask = |incident| Request::$request { incident };
            say(&shown, peer, &id, on_behalf, None, ask).await
        }
    };
}

word!(reject, Reject);
word!(acknowledge, Acknowledge);
word!(undo, Undo);

async fn say(
    shown: &Shown,
    peer: Peer,
    id: &str,
    on_behalf: Option<String>,
    plan: Option<Plan>,
    ask: impl FnOnce(IncidentId) -> Request,
) -> Answer {
    let id = IncidentId(number(id, "an incident")?);
    let people = &shown.sources.people;
    let by = people.who(peer, on_behalf.as_deref())?;
    let request = ask(id);
    let turn = people.turn.lock().await;
    let before = on_board(shown, id)?;
    makes_sense(&request, plan.as_ref(), &before, Clock::now().time())?;
    let asked = people.ask(by, request.clone()).await?;
    let after = on_board(shown, id)?;
    came_of(&request, &after, asked)?;
    drop(turn);
    Ok(Json(shown.with_its_kin(after)))
}

fn on_board(shown: &Shown, id: IncidentId) -> Result<Incident, Denied> {
    let incident = shown.view().incidents.get(&id).cloned();
    incident.ok_or_else(|| {
        let why =
            format!("there is no incident {id}, or it is so old that the daemon has forgotten it");
        Denied::new(StatusCode::NOT_FOUND, why)
    })
}

/// Whether there is anything that the request could be about; `plan` is what exactly is approved, where that was said.
fn makes_sense(
    request: &Request,
    plan: Option<&Plan>,
    incident: &Incident,
    now: Time,
) -> Result<(), Denied> {
    let id = incident.id;
    if matches!(request, Request::Undo { .. }) {
        return incident.held.as_ref().map(|_| ()).ok_or_else(|| {
            Denied::conflict(format!(
                "nothing that was done about incident {id} is in force and can be undone"
            ))
        });
    }
    if incident.is_over() {
        return Err(Denied::conflict(format!("incident {id} is over")));
    }
    if matches!(request, Request::Acknowledge { .. }) {
        return Ok(());
    }
    let Some(proposed) = &incident.proposed else {
        return Err(Denied::conflict(format!(
            "incident {id} proposes nothing: it is {}",
            incident.state.name()
        )));
    };
    if now >= proposed.until {
        return Err(Denied::conflict(format!(
            "what incident {id} proposed ({}) has expired",
            proposed.action
        )));
    }
    if plan.is_some_and(|plan| *plan != proposed.plan) {
        return Err(Denied::conflict(format!(
            "incident {id} proposes something else by now ({}): look at it again",
            proposed.action
        )));
    }
    Ok(())
}

/// Whether the core did what was asked, going by what the incident's story says since then.
fn came_of(request: &Request, after: &Incident, asked: Time) -> Result<(), Denied> {
    let since = || after.steps.iter().rev().take_while(|step| step.at >= asked);
    let (done, step) = match request {
        Request::Approve { .. } => ("approved", StepKind::Approved),
        Request::Reject { .. } => ("rejected", StepKind::Rejected),
        Request::Undo { .. } => ("to be undone", StepKind::Approved),
        _ if after.acknowledged_by.is_some() => return Ok(()),
        _ => ("acknowledged", StepKind::Acknowledged),
    };
    if since().any(|it| it.what == step) {
        return Ok(());
    }
    let id = after.id;
    Err(Denied::conflict(match since().next() {
        Some(last) => format!(
            "incident {id} was not {done}: {}: {}",
            last.what.name(),
            last.detail
        ),
        // A refusal is told once in a story, however often it is repeated.
        None => format!(
            "incident {id} was not {done}: it is {}{}",
            after.state.name(),
            after.steps.last().map_or_else(String::new, |last| format!(
                ", {}: {}",
                last.what.name(),
                last.detail
            ))
        ),
    }))
}
