//! Answers that carry a credential, and the session as its owner sees it (design §8).

use crate::authority::Authority;
use crate::http::caller::{Caller, Presented};
use crate::http::error::{ApiError, ApiResult};
use crate::tokens::SessionToken;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reseal_core::session::{AccessLife, Deadlines};
use reseal_core::touch::touch_due;
use reseal_core::{Client, Policy, PolicyKind, Scope, Session, Strength, Timestamp, User};
use serde::Serialize;
use std::time::Duration;

/// A session as its owner sees it. Times are Unix seconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionView {
    /// `sid`.
    pub id: String,
    /// sliding, fixed, refresh or cookie.
    #[schema(example = "refresh")]
    pub kind: &'static str,
    /// The policy's name.
    pub policy: String,
    /// The number of the refresh token in this answer; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When the user logged in.
    pub started_at: i64,
    /// When the user last authenticated.
    pub authenticated_at: i64,
    /// From when it can be renewed; absent where that does not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<i64>,
    /// It ends when not renewed before this; absent where the policy has no idle time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_expires_at: Option<i64>,
    /// It ends then in any case.
    pub expires_at: i64,
    /// Assurance level.
    #[schema(example = "aal1")]
    pub acr: &'static str,
    /// Methods (RFC 8176).
    pub amr: Vec<&'static str>,
}

impl SessionView {
    /// The view of a live session; `life` is that of the access token in the same answer or presented.
    ///
    /// A bearer sees the idle deadline of a refresh session as of his token's `iat` (design §4): whoever
    /// holds a stolen token must not learn from it when its owner renews.
    pub fn new(session: &Session, policy: &Policy, strength: Strength, life: Option<AccessLife>) -> Self {
        let Deadlines { mut idle, absolute } = session.deadlines(policy);
        if let (PolicyKind::Refresh, Some(ttl), Some(life)) = (policy.kind, policy.idle_ttl, life) {
            idle = idle.min(Timestamp::from_secs(life.iat) + ttl);
        }
        let renew_at = match policy.kind {
            PolicyKind::Sliding => life.and_then(|l| l.renew_at),
            PolicyKind::Cookie => Some(touch_due(session, policy)),
            PolicyKind::Fixed | PolicyKind::Refresh => None,
        };
        Self {
            id: session.id.to_string(),
            kind: policy.kind.as_str(),
            policy: session.policy.to_string(),
            generation: None,
            started_at: session.started_at.secs(),
            authenticated_at: strength.authenticated_at.secs(),
            renew_at,
            idle_expires_at: policy.idle_ttl.map(|_| idle.secs()),
            expires_at: absolute.secs(),
            acr: strength.acr.as_str(),
            amr: strength.amr.names().collect(),
        }
    }
}

/// The answer that carries a credential (RFC 6749 §5.1 and the session), or, for a cookie, the session
/// alone beside one `Set-Cookie`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CredentialBody {
    /// Whether a renewal issued anything; only in answers to renewals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed: Option<bool>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bearer")]
    pub token_type: Option<&'static str>,
    /// A JWT (RFC 9068).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Seconds until the access token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
    /// The next refresh token; adopt it only if `session.generation` is newer than the one held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// What the access token grants; at `/oauth/token` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
    /// Shown once: the recovery codes of a factor that was just turned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_codes: Option<Vec<String>>,
    /// The record, in answers to changes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<crate::me::UserView>,
}

/// What an answer with a credential is made of.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The session as committed.
    pub session: &'a Session,
    /// Its user.
    pub user: &'a User,
    /// Its client.
    pub client: &'a Client,
    /// Its policy.
    pub policy: &'a Policy,
    /// What the credential may vouch for.
    pub strength: Strength,
    /// What it grants.
    pub scope: &'a Scope,
    /// The time of the decision.
    pub now: Timestamp,
}

/// A credential ready to be sent.
#[derive(Debug)]
pub struct CredentialAnswer {
    /// 200 or 201.
    pub status: StatusCode,
    /// The body.
    pub body: CredentialBody,
    /// `Set-Cookie`, for cookie sessions.
    pub cookie: Option<HeaderValue>,
    /// `ETag`, where the record is in the body.
    pub etag: Option<HeaderValue>,
}

