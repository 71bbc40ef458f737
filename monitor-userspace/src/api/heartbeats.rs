//! Heartbeats: a service says of itself that it is well. On the socket, and over HTTP on loopback: it changes nothing but what a check
//! `heartbeat` of that service finds.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::routes::{Shown, failure, unread};
use crate::model::Beat;

/// Where they are sent to, followed by the service's name.
pub const PATH: &str = "/api/v1/heartbeats/";

/// Takes one; the error says why not.
pub type TakeBeat = dyn Fn(&str, Beat) -> Result<(), String> + Send + Sync;

/// The body; none at all is a heartbeat that is well.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewBeat {
    /// `ok` or `error`.
    pub status: BeatStatus,
    /// A few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What the service measures, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
}

/// How the service says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatStatus {
    /// All is well.
    #[default]
    Ok,
    /// It is not.
    Error,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BeatTaken {
    /// The service it was taken for.
    pub service: String,
}

pub(super) fn writing() -> Router<Shown> {
    Router::new().route("/api/v1/heartbeats/{service}", post(take))
}

async fn take(
    State(shown): State<Shown>,
    Path(service): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return failure(error.status(), unread(&error)),
    };
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let new: NewBeat = match serde_json::from_slice(text) {
        Ok(new) => new,
        Err(error) => {
            let why = format!("cannot read the request's body: {error}");
            return failure(StatusCode::BAD_REQUEST, why);
        }
    };
    let known = shown.view().services.contains_key(&service);
    if !known {
        let why = format!("there is no service {service:?} in the configuration");
        return failure(StatusCode::NOT_FOUND, why);
    }
    let (error, text) = match new.status {
        BeatStatus::Ok => (None, new.text),
        BeatStatus::Error => (Some(new.text.unwrap_or_else(|| "error".to_owned())), None),
    };
    let beat = Beat {
        error,
        text,
        figures: new.figures.into_iter().collect(),
    };
    match (shown.sources.take_beat)(&service, beat) {
        Ok(()) => Json(BeatTaken { service }).into_response(),
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_and_rubbish_is_not() {
        let body = r#"{"status":"error","text":"queue full","figures":{"queue":3}}"#;
        let read: NewBeat = serde_json::from_str(body).unwrap();
        assert_eq!(read.status, BeatStatus::Error);
        assert_eq!(read.figures.get("queue"), Some(&3.0));
        assert!(serde_json::from_str::<NewBeat>("{}").is_ok());
        for body in [
            r#"{"status":"fine"}"#,
            r#"{"figures":{"a":"b"}}"#,
            r#"{"more":1}"#,
            r#"{"figures":{"a":1e999}}"#,
            "[",
            "3",
        ] {
            assert!(serde_json::from_str::<NewBeat>(body).is_err(), "{body}");
        }
    }
}
