//! Every error in our form: paths and methods that are not there, what axum itself refuses, panics.

use crate::http::error::ApiError;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, StatusCode, header};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// 404 for a path that no route has.
pub(super) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")
}

/// 405; axum adds `Allow`.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This path does not take this method.",
    )
}

/// The answer, or its error said in our form where something else made it (a refused path parameter).
pub(super) fn in_our_form(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_ours(&response) {
        return response;
    }
    let mut ours = of_status(status).into_response();
    for name in KEPT {
        for value in response.headers().get_all(&name) {
            ours.headers_mut().append(name.clone(), value.clone());
        }
    }
    ours
}

const KEPT: [HeaderName; 3] = [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE];

/// JSON, or a page for a person: axum itself answers with neither.
fn is_ours(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/json") || kind.starts_with(b"text/html"))
}

fn of_status(status: StatusCode) -> ApiError {
    let (code, description) = match status {
        StatusCode::NOT_FOUND => ("not_found", "There is nothing at this path."),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "This path does not take this method."),
        StatusCode::PAYLOAD_TOO_LARGE => ("payload_too_large", "The body is too large."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("unsupported_media_type", "This call does not take this kind of body.")
        }
        s if s.is_client_error() => ("invalid_request", "The request is malformed."),
        _ => ("server_error", "The authority failed to answer. The log says why."),
    };
    ApiError::new(status, code, description)
}

/// 500: a defect, of which the caller learns nothing.
pub(super) fn panicked() -> ApiError {
    of_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// 408: the body did not come in time.
pub(super) fn body_too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.")
        .header(header::CONNECTION, "close")
}

/// 503: the answer was not there in time.
pub(super) fn answer_too_slow() -> ApiError {
    ApiError::unavailable(Duration::from_secs(1))
}

/// Awaits the future; `None` when it panicked. The process lives on: a panic is a defect of one request.
pub(super) async fn catch_panic<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}
