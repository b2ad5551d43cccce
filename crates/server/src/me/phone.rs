//! The phone as second factor: `POST /v1/me/phone`, `POST /v1/me/phone/verify`, `DELETE /v1/me/phone`.

use super::commit::{ATTEMPTS, Update, commit, read_again, resealed, too_busy};
use super::confirm::{confirm, require_newest_cookie};
use crate::authority::{App, Authority};
use crate::challenges::{self, ChallengeBody, ChallengeText, Secret, invalid_challenge};
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::{JsonBody, OptionalJson};
use crate::http::caller::{Caller, Origin, ShownIp};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::password::Password;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reseal_core::auth::Amr;
use reseal_core::challenge::{
    Challenge, Purpose, Verdict, normalize_recovery_code, recovery_code_from_random,
};
use reseal_core::client::SecretHash;
use reseal_core::session::Change;
use reseal_core::user::{UserPatch, UserSecrets};
use reseal_core::{Acr, Session, Strength, TimelineKind, User};
use serde::Deserialize;
use std::net::IpAddr;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How many recovery codes there are.
const RECOVERY_CODES: usize = 10;

/// A number to turn on as second factor.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PhoneRequest {
    /// With + and the country code.
    #[schema(value_type = String, example = "+4915112345678", max_length = 64)]
    phone_number: Secret,
    /// Needed when the login is older than five minutes (`users.recent_login`).
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    current_password: Option<Password>,
}

/// The code that came to the number.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    /// From the answer to `POST /v1/me/phone`, of this session.
    #[schema(value_type = String, max_length = 2048)]
    challenge: ChallengeText,
    /// The six digits of the newest message.
    #[schema(value_type = String, max_length = 32)]
    code: Secret,
}

/// Proof that it is the user.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TurnOffRequest {
    /// Needed when the login is older than five minutes (`users.recent_login`).
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    current_password: Option<Password>,
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start, turn_off)).routes(routes!(verify))
}

