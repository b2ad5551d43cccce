//! Administration over HTTP, for clients with the scope `reseal:admin` (design §8). What is done is done
//! by [`crate::manage`], which the command line shares.

pub mod clients;
pub mod keys;
pub mod sessions;
pub mod user_sessions;
pub mod users;

use crate::authority::{App, Authority};
use crate::http::client_token::{ClientToken, Needed};
use crate::http::error::{ApiError, ApiResult};
use crate::http::etag::precondition_failed;
use crate::manage::{Manage, ManageError};
use axum::response::Response;
use http::{HeaderValue, header};
use reseal_core::Timestamp;
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

/// An administrating client.
pub type Admin = ClientToken<Administration>;

/// What administration needs.
#[derive(Clone, Copy, Debug)]
pub struct Administration;

impl Needed for Administration {
    const SCOPE: &'static str = "reseal:admin";
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
