//! The second step of a login: `POST /v1/session/factor` and `POST /v1/session/factor/resend`.

use super::login::{StartLogin, replaced_session, start_session};
use crate::authority::{App, Authority};
use crate::challenges::{self, ChallengeBody, ChallengeText, Message, Secret, invalid_challenge};
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::JsonBody;
use crate::http::caller::Origin;
use crate::http::client_auth::ClientCredentials;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::origin::check_login_request;
use crate::manage::users::user_change;
use axum::Json;
use axum::extract::State;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reseal_core::auth::Amr;
use reseal_core::challenge::{Challenge, Purpose, Verdict, normalize_recovery_code};
use reseal_core::client::SecretHash;
use reseal_core::user::UserSecrets;
use reseal_core::{Acr, Client, ClientId, Strength, Timestamp, User};
use reseal_store::Write;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

/// What the user answers a challenge with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// The code of the text message.
    Phone,
    /// One of the recovery codes; it is good once.
    RecoveryCode,
}

/// The answer to a challenge.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorRequest {
    /// From the answer to the password.
    #[schema(value_type = String, max_length = 2048)]
    challenge: ChallengeText,
    /// Which factor.
    factor: Factor,
    /// The code as typed: spaces, dashes and case do not count.
    #[schema(value_type = String, max_length = 64)]
    code: Secret,
    /// The client that began the login; needed with `client_secret` only.
    #[serde(default)]
    #[schema(max_length = 64)]
    client_id: Option<String>,
    /// The secret of a confidential client that does not use HTTP Basic.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
}

/// Asks for another message.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResendRequest {
    /// From the answer to the password.
    #[schema(value_type = String, max_length = 2048)]
    challenge: ChallengeText,
    /// The client that began the login; needed with `client_secret` only.
    #[serde(default)]
    #[schema(max_length = 64)]
    client_id: Option<String>,
    /// The secret of a confidential client that does not use HTTP Basic.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
}

impl FactorRequest {
    /// The answer of somebody on the hosted page of a public client.
    pub(crate) fn of_page(
        client_id: &ClientId,
        challenge: ChallengeText,
        (factor, code): (Factor, Secret),
    ) -> Self {
        Self { challenge, factor, code, client_id: Some(client_id.to_string()), client_secret: None }
    }
}

impl ResendRequest {
    /// The wish of somebody on the hosted page of a public client.
    pub(crate) fn of_page(client_id: &ClientId, challenge: ChallengeText) -> Self {
        Self { challenge, client_id: Some(client_id.to_string()), client_secret: None }
    }
}

/// The routes.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(factor)).routes(routes!(resend))
}

