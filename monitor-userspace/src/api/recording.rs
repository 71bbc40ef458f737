//! Recordings of signals: begun and ended over the socket, one at a time; how far it is, everybody who may ask at all is told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::answers::Recording;
use super::routes::{Shown, failure, unread};

/// Where it is asked for.
pub const PATH: &str = "/api/v1/recording";

/// Size at which a recording ends when none is given, bytes.
pub const SIZE: u64 = 256 << 20;
/// Sizes that make sense, bytes.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Longest time that can be asked for, seconds: a month.
const LONGEST: u64 = 31 * 24 * 3600;

/// Longest wait for the end of the file.
const ENDED: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What records; the pipeline has it.
pub trait Recordings: fmt::Debug + Send + Sync {
    /// Begins one; why not, when it cannot. May wait for the file system.
    fn start(&self, path: &Path, size: u64, time: Option<Duration>) -> Result<(), String>;
    /// The last one that was begun.
    fn progress(&self) -> Option<Recording>;
    /// Asks it to end.
    fn stop(&self);
}

/// What `POST` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The new file, from the root on.
    pub path: PathBuf,
    /// For how long; none for as long as the daemon runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// Most bytes of the file.
    #[serde(default = "size")]
    pub size: u64,
}

const fn size() -> u64 {
    SIZE
}

impl Wanted {
    /// What is wrong with it, if anything is.
    fn mistake(&self) -> Option<String> {
        if !self.path.is_absolute() {
            return Some("`path` must begin with /: the daemon has another working folder".into());
        }
        if !SIZES.contains(&self.size) {
            let (least, most) = (SIZES.start(), SIZES.end());
            return Some(format!(
                "a recording's `size` is from 1 MiB ({least} bytes) to 1 TiB ({most} bytes), not {}",
                self.size
            ));
        }
        let seconds = self.for_seconds.unwrap_or(LONGEST);
        (!(1..=LONGEST).contains(&seconds))
            .then(|| {
                format!("a recording lasts for 1 second to 31 days (`for_seconds` from 1 to {LONGEST}), not {seconds} s")
            })
    }
}

/// What only reads.
pub(super) fn reading() -> Router<Shown> {
    Router::new().route(PATH, get(progress))
}

/// What begins and ends one.
pub(super) fn writing() -> Router<Shown> {
    Router::new().route(PATH, post(start).delete(stop))
}

async fn progress(State(shown): State<Shown>) -> Response {
    answer(shown.sources.recordings.progress())
}

fn answer(recording: Option<Recording>) -> Response {
    match recording {
        Some(recording) => Json(recording).into_response(),
        None => failure(
            StatusCode::NOT_FOUND,
            "nothing is recorded, and nothing was since the daemon started",
        ),
    }
}

async fn start(State(shown): State<Shown>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return failure(error.status(), unread(&error)),
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            let why = format!("cannot read the request's body: {error}");
            return failure(StatusCode::BAD_REQUEST, why);
        }
    };
    if let Some(mistake) = wanted.mistake() {
        return failure(StatusCode::BAD_REQUEST, mistake);
    }
    let recordings = Arc::clone(&shown.sources.recordings);
    let started = tokio::task::spawn_blocking(move || {
        let time = wanted.for_seconds.map(Duration::from_secs);
        let started = recordings.start(&wanted.path, wanted.size, time);
        started.map(|()| recordings.progress())
    });
    match started.await {
        Ok(Ok(recording)) => answer(recording),
        Ok(Err(why)) => failure(StatusCode::CONFLICT, why),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn stop(State(shown): State<Shown>) -> Response {
    let recordings = &shown.sources.recordings;
    recordings.stop();
    let deadline = Instant::now() + ENDED;
    loop {
        let recording = recordings.progress();
        let over = recording.as_ref().is_none_or(|it| it.over.is_some());
        if over || Instant::now() >= deadline {
            return answer(recording);
        }
        sleep(LOOK).await;
    }
}

/// Nothing is ever recorded.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct NoRecordings;

#[cfg(test)]
impl Recordings for NoRecordings {
    fn start(&self, _: &Path, _: u64, _: Option<Duration>) -> Result<(), String> {
        Err("not here".to_owned())
    }
    fn progress(&self) -> Option<Recording> {
        None
    }
    fn stop(&self) {}
}
