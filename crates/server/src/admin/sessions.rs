//! `/v1/admin/sessions`: any session with its timeline, and the end of one or of all.

use super::Admin;
use crate::authority::{App, Authority};
use crate::http::caller::Origin;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use reseal_core::policy::ended_by_change;
use reseal_core::session::Deadlines;
use reseal_core::{EndReason, PolicyKind, Session, SessionId, TimelineEntry, Timestamp};
use reseal_store::EndFilter;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

/// A session as an administrator sees it. Times are Unix seconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionRecord {
    /// `sid`.
    id: String,
    /// `sub` of its user.
    user_id: String,
    /// Its client.
    client_id: String,
    /// The policy's name.
    policy: String,
    /// sliding, fixed, refresh or cookie; absent when the policy is no longer configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "refresh")]
    kind: Option<&'static str>,
    /// What was granted at login.
    scope: String,
    /// How often a refresh token was used (not counting repeats).
    used: u64,
    /// When the user logged in.
    started_at: i64,
    /// When the user last authenticated.
    authenticated_at: i64,
    /// When it was last renewed, as far as the row says.
    renewed_at: i64,
    /// It ends when not renewed before this; absent where the policy has no idle time.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_expires_at: Option<i64>,
    /// It ends then in any case.
    expires_at: i64,
    /// Assurance level.
    #[schema(example = "aal1")]
    acr: &'static str,
    /// Methods (RFC 8176).
    amr: Vec<&'static str>,
    /// The user agent that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    /// The address that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    /// When it ended; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "signed_out")]
    end_reason: Option<&'static str>,
    /// What happened to it, oldest first; only where one session is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<TimelineLine>>,
}

/// One line of a timeline.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TimelineLine {
    /// When.
    at: i64,
    /// What: started, factor_passed, resealed, branch, late, repeat_elsewhere, ahead or ended.
    #[schema(example = "started")]
    event: &'static str,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
}

impl From<TimelineEntry> for TimelineLine {
    fn from(entry: TimelineEntry) -> Self {
        Self {
            at: entry.at.secs(),
            event: entry.kind.as_str(),
            reason: entry.kind.reason().map(EndReason::as_str),
            ip: entry.ip.map(|ip| ip.to_string()),
        }
    }
}

impl SessionRecord {
    /// The session as it stands at `now` under the policies in force.
    pub(super) fn new(app: &Authority, session: &Session, now: Timestamp) -> Self {
        let ended = session.ended.or_else(|| ended_by_change(session, &app.policies, now));
        let policy = app.policies.find(&session.policy);
        let stored = Deadlines { idle: session.idle_expires_at, absolute: session.expires_at };
        let deadlines = policy.map_or(stored, |policy| session.deadlines(policy));
        let has_idle_time = policy.is_none_or(|p| p.idle_ttl.is_some());
        Self {
            id: session.id.to_string(),
            user_id: session.user_id.to_string(),
            client_id: session.client_id.to_string(),
            policy: session.policy.to_string(),
            kind: policy.map(|p| PolicyKind::as_str(p.kind)),
            scope: session.scope.to_string(),
            used: session.rotation.used,
            started_at: session.started_at.secs(),
            authenticated_at: session.strength.authenticated_at.secs(),
            renewed_at: session.renewed_at.secs(),
            idle_expires_at: has_idle_time.then(|| deadlines.idle.secs()),
            expires_at: deadlines.absolute.secs(),
            acr: session.strength.acr.as_str(),
            amr: session.strength.amr.names().collect(),
            user_agent: session.user_agent.clone(),
            ip: session.ip.map(|ip| ip.to_string()),
            ended_at: ended.map(|e| e.at.secs()),
            end_reason: ended.map(|e| e.reason.as_str()),
            timeline: None,
        }
    }
}

/// Where to go on with ending all sessions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EndAllQuery {
    /// `next` of the answer before.
    #[param(min_length = 22, max_length = 22)]
    after: Option<String>,
}

/// How far ending all sessions got.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EndAllProgress {
    /// Sessions that this request ended.
    ended: usize,
    /// Pass it as `after` and delete again, until the answer is 204.
    next: String,
}

/// Batches of one request that ends all sessions: some ten thousand sessions, a matter of seconds.
const BATCHES: usize = 20;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(end_all)).routes(routes!(show, end))
}

/// One session with its timeline, living or not.
#[utoipa::path(
    get, path = "/v1/admin/sessions/{id}", tag = "admin",
    params(("id" = String, Path, description = "`sid` of the session")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The session", body = SessionRecord),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such session", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn show(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
) -> ApiResult<Json<SessionRecord>> {
    let id = session_id(&id)?;
    let found = app.store.session(id).await?.ok_or_else(no_session)?;
    let timeline = app.store.timeline(id).await?;
    let mut record = SessionRecord::new(&app, &found.session, admin.now);
    record.timeline = Some(timeline.into_iter().map(TimelineLine::from).collect());
    Ok(Json(record))
}

/// End a session.
#[utoipa::path(
    delete, path = "/v1/admin/sessions/{id}", tag = "admin",
    params(("id" = String, Path, description = "`sid` of the session")),
    security(("bearer" = [])),
    responses(
        (status = 204, description = "It is ended"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such session", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn end(
    State(app): State<App>,
    admin: Admin,
    origin: Origin,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let id = session_id(&id)?;
    let found = app.store.session(id).await?.ok_or_else(no_session)?;
    if found.session.ended.is_none() {
        app.manage(admin.now).end_sessions(EndFilter::One(id), EndReason::Revoked, origin.ip).await?;
        app.metrics.session_ended(EndReason::Revoked.as_str());
        tracing::info!(sid = %id, sub = %found.session.user_id, client_id = %admin.client.id, "session ended");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// End all sessions of everybody. Where there are many it takes several requests, each with `next` of the
/// answer before: every session that had started when the first request came is ended then.
#[utoipa::path(
    delete, path = "/v1/admin/sessions", tag = "admin", params(EndAllQuery),
    security(("bearer" = [])),
    responses(
        (status = 202, description = "Many are ended; delete again with `after`", body = EndAllProgress),
        (status = 204, description = "All are ended"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn end_all(
    State(app): State<App>,
    admin: Admin,
    origin: Origin,
    Query(query): Query<EndAllQuery>,
) -> ApiResult<Response> {
    let after = query.after.map(|a| a.parse::<SessionId>()).transpose();
    let mut after = after.map_err(|_| ApiError::invalid_request("after is not a session id."))?;
    tracing::warn!(client_id = %admin.client.id, "ending all sessions");
    let mut ended = 0;
    for _ in 0..BATCHES {
        let batch = app.manage(app.clock.now()).end_batch(after, origin.ip).await?;
        ended += batch.ended;
        after = batch.next;
        if after.is_none() {
            break;
        }
        tokio::task::yield_now().await;
    }
    app.metrics.session_ended(EndReason::Revoked.as_str());
    tracing::warn!(client_id = %admin.client.id, ended, done = after.is_none(), "ended sessions of everybody");
    Ok(match after {
        Some(next) => {
            let progress = EndAllProgress { ended, next: next.to_string() };
            (StatusCode::ACCEPTED, Json(progress)).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The id in a path. What cannot be an id names nothing: 404.
fn session_id(text: &str) -> ApiResult<SessionId> {
    text.parse().map_err(|_| no_session())
}

fn no_session() -> ApiError {
    ApiError::not_found("session")
}
