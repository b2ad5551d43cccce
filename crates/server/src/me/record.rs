//! `GET /v1/me` and `PATCH /v1/me`.

use super::UserView;
use super::commit::{ATTEMPTS, Update, commit, read_again, resealed, too_busy};
use super::patch::PatchRequest;
use crate::authority::App;
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::JsonBody;
use crate::http::caller::{Caller, Origin, Presented};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::etag::{IfMatch, etag};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use reseal_core::{Session, User};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// My record.
#[utoipa::path(
    get, path = "/v1/me", tag = "me",
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "My record; its revision is the ETag", body = UserView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "A client's own token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn show(State(app): State<App>, caller: Caller) -> ApiResult<Response> {
    let mut response = Json(UserView::new(&caller.user)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ETAG, etag(caller.user.revision));
    if let Presented::Cookie { send: true, .. } = caller.presented {
        headers.append(header::SET_COOKIE, app.set_cookie(&caller.session, &caller.policy, caller.now)?);
    }
    Ok(response)
}

/// Change my record.
///
/// Writes only what the setting `users.user_writable` lists. The answer carries the record and the
/// caller's credential with the new claims: an access token for an access token, never a refresh token.
/// Changes of different members at once lose nothing; with `If-Match` a record of another revision is left
/// alone (412).
#[utoipa::path(
    patch, path = "/v1/me", tag = "me",
    request_body = PatchRequest,
    params(("If-Match" = Option<String>, Header, description = "The revision the record must have, as in its ETag")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The record as it is now, and the resealed credential", body = CredentialBody),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "`not_writable`, a client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 412, description = "The record has another revision than If-Match names", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn change(
    State(app): State<App>,
    mut caller: Caller,
    origin: Origin,
    if_match: IfMatch,
    JsonBody(body): JsonBody<PatchRequest>,
) -> ApiResult<CredentialAnswer> {
    let patch = body.into_patch(&app.config.users.user_writable)?;
    for _ in 0..ATTEMPTS {
        let now = read_again(&app, &mut caller).await?;
        if_match.check(now.user.revision)?;
        let next = now.user.patched(&patch, caller.now);
        let next = next.map_err(|e| ApiError::invalid_request(format!("{e}.")))?;
        let Some(next) = next else { return answer(&app, &caller, (&now.session, &now.user)) };
        let session = resealed(&now.session, &caller, origin.ip);
        let update = Update { old: &now.user, new: next.clone(), secrets: None, session, extra: Vec::new() };
        if commit(&app, &caller, update).await? {
            tracing::info!(sub = %next.id, sid = %caller.session.id, revision = next.revision, "record changed by its owner");
            return answer(&app, &caller, (&now.session, &next));
        }
    }
    Err(too_busy())
}

fn answer(app: &App, caller: &Caller, (session, user): (&Session, &User)) -> ApiResult<CredentialAnswer> {
    let mut answer = app.reseal(caller, (session, user), caller.strength)?;
    answer.body.user = Some(UserView::new(user));
    answer.etag = Some(etag(user.revision));
    Ok(answer)
}
