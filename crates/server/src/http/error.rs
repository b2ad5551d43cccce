//! Errors on the wire, in one place (design §8).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use reseal_core::{Acr, EndReason};
use reseal_store::{CommitError, StoreError};
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::Duration;

/// The answer to a request that failed. What it says is safe to show; details go to the log.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    description: Cow<'static, str>,
    reason: Option<&'static str>,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What the log says of an error, found in the extensions of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// `error`.
    pub code: &'static str,
    /// `reason`.
    pub reason: Option<&'static str>,
}

/// The body of every error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// A stable code: the RFC's where there is one.
    #[schema(example = "invalid_grant")]
    pub error: String,
    /// What it means and what to do next, for people.
    pub error_description: String,
    /// Why, where the owner may know: for example `idle_timeout` or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More, by code: `challenge` and `factors` of `second_factor_required`, `max_age`.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Map<String, Value>,
}

impl ApiError {
    /// An error of this status, code and description.
    pub fn new(status: StatusCode, code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            description: description.into(),
            reason: None,
            extra: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// 400 `invalid_request`: malformed.
    pub fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// 400 `invalid_grant` (RFC 6749 §5.2).
    pub fn invalid_grant(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    /// 401 without a credential (RFC 6750 §3: no error code in the challenge then).
    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Sign in first: send an access token as a Bearer token, or the session cookie.",
        )
        .header(header::WWW_AUTHENTICATE, "Bearer")
    }

    /// 401 `invalid_token` (RFC 6750 §3.1) for a token that was sent.
    pub fn invalid_token(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description)
            .header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
    }

    /// 401 for a session that is over, with the reason told to its owner.
    pub fn session_over(reason: EndReason) -> Self {
        Self::invalid_token(format!("The session is over ({reason}). Sign in again.")).reason(reason.as_str())
    }

    /// 401 `insufficient_user_authentication` (RFC 9470 §3): a newer login is needed.
    pub fn stale_authentication(max_age: Duration) -> Self {
        let secs = max_age.as_secs();
        let mut error = Self::new(
            StatusCode::UNAUTHORIZED,
            "insufficient_user_authentication",
            "This needs a recent login, or the current password in the body.",
        )
        .header(
            header::WWW_AUTHENTICATE,
            &format!("Bearer error=\"insufficient_user_authentication\", max_age=\"{secs}\""),
        );
        error.0.extra.insert("max_age".into(), secs.into());
        error
    }

    /// 401 `insufficient_user_authentication` (RFC 9470 §3): a stronger or newer login is needed.
    pub fn step_up(acr: Option<Acr>, max_age: Option<Duration>) -> Self {
        let mut challenge = "Bearer error=\"insufficient_user_authentication\"".to_owned();
        let mut error = Self::new(
            StatusCode::UNAUTHORIZED,
            "insufficient_user_authentication",
            "This needs a stronger or a more recent login.",
        );
        if let Some(acr) = acr {
            challenge.push_str(&format!(", acr_values=\"{acr}\""));
            error.0.extra.insert("acr_values".into(), acr.as_str().into());
        }
        if let Some(max_age) = max_age {
            let secs = max_age.as_secs();
            challenge.push_str(&format!(", max_age=\"{secs}\""));
            error.0.extra.insert("max_age".into(), secs.into());
        }
        error.header(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 403 `insufficient_scope` (RFC 6750 §3.1).
    pub fn insufficient_scope(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", format!("This needs the scope {scope}."))
            .header(
                header::WWW_AUTHENTICATE,
                &format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""),
            )
    }

    /// 403: understood, and not allowed.
    pub fn forbidden(code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, description)
    }

    /// 404.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }

    /// 409: it contradicts what is there.
    pub fn conflict(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", description)
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(retry_after: Duration, description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", description).retry_after(retry_after)
    }

    /// 503 with `Retry-After`: come again, nothing is lost.
    pub fn unavailable(retry_after: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "The authority cannot answer right now. Try again; keep your session.",
        )
        .retry_after(retry_after)
    }

    /// Adds the reason that is told to the session's owner.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header; a value that is no header value is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The code.
    pub const fn code(&self) -> &'static str {
        self.0.code
    }

    /// What it means, for people.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// The reason that is told to the session's owner.
    pub const fn told_reason(&self) -> Option<&'static str> {
        self.0.reason
    }

    /// A member of the body that only some errors have.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.extra.get(name)
    }

    /// The seconds of `Retry-After`.
    pub fn wait(&self) -> Option<u64> {
        let header = self.0.headers.iter().find(|(name, _)| *name == header::RETRY_AFTER);
        header.and_then(|(_, value)| value.to_str().ok()?.parse().ok())
    }

    fn retry_after(self, after: Duration) -> Self {
        // Rounded up: coming at the announced second must not be too early.
        let secs = after.as_millis().div_ceil(1000).max(1);
        self.header(header::RETRY_AFTER, &secs.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { status, code, description, reason, extra, headers } = *self.0;
        let body = ErrorBody {
            error: code.to_owned(),
            error_description: description.into_owned(),
            reason: reason.map(str::to_owned),
            extra,
        };
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(Refusal { code, reason });
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { retry_after } => {
                tracing::warn!("store busy");
                Self::unavailable(retry_after)
            }
            other => {
                tracing::error!(error = %other, "store failed");
                Self::unavailable(Duration::from_secs(5))
            }
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => error.into(),
            CommitError::Conflict(conflict) => {
                tracing::info!(%conflict, "commit conflict");
                Self::conflict("Somebody else changed it at the same time. Read it again and retry.")
            }
            other => {
                tracing::error!(error = %other, "commit failed");
                Self::unavailable(Duration::from_secs(5))
            }
        }
    }
}

/// A result whose error is an answer.
pub type ApiResult<T> = Result<T, ApiError>;
