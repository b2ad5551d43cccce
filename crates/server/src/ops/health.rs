//! `/health/live` and `/health/ready`.

use crate::authority::{App, Authority};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::Json;
use axum::extract::State;
use reseal_jose::Algorithm;
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How old this node's knowledge of the event log may be.
const LOG_AGE: Duration = Duration::from_secs(10);
/// How long an answer of the store is used again: a probe writes, and anyone may probe.
const STORE_ANSWER: Duration = Duration::from_secs(1);

/// How the authority is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `live` or `ready`.
    status: &'static str,
}

/// What the last probe of the store said.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, bool)>>);

/// The routes.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Whether the process answers at all. Restart it if not.
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "It does", body = Health))
)]
async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether it can do its work: the store answers reads and writes, its clock and this machine's agree, the event
/// log was read lately, keys are there, and it is not about to stop. Send no requests while not.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot; `reason` is stopping, store, clock, event_log or keys", body = ErrorBody),
    )
)]
async fn ready(State(app): State<App>) -> ApiResult<Json<Health>> {
    let not_ready = |reason| ApiError::unavailable(Duration::from_secs(1)).reason(reason);
    if app.draining.load(Ordering::Acquire) {
        return Err(not_ready("stopping"));
    }
    if !store_answers(&app).await {
        return Err(not_ready("store"));
    }
    if !app.clock.agrees() {
        return Err(not_ready("clock"));
    }
    let now = app.clock.now();
    if now.since(app.knowledge.as_of()) > LOG_AGE {
        return Err(not_ready("event_log"));
    }
    if app.keys.load().signing(Algorithm::Es256, now).is_none() {
        return Err(not_ready("keys"));
    }
    Ok(Json(Health { status: "ready" }))
}

async fn store_answers(app: &Authority) -> bool {
    // Whoever waits here gets the answer of the probe that is under way.
    let mut last = app.readiness.0.lock().await;
    if let Some((at, answers)) = *last
        && at.elapsed() < STORE_ANSWER
    {
        return answers;
    }
    let answers = match app.store.check().await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "not ready: the store does not answer");
            false
        }
    };
    *last = Some((Instant::now(), answers));
    answers
}
