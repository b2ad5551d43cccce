//! What exists in development mode only: the page, and everything under `/dev`.

use super::{CLOCK_OFFSET, Clients, Dev, SentText, page};
use crate::authority::App;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ApiResult};
use crate::jobs;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use reseal_store::{Commit, Write};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The routes.
pub fn routes() -> Router<App> {
    page::routes()
        .route("/dev/outbox", get(outbox))
        .route("/dev/clock", post(move_clock))
        .route("/dev/config.json", get(page_config))
}

/// Text messages, oldest first.
async fn outbox(State(app): State<App>) -> ApiResult<Json<Vec<SentText>>> {
    Ok(Json(dev(&app)?.outbox.messages()))
}

/// How far to move the clock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    /// Seconds, forward only.
    advance: u64,
}

/// The clock after it was moved.
#[derive(Debug, Serialize)]
struct Moved {
    /// The authority's time.
    now: i64,
    /// How far it is ahead of the system's clock.
    offset: u64,
}

/// Ten years, for one move; and ten of those for all of them together.
const MOVE_MAX: u64 = 10 * 366 * 86_400;
const OFFSET_MAX: u64 = 10 * MOVE_MAX;

/// Moves the authority's clock forward. What is due by then is done before the answer.
async fn move_clock(
    State(app): State<App>,
    JsonBody(Move { advance }): JsonBody<Move>,
) -> ApiResult<Json<Moved>> {
    let dev = dev(&app)?;
    let _one_at_a_time = dev.clock_moves.lock().await;
    let offset = app.clock.offset().as_secs().saturating_add(advance);
    if advance > MOVE_MAX || offset > OFFSET_MAX {
        return Err(ApiError::invalid_request(
            "advance must lie between 0 and 10 years, and all moves within 100.",
        ));
    }
    // Remembered first: tokens of the new time must never meet a clock that went back.
    let remember = Write::PutMeta(CLOCK_OFFSET.to_owned(), offset.to_string().into_bytes());
    app.store.commit(Commit::of([remember])).await?;
    app.clock.advance(Duration::from_secs(advance));
    jobs::catch_up(&app).await.map_err(|error| {
        tracing::error!(%error, "what is due after the clock moved could not be done");
        ApiError::unavailable(Duration::from_secs(1))
    })?;
    Ok(Json(Moved { now: app.clock.now().secs(), offset }))
}

/// What the page needs to know.
#[derive(Serialize)]
struct PageConfig<'a> {
    issuer: &'a str,
    user: &'a super::UserLogin,
    clients: Ids<'a>,
    now: i64,
}

/// The clients without the secret: the page is a browser, and administers nothing.
#[derive(Serialize)]
struct Ids<'a> {
    sliding: &'a super::Public,
    fixed: &'a super::Public,
    refresh: &'a super::Public,
    cookie: &'a super::Public,
}

/// For our own page only: a browser says from where it asks, and other sites get nothing.
async fn page_config(State(app): State<App>, headers: HeaderMap) -> ApiResult<Json<serde_json::Value>> {
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(ApiError::forbidden("cross_site_request", "This is for the development page itself."));
    }
    let file = &dev(&app)?.file;
    let Clients { sliding, fixed, refresh, cookie, service: _ } = &file.clients;
    let clients = Ids { sliding, fixed, refresh, cookie };
    let config = PageConfig { issuer: &file.issuer, user: &file.user, clients, now: app.clock.now().secs() };
    serde_json::to_value(config).map(Json).map_err(|_| ApiError::unavailable(Duration::from_secs(1)))
}

fn dev(app: &App) -> ApiResult<&Arc<Dev>> {
    // The router has these routes in development mode only.
    app.dev.as_ref().ok_or_else(|| ApiError::not_found("page"))
}
