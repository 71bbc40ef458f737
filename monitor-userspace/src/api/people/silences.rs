//! Times in which nothing is done to a subject.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::{Denied, Peer, number, read};
use crate::api::answers::{Clock, NewSilence, OneSilence, Silences, Word};
use crate::api::routes::Shown;
use crate::model::view::SILENCES;
use crate::model::{Request, Silence};

/// Longest silence, seconds: 30 days.
const LONGEST: u64 = 30 * 24 * 3600;

/// Bytes of a reason.
const REASON: usize = 512;

pub(super) async fn list(State(shown): State<Shown>) -> Json<Silences> {
    let view = shown.view();
    Json(Silences {
        clock: Clock::now(),
        silences: view.silences.clone(),
        maintenance: view.maintenance.clone(),
    })
}

pub(super) async fn add(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OneSilence>, Denied> {
    let new: NewSilence = read(body)?;
    let people = &shown.sources.people;
    let by = people.who(peer, new.on_behalf.as_deref())?;
    makes_sense(&shown, &new)?;
    let turn = people.turn.lock().await;
    if shown.view().silences.len() >= SILENCES {
        return Err(Denied::conflict(format!(
            "{SILENCES} silences are in force, and no more can be: end one first"
        )));
    }
    let silence = Silence {
        id: people.number_silence(),
        on: new.on,
        detector: new.detector,
        until: Clock::now()
            .time()
            .after(Duration::from_secs(new.for_seconds)),
        by: by.clone(),
        reason: new.reason.trim().to_owned(),
    };
    let id = silence.id;
    people.ask(by, Request::Silence { silence }).await?;
    drop(turn);
    let silence = find(&shown, id).ok_or_else(|| {
        Denied::conflict(format!(
            "silence {id} is not in force: the core did not take it"
        ))
    })?;
    Ok(Json(OneSilence {
        clock: Clock::now(),
        silence,
    }))
}

pub(super) async fn end(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OneSilence>, Denied> {
    let id = number(&id, "a silence")?;
    let word: Word = read(body)?;
    let people = &shown.sources.people;
    let by = people.who(peer, word.on_behalf.as_deref())?;
    let turn = people.turn.lock().await;
    let silence = find(&shown, id).ok_or_else(|| {
        let why = format!("no silence {id} is in force");
        Denied::new(StatusCode::NOT_FOUND, why)
    })?;
    people.ask(by, Request::Unsilence { id }).await?;
    drop(turn);
    if find(&shown, id).is_some() {
        let why = format!("silence {id} is still in force: the core did not end it");
        return Err(Denied::conflict(why));
    }
    Ok(Json(OneSilence {
        clock: Clock::now(),
        silence,
    }))
}

fn find(shown: &Shown, id: u64) -> Option<Silence> {
    let view = shown.view();
    view.silences
        .iter()
        .find(|silence| silence.id == id)
        .cloned()
}

/// Whether it silences something that there is, for a time and with a reason that can be written down.
fn makes_sense(shown: &Shown, new: &NewSilence) -> Result<(), Denied> {
    let reason = new.reason.trim();
    if reason.is_empty() || reason.len() > REASON || reason.chars().any(char::is_control) {
        return Err(Denied::bad(format!(
            "a silence needs a `reason`: a line of 1 to {REASON} bytes"
        )));
    }
    if !(1..=LONGEST).contains(&new.for_seconds) {
        return Err(Denied::bad(format!(
            "a silence lasts for 1 second to 30 days (`for_seconds` from 1 to {LONGEST}), not {} s",
            new.for_seconds
        )));
    }
    let subjects = (shown.sources.people.subjects)();
    if new.on != "*" && !subjects.contains(&new.on) {
        let names = subjects.iter().map(String::as_str).collect::<Vec<_>>();
        return Err(Denied::bad(format!(
            "there is no service or process called {:?}: the configuration names {}; `*` is everything",
            new.on,
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            },
        )));
    }
    let view = shown.view();
    let detectors: Vec<&str> = view.detectors.iter().map(|row| row.name.as_str()).collect();
    if let Some(detector) = &new.detector
        && !detectors.contains(&detector.as_str())
    {
        return Err(Denied::bad(format!(
            "there is no detector {detector:?} that is switched on: there are {}",
            detectors.join(", ")
        )));
    }
    Ok(())
}
