//! My devices: `GET /v1/sessions`, `DELETE /v1/sessions/{id}`, `DELETE /v1/sessions?except=current`.

use crate::authority::App;
use crate::http::answer::SessionView;
use crate::http::caller::{Caller, Origin, Presented};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use reseal_core::event::EndReason;
use reseal_core::session::{AccessLife, Status};
use reseal_core::{PolicyKind, Session, SessionId};
use reseal_store::{Commit, EndFilter, EndSessions, Write};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

/// One of my sessions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeviceView {
    /// The session.
    #[serde(flatten)]
    session: SessionView,
    /// Whether it is the one that asks.
    current: bool,
    /// The client's name for people.
    client: String,
    /// `client_id`.
    client_id: String,
    /// The user agent that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    /// The address that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    /// When it was last used, as far as the row says.
    renewed_at: i64,
}

/// A page of my sessions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DevicePage {
    /// Live sessions.
    items: Vec<DeviceView>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// `next` of the page before.
    #[param(min_length = 22, max_length = 22)]
    after: Option<String>,
    /// Most items, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Which sessions to end.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExceptQuery {
    /// Must be `current`: to end this one too, delete `/v1/session` afterwards.
    #[param(pattern = "^current$")]
    except: String,
}

/// The routes.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, end_others)).routes(routes!(end_one))
}

/// My live sessions.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "session", params(PageQuery),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "My live sessions", body = DevicePage),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session", body = ErrorBody),
        (status = 403, description = "A client's own token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<DevicePage>> {
    let limit = page.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(ApiError::invalid_request("limit must lie between 1 and 200."));
    }
    let after = page.after.map(|a| a.parse::<SessionId>()).transpose();
    let mut after = after.map_err(|_| ApiError::invalid_request("after is not a session id."))?;
    let mut items = Vec::new();
    // Ended sessions stay for their timelines; read on past them, but not for ever.
    for _ in 0..20 {
        let sessions = app.store.sessions_of_user(caller.user.id, after, limit).await?;
        let full = sessions.len() == limit;
        for session in sessions {
            after = Some(session.id);
            if let Some(view) = device(&app, &caller, session).await? {
                items.push(view);
            }
            if items.len() == limit {
                return Ok(Json(DevicePage { items, next: after.map(|id| id.to_string()) }));
            }
        }
        if !full {
            return Ok(Json(DevicePage { items, next: None }));
        }
    }
    Ok(Json(DevicePage { items, next: after.map(|id| id.to_string()) }))
}

async fn device(app: &App, caller: &Caller, session: Session) -> ApiResult<Option<DeviceView>> {
    let Some(policy) = app.policy_of(&session) else { return Ok(None) };
    if !matches!(session.status(policy, caller.now), Status::Live(_)) {
        return Ok(None);
    }
    let Some(client) = app.client(&session.client_id).await? else { return Ok(None) };
    let current = session.id == caller.session.id;
    let mut view = SessionView::new(&session, policy, session.strength, None);
    let mut renewed_at = session.renewed_at.secs();
    // Of a refresh session its bearer sees what held when his token was issued, here as elsewhere.
    if let (true, PolicyKind::Refresh, Presented::Token(token)) = (current, policy.kind, &caller.presented) {
        let life = AccessLife { iat: token.iat, exp: token.exp, renew_at: None };
        view = SessionView::new(&session, policy, session.strength, Some(life));
        renewed_at = renewed_at.min(token.iat);
    }
    Ok(Some(DeviceView {
        session: view,
        current,
        client: client.name.clone(),
        client_id: client.id.to_string(),
        renewed_at,
        ip: session.ip.map(|ip| ip.to_string()),
        user_agent: session.user_agent,
    }))
}

/// End one of my sessions.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "session",
    params(("id" = String, Path, description = "`sid` of the session", min_length = 22, max_length = 22)),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is ended"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session", body = ErrorBody),
        (status = 403, description = "A client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 404, description = "No such session of mine", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn end_one(
    State(app): State<App>,
    caller: Caller,
    origin: Origin,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let not_found = || ApiError::not_found("session");
    let id: SessionId = id.parse().map_err(|_| not_found())?;
    let found = app.store.session(id).await?.ok_or_else(not_found)?;
    // A stranger's session is told like one that does not exist (ASVS 8.2.2).
    if found.session.user_id != caller.user.id {
        return Err(not_found());
    }
    end(&app, &caller, (EndFilter::One(id), origin)).await
}

/// End all my sessions but this one.
#[utoipa::path(
    delete, path = "/v1/sessions", tag = "session", params(ExceptQuery),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "All others are ended"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session", body = ErrorBody),
        (status = 403, description = "A client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn end_others(
    State(app): State<App>,
    caller: Caller,
    origin: Origin,
    Query(query): Query<ExceptQuery>,
) -> ApiResult<StatusCode> {
    if query.except != "current" {
        return Err(ApiError::invalid_request("except must be `current`."));
    }
    let filter = EndFilter::User { user: caller.user.id, except: Some(caller.session.id) };
    end(&app, &caller, (filter, origin)).await
}

async fn end(app: &App, caller: &Caller, (filter, origin): (EndFilter, Origin)) -> ApiResult<StatusCode> {
    let end = EndSessions {
        filter,
        reason: EndReason::Revoked,
        now: caller.now,
        ip: origin.ip,
        event_until: app.event_until(caller.now),
    };
    app.store.commit(Commit::of([Write::EndSessions(end)])).await?;
    app.metrics.session_ended(EndReason::Revoked.as_str());
    tracing::info!(sub = %caller.user.id, sid = %caller.session.id, "ended sessions");
    Ok(StatusCode::NO_CONTENT)
}
