//! Administration over HTTP, for clients with the scope `reseal:admin` (design §8). What is done is done
//! by [`crate::manage`], which the command line shares.

pub mod clients;
pub mod keys;
pub mod sessions;
pub mod user_sessions;
pub mod users;

use crate::authority::{App, Authority};
use crate::http::caller::{bearer, verify_bearer};
use crate::http::error::{ApiError, ApiResult};
use crate::http::etag::precondition_failed;
use crate::manage::{Manage, ManageError};
use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, header};
use reseal_core::{Client, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;

/// The routes under `/v1/admin`. None of their answers may be stored.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(users::routes())
        .merge(user_sessions::routes())
        .merge(sessions::routes())
        .merge(clients::routes())
        .merge(keys::routes())
        .layer(axum::middleware::map_response(no_store))
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The scope that administration needs.
const SCOPE: &str = "reseal:admin";

/// An administrating client.
///
/// It comes with a token of its own (`client_credentials`), never with a user's: else every user who logs
/// in through a client that may administrate would administrate, by the scope that logins get by default.
/// The token is checked against the client as it is now, so what was narrowed, disabled or given a new
/// secret holds at once, not when the token expires.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The client.
    pub client: Arc<Client>,
    /// The time of the request.
    pub now: Timestamp,
}

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let now = app.clock.now();
        let token = bearer(&parts.headers)?.ok_or_else(no_token)?;
        let claims = verify_bearer(app, &token, now)?;
        if claims.sid.is_some() || claims.sub != claims.client_id.as_str() {
            tracing::warn!(sub = %claims.sub, client_id = %claims.client_id, "a user's token was used to administrate");
            return Err(ApiError::forbidden(
                "client_token_required",
                "Administration takes a client's own token (grant_type=client_credentials), not that of a session.",
            ));
        }
        let over = || ApiError::invalid_token("The client of this token was disabled or deleted.");
        let client = app.client(&claims.client_id).await?.ok_or_else(over)?;
        if claims.iat < client.updated_at.secs() {
            return Err(ApiError::invalid_token(
                "The client has changed since this token was issued. Get a new one.",
            ));
        }
        if !claims.scope.intersection(&client.scope).contains(SCOPE) {
            tracing::warn!(client_id = %client.id, "administration refused");
            return Err(ApiError::insufficient_scope(SCOPE));
        }
        Ok(Self { client, now })
    }
}

/// 401 without a token; a session cookie is none.
fn no_token() -> ApiError {
    ApiError::new(
        http::StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Send an access token of scope reseal:admin as a Bearer token.",
    )
    .header(header::WWW_AUTHENTICATE, "Bearer")
}

impl Authority {
    /// The operations of administration at this instant.
    pub fn manage(&self, now: Timestamp) -> Manage<'_> {
        Manage {
            store: &*self.store,
            random: &self.random,
            now,
            event_until: self.event_until(now),
            policies: &self.policies,
        }
    }
}

impl From<ManageError> for ApiError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::NotFound(what) => Self::not_found(what),
            ManageError::Taken(what) => Self::conflict(format!("This {what} is taken.")),
            ManageError::OtherRevision(_) => precondition_failed(),
            ManageError::Invalid { member, reason } => Self::invalid_request(format!("{member}: {reason}.")),
            ManageError::Unfit(why) => Self::conflict(format!("Not possible: {why}.")),
            ManageError::Contended => Self::unavailable(Duration::from_secs(1)),
            ManageError::Store(error) => error.into(),
        }
    }
}

/// The members of a page that a list's query may ask for.
fn page_limit(limit: Option<usize>) -> ApiResult<usize> {
    let limit = limit.unwrap_or(50);
    if (1..=200).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::invalid_request("limit must lie between 1 and 200."))
    }
}

/// A member that a patch may leave out (outer `None`) or clear with null (inner `None`).
fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}
