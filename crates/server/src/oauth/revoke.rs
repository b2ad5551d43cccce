//! `POST /oauth/revoke` (RFC 7009): ends the session of the token.

use super::{filled, refresh};
use crate::authority::App;
use crate::http::body::FormBody;
use crate::http::caller::Origin;
use crate::http::client_auth::ClientCredentials;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use reseal_core::SessionId;
use reseal_core::event::EndReason;
use reseal_store::{Commit, EndFilter, EndSessions, Write};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

/// A revocation request. Unknown parameters are ignored.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct RevokeRequest {
    /// A refresh token or an access token.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// A hint; not needed, the two look different.
    #[serde(default, rename = "token_type_hint")]
    _token_type_hint: Option<String>,
    /// The client, where it does not use HTTP Basic.
    #[serde(default, deserialize_with = "filled")]
    client_id: Option<String>,
    /// Its secret (client_secret_post).
    #[serde(default, deserialize_with = "filled")]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for RevokeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RevokeRequest(…)")
    }
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(revoke))
}

/// Revoke a token: its session ends. An unknown or expired token is no error (RFC 7009 §2.2).
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth",
    request_body(content = RevokeRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses(
        (status = 200, description = "The token is no good (any more)"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "invalid_client", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not a form", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn revoke(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    FormBody(request): FormBody<RevokeRequest>,
) -> ApiResult<StatusCode> {
    let secret = request.client_secret.as_ref().map(|s| s.as_str());
    let given = ClientCredentials::read(&headers, request.client_id.as_deref(), secret)?;
    let client = app.authenticate_client(&given).await?;
    let now = app.clock.now();
    let Some(sid) = session_of(&app, &request.token).await? else { return Ok(StatusCode::OK) };
    // Only the client the token was issued to may revoke it; to others it looks unknown.
    let found = app.store.session(sid).await?;
    if found.is_some_and(|s| s.session.client_id == client.id && s.session.ended.is_none()) {
        let end = EndSessions {
            filter: EndFilter::One(sid),
            reason: EndReason::SignedOut,
            now,
            ip: origin.ip,
            event_until: app.event_until(now),
        };
        app.store.commit(Commit::of([Write::EndSessions(end)])).await?;
        app.metrics.session_ended(EndReason::SignedOut.as_str());
        tracing::info!(%sid, client_id = %client.id, "session revoked by its client");
    }
    Ok(StatusCode::OK)
}

/// The session that a token of ours belongs to.
async fn session_of(app: &App, token: &str) -> ApiResult<Option<SessionId>> {
    if token.starts_with("rsl_rt_") {
        return match refresh::authenticate(app, token).await {
            Ok(token) => Ok(Some(token.session_id)),
            Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => Err(error),
            Err(_) => Ok(None),
        };
    }
    if token.is_empty() {
        return Err(ApiError::invalid_request("token is empty."));
    }
    Ok(app.verify_access_token(token, app.clock.now(), false).ok().and_then(|claims| claims.sid))
}