/// Turn on the phone as second factor, first step: a code is sent to the number.
///
/// Nothing changes before the code comes back. Needs a recent login or the current password.
#[utoipa::path(
    post, path = "/v1/me/phone", tag = "me",
    request_body = PhoneRequest,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 202, description = "The code is on its way", body = ChallengeBody),
        (status = 400, description = "Malformed, or `invalid_phone_number`", body = ErrorBody),
        (status = 401, description = "No live session, or `insufficient_user_authentication` with `max_age`", body = ErrorBody),
        (status = 403, description = "`invalid_credentials` (wrong password; the session stays), a client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too many wrong passwords or messages; see Retry-After", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn start(
    State(app): State<App>,
    caller: Caller,
    origin: Origin,
    JsonBody(body): JsonBody<PhoneRequest>,
) -> ApiResult<Response> {
    let number = crate::sms::phone::parse(body.phone_number.reveal()).map_err(|e| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_phone_number", format!("phone_number: {e}."))
    })?;
    confirm(&app, &caller, &origin, body.current_password).await?;
    let challenge =
        challenges::start_phone(&app, (&caller.user, caller.session.id), number.as_str(), caller.now);
    let mut response = (StatusCode::ACCEPTED, Json(challenge.await?)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Turn on the phone as second factor, second step.
///
/// The answer carries the caller's credential with the number in its claims and `acr` raised, and ten
/// recovery codes that are shown this once. A refresh token that the caller holds stays good. Other
/// sessions stay too; `DELETE /v1/sessions?except=current` ends them.
#[utoipa::path(
    post, path = "/v1/me/phone/verify", tag = "me",
    request_body = VerifyRequest,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "It is on: the resealed credential, and the recovery codes", body = CredentialBody),
        (status = 400, description = "Malformed, `invalid_code` with `tries_left`, or `invalid_challenge`", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "A client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn verify(
    State(app): State<App>,
    mut caller: Caller,
    origin: Origin,
    JsonBody(body): JsonBody<VerifyRequest>,
) -> ApiResult<CredentialAnswer> {
    require_newest_cookie(&caller)?;
    let (codes, hashes) = recovery_codes(&app);
    for _ in 0..ATTEMPTS {
        let now = read_again(&app, &mut caller).await?;
        let challenge = challenges::read(&app, &body.challenge).await?;
        if !is_for(&challenge, &now.session, &now.user) {
            return Err(invalid_challenge());
        }
        let hash = challenges::typed_code_hash(&app, &challenge, body.code.reveal()).await?;
        match challenge.judge(hash, caller.now) {
            Verdict::Void => return Err(invalid_challenge()),
            Verdict::Wrong(next) => {
                if let Some(answer) = challenges::spend_try(&app, next).await? {
                    return Err(answer);
                }
                continue;
            }
            Verdict::Accepted => {}
        }
        let new = with_phone(&now.user, Some(challenge.phone_number.clone()), caller.now)?;
        // The number he has already, proved again: only the recovery codes are new.
        let new = new.unwrap_or_else(|| now.user.with_new_secret(caller.now));
        let secrets =
            secrets(&app, &now.user).await?.map(|s| UserSecrets { recovery_codes: hashes.clone(), ..s });
        let Some(secrets) = secrets else { continue };
        let session = stepped_up(&now.session, &caller, origin.ip);
        let Some(raised) = session.session.clone() else { return Err(too_busy()) };
        let extra = vec![challenges::take(&challenge)];
        let update = Update { old: &now.user, new: new.clone(), secrets: Some(secrets), session, extra };
        if commit(&app, &caller, update).await? {
            tracing::warn!(sub = %new.id, sid = %caller.session.id, ip = %ShownIp(origin.ip), "second factor turned on");
            let mut answer = app.reseal(&caller, (&raised, &new), raised.strength)?;
            answer.body.recovery_codes = Some(codes);
            return Ok(answer);
        }
    }
    Err(too_busy())
}

/// Turn off the second factor: the number and the recovery codes are removed.
///
/// Needs a recent login or the current password. A caller who came with an access token finds the one
/// with the new claims in the header `Renewed-Access-Token`.
#[utoipa::path(
    delete, path = "/v1/me/phone", tag = "me",
    request_body(content = Option<TurnOffRequest>, description = "Empty, or the current password"),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is off", headers(
            ("Renewed-Access-Token" = String, description = "The access token without the number, for a caller who came with one"),
        )),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No live session, or `insufficient_user_authentication` with `max_age`", body = ErrorBody),
        (status = 403, description = "`invalid_credentials` (wrong password; the session stays), a client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too many wrong passwords; see Retry-After", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn turn_off(
    State(app): State<App>,
    mut caller: Caller,
    origin: Origin,
    OptionalJson(body): OptionalJson<TurnOffRequest>,
) -> ApiResult<Response> {
    confirm(&app, &caller, &origin, body.and_then(|b| b.current_password)).await?;
    for _ in 0..ATTEMPTS {
        let now = read_again(&app, &mut caller).await?;
        let Some(new) = with_phone(&now.user, None, caller.now)? else {
            return no_content(app.reseal(&caller, (&now.session, &now.user), caller.strength)?);
        };
        let secrets =
            secrets(&app, &now.user).await?.map(|s| UserSecrets { recovery_codes: Vec::new(), ..s });
        let Some(secrets) = secrets else { continue };
        let session = resealed(&now.session, &caller, origin.ip);
        let update =
            Update { old: &now.user, new: new.clone(), secrets: Some(secrets), session, extra: Vec::new() };
        if commit(&app, &caller, update).await? {
            tracing::warn!(sub = %new.id, sid = %caller.session.id, ip = %ShownIp(origin.ip), "second factor turned off");
            return no_content(app.reseal(&caller, (&now.session, &new), caller.strength)?);
        }
    }
    Err(too_busy())
}

/// A DELETE has no body, so the resealed access token travels in the header that renewed tokens use.
fn no_content(answer: CredentialAnswer) -> ApiResult<Response> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(token) = answer.body.access_token {
        let mut value = HeaderValue::from_str(&token).map_err(|_| too_busy())?;
        value.set_sensitive(true);
        headers.insert("renewed-access-token", value);
    }
    if let Some(cookie) = answer.cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Whether the challenge was begun by this very session, and nothing its user authenticates with has
/// changed since.
fn is_for(challenge: &Challenge, session: &Session, user: &User) -> bool {
    challenge.purpose == Purpose::Phone { session_id: session.id }
        && challenge.user_id == user.id
        && challenge.auth_epoch == user.auth_epoch
}

/// The record with a number that was proved, or with none; `None` when it is so already.
fn with_phone(user: &User, number: Option<String>, now: reseal_core::Timestamp) -> ApiResult<Option<User>> {
    let patch = UserPatch {
        phone_number_verified: Some(number.is_some()),
        phone_number: Some(number),
        ..UserPatch::default()
    };
    user.patched(&patch, now).map_err(|e| ApiError::invalid_request(format!("{e}.")))
}

/// The secrets of the record as it was read; `None` when it has changed since.
async fn secrets(app: &Authority, user: &User) -> ApiResult<Option<UserSecrets>> {
    let found = app.store.user_secrets(user.id).await?;
    Ok(found.filter(|(found, _)| found.version == user.version).map(|(_, secrets)| secrets))
}

/// The session raised by the factor. When the user last logged in stays as it was: that he can read a
/// phone says nothing about the password.
fn stepped_up(session: &Session, caller: &Caller, ip: Option<IpAddr>) -> Change {
    let strength = Strength {
        acr: Acr::Aal2,
        amr: session.strength.amr.union(Amr::SMS).union(Amr::MFA),
        authenticated_at: session.strength.authenticated_at,
    };
    let mut change = session.step_up(strength, caller.now, ip);
    change.note(session, TimelineKind::Resealed, caller.now, ip);
    change
}

/// New recovery codes, and their hashes to keep. They have 128 bits, so a plain hash is enough (ASVS 6.5.2).
fn recovery_codes(app: &Authority) -> (Vec<String>, Vec<[u8; 32]>) {
    (0..RECOVERY_CODES)
        .map(|_| {
            let code = recovery_code_from_random(app.random.bytes());
            let hash = SecretHash::of(&normalize_recovery_code(&code).unwrap_or_default()).0;
            (code, hash)
        })
        .unzip()
}
