//! The requests and their answers.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use axum::extract::rejection::BytesRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::answers::{Clock, Condition, Cost, Failure, Health, Incidents, OneIncident, Status};
use super::{Sources, heartbeats, people, recording};
use crate::metrics::{Exporter, Format};
use crate::model::{Incident, IncidentId, View};

/// Incidents in a listing that does not say how many.
const INCIDENTS: usize = 100;

/// Bytes of a request's body.
const BODY: usize = 4 << 10;

/// What the handlers read.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) sources: Arc<Sources>,
    pub(super) exporter: Arc<Exporter>,
}

impl Shown {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // A poisoned view is as old as the panic, and still the best there is.
        let view = self.sources.view.lock();
        view.unwrap_or_else(PoisonError::into_inner)
    }

    /// An incident, with the numbers of those that have to do with it.
    pub(super) fn with_its_kin(&self, incident: Incident) -> OneIncident {
        let (view, id) = (self.view(), Some(incident.id));
        let all = view.incidents.values();
        let caused = all.clone().filter(|other| other.caused_by == id);
        let suppressed = all.filter(|other| other.suppressed_by == id);
        OneIncident {
            clock: Clock::now(),
            causes: caused.map(|other| other.id).collect(),
            suppresses: suppressed.map(|other| other.id).collect(),
            incident,
        }
    }
}

/// What may be asked over HTTP: everything that only reads, and heartbeats where the guard lets them through.
pub(super) fn for_http(shown: Shown) -> Router {
    finished(reading().merge(heartbeats::writing()), shown)
}

/// What may be asked over the socket: everything.
pub(super) fn for_socket(shown: Shown) -> Router {
    let writing = people::writing().merge(recording::writing());
    let writing = writing.merge(heartbeats::writing());
    finished(reading().merge(writing), shown)
}

fn reading() -> Router<Shown> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/api/v1/status", get(status))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .merge(people::reading())
        .merge(recording::reading())
}

fn finished(router: Router<Shown>, shown: Shown) -> Router {
    router
        .method_not_allowed_fallback(async |request: Request| {
            let (method, path) = (request.method(), request.uri().path());
            failure(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{path} takes no {method}: the header `allow` says what it takes"),
            )
        })
        .fallback(async |request: Request| {
            failure(
                StatusCode::NOT_FOUND,
                format!("there is nothing at {}", request.uri().path()),
            )
        })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(no_store))
        .with_state(shown)
}

/// A server that answers everything with the same refusal.
pub(super) fn refusing(reason: String) -> Router {
    Router::new().fallback(async move || failure(StatusCode::FORBIDDEN, reason))
}

/// Why a request's body could not be read, in words.
pub(super) fn unread(error: &BytesRejection) -> String {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        format!("the request's body is larger than {BODY} bytes")
    } else {
        "the request's body did not arrive as a whole".to_owned()
    }
}

/// An error, always of the same form.
pub(super) fn failure(code: StatusCode, error: impl Into<String>) -> Response {
    let error = error.into();
    (code, Json(Failure { error })).into_response()
}

async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn metrics(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    // A list of types may stand in several headers.
    let accept: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::negotiate(Some(&accept.join(",")));
    match shown.exporter.page(format) {
        Ok(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(error) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics could not be written: {error}; this is a bug, please report it"),
        ),
    }
}

async fn health(State(shown): State<Shown>) -> Response {
    let sources = &shown.sources;
    let mut broken = (sources.unhealthy)();
    let mut lesser = (sources.limitations)();
    let probes = sources.kernel.probes();
    if !probes.iter().any(|probe| probe.on) {
        broken.push("no kernel probe is on: `smart-monitor doctor` says why".to_owned());
    }
    for probe in probes.iter().filter(|probe| !probe.on) {
        let reason = probe.reason.as_deref().unwrap_or("no reason is known");
        lesser.push(format!("probe {} is off: {reason}", probe.name));
    }
    let mut services = BTreeMap::new();
    {
        let view = shown.view();
        if let Some(reason) = &view.halted {
            broken.push(format!("nothing may act: {reason}"));
        }
        for detector in &view.detectors {
            if let Some(reason) = &detector.degraded {
                lesser.push(format!(
                    "detector {} sees less than it should: {reason}",
                    detector.name
                ));
            }
        }
        services.extend(
            view.services
                .iter()
                .map(|(name, row)| (name.clone(), row.state)),
        );
    }
    let (code, status) = if !broken.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, Condition::Unhealthy)
    } else if !lesser.is_empty() {
        (StatusCode::OK, Condition::Degraded)
    } else {
        (StatusCode::OK, Condition::Healthy)
    };
    broken.append(&mut lesser);
    let health = Health {
        status,
        reasons: broken,
        services,
    };
    (code, Json(health)).into_response()
}

async fn status(State(shown): State<Shown>) -> Json<Status> {
    let sources = &shown.sources;
    let usage = sources.own.usage();
    let costs = sources.kernel.costs();
    let bpf_seconds = costs.iter().map(|cost| cost.run_seconds).sum();
    let view = without_finished(&shown.view());
    Json(Status {
        clock: Clock::now(),
        version: sources.own.version.to_owned(),
        uptime_seconds: sources.own.uptime().as_secs_f64(),
        own: Cost {
            cpu_seconds: usage.cpu.as_secs_f64(),
            bpf_seconds: (!costs.is_empty()).then_some(bpf_seconds),
            resident_bytes: usage.resident,
        },
        view,
        limitations: (sources.limitations)(),
        probes: sources.kernel.probes(),
    })
}

/// A copy without the incidents that are over and hold nothing: the lock is held only as long as it takes to copy what is shown.
fn without_finished(view: &View) -> View {
    let open = view
        .incidents
        .iter()
        .filter(|(_, incident)| !incident.is_over() || incident.held.is_some());
    View {
        incidents: open.map(|(id, incident)| (*id, brief(incident))).collect(),
        services: view.services.clone(),
        detectors: view.detectors.clone(),
        counts: view.counts.clone(),
        dry_run: view.dry_run,
        halted: view.halted.clone(),
        silences: view.silences.clone(),
        maintenance: view.maintenance.clone(),
        rates: view.rates.clone(),
    }
}

/// Without what was frozen: of many incidents, that would be megabytes.
fn brief(incident: &Incident) -> Incident {
    let mut brief = incident.clone();
    brief.evidence.frozen = None;
    brief
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    limit: Option<usize>,
}

async fn incidents(
    State(shown): State<Shown>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Response {
    let Ok(Query(listing)) = listing else {
        let usage = "cannot read the query: the only parameter is `limit`, a whole number";
        return failure(StatusCode::BAD_REQUEST, usage);
    };
    let limit = listing.limit.unwrap_or(INCIDENTS);
    let mut incidents: Vec<_> = {
        let view = shown.view();
        let latest = view.incidents.values().rev().take(limit);
        latest.map(brief).collect()
    };
    incidents.reverse();
    Json(Incidents {
        clock: Clock::now(),
        incidents,
    })
    .into_response()
}

async fn incident(State(shown): State<Shown>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse().map(IncidentId) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "the number of an incident is a whole number",
        );
    };
    let Some(incident) = shown.view().incidents.get(&id).cloned() else {
        let error =
            format!("there is no incident {id}, or it is so old that the daemon has forgotten it");
        return failure(StatusCode::NOT_FOUND, error);
    };
    Json(shown.with_its_kin(incident)).into_response()
}
