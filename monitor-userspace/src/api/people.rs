//! What people may ask for: a word about an incident, acts, and silences. Over the daemon's own socket alone.
//!
//! Consumes JSON and the credentials of who connected; hands a [`Request`] to the core, one at a time, and answers when the core has
//! taken it and the board shows what became of it. Checks before whether it makes sense, so that nothing senseless reaches the journal.
//! A request whose answer nobody waits for any more is not taken. Decides nothing: that is the core's.

mod acts;
mod incidents;
mod services;
mod silences;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::answers::Clock;
use super::routes::{Shown, failure, unread};
use crate::model::abilities::ActionRow;
use crate::model::{Request, Subject, Time};

/// Longest wait for the core.
const TAKEN: Duration = Duration::from_secs(5);

/// Characters of the name of whom root speaks for.
const NAME: usize = 64;

/// Names of users, by number.
pub type Names = dyn Fn(u32) -> Option<String> + Send + Sync;
/// What can be silenced: services and `[[process]]` entries, asked for at each request.
pub type Subjects = dyn Fn() -> BTreeSet<String> + Send + Sync;
/// Whom a name of the configuration or `pid:N` means; the error says why nobody, and what to say instead.
pub type Find = dyn Fn(&str) -> Result<Subject, String> + Send + Sync;
/// Every action and whether this host can do it, asked for at each request.
pub type Rows = dyn Fn() -> Vec<ActionRow> + Send + Sync;
/// Told the name of a service.
pub(super) type Watch = dyn Fn(&str) + Send + Sync;
/// Hands a request to the core; false when the core has no room for it, or has ended.
pub type HandOver = dyn Fn(Asked) -> bool + Send + Sync;

/// What is needed to ask for an act.
pub struct Acts {
    /// Whom it is done to.
    pub find: Box<Find>,
    /// What can be done.
    pub rows: Box<Rows>,
    /// Has the checks of a service made as after a release, from now on.
    pub watch: Box<Watch>,
}

impl fmt::Debug for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acts").finish_non_exhaustive()
    }
}

/// What the routes need besides the view; the pipeline fills it.
pub struct People {
    names: Box<Names>,
    subjects: Box<Subjects>,
    acts: Acts,
    hand_over: Box<HandOver>,
    next_silence: AtomicU64,
    /// One request at a time: what was checked is still so when the core takes it, as far as people go.
    turn: Mutex<()>,
}

/// A request on its way to the core.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub by: String,
    /// For what.
    pub request: Request,
    /// Told when the core has taken it and the view shows what became of it, or why it was not taken. When it is closed, nobody waits
    /// any more, and the request is not to be taken.
    pub taken: oneshot::Sender<Result<(), String>>,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").finish_non_exhaustive()
    }
}

impl People {
    /// `next_silence`: a number higher than that of any silence of this state folder.
    pub fn new(
        names: Box<Names>,
        subjects: Box<Subjects>,
        acts: Acts,
        hand_over: Box<HandOver>,
        next_silence: u64,
    ) -> Self {
        Self {
            names,
            subjects,
            acts,
            hand_over,
            next_silence: AtomicU64::new(next_silence),
            turn: Mutex::new(()),
        }
    }

    fn number_silence(&self) -> u64 {
        self.next_silence.fetch_add(1, Ordering::Relaxed)
    }

    /// Who asks, in words. Whom root speaks for is what root says, and no more than that.
    fn who(&self, peer: Peer, on_behalf: Option<&str>) -> Result<String, Denied> {
        let user = peer.user;
        let name = (self.names)(user).unwrap_or_else(|| format!("uid {user}"));
        let Some(other) = on_behalf else {
            return Ok(name);
        };
        if user != 0 {
            let why = "only root may ask on behalf of somebody: leave out `on_behalf`";
            return Err(Denied::new(StatusCode::FORBIDDEN, why));
        }
        if other.is_empty() || other.chars().count() > NAME || other.chars().any(char::is_control) {
            let why =
                format!("`on_behalf` is the name of a user: 1 to {NAME} characters that print");
            return Err(Denied::bad(why));
        }
        Ok(format!("{name} ({other})"))
    }

    /// Has the core take the request; the moment before it was handed over.
    async fn ask(&self, by: String, request: Request) -> Result<Time, Denied> {
        let (taken, answer) = oneshot::channel();
        let before = Clock::now().time();
        let busy = |why: &str| Denied::new(StatusCode::SERVICE_UNAVAILABLE, why);
        if !(self.hand_over)(Asked { by, request, taken }) {
            return Err(busy(
                "the daemon is overloaded or ending, and did not take it: ask again",
            ));
        }
        match timeout(TAKEN, answer).await {
            Ok(Ok(Ok(()))) => Ok(before),
            Ok(Ok(Err(why))) => Err(busy(&why)),
            Ok(Err(_)) => Err(busy("the daemon is ending, and did not take it")),
            Err(_) => Err(busy(
                "the daemon did not say within 5 s that it was taken: look whether it was before you ask again",
            )),
        }
    }
}

/// Who connected to the socket, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) user: u32,
}

/// Why something is not done.
#[derive(Debug)]
struct Denied {
    code: StatusCode,
    error: String,
}

impl Denied {
    fn new(code: StatusCode, error: impl Into<String>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        failure(self.code, self.error)
    }
}

/// What only reads: for everybody who may ask at all.
pub(super) fn reading() -> Router<Shown> {
    Router::new()
        .route("/api/v1/silences", get(silences::list))
        .route("/api/v1/actions", get(acts::list))
}

/// What changes something: for the socket alone.
pub(super) fn writing() -> Router<Shown> {
    Router::new()
        .route("/api/v1/incidents/{id}/approve", post(incidents::approve))
        .route("/api/v1/incidents/{id}/reject", post(incidents::reject))
        .route(
            "/api/v1/incidents/{id}/acknowledge",
            post(incidents::acknowledge),
        )
        .route("/api/v1/incidents/{id}/undo", post(incidents::undo))
        .route("/api/v1/acts", post(acts::act))
        .route("/api/v1/services/{name}/repair", post(services::repair))
        .route("/api/v1/services/{name}/rollback", post(services::rollback))
        .route(
            "/api/v1/services/{name}/restore-point",
            post(services::restore_point),
        )
        .route("/api/v1/services/{name}/watch", post(services::watch))
        .route("/api/v1/silences", post(silences::add))
        .route("/api/v1/silences/{id}", delete(silences::end))
}

/// A request's body. None at all is an object without fields.
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Denied> {
    let body = body.map_err(|error| Denied::new(error.status(), unread(&error)))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text)
        .map_err(|error| Denied::bad(format!("cannot read the request's body: {error}")))
}

fn number(text: &str, of: &str) -> Result<u64, Denied> {
    text.parse()
        .map_err(|_| Denied::bad(format!("the number of {of} is a whole number")))
}

/// A core that takes nothing.
#[cfg(test)]
pub(super) fn refusing() -> People {
    let none = Box::new(|_| None);
    let acts = Acts {
        find: Box::new(|name| Err(format!("nothing is called {name}"))),
        rows: Box::new(Vec::new),
        watch: Box::new(|_| {}),
    };
    People::new(none, Box::new(BTreeSet::new), acts, Box::new(|_| false), 1)
}

#[cfg(test)]
mod tests;
