//! A client's own token (`client_credentials`), for calls that are no user's affair.

use crate::authority::{App, Authority};
use crate::http::caller::{bearer, verify_bearer};
use crate::http::error::{ApiError, ApiResult};
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{StatusCode, header};
use reseal_core::{Client, Timestamp};
use std::marker::PhantomData;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a call needs of the client that makes it.
pub trait Needed {
    /// The scope.
    const SCOPE: &'static str;
}

/// A client that came with a token of its own and of the scope that is needed.
///
/// Never with a user's: else every user who logs in through a client that may do something might do it too,
/// by the scope that logins get by default. The token is checked against the client as it is now, so what
/// was narrowed, disabled or given a new secret holds at once, not when the token expires.
pub struct ClientToken<S> {
    /// The client.
    pub client: Arc<Client>,
    /// The time of the request.
    pub now: Timestamp,
    /// When the token expires, Unix seconds.
    pub exp: i64,
    token: Zeroizing<String>,
    needed: PhantomData<fn() -> S>,
}

impl<S> std::fmt::Debug for ClientToken<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientToken").field("client", &self.client.id).finish_non_exhaustive()
    }
}

impl<S: Needed> FromRequestParts<App> for ClientToken<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let now = app.clock.now();
        let token = bearer(&parts.headers)?.map(Zeroizing::new).ok_or_else(|| no_token(S::SCOPE))?;
        let (client, exp) = check(app, &token, S::SCOPE, now).await?;
        Ok(Self { client, now, exp, token, needed: PhantomData })
    }
}

impl<S: Needed> ClientToken<S> {
    /// Checks again what was checked at first, for whoever holds on to it.
    pub async fn check_again(&self, app: &Authority) -> ApiResult<()> {
        check(app, &self.token, S::SCOPE, app.clock.now()).await.map(drop)
    }
}

async fn check(
    app: &Authority,
    token: &str,
    scope: &'static str,
    now: Timestamp,
) -> ApiResult<(Arc<Client>, i64)> {
    let claims = verify_bearer(app, token, now).await?;
    if claims.sid.is_some() || claims.sub != claims.client_id.as_str() {
        tracing::warn!(sub = %claims.sub, client_id = %claims.client_id, scope, "a user's token was used for what is a client's");
        return Err(ApiError::forbidden(
            "client_token_required",
            "This takes a client's own token (grant_type=client_credentials), not that of a session.",
        ));
    }
    let over = || ApiError::invalid_token("The client of this token was disabled or deleted.");
    app.be_current().await?;
    let client = app.client_as_known(&claims.client_id).await?.ok_or_else(over)?;
    if claims.iat < client.updated_at.secs() {
        return Err(ApiError::invalid_token(
            "The client has changed since this token was issued. Get a new one.",
        ));
    }
    if !claims.scope.intersection(&client.scope).contains(scope) {
        tracing::warn!(client_id = %client.id, scope, "a client's token lacks the scope");
        return Err(ApiError::insufficient_scope(scope));
    }
    Ok((client, claims.exp))
}

/// 401 without a token; a session cookie is none.
fn no_token(scope: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        format!("Send an access token of scope {scope} as a Bearer token."),
    )
    .header(header::WWW_AUTHENTICATE, "Bearer")
}
