//! `/v1/admin/users/{id}/sessions`: a user's sessions, and starting one for a user whom the caller has
//! authenticated himself.

use super::sessions::SessionRecord;
use super::users::{no_user, user_id};
use super::{Admin, page_limit};
use crate::authority::App;
use crate::challenges::Secret;
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::JsonBody;
use crate::http::caller::Origin;
use crate::http::client_auth::ClientCredentials;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::query::Query;
use crate::session::login::{StartLogin, session_scope, start_session};
use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use reseal_core::auth::Amr;
use reseal_core::{Acr, Client, ClientId, EndReason, Session, SessionId, Strength, Timestamp};
use reseal_store::EndFilter;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A page of a user's sessions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionPage {
    /// Sessions in the order of their ids, those that ended lately included.
    items: Vec<SessionRecord>,
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

/// A session to start for a user whom the caller has authenticated.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSessionRequest {
    /// The client whose session it becomes.
    #[schema(max_length = 64)]
    client_id: String,
    /// The secret of a confidential client other than the caller.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
    /// What to grant; default: all that the client may have.
    #[serde(default)]
    #[schema(max_length = 1024)]
    scope: Option<String>,
    /// How the user was authenticated (RFC 8176); default: not told.
    #[serde(default)]
    #[schema(max_items = 21, example = json!(["pwd"]))]
    amr: Vec<String>,
    /// The assurance level reached, `aal1` (default) or `aal2`.
    #[serde(default)]
    #[schema(example = "aal1", pattern = "^aal[12]$")]
    acr: Option<String>,
    /// When the user was authenticated (Unix seconds), not in the future; default: now.
    #[serde(default)]
    #[schema(minimum = 0)]
    auth_time: Option<i64>,
    /// The user's address, for the list of devices and the timeline.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ip: Option<IpAddr>,
    /// The user's user agent, for the list of devices.
    #[serde(default)]
    user_agent: Option<String>,
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, start, end))
}

/// A user's sessions.
#[utoipa::path(
    get, path = "/v1/admin/users/{id}/sessions", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user"), PageQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Sessions, those that ended lately included", body = SessionPage),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<SessionPage>> {
    let limit = page_limit(page.limit)?;
    let after = page.after.map(|a| a.parse::<SessionId>()).transpose();
    let after = after.map_err(|_| ApiError::invalid_request("after is not a session id."))?;
    let user = app.store.user(user_id(&id)?).await?.ok_or_else(no_user)?;
    let sessions = app.store.sessions_of_user(user.id, after, limit).await?;
    let next = (sessions.len() == limit).then(|| sessions.last().map(|s| s.id.to_string())).flatten();
    let items = sessions.iter().map(|session| SessionRecord::new(&app, session, admin.now)).collect();
    Ok(Json(SessionPage { items, next }))
}

/// Start a session for a user whom the caller has authenticated: by another directory, a link, a passkey.
#[utoipa::path(
    post, path = "/v1/admin/users/{id}/sessions", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user")),
    request_body = StartSessionRequest,
    security(("bearer" = [])),
    responses(
        (status = 201, description = "Started; answers like login", body = CredentialBody),
        (status = 400, description = "Malformed, no such client, or a scope it may not have", body = ErrorBody),
        (status = 401, description = "No good token, or the named client did not authenticate", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 409, description = "The user is disabled, or changed at this moment", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn start(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<StartSessionRequest>,
) -> ApiResult<CredentialAnswer> {
    let strength = strength(&body, admin.now)?;
    let user = app.store.user(user_id(&id)?).await?.ok_or_else(no_user)?;
    let client = named_client(&app, &admin, (&headers, &body)).await?;
    let scope = session_scope(&client, body.scope.as_deref())?;
    if user.disabled {
        return Err(ApiError::conflict("The user is disabled."));
    }
    // The request comes from the caller's server: its address says nothing of the user's device.
    let origin = Origin { ip: body.ip, user_agent: body.user_agent.as_deref().map(printable) };
    let login = StartLogin {
        user: &user,
        client: &client,
        strength,
        scope,
        origin: &origin,
        now: app.after_waiting(&client, admin.now),
        extra_writes: Vec::new(),
    };
    let answer = start_session(&app, login).await.map_err(|error| match error.code() {
        "invalid_credentials" => {
            ApiError::conflict("The user's credentials changed at this moment. Try again.")
        }
        _ => error,
    })?;
    tracing::info!(sub = %user.id, client_id = %client.id, by = %admin.client.id, "session started for a user");
    Ok(answer)
}

/// End all sessions of a user.
#[utoipa::path(
    delete, path = "/v1/admin/users/{id}/sessions", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user")),
    security(("bearer" = [])),
    responses(
        (status = 204, description = "All are ended"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn end(
    State(app): State<App>,
    admin: Admin,
    origin: Origin,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let user = app.store.user(user_id(&id)?).await?.ok_or_else(no_user)?;
    let filter = EndFilter::User { user: user.id, except: None };
    app.manage(admin.now).end_sessions(filter, EndReason::Revoked, origin.ip).await?;
    app.metrics.session_ended(EndReason::Revoked.as_str());
    tracing::info!(sub = %user.id, client_id = %admin.client.id, "all sessions of a user ended");
    Ok(StatusCode::NO_CONTENT)
}

/// The client that the body names. A confidential one authenticates, unless it is the caller, who has.
async fn named_client(
    app: &App,
    admin: &Admin,
    (headers, body): (&HeaderMap, &StartSessionRequest),
) -> ApiResult<Arc<Client>> {
    let unknown = || ApiError::invalid_request("client_id: there is no such client, or it is disabled.");
    let id: ClientId = body.client_id.parse().map_err(|_| unknown())?;
    let client = app.client(&id).await?.ok_or_else(unknown)?;
    if client.id == admin.client.id {
        return Ok(client);
    }
    let secret = body.client_secret.as_ref().map(Secret::reveal);
    app.authenticate_client(&ClientCredentials::read(headers, Some(&body.client_id), secret)?).await
}

/// What the caller says of the authentication.
fn strength(body: &StartSessionRequest, now: Timestamp) -> ApiResult<Strength> {
    let invalid = |description: &'static str| ApiError::invalid_request(description);
    let acr = body.acr.as_deref().map(str::parse::<Acr>).transpose();
    let acr = acr.map_err(|_| invalid("acr must be aal1 or aal2."))?.unwrap_or_default();
    let amr = Amr::from_names(&body.amr).ok_or_else(|| invalid("amr: not registered by RFC 8176."))?;
    let authenticated_at = match body.auth_time {
        None => now,
        Some(secs) if (0..=now.secs()).contains(&secs) => Timestamp::from_secs(secs),
        Some(_) => return Err(invalid("auth_time must be in Unix seconds and not in the future.")),
    };
    Ok(Strength { acr, amr, authenticated_at })
}

fn printable(user_agent: &str) -> String {
    user_agent.chars().filter(|c| !c.is_control()).take(Session::USER_AGENT_MAX).collect()
}
