//! `POST /oauth/token` (RFC 6749 §3.2): the grants `refresh_token` and `client_credentials`.

use super::{filled, refresh};
use crate::authority::App;
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::FormBody;
use crate::http::caller::Origin;
use crate::http::client_auth::ClientCredentials;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::session::login::granted_scope;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use reseal_core::Client;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

/// A token request. Unknown parameters are ignored (RFC 6749 §3.2).
#[derive(Deserialize, utoipa::ToSchema)]
pub struct TokenRequest {
    /// `refresh_token` or `client_credentials`.
    #[schema(example = "refresh_token")]
    grant_type: String,
    /// The client, where it does not use HTTP Basic.
    #[serde(default, deserialize_with = "filled")]
    client_id: Option<String>,
    /// Its secret (client_secret_post).
    #[serde(default, deserialize_with = "filled")]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Zeroizing<String>>,
    /// The refresh token.
    #[serde(default, deserialize_with = "filled")]
    #[schema(value_type = Option<String>)]
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// The access token held so far, expired or not; if it verifies it must name the same session.
    #[serde(default, deserialize_with = "filled")]
    #[schema(value_type = Option<String>)]
    pub(super) access_token: Option<Zeroizing<String>>,
    /// Narrower scope, if wanted.
    #[serde(default, deserialize_with = "filled")]
    pub(super) scope: Option<String>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("grant_type", &self.grant_type).finish_non_exhaustive()
    }
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(token))
}

/// Get an access token.
#[utoipa::path(
    post, path = "/oauth/token", tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses(
        (status = 200, description = "RFC 6749 §5.1", body = CredentialBody),
        (status = 400, description = "RFC 6749 §5.2: invalid_request, invalid_grant (with `reason`), invalid_scope, unauthorized_client, unsupported_grant_type", body = ErrorBody),
        (status = 401, description = "invalid_client", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not a form", body = ErrorBody),
        (status = 503, description = "Try again with the same refresh token; see Retry-After", body = ErrorBody),
    )
)]
async fn token(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    FormBody(request): FormBody<TokenRequest>,
) -> ApiResult<CredentialAnswer> {
    let secret = request.client_secret.as_ref().map(|s| s.as_str());
    let given = ClientCredentials::read(&headers, request.client_id.as_deref(), secret)?;
    let client = app.authenticate_client(&given).await?;
    match request.grant_type.as_str() {
        "refresh_token" => refresh::refresh(&app, &client, &request, origin).await,
        "client_credentials" => client_credentials(&app, &client, request.scope.as_deref()),
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "grant_type must be refresh_token or client_credentials.",
        )),
    }
}

fn client_credentials(app: &App, client: &Client, scope: Option<&str>) -> ApiResult<CredentialAnswer> {
    if !client.is_confidential() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "Only a confidential client may use client_credentials.",
        ));
    }
    let scope = granted_scope(client, scope)?;
    let minted = app.mint_for_client(client, &scope, app.clock.now())?;
    let body = CredentialBody {
        token_type: Some("Bearer"),
        expires_in: Some(minted.life.exp - minted.life.iat),
        access_token: Some(minted.token),
        scope: Some(scope.to_string()),
        ..CredentialBody::empty()
    };
    Ok(CredentialAnswer { status: StatusCode::OK, body, cookie: None, etag: None })
}
