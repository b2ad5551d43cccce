//! Login: the password step, and the start of a session that every way of logging in shares.

use crate::authority::{App, Authority};
use crate::challenges::SecondStep;
use crate::http::answer::{CredentialAnswer, CredentialBody, Grant};
use crate::http::body::JsonBody;
use crate::http::caller::{self, Origin, ShownIp};
use crate::http::client_auth::{ClientCredentials, invalid_client};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::origin::check_login_request;
use crate::limits::LimitError;
use crate::password::{HashError, Password, StoredHash};
use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use reseal_core::auth::Amr;
use reseal_core::credential::UnverifiedSessionCookie;
use reseal_core::event::EndReason;
use reseal_core::session::NewSession;
use reseal_core::user::UserSecrets;
use reseal_core::{Acr, Client, PolicyKind, Scope, Session, SessionId, Strength, Timestamp, User};
use reseal_store::{Commit, CommitError, Conflict, EndFilter, EndSessions, StartSession, Write};
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A login.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The client that logs the user in.
    #[schema(max_length = 64)]
    client_id: String,
    /// The secret of a confidential client that does not use HTTP Basic.
    #[serde(default)]
    client_secret: Option<String>,
    /// Case does not matter.
    #[schema(max_length = 128)]
    username: String,
    /// Exactly as typed.
    #[schema(value_type = String, max_length = 1024)]
    password: Password,
    /// What to grant; default: all that the client may have.
    #[serde(default)]
    scope: Option<String>,
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(login))
}

/// Log in.
#[utoipa::path(
    post, path = "/v1/session", tag = "session",
    request_body = LoginRequest,
    responses(
        (status = 201, description = "Logged in", body = CredentialBody),
        (status = 400, description = "Malformed, or a scope the client may not have", body = ErrorBody),
        (status = 401, description = "Wrong username or password, or the client did not authenticate", body = ErrorBody),
        (status = 403, description = "A second factor is required, or the page's origin is not allowed", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too many failures; see Retry-After", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn login(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    JsonBody(body): JsonBody<LoginRequest>,
) -> ApiResult<CredentialAnswer> {
    let given = ClientCredentials::read(&headers, Some(&body.client_id), body.client_secret.as_deref())?;
    let client = app.authenticate_client(&given).await?;
    check_login_request(&headers, &app.issuer, &client.origins)?;
    let scope = session_scope(&client, body.scope.as_deref())?;

    first_step(&app, (&client, scope), (&body.username, body.password), (&origin, &headers)).await
}

/// The password step, whichever page asks: the answer is the session's credential, or 403
/// `second_factor_required` with the challenge, the code being on its way.
pub async fn first_step(
    app: &Authority,
    (client, scope): (&Client, Scope),
    (username, password): (&str, Password),
    (origin, headers): (&Origin, &HeaderMap),
) -> ApiResult<CredentialAnswer> {
    let user = check_password(app, username, password, (origin, app.clock.now())).await?;
    // The password may have waited for its turn; what is decided, is decided now, for the client as it is now.
    let current = app.client(&client.id).await?.ok_or_else(|| invalid_client(false))?;
    let (client, scope) = (&*current, scope.intersection(&current.scope));
    let now = app.clock.now();
    if user.has_second_factor() {
        app.metrics.login("second_factor_required");
        let step = SecondStep { user: &user, client, scope: &scope, origin, now };
        return Err(crate::challenges::start_login(app, step).await?);
    }
    let strength = Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: now };
    let login = StartLogin {
        user: &user,
        client,
        strength,
        scope,
        origin,
        now,
        extra_writes: replaced_session(app, client, headers, now),
    };
    let answer = start_session(app, login).await?;
    app.metrics.login("success");
    Ok(answer)
}

/// A login that has succeeded, about to become a session.
#[derive(Debug)]
pub struct StartLogin<'a> {
    /// The user as read when the login began: its `auth_epoch` must still hold at the commit.
    pub user: &'a User,
    /// Through which client.
    pub client: &'a Client,
    /// How the user was authenticated.
    pub strength: Strength,
    /// What is granted.
    pub scope: Scope,
    /// From where.
    pub origin: &'a Origin,
    /// When.
    pub now: Timestamp,
    /// Writes that belong to it: the used challenge, the used recovery code, the session it replaces.
    pub extra_writes: Vec<Write>,
}

/// Starts a session and answers with its credential. Every way of logging in ends here.
///
/// A login that began before the user's password, factor or state changed starts nothing: 401.
pub async fn start_session(app: &Authority, login: StartLogin<'_>) -> ApiResult<CredentialAnswer> {
    let StartLogin { user, client, strength, scope, origin, now, extra_writes } = login;
    let policy = app.policies.find(&client.policy).ok_or_else(|| {
        tracing::error!(client_id = %client.id, policy = %client.policy, "the client's policy is not configured");
        ApiError::unavailable(Duration::from_secs(60))
    })?;
    let new = NewSession {
        id: SessionId::from_bytes(app.random.bytes()),
        nonce: app.random.bytes(),
        user_id: user.id,
        client_id: client.id.clone(),
        scope,
        key_id: app.keys.load().ring.current(),
        strength,
        user_agent: origin.user_agent.clone(),
        ip: origin.ip,
    };
    let (session, change) = Session::start(new, policy, now);
    let event_until = app.event_until(now);
    let start = StartSession {
        session: session.clone(),
        auth_epoch: user.auth_epoch,
        max_sessions: app.config.users.max_sessions,
        event_until,
    };
    let mut commit = Commit::of(extra_writes);
    commit.push(Write::StartSession(Box::new(start)));
    commit.writes.extend(change.timeline.into_iter().map(Write::Timeline));
    app.store.commit(commit).await.map_err(|error| match error {
        CommitError::Conflict(Conflict::EpochRaised | Conflict::UserChanged) => invalid_credentials(),
        CommitError::Conflict(Conflict::ChallengeChanged) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_challenge",
            "This challenge is over. Start again.",
        ),
        other => other.into(),
    })?;
    app.metrics.session_started(policy.kind.as_str());
    tracing::info!(sub = %user.id, sid = %session.id, client_id = %client.id, ip = %ShownIp(origin.ip), "session started");

    let scope = session.scope.intersection(&client.scope);
    let grant = Grant { session: &session, user, client, policy, strength, scope: &scope, now };
    app.grant(grant, StatusCode::CREATED)
}

