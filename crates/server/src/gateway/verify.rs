//! `GET /gateway/verify`: what a proxy asks before it lets a request through (design §9).

use super::cache::{Found, Wanted};
use super::demand::Demand;
use super::identity::Identity;
use super::{original, sign_in};
use crate::authority::{App, Authority};
use crate::http::caller::{self, Caller, Presented};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::query::Query;
use crate::tokens::SessionToken;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reseal_core::{Acr, ClientId, PolicyKind};
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The route.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(verify))
}

/// What a location of the proxy may demand besides a live session.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VerifyQuery {
    /// The least `acr`.
    #[param(value_type = Option<String>, pattern = "^aal[12]$", example = "aal2")]
    acr: Option<Acr>,
    /// How many seconds ago the user may have authenticated at most.
    #[param(maximum = 315_360_000)]
    max_age: Option<u32>,
    /// Only sessions of this client.
    #[param(value_type = Option<String>, max_length = 64)]
    client_id: Option<ClientId>,
}

impl VerifyQuery {
    fn demand(&self) -> Demand {
        Demand { acr: self.acr, max_age: self.max_age.map(|secs| Duration::from_secs(secs.into())) }
    }
}

/// May this request pass, and as whom?
///
/// For `auth_request` of nginx, `forward_auth` of Caddy and Traefik. Takes the browser's session cookie and
/// slides its session; an `Authorization` header is ignored. The proxy says the original method in
/// `X-Original-Method` or `X-Forwarded-Method`, overwriting what came from outside, and passes `Origin`,
/// `Sec-Fetch-Site` and, as `X-Original-Upgrade`, the original `Upgrade`; a method that is missing, unknown or
/// said twice counts as one that changes something, and so does an upgrade. A refusal carries the link to the
/// sign-in page, for the proxy to send a person to. The values of `X-Auth-Name`,
/// `X-Auth-Email` and `X-Auth-Roles` are percent-encoded; roles are joined by commas.
#[utoipa::path(
    get, path = "/gateway/verify", tag = "gateway",
    security(("cookie" = [])),
    params(VerifyQuery),
    responses(
        (status = 200, description = "Let it pass, with these headers", headers(
            ("Authorization" = String, description = "`Bearer` and an access token for the app"),
            ("X-Auth-Subject" = String, description = "`sub`"),
            ("X-Auth-Session" = String, description = "`sid`"),
            ("X-Auth-Acr" = String, description = "`aal1` or `aal2`"),
            ("X-Auth-Name" = String, description = "If the client's projection has `name` and the record has one"),
            ("X-Auth-Email" = String, description = "If the client's projection has `email` and the record has one"),
            ("X-Auth-Roles" = String, description = "If the client's projection has `roles` and the record has any"),
            ("Set-Cookie" = String, description = "For the browser, when the cookie is to be refreshed"),
        )),
        (status = 400, description = "A demand that is none", body = ErrorBody),
        (status = 401, description = "No live session (`reason` says why it ended), or not authenticated as demanded: `insufficient_user_authentication`", body = ErrorBody, headers(
            ("Location" = String, description = "The sign-in page that leads back and asks for what was demanded, if there is one and the proxy said `X-Original-Uri` or `X-Forwarded-Uri`"),
        )),
        (status = 403, description = "A request that changes something, not from a page of the app", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn verify(State(app): State<App>, Query(query): Query<VerifyQuery>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut response = judge(&app, &query, &parts).await.into_response();
    if response.status() == StatusCode::UNAUTHORIZED
        && app.gateway.client_id.is_some()
        && let Some(link) = sign_in::location(&parts.headers, &app.gateway.targets, query.demand())
    {
        response.headers_mut().insert(header::LOCATION, link);
    }
    response
}

async fn judge(app: &Authority, query: &VerifyQuery, parts: &Parts) -> ApiResult<Response> {
    let Some(cookie) = caller::session_cookie(&parts.headers, app.cookie_name()) else {
        return Err(ApiError::unauthenticated());
    };
    let method = original::counts_as(&parts.headers);
    let caller = caller::from_cookie(app, &cookie, (method, &parts.headers), (true, app.clock.now())).await?;
    let refreshed = match &caller.presented {
        Presented::Cookie { send: true, .. } => {
            Some(app.set_cookie(&caller.session, &caller.policy, caller.now)?)
        }
        _ => None,
    };
    let mut response = match check(&caller, query) {
        Ok(()) => {
            let mut response = StatusCode::OK.into_response();
            identify(app, &caller, response.headers_mut())?;
            response
        }
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = refreshed {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// What the location demands besides a live cookie session.
fn check(caller: &Caller, query: &VerifyQuery) -> ApiResult<()> {
    if caller.policy.kind != PolicyKind::Cookie
        || query.client_id.as_ref().is_some_and(|id| *id != caller.session.client_id)
    {
        return Err(ApiError::invalid_token("The session is not of this app. Sign in to it."));
    }
    let demand = query.demand();
    if demand.is_met(caller.strength, caller.now) {
        Ok(())
    } else {
        Err(ApiError::step_up(demand.acr, demand.max_age))
    }
}

/// Writes the headers that say who it is; signs their token only if the one at hand does not serve.
fn identify(app: &Authority, caller: &Caller, headers: &mut HeaderMap) -> ApiResult<()> {
    let Caller { session, user, client, policy, strength, scope, now, .. } = caller;
    let life = session.access_life(policy, *now);
    let keys = app.keys.load();
    let key = app.signing_key(&keys, client, *now)?;
    let wanted = Wanted { rev: user.revision, strength: *strength, scope, client, kid: key.kid(), life };
    let sign = || {
        let token = SessionToken { session, user, client, strength: *strength, scope, life };
        let minted = app.mint(token, *now)?;
        Identity::new(&minted, &token).ok_or_else(|| ApiError::unavailable(Duration::from_secs(1)))
    };
    let ((), found) =
        app.gateway.tokens.with(session.id, &wanted, sign, |identity| identity.write(headers))?;
    app.metrics.gateway_token(match found {
        Found::Hit => "hit",
        Found::Miss => "miss",
    });
    Ok(())
}
