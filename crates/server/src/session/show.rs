//! `GET /v1/session` and `DELETE /v1/session`.

use crate::authority::{App, Authority};
use crate::http::answer::SessionView;
use crate::http::caller::{Caller, Origin, Presented};
use crate::http::error::{ApiResult, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reseal_core::event::EndReason;
use reseal_core::session::AccessLife;
use reseal_store::{Commit, EndFilter, EndSessions, Write};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, sign_out))
}

/// The session: its deadlines, how it was authenticated, what renews it and when.
#[utoipa::path(
    get, path = "/v1/session", tag = "session",
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The live session", body = SessionView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "A client's own token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn show(State(app): State<App>, caller: Caller) -> ApiResult<Response> {
    let life = match &caller.presented {
        Presented::Token(token) => {
            let renew_at = (caller.policy.kind == reseal_core::PolicyKind::Sliding)
                .then(|| caller.policy.renew_at(token.iat, token.exp));
            Some(AccessLife { iat: token.iat, exp: token.exp, renew_at })
        }
        Presented::Cookie { .. } => None,
    };
    let view = SessionView::new(&caller.session, &caller.policy, caller.strength, life);
    let mut response = Json(view).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Presented::Cookie { send: true, .. } = caller.presented {
        let cookie = app.set_cookie(&caller.session, &caller.policy, caller.now)?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Sign out.
#[utoipa::path(
    delete, path = "/v1/session", tag = "session",
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "Signed out"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session; without one, POST /oauth/revoke with the refresh token", body = ErrorBody),
        (status = 403, description = "A client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn sign_out(State(app): State<App>, caller: Caller, origin: Origin) -> ApiResult<Response> {
    end_session(&app, &caller, &origin).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Presented::Cookie { .. } = &caller.presented {
        forget(&app, headers);
    }
    Ok(response)
}

/// Ends the caller's session because he signs out.
pub(crate) async fn end_session(app: &Authority, caller: &Caller, origin: &Origin) -> ApiResult<()> {
    let end = EndSessions {
        filter: EndFilter::One(caller.session.id),
        reason: EndReason::SignedOut,
        now: caller.now,
        ip: origin.ip,
        event_until: app.event_until(caller.now),
    };
    app.store.commit(Commit::of([Write::EndSessions(end)])).await?;
    app.metrics.session_ended(EndReason::SignedOut.as_str());
    tracing::info!(sub = %caller.user.id, sid = %caller.session.id, "signed out");
    Ok(())
}

/// Tells the browser to forget the cookie, and whatever it kept of a signed-in user.
pub(crate) fn forget(app: &Authority, headers: &mut HeaderMap) {
    if let Some(cookie) = app.clear_cookie() {
        headers.append(header::SET_COOKIE, cookie);
        headers.insert("clear-site-data", HeaderValue::from_static("\"cache\", \"storage\""));
    }
}
