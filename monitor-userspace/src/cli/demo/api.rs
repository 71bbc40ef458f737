//! What the demo asks its daemon.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::api::answers::{Condition, Health, Incidents, Status};
use crate::api::client::{ClientError, get_json};
use crate::model::{Incident, View};

/// Every incident, oldest first.
pub(super) async fn incidents(socket: &Path) -> Result<Vec<Incident>, ClientError> {
    let answer: Incidents = ask(socket, "/api/v1/incidents").await?;
    Ok(answer.incidents)
}

/// The daemon's view of everything, without the incidents that are over.
pub(super) async fn view(socket: &Path) -> Result<View, ClientError> {
    let answer: Status = ask(socket, "/api/v1/status").await?;
    Ok(answer.view)
}

/// What keeps it from observing; none when it observes, be it with some probe off.
pub(super) async fn trouble(socket: &Path) -> Option<String> {
    match ask::<Health>(socket, "/health").await {
        Ok(health) if health.status != Condition::Unhealthy => None,
        Ok(health) => Some(health.reasons.join("; ")),
        Err(error) => Some(error.to_string()),
    }
}

async fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    serde_json::from_value(get_json(socket, path).await?).map_err(|error| ClientError::Bad {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
