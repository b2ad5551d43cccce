//! Request bodies: bounded by the router, parsed strictly, refused with a code and a description.

use super::error::ApiError;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

/// A JSON body. Needs `Content-Type: application/json`, which also keeps cross-site forms out
/// (ASVS 3.5.2).
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_type(&request, "application/json")?;
        let bytes = read(request, state).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body, or none at all.
#[derive(Debug)]
pub struct OptionalJson<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let has_type = request.headers().contains_key(header::CONTENT_TYPE);
        if has_type {
            require_type(&request, "application/json")?;
        }
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        if !has_type {
            return Err(unsupported("application/json"));
        }
        parse_json(&bytes).map(|value| Self(Some(value)))
    }
}

/// A form body (RFC 6749 appendix B). A parameter given twice is an error (§3.2).
#[derive(Debug)]
pub struct FormBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for FormBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_type(&request, "application/x-www-form-urlencoded")?;
        let bytes = read(request, state).await?;
        axum::Form::<T>::from_request(
            http::Request::post("/")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(axum::body::Body::from(bytes))
                .map_err(|_| ApiError::invalid_request("The body cannot be read."))?,
            state,
        )
        .await
        .map(|axum::Form(value)| Self(value))
        .map_err(|_| {
            ApiError::invalid_request(
                "The body is not a form with the parameters this call takes, each at most once.",
            )
        })
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too large.")
        } else {
            ApiError::invalid_request("The body could not be read.")
        }
    })
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // serde's message can quote the input, and the input can be a password: say where, not what.
        let what = match error.classify() {
            serde_json::error::Category::Data => "does not have the members this call takes",
            _ => "is not valid JSON",
        };
        ApiError::invalid_request(format!(
            "The body {what} (line {}, column {}).",
            error.line(),
            error.column()
        ))
    })
}

fn require_type(request: &Request, wanted: &'static str) -> Result<(), ApiError> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(unsupported(wanted)) }
}

fn unsupported(wanted: &'static str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("Send the body with Content-Type: {wanted}."),
    )
}
