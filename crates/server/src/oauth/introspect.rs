//! `POST /oauth/introspect` (RFC 7662).

use super::{filled, refresh};
use crate::authority::App;
use crate::http::body::FormBody;
use crate::http::client_auth::ClientCredentials;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reseal_core::session::Status;
use reseal_core::{Client, Timestamp};
use reseal_jose::Jws;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

/// An introspection request. Unknown parameters are ignored.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct IntrospectRequest {
    /// The token asked about.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// A hint; not needed.
    #[serde(default, rename = "token_type_hint")]
    _token_type_hint: Option<String>,
    /// The client that asks, where it does not use HTTP Basic.
    #[serde(default, deserialize_with = "filled")]
    client_id: Option<String>,
    /// Its secret (client_secret_post).
    #[serde(default, deserialize_with = "filled")]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for IntrospectRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IntrospectRequest(…)")
    }
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(introspect))
}

/// Ask about a token. Only confidential clients that may introspect get an answer.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth",
    request_body(content = IntrospectRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses(
        (status = 200, description = "RFC 7662 §2.2: `active`, and the claims if it is", body = Object),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "invalid_client", body = ErrorBody),
        (status = 403, description = "This client may not introspect", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not a form", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn introspect(
    State(app): State<App>,
    headers: HeaderMap,
    FormBody(request): FormBody<IntrospectRequest>,
) -> ApiResult<Response> {
    let secret = request.client_secret.as_ref().map(|s| s.as_str());
    let given = ClientCredentials::read(&headers, request.client_id.as_deref(), secret)?;
    let asker = app.authenticate_confidential_client(&given).await?;
    if !asker.introspect {
        return Err(ApiError::forbidden("access_denied", "This client may not introspect tokens."));
    }
    let now = app.clock.now();
    let claims = if request.token.starts_with("rsl_rt_") {
        of_refresh_token(&app, &asker, &request.token, now).await?
    } else {
        of_access_token(&app, &asker, &request.token, now).await?
    };
    let body = claims.unwrap_or_else(|| json!({ "active": false }));
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response())
}

/// The claims of an access token that is good right now, for an asker that it is meant for.
async fn of_access_token(app: &App, asker: &Client, token: &str, now: Timestamp) -> ApiResult<Option<Value>> {
    let Ok(claims) = app.verify_access_token(token, now, false) else { return Ok(None) };
    // A token for other audiences looks inactive to the asker (RFC 7662 §4); the authority's own
    // services, which may ask about any, list no audience of their own.
    let names = |a: &String| *a == asker.id.as_str() || asker.audience.contains(a);
    if !asker.audience.is_empty() && !claims.aud.iter().any(names) {
        return Ok(None);
    }
    let Some(client) = app.client(&claims.client_id).await? else { return Ok(None) };
    // As for administration: what was got with a secret, or before a right was taken, holds no longer.
    if claims.sid.is_none() && claims.iat < client.updated_at.secs() {
        return Ok(None);
    }
    let mut revision = None;
    if let Some(sid) = claims.sid {
        let Some(found) = app.store.session(sid).await? else { return Ok(None) };
        let live = app
            .policy_of(&found.session)
            .is_some_and(|policy| matches!(found.session.status(policy, now), Status::Live(_)));
        if !live || Some(found.session.user_id) != claims.user_id() {
            return Ok(None);
        }
        revision = Some(found.user.revision);
    }
    let payload = Jws::parse(token).ok().map(|jws| jws.dangerous_unverified_payload().to_vec());
    let Some(Value::Object(mut all)) = payload.and_then(|p| serde_json::from_slice(&p).ok()) else {
        return Ok(None);
    };
    let scope = claims.scope.intersection(&client.scope);
    all.insert("scope".into(), scope.to_string().into());
    all.insert("active".into(), true.into());
    all.insert("token_type".into(), "Bearer".into());
    if let Some(revision) = revision {
        // The asker can see whether the claims are stale.
        all.insert("current_rev".into(), revision.into());
    }
    Ok(Some(Value::Object(all)))
}

/// What a refresh token stands for, told to the client that holds it only.
async fn of_refresh_token(
    app: &App,
    asker: &Client,
    token: &str,
    now: Timestamp,
) -> ApiResult<Option<Value>> {
    let token = match refresh::authenticate(app, token).await {
        Ok(token) => token,
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => return Err(error),
        Err(_) => return Ok(None),
    };
    let Some(found) = app.store.session(token.session_id).await? else { return Ok(None) };
    let session = &found.session;
    let row = &session.rotation;
    let usable = token.number > row.used || (token.number == row.used && token.nonce == row.used_nonce);
    if session.client_id != asker.id || !token.is_of(session) || !usable {
        return Ok(None);
    }
    let Some(policy) = app.policy_of(session) else { return Ok(None) };
    let Status::Live(deadlines) = session.status(policy, now) else { return Ok(None) };
    Ok(Some(json!({
        "active": true,
        "token_type": "refresh_token",
        "client_id": session.client_id,
        "sub": session.user_id,
        "sid": session.id,
        "scope": session.scope.intersection(&asker.scope),
        "iss": *app.issuer,
        "exp": deadlines.idle.secs(),
    })))
}
