//! A small service that uses all of `reseal-verify`: notes, each user's own.
//!
//! - Tokens are verified here, without asking anyone, and yet a sign-out or a new phone number is seen within a
//!   second (the feed).
//! - A token past half its life is renewed on the way and goes back in `Renewed-Access-Token`.
//! - A token whose claims have changed is replaced before the handler sees it.
//! - Reading and writing need different scopes, seeing everybody's notes needs a role, and deleting all of one's
//!   own needs a second factor and a login at most five minutes old (RFC 9470).

mod store;

use axum::extract::{DefaultBodyLimit, FromRef, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use reseal_verify::{Authenticated, OnStale, Refusal, RequireLayer, Requirements, Verifier, VerifyLayer};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Full, Note, Notes};

/// Longest request body, in bytes.
const BODY_MAX: usize = 8 * 1024;
/// Longest time for a request.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How old a login may be for deleting everything, in seconds.
const RECENT: u64 = 300;

/// What the handlers share.
#[derive(Clone)]
struct App {
    verifier: Verifier,
    notes: Arc<Notes>,
}

/// The extractors of `reseal-verify` find the verifier so.
impl FromRef<App> for Verifier {
    fn from_ref(app: &App) -> Self {
        app.verifier.clone()
    }
}

/// The service. A request waits so long for a newer token at most.
pub fn app(verifier: Verifier, renewal_timeout: Duration) -> Router {
    // One layer, made once: its clones share their calls to the authority.
    let signed_in = VerifyLayer::new(verifier.clone())
        .scope("notes:read")
        .sliding(true)
        .on_stale(OnStale::Renew)
        .renewal_timeout(renewal_timeout)
        .realm("notes");
    let to_write = RequireLayer::new(Requirements::new().scope("notes:write"));

    let write = Router::new()
        .route("/notes", axum::routing::post(add).delete(delete_all))
        .route("/notes/{id}", delete(delete_one))
        .route_layer(to_write);
    Router::new()
        .route("/me", get(me))
        .route("/notes", get(mine))
        .route("/notes/all", get(everybodys))
        .merge(write)
        .route_layer(signed_in)
        // Not behind the layer: whoever watches the service has no token.
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(in_time))
        .with_state(App { verifier, notes: Arc::default() })
}

/// What the token says of its user, as of this very request.
async fn me(user: Authenticated) -> Json<Value> {
    let claims = &user.claims;
    Json(json!({
        "sub": user.token().subject(),
        "name": claims.name,
        "phone_number": claims.phone_number,
        "phone_number_verified": claims.phone_number_verified,
        "roles": claims.roles,
        "acr": user.token().acr(),
    }))
}

async fn mine(State(app): State<App>, user: Authenticated) -> Json<Vec<Note>> {
    Json(app.notes.of(user.token().subject()))
}

/// A new note.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    text: String,
}

async fn add(
    State(app): State<App>,
    user: Authenticated,
    Json(NewNote { text }): Json<NewNote>,
) -> Result<(StatusCode, Json<Note>), Full> {
    let note = app.notes.add(user.token().subject(), text)?;
    Ok((StatusCode::CREATED, Json(note)))
}

async fn delete_one(State(app): State<App>, user: Authenticated, Path(id): Path<u64>) -> StatusCode {
    if app.notes.delete(user.token().subject(), id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// What cannot be undone asks for more than a token that lay around.
async fn delete_all(State(app): State<App>, user: Authenticated) -> Result<StatusCode, Refusal> {
    user.require(&Requirements::new().acr("aal2").max_age(RECENT))?;
    app.notes.delete_all(user.token().subject());
    Ok(StatusCode::NO_CONTENT)
}

/// For administrators. The role is a claim, and a claim is never older than a second.
async fn everybodys(State(app): State<App>, user: Authenticated) -> Response {
    if user.claims.has_role("admin") {
        return Json(app.notes.all()).into_response();
    }
    let body = json!({ "error": "forbidden", "error_description": "This is for administrators." });
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

/// 200 while tokens can be judged, else 503; with how the keys and the feed are doing.
async fn health(State(app): State<App>) -> impl IntoResponse {
    let health = app.verifier.health();
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

/// No request takes for ever: one whose body never ends is given up.
async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
    answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}
