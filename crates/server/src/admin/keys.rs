//! `/v1/admin/keys`: what keys there are, rotating them, withdrawing one that may have leaked.

use super::Admin;
use crate::authority::App;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::jobs;
use crate::keys::KeysError;
use axum::Json;
use axum::extract::{Path, State};
use reseal_core::Timestamp;
use reseal_core::keys::{KeyRecord, KeyUse};
use serde::Serialize;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A key, without its secret, as the API and `reseal keys list --json` show it. Times are Unix seconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct KeyView {
    /// `signing`: signs access tokens; `ring`: makes refresh tokens and session cookies.
    #[serde(rename = "use")]
    #[schema(example = "signing")]
    pub key_use: &'static str,
    /// The `kid` of a signing key, the number of a ring key.
    pub kid: String,
    /// The algorithm of a signing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ES256")]
    pub algorithm: Option<String>,
    /// next, active, retired, unpublished or withdrawn.
    #[schema(example = "active")]
    pub state: &'static str,
    /// When it was made and published.
    pub created_at: i64,
    /// From when it signs.
    pub active_from: i64,
    /// From when another signs in its stead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<i64>,
    /// From when it is no longer published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpublished_at: Option<i64>,
    /// From when nothing trusts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<i64>,
}

impl KeyView {
    /// The view of a key at `now`.
    pub fn new(key: &KeyRecord, now: Timestamp) -> Self {
        let (key_use, kid, algorithm) = match &key.key_use {
            KeyUse::Signing { algorithm, kid } => ("signing", kid.clone(), Some(algorithm.clone())),
            KeyUse::Ring { id } => ("ring", id.0.to_string(), None),
        };
        Self {
            key_use,
            kid,
            algorithm,
            state: key.state(now).as_str(),
            created_at: key.created_at.secs(),
            active_from: key.active_from.secs(),
            retired_at: key.retired_at.map(Timestamp::secs),
            unpublished_at: key.unpublished_at.map(Timestamp::secs),
            withdrawn_at: key.withdrawn_at.map(Timestamp::secs),
        }
    }
}

/// All keys.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct KeyList {
    /// The newest first.
    items: Vec<KeyView>,
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rotate)).routes(routes!(withdraw))
}

/// All keys. Secrets are never shown.
#[utoipa::path(
    get, path = "/v1/admin/keys", tag = "admin",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The keys", body = KeyList),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn list(State(app): State<App>, admin: Admin) -> ApiResult<Json<KeyList>> {
    all(&app, admin.now).await
}

/// Rotate all keys out of schedule. New ones are published now and sign once no verifier can hold a key set
/// without them; where one is waiting already, nothing is made.
#[utoipa::path(
    post, path = "/v1/admin/keys/rotate", tag = "admin",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The keys, with those that will sign next", body = KeyList),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn rotate(State(app): State<App>, admin: Admin) -> ApiResult<Json<KeyList>> {
    let algorithms = jobs::algorithms(&*app.store).await?;
    app.keys.rotate(&*app.store, &app.random, &algorithms, (admin.now, true)).await?;
    tracing::warn!(client_id = %admin.client.id, "keys rotated");
    all(&app, admin.now).await
}

/// Withdraw a signing key that may have leaked. From now on no token signed with it is accepted here, the
/// key is out of the published set, and the log tells verifiers; another key signs at once.
#[utoipa::path(
    post, path = "/v1/admin/keys/{kid}/withdraw", tag = "admin",
    params(("kid" = String, Path, description = "The signing key")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The keys as they are now", body = KeyList),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such signing key", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn withdraw(State(app): State<App>, admin: Admin, Path(kid): Path<String>) -> ApiResult<Json<KeyList>> {
    let at = (admin.now, app.event_until(admin.now));
    if !app.keys.withdraw(&*app.store, &app.random, &kid, at).await? {
        return Err(ApiError::not_found("signing key"));
    }
    tracing::warn!(%kid, client_id = %admin.client.id, "signing key withdrawn");
    all(&app, admin.now).await
}

async fn all(app: &App, now: Timestamp) -> ApiResult<Json<KeyList>> {
    let mut keys = app.store.keys().await?;
    keys.sort_by_key(|k| std::cmp::Reverse((k.active_from, k.created_at)));
    Ok(Json(KeyList { items: keys.iter().map(|k| KeyView::new(k, now)).collect() }))
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            other => {
                tracing::error!(error = %other, "keys");
                Self::unavailable(Duration::from_secs(60))
            }
        }
    }
}
