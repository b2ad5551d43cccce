//! `POST /v1/session/renew`: sliding tokens and session cookies; any token whose claims changed.

use crate::authority::App;
use crate::http::answer::{CredentialAnswer, CredentialBody, Grant, SessionView};
use crate::http::body::OptionalJson;
use crate::http::caller::{Caller, Presented, superseded};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reseal_core::User;
use reseal_core::session::Change;
use reseal_core::touch::{CookieUse, PresentedToken, Renewal, renew_access, use_cookie};
use reseal_store::Snapshot;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Nothing is asked for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RenewRequest {}

/// The answer when it is too early, or when this kind of session does not renew.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NotRenewed {
    /// Always false.
    renewed: bool,
    /// From when to try again (Unix seconds); null where only changed claims renew.
    renew_at: Option<i64>,
    /// The session.
    session: SessionView,
}

/// Either answer.
#[derive(Debug)]
enum RenewAnswer {
    Renewed(Box<CredentialAnswer>),
    NotYet(NotRenewed),
}

impl IntoResponse for RenewAnswer {
    fn into_response(self) -> Response {
        match self {
            Self::Renewed(answer) => answer.into_response(),
            Self::NotYet(body) => {
                ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
            }
        }
    }
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(renew))
}

/// Renew the access token or the session cookie that the request carries.
///
/// A token whose claims changed is resealed whatever the kind of its session; only a sliding one gains time by it.
#[utoipa::path(
    post, path = "/v1/session/renew", tag = "session",
    request_body(content = Option<RenewRequest>, description = "Empty, or {}"),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "Renewed, never with a refresh token; or nothing to renew (`renewed: false`; `renew_at` is null where only changed claims renew)", body = CredentialBody),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "A client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn renew(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(_nothing): OptionalJson<RenewRequest>,
) -> ApiResult<impl IntoResponse> {
    let answer = match &caller.presented {
        Presented::Token(token) => renew_token(&app, &caller, *token).await?,
        Presented::Cookie { generation, .. } => renew_cookie(&app, &caller, *generation).await?,
    };
    app.metrics.renewal(matches!(answer, RenewAnswer::Renewed(_)));
    Ok(answer)
}

async fn renew_token(app: &App, caller: &Caller, token: PresentedToken) -> ApiResult<RenewAnswer> {
    let now = caller.now;
    let stale = caller.client_changed_since(token.iat);
    let revision = move |user: &User| if stale { u64::MAX } else { user.revision };
    // Decide on what was read; only a decision that writes goes to the writer, next to the row.
    let mut renewal = renew_access(&caller.session, &caller.policy, &token, revision(&caller.user), now);
    let mut user = Arc::clone(&caller.user);
    if matches!(&renewal, Renewal::Issue { change, .. } if !change.is_empty()) {
        let policy = caller.policy.clone();
        (renewal, user) = decide(app, caller, move |s| {
            let renewal = renew_access(&s.session, &policy, &token, revision(&s.user), now);
            let change = match &renewal {
                Renewal::Issue { change, .. } => change.clone(),
                _ => Change::default(),
            };
            (renewal, change)
        })
        .await?;
    }
    match renewal {
        Renewal::Issue { session, strength, .. } => {
            // An access token for an access token, and no more: a refresh token only rotates (design §8).
            Ok(renewed(app.reseal(caller, (&session, &user), strength)?))
        }
        Renewal::NotYet { renew_at } => {
            let life = reseal_core::session::AccessLife { iat: token.iat, exp: token.exp, renew_at };
            let view = SessionView::new(&caller.session, &caller.policy, caller.strength, Some(life));
            Ok(RenewAnswer::NotYet(NotRenewed { renewed: false, renew_at, session: view }))
        }
        Renewal::Over(ended) => Err(ApiError::session_over(ended.reason)),
    }
}

impl Caller {
    /// Whether the client was changed after a token of then (seconds), or in that second: the token may say more
    /// than the client may have now, and counts as stale, as for verifiers that read the feed.
    fn client_changed_since(&self, iat: i64) -> bool {
        let client = &*self.client;
        client.updated_at > client.created_at && iat <= client.updated_at.secs()
    }
}

async fn renew_cookie(app: &App, caller: &Caller, generation: u32) -> ApiResult<RenewAnswer> {
    let now = caller.now;
    let policy = caller.policy.clone();
    let mut used = use_cookie(&caller.session, &policy, generation, true, now);
    let mut user = Arc::clone(&caller.user);
    if matches!(&used, CookieUse::Accepted { change, .. } if !change.is_empty()) {
        (used, user) = decide(app, caller, move |s| {
            let used = use_cookie(&s.session, &policy, generation, true, now);
            let change = match &used {
                CookieUse::Accepted { change, .. } => change.clone(),
                _ => Change::default(),
            };
            (used, change)
        })
        .await?;
    }
    match used {
        CookieUse::Accepted { session, strength, send: true, .. } => {
            let grant = Grant {
                session: &session,
                user: &user,
                client: &caller.client,
                policy: &caller.policy,
                strength,
                scope: &caller.scope,
                now,
            };
            Ok(renewed(app.grant(grant, StatusCode::OK)?))
        }
        CookieUse::Accepted { session, strength, renew_at, .. } => {
            let view = SessionView::new(&session, &caller.policy, strength, None);
            Ok(RenewAnswer::NotYet(NotRenewed { renewed: false, renew_at: Some(renew_at), session: view }))
        }
        CookieUse::Superseded => Err(superseded()),
        CookieUse::Unknown => Err(ApiError::invalid_token("The session cookie is not valid. Sign in again.")),
        CookieUse::Over(ended) => Err(ApiError::session_over(ended.reason)),
    }
}

async fn decide<T: Clone + Send + 'static>(
    app: &App,
    caller: &Caller,
    mut decision: impl FnMut(&Snapshot) -> (T, Change) + Send + 'static,
) -> ApiResult<(T, Arc<User>)> {
    let with_user = move |s: &Snapshot| {
        let (value, change) = decision(s);
        ((value, Arc::clone(&s.user)), change)
    };
    reseal_store::decide(&*app.store, caller.session.id, app.event_until(caller.now), with_user)
        .await?
        .ok_or_else(|| ApiError::invalid_token("The access token belongs to no session."))
}

fn renewed(mut answer: CredentialAnswer) -> RenewAnswer {
    answer.body.renewed = Some(true);
    RenewAnswer::Renewed(Box::new(answer))
}
