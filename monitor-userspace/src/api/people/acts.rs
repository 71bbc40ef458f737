//! What a person wants done now: it becomes an incident of its own, whose story says what came of it.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};

use super::{Denied, Peer, read};
use crate::api::answers::{Actions, NewAct, OneIncident};
use crate::api::routes::Shown;
use crate::model::abilities::ActionRow;
use crate::model::incident::MANUAL;
use crate::model::{Request, Subject};

pub(super) async fn list(State(shown): State<Shown>) -> Json<Actions> {
    let actions = (shown.sources.people.acts.rows)();
    Json(Actions { actions })
}

pub(super) async fn act(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OneIncident>, Denied> {
    let new: NewAct = read(body)?;
    let people = &shown.sources.people;
    let by = people.who(peer, new.on_behalf.as_deref())?;
    let row = known((people.acts.rows)(), &new.action)?;
    let subject = (people.acts.find)(&new.subject).map_err(Denied::bad)?;
    makes_sense(&row, &subject)?;
    let request = Request::Act {
        action: new.action,
        subject,
        rule: new.rule,
        dry_run: new.dry_run,
    };
    taken(&shown, by, request).await
}

/// Has the core take a request, and answers with the incident that came of it.
pub(super) async fn taken(
    shown: &Shown,
    by: String,
    request: Request,
) -> Result<Json<OneIncident>, Denied> {
    let people = &shown.sources.people;
    let turn = people.turn.lock().await;
    let asked = people.ask(by, request).await?;
    // People have one turn at a time: what they asked for since then is this.
    let made = {
        let view = shown.view();
        let mut newest = view.incidents.values().rev();
        let made = newest.find(|it| it.detector == MANUAL && it.opened >= asked);
        made.cloned()
    };
    drop(turn);
    let incident = made.ok_or_else(|| {
        Denied::conflict(
            "nothing was done: there are so many open incidents that there is no room for one more",
        )
    })?;
    Ok(Json(shown.with_its_kin(incident)))
}

fn known(rows: Vec<ActionRow>, action: &str) -> Result<ActionRow, Denied> {
    let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
    let found = rows.into_iter().find(|row| row.name == action);
    found.ok_or_else(|| {
        Denied::bad(format!(
            "there is no action {action:?}: there are {}",
            names.join(", ")
        ))
    })
}

/// Whether the action can be done to such a thing, and on this host.
fn makes_sense(row: &ActionRow, subject: &Subject) -> Result<(), Denied> {
    let kind = match subject {
        Subject::Service { .. } => "service",
        // It may be a service's own, which the core knows.
        Subject::Process { .. } if row.on.iter().any(|on| on == "service") => "service",
        Subject::Process { .. } => "process",
        Subject::Folder { .. } => "folder",
        Subject::Network { .. } => "network",
        Subject::Host | Subject::Peer { .. } | Subject::Device { .. } => "nothing of these",
    };
    if !row.on.iter().any(|on| on == kind) {
        return Err(Denied::bad(format!(
            "{} is done to a {}, and {subject} is none",
            row.name,
            row.on.join(" or a ")
        )));
    }
    match &row.unable {
        Some(why) => Err(Denied::conflict(format!(
            "{} cannot be done on this host: {why}",
            row.name
        ))),
        None => Ok(()),
    }
}