impl IntoResponse for CredentialAnswer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if let Some(cookie) = self.cookie {
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(etag) = self.etag {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

impl Authority {
    /// The full credential, as at login and at renewal: access token (and refresh token), or cookie.
    pub fn grant(&self, grant: Grant<'_>, status: StatusCode) -> ApiResult<CredentialAnswer> {
        if grant.policy.kind == PolicyKind::Cookie {
            return self.cookie_answer(grant, status);
        }
        let life = grant.session.access_life(grant.policy, grant.now);
        let mut answer = self.token_answer(grant, life, status)?;
        if grant.policy.kind == PolicyKind::Refresh {
            answer.body.refresh_token = Some(self.refresh_token(grant.session)?);
            if let Some(view) = &mut answer.body.session {
                view.generation = Some(grant.session.rotation.used + 1);
            }
        }
        Ok(answer)
    }

    /// The caller's credential with the claims as they are now: an access token for an access token
    /// (never a refresh token), a cookie for a cookie. `session` and `user` are as committed.
    pub fn reseal(
        &self,
        caller: &Caller,
        (session, user): (&Session, &User),
        strength: Strength,
    ) -> ApiResult<CredentialAnswer> {
        let grant = Grant {
            session,
            user,
            client: &caller.client,
            policy: &caller.policy,
            strength,
            scope: &caller.scope,
            now: caller.now,
        };
        match &caller.presented {
            Presented::Cookie { generation, send } => {
                let mut answer = self.cookie_answer(grant, StatusCode::OK)?;
                // A value that was replaced more than a moment ago does not get its successor (design §5).
                let newest = caller.session.cookie.is_some_and(|c| c.generation == *generation);
                if !newest && !send {
                    answer.cookie = None;
                }
                Ok(answer)
            }
            Presented::Token(token) => {
                let life = session.resealed_life(&caller.policy, token.exp, caller.now);
                self.token_answer(grant, life, StatusCode::OK)
            }
        }
    }

    fn token_answer(
        &self,
        grant: Grant<'_>,
        life: AccessLife,
        status: StatusCode,
    ) -> ApiResult<CredentialAnswer> {
        let Grant { session, user, client, strength, scope, now, .. } = grant;
        let minted = self.mint(SessionToken { session, user, client, strength, scope, life }, now)?;
        let body = CredentialBody {
            token_type: Some("Bearer"),
            access_token: Some(minted.token),
            expires_in: Some((life.exp - life.iat).max(0)),
            session: Some(SessionView::new(session, grant.policy, strength, Some(life))),
            ..CredentialBody::empty()
        };
        Ok(CredentialAnswer { status, body, cookie: None, etag: None })
    }

    fn cookie_answer(&self, grant: Grant<'_>, status: StatusCode) -> ApiResult<CredentialAnswer> {
        let body = CredentialBody {
            session: Some(SessionView::new(grant.session, grant.policy, grant.strength, None)),
            ..CredentialBody::empty()
        };
        let cookie = Some(self.set_cookie(grant.session, grant.policy, grant.now)?);
        Ok(CredentialAnswer { status, body, cookie, etag: None })
    }

    /// The refresh token that comes after the one in use.
    pub fn refresh_token(&self, session: &Session) -> ApiResult<String> {
        let ring = &self.keys.load().ring;
        let text = ring
            .successor(session)
            .and_then(|token| ring.refresh_token_text(session, &token))
            .map_err(|_| ApiError::unavailable(Duration::from_secs(1)))?;
        Ok(text.reveal().to_owned())
    }

    /// `Set-Cookie` with the newest value.
    pub fn set_cookie(&self, session: &Session, policy: &Policy, now: Timestamp) -> ApiResult<HeaderValue> {
        let unavailable = || ApiError::unavailable(Duration::from_secs(1));
        let text = self.keys.load().ring.session_cookie_text(session).map_err(|_| unavailable())?;
        let text = text.ok_or_else(unavailable)?;
        let max_age = session.deadlines(policy).idle.since(now).as_secs();
        self.cookie_header(text.reveal(), max_age).ok_or_else(unavailable)
    }

    /// `Set-Cookie` that removes the cookie.
    pub fn clear_cookie(&self) -> Option<HeaderValue> {
        self.cookie_header("", 0)
    }

    /// The cookie's name: `__Host-` unless plain HTTP on loopback was asked for (design §5).
    pub fn cookie_name(&self) -> &'static str {
        if self.insecure_cookies() { "reseal" } else { "__Host-reseal" }
    }

    fn insecure_cookies(&self) -> bool {
        self.issuer.starts_with("http://") && (self.dev.is_some() || self.config.server.insecure_cookies)
    }

    fn cookie_header(&self, value: &str, max_age: u64) -> Option<HeaderValue> {
        let secure = if self.insecure_cookies() { "" } else { "; Secure" };
        let name = self.cookie_name();
        let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl CredentialBody {
    /// A body with nothing in it, to fill in.
    pub const fn empty() -> Self {
        Self {
            renewed: None,
            token_type: None,
            access_token: None,
            expires_in: None,
            refresh_token: None,
            scope: None,
            session: None,
            recovery_codes: None,
            user: None,
        }
    }
}
