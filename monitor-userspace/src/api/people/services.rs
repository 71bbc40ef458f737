//! What a person wants of a service without naming an action: each becomes an incident, whose story says what came of it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};

use super::acts::taken;
use super::{Denied, Peer, read};
use crate::api::answers::{ByHand, OneIncident};
use crate::api::routes::Shown;
use crate::model::{Outcome, Request, Subject};

type Body = Result<Bytes, BytesRejection>;

/// The action of a roll-back.
const ROLLBACK: &str = "rollback_release";

/// Who asks for what, of which service.
fn asked(
    shown: &Shown,
    peer: Peer,
    name: &str,
    body: Body,
) -> Result<(String, String, ByHand), Denied> {
    let by_hand: ByHand = read(body)?;
    let people = &shown.sources.people;
    let by = people.who(peer, by_hand.on_behalf.as_deref())?;
    match (people.acts.find)(name).map_err(Denied::bad)? {
        Subject::Service { name } => Ok((by, name, by_hand)),
        other => Err(Denied::bad(format!("{other} is not a service"))),
    }
}

pub(super) async fn repair(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<OneIncident>, Denied> {
    let (by, service, by_hand) = asked(&shown, peer, &name, body)?;
    let request = Request::Repair {
        service,
        step: by_hand.step,
        dry_run: by_hand.dry_run,
    };
    taken(&shown, by, request).await
}

pub(super) async fn rollback(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<OneIncident>, Denied> {
    let (by, name, by_hand) = asked(&shown, peer, &name, body)?;
    let request = Request::Act {
        action: ROLLBACK.to_owned(),
        subject: Subject::Service { name },
        rule: None,
        dry_run: by_hand.dry_run,
    };
    taken(&shown, by, request).await
}

pub(super) async fn restore_point(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<OneIncident>, Denied> {
    let (by, service, by_hand) = asked(&shown, peer, &name, body)?;
    let dry_run = by_hand.dry_run;
    taken(&shown, by, Request::RestorePoint { service, dry_run }).await
}

pub(super) async fn watch(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<OneIncident>, Denied> {
    let (by, service, by_hand) = asked(&shown, peer, &name, body)?;
    let dry_run = by_hand.dry_run;
    let request = Request::Watch {
        service: service.clone(),
        dry_run,
    };
    let one = taken(&shown, by, request).await?;
    if one.incident.outcome == Some(Outcome::Fixed) {
        (shown.sources.people.acts.watch)(&service);
    }
    Ok(one)
}
