//! Authorization server metadata (RFC 8414) and the key set (RFC 7517).

use crate::authority::App;
use crate::http::error::ErrorBody;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use reseal_core::event::KEY_SET_LIFE;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metadata)).routes(routes!(jwks))
}

/// What this authorization server can do.
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "oauth",
    responses(
        (status = 200, description = "RFC 8414 §2", body = Object),
        (status = 503, description = "Try again", body = ErrorBody),
    )
)]
async fn metadata(State(app): State<App>) -> Response {
    let at = |path: &str| format!("{}{path}", app.issuer);
    let auth_methods = ["client_secret_basic", "client_secret_post"];
    let document = json!({
        "issuer": *app.issuer,
        "token_endpoint": at("/oauth/token"),
        "jwks_uri": at("/jwks.json"),
        "revocation_endpoint": at("/oauth/revoke"),
        "introspection_endpoint": at("/oauth/introspect"),
        "grant_types_supported": ["refresh_token", "client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "introspection_endpoint_auth_methods_supported": auth_methods,
    });
    cached(document, 3600)
}

/// The public keys that access tokens are verified with.
#[utoipa::path(
    get, path = "/jwks.json", tag = "oauth",
    responses(
        (status = 200, description = "RFC 7517 §5", body = Object),
        (status = 503, description = "Try again", body = ErrorBody),
    )
)]
async fn jwks(State(app): State<App>) -> Response {
    let now = app.clock.now();
    // A key may sign at once, on another node, after one was withdrawn: whoever comes for it must get it here too.
    let catch_up = async { if app.shared { app.keys.catch_up(&*app.store, now).await } else { Ok(()) } };
    let is_current = matches!(timeout(CATCH_UP, catch_up).await, Ok(Ok(())));
    let life = if is_current { app.config.keys.publish_before.0.min(KEY_SET_LIFE) } else { UNSURE_LIFE };
    // Otherwise a new key is published this long before it signs, so no cached copy is ever too old.
    cached(app.keys.load().published(now), life.as_secs())
}

/// How long a request for the key set waits for the store. Without it the keys that are known must do.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How long a key set may be cached that may lack a key.
const UNSURE_LIFE: Duration = Duration::from_secs(10);

fn cached(document: impl serde::Serialize, max_age: u64) -> Response {
    let mut response = Json(document).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={max_age}")) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}