/// Answer the challenge of a login.
///
/// A wrong code costs one of five tries (400 `invalid_code` with `tries_left`). A challenge that is
/// unknown, used, older than five minutes or void because the user's password or factor changed is 400
/// `invalid_challenge`: log in again.
#[utoipa::path(
    post, path = "/v1/session/factor", tag = "session",
    request_body = FactorRequest,
    security(("client" = []), ()),
    responses(
        (status = 201, description = "Logged in", body = CredentialBody),
        (status = 400, description = "Malformed, `invalid_code` or `invalid_challenge`", body = ErrorBody),
        (status = 401, description = "The client did not authenticate", body = ErrorBody),
        (status = 403, description = "The page's origin is not allowed", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn factor(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    JsonBody(body): JsonBody<FactorRequest>,
) -> ApiResult<CredentialAnswer> {
    second_step(&app, &body, (&origin, &headers)).await
}

/// The second step, whichever page asks.
pub(crate) async fn second_step(
    app: &Authority,
    body: &FactorRequest,
    (origin, headers): (&Origin, &HeaderMap),
) -> ApiResult<CredentialAnswer> {
    let given = (body.client_id.as_deref(), body.client_secret.as_ref());
    let pending = Pending::open(app, headers, &body.challenge, given).await?;
    let scope = body
        .challenge
        .scope()
        .map_or_else(|| pending.client.scope.clone(), |s| s.intersection(&pending.client.scope));

    // Whoever loses a race (another try, another device, a change of the record) reads and judges again.
    for _ in 0..challenges::ATTEMPTS {
        let challenge = challenges::read(app, &body.challenge).await?;
        let proof = Proof::judge(app, &challenge, (body.factor, body.code.reveal()), pending.now).await?;
        let Proof { user, verdict, spent } = proof;
        match verdict {
            Verdict::Void => return Err(invalid_challenge()),
            Verdict::Wrong(next) => {
                if let Some(answer) = challenges::spend_try(app, next).await? {
                    app.metrics.login("wrong_code");
                    return Err(answer);
                }
                continue;
            }
            Verdict::Accepted => {}
        }
        let mut extra_writes = vec![challenges::take(&challenge)];
        extra_writes.extend(
            spent.map(|secrets| without_code(app, &user, secrets, pending.now)).into_iter().flatten(),
        );
        extra_writes.extend(replaced_session(app, &pending.client, headers, pending.now));
        let login = StartLogin {
            user: &user,
            client: &pending.client,
            strength: body.factor.strength(pending.now),
            scope: scope.clone(),
            origin,
            now: pending.now,
            extra_writes,
        };
        match start_session(app, login).await {
            Ok(answer) => {
                app.metrics.login("success");
                return Ok(answer);
            }
            // The challenge or the record changed between reading and writing.
            Err(error) if matches!(error.code(), "invalid_challenge" | "invalid_credentials") => {}
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::unavailable(Duration::from_secs(1)))
}

/// Send the code of a login again.
///
/// At the earliest 30 seconds after the last message, and twice per login (429 with `Retry-After`).
#[utoipa::path(
    post, path = "/v1/session/factor/resend", tag = "session",
    request_body = ResendRequest,
    security(("client" = []), ()),
    responses(
        (status = 202, description = "A new code is on its way; older ones are good no more", body = ChallengeBody),
        (status = 400, description = "Malformed, or `invalid_challenge`", body = ErrorBody),
        (status = 401, description = "The client did not authenticate", body = ErrorBody),
        (status = 403, description = "The page's origin is not allowed", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too soon, or too many messages; see Retry-After", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn resend(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<ResendRequest>,
) -> ApiResult<(StatusCode, [(header::HeaderName, HeaderValue); 1], Json<ChallengeBody>)> {
    let answer = send_again(&app, &body, &headers).await?;
    Ok((StatusCode::ACCEPTED, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)))
}

/// Another message for a challenge, whichever page asks.
pub(crate) async fn send_again(
    app: &Authority,
    body: &ResendRequest,
    headers: &HeaderMap,
) -> ApiResult<ChallengeBody> {
    let given = (body.client_id.as_deref(), body.client_secret.as_ref());
    let pending = Pending::open(app, headers, &body.challenge, given).await?;
    let challenge = challenges::read(app, &body.challenge).await?;
    let (user, _) = owner(app, &challenge).await?;
    let message = Message::Login { client: &pending.client.name };
    let sent = challenges::resend(app, &body.challenge, (&user, message), pending.now).await?;
    Ok(ChallengeBody::new(&body.challenge, sent.expires_at, pending.now))
}

/// A login that waits for its second factor, with the client that began it.
struct Pending {
    client: Arc<Client>,
    now: Timestamp,
}

impl Pending {
    /// Finds the client of the challenge and checks that the request may come from it, as at login: a
    /// confidential client authenticates again, a page's origin must be the client's.
    async fn open(
        app: &Authority,
        headers: &HeaderMap,
        text: &ChallengeText,
        (client_id, secret): (Option<&str>, Option<&Secret>),
    ) -> ApiResult<Self> {
        let challenge = challenges::read(app, text).await?;
        let Purpose::Login { client_id: own, .. } = &challenge.purpose else {
            return Err(invalid_challenge());
        };
        if client_id.is_some_and(|id| id != own.as_str()) {
            return Err(invalid_challenge());
        }
        let given = ClientCredentials::read(headers, Some(own.as_str()), secret.map(Secret::reveal))?;
        let client = app.authenticate_client(&given).await?;
        check_login_request(headers, &app.issuer, &client.origins)?;
        Ok(Self { client, now: app.clock.now() })
    }
}

/// What a code was found to be.
struct Proof {
    /// Whose challenge it is.
    user: User,
    /// Whether the code is right.
    verdict: Verdict,
    /// The secrets without the recovery code, where one was used.
    spent: Option<UserSecrets>,
}

impl Proof {
    async fn judge(
        app: &Authority,
        challenge: &Challenge,
        (factor, code): (Factor, &str),
        now: Timestamp,
    ) -> ApiResult<Self> {
        let (user, secrets) = owner(app, challenge).await?;
        match factor {
            Factor::Phone => {
                let hash = challenges::typed_code_hash(app, challenge, code).await?;
                Ok(Self { user, verdict: challenge.judge(hash, now), spent: None })
            }
            Factor::RecoveryCode => {
                let spent = spend_recovery_code(secrets, code);
                // The challenge's own limits hold for recovery codes too: a right one counts as its code.
                let hash = spent.is_some().then_some(challenge.code_hash);
                Ok(Self { user, verdict: challenge.judge(hash, now), spent })
            }
        }
    }
}

impl Factor {
    /// What password and factor together vouch for.
    const fn strength(self, now: Timestamp) -> Strength {
        let second = match self {
            Self::Phone => Amr::SMS,
            Self::RecoveryCode => Amr::OTP,
        };
        Strength { acr: Acr::Aal2, amr: Amr::PWD.union(second).union(Amr::MFA), authenticated_at: now }
    }
}

/// The user of a challenge, as long as nothing he authenticates with has changed since it began.
async fn owner(app: &Authority, challenge: &Challenge) -> ApiResult<(User, UserSecrets)> {
    let found = app.store.user_secrets(challenge.user_id).await?;
    found.filter(|(u, _)| !u.disabled && u.auth_epoch == challenge.auth_epoch).ok_or_else(invalid_challenge)
}

/// The secrets without the code, if it is one of them.
fn spend_recovery_code(secrets: UserSecrets, typed: &str) -> Option<UserSecrets> {
    let code = Zeroizing::new(normalize_recovery_code(typed)?);
    let hash = SecretHash::of(&code);
    // All are compared, in constant time each.
    let (used, left): (Vec<_>, Vec<_>) =
        secrets.recovery_codes.into_iter().partition(|c| SecretHash(*c) == hash);
    (!used.is_empty()).then_some(UserSecrets { recovery_codes: left, ..secrets })
}

/// Removes a used recovery code. The record gets a new version, so that of two logins at once neither
/// puts back the other's code; what tokens show did not change, so its revision stays.
fn without_code(app: &Authority, user: &User, secrets: UserSecrets, now: Timestamp) -> Vec<Write> {
    let next = User { version: user.version.wrapping_add(1), updated_at: now, ..user.clone() };
    user_change(user, next, Some(secrets), now, app.event_until(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::challenge::recovery_code_from_random;

    fn secrets(codes: &[String]) -> UserSecrets {
        let hash = |c: &String| SecretHash::of(&normalize_recovery_code(c).unwrap()).0;
        UserSecrets { password: Some("hash".to_owned()), recovery_codes: codes.iter().map(hash).collect() }
    }

    #[test]
    fn a_recovery_code_is_removed_alone_and_only_if_it_is_one() {
        let codes: Vec<String> = (0..3).map(|n| recovery_code_from_random([n; 16])).collect();
        let typed = codes[1].to_uppercase().replace('-', " ");
        let left = spend_recovery_code(secrets(&codes), &typed).unwrap();
        assert!(left == secrets(&[codes[0].clone(), codes[2].clone()]));
        assert!(spend_recovery_code(left, &typed).is_none(), "it is good once");
        assert!(spend_recovery_code(secrets(&codes), "").is_none());
        assert!(spend_recovery_code(secrets(&[]), &codes[0]).is_none());
    }

    #[test]
    fn both_factors_reach_the_second_level() {
        let now = Timestamp::from_secs(7);
        let names = |f: Factor| f.strength(now).amr.names().collect::<Vec<_>>();
        assert_eq!(names(Factor::Phone), ["pwd", "sms", "mfa"]);
        assert_eq!(names(Factor::RecoveryCode), ["pwd", "mfa", "otp"]);
        assert_eq!(Factor::Phone.strength(now).acr, Acr::Aal2);
    }
}