/// 401 for a wrong username or password, and for everything that must look like it (ASVS 6.3.8).
pub fn invalid_credentials() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_credentials", "Wrong username or password.")
        .header(header::WWW_AUTHENTICATE, "Bearer")
}

/// The scope that a login gets: what was asked for, never more than the client may have.
pub fn granted_scope(client: &Client, asked: Option<&str>) -> ApiResult<Scope> {
    narrowed(client.scope.clone(), asked)
}

/// As [`granted_scope`], for a session. The authority's own scopes (`reseal:…`) are for clients
/// themselves: that somebody can log in through one makes him no administrator.
pub fn session_scope(client: &Client, asked: Option<&str>) -> ApiResult<Scope> {
    narrowed(client.scope.without_prefix("reseal:"), asked)
}

fn narrowed(allowed: Scope, asked: Option<&str>) -> ApiResult<Scope> {
    let Some(asked) = asked else { return Ok(allowed) };
    let asked: Scope = asked.parse().map_err(|_| invalid_scope())?;
    if asked.is_subset(&allowed) { Ok(asked) } else { Err(invalid_scope()) }
}

/// 400 `invalid_scope` (RFC 6749 §5.2).
pub fn invalid_scope() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_scope", "The client may not have this scope.")
}

/// Finds the user by name and password. An unknown name costs the same work as a wrong password and
/// gets the same answer.
async fn check_password(
    app: &Authority,
    username: &str,
    password: Password,
    (origin, now): (&Origin, Timestamp),
) -> ApiResult<User> {
    let account = reseal_core::user::username_key(username);
    let address = origin.ip.unwrap_or(std::net::IpAddr::from([0, 0, 0, 0]));
    let limited = |error: LimitError| match error {
        LimitError::TooMany(wait) => {
            app.metrics.login("limited");
            tracing::warn!(ip = %address, "login limited");
            ApiError::too_many_requests(wait.0, "Too many failed logins from here. Wait, then try again.")
        }
        LimitError::Store(error) => error.into(),
    };
    let attempt = app.login_limits.check(now.millis(), &account, address).await.map_err(limited)?;
    let found = app.store.user_by_username(username).await?;
    let stored = found
        .as_ref()
        .and_then(|(_, secrets)| secrets.password.as_deref())
        .and_then(|hash| StoredHash::parse(hash).ok());
    let known = stored.is_some();
    let stored = stored.unwrap_or_else(StoredHash::dummy);
    let verdict = app.hasher.verify(password.clone(), stored).await.map_err(busy)?;
    match found {
        Some((user, secrets)) if known && verdict.ok && !user.disabled => {
            app.login_limits.success(now.millis(), attempt).await.map_err(limited)?;
            if verdict.needs_rehash {
                rehash(app, &user, secrets, password).await;
            }
            Ok(user)
        }
        found => {
            app.login_limits.failure(now.millis(), attempt).await.map_err(limited)?;
            app.metrics.login("failure");
            let sub = found.map(|(user, _)| user.id.to_string());
            tracing::warn!(sub = sub.as_deref().unwrap_or("-"), ip = %address, "login failed");
            Err(invalid_credentials())
        }
    }
}

/// Replaces an outdated hash by a current one. A failure is no failure of the login: the next one tries
/// again.
async fn rehash(app: &Authority, user: &User, secrets: UserSecrets, password: Password) {
    let Ok(hash) = app.hasher.hash(password).await else { return };
    let secrets = UserSecrets { password: Some(hash.to_string()), ..secrets };
    let write = Write::SwapSecrets { user: user.id, version: user.version, secrets };
    if let Err(error) = app.store.commit(Commit::of([write])).await {
        tracing::info!(%error, sub = %user.id, "the password was not rehashed");
    }
}

/// 503 for a full hashing queue.
pub fn busy(error: HashError) -> ApiError {
    tracing::warn!(%error, "password hashing");
    ApiError::unavailable(Duration::from_secs(2))
}

/// A browser whose cookie is replaced by this login leaves its old session: it ends in the same commit
/// (ASVS 7.2.4). A planted or foreign cookie names nothing of ours and is ignored, and a login that gets
/// tokens leaves the browser's cookie and its session alone.
pub(crate) fn replaced_session(
    app: &Authority,
    client: &Client,
    headers: &HeaderMap,
    now: Timestamp,
) -> Vec<Write> {
    if app.policies.find(&client.policy).is_none_or(|policy| policy.kind != PolicyKind::Cookie) {
        return Vec::new();
    }
    let cookie = caller::session_cookie(headers, app.cookie_name())
        .and_then(|value| UnverifiedSessionCookie::parse(&value).ok())
        .and_then(|cookie| app.keys.load().ring.authenticate_session_cookie(cookie).ok());
    cookie
        .map(|cookie| {
            Write::EndSessions(EndSessions {
                filter: EndFilter::One(cookie.session_id),
                reason: EndReason::SignedOut,
                now,
                ip: None,
                event_until: app.event_until(now),
            })
        })
        .into_iter()
        .collect()
}
