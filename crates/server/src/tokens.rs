//! Access tokens: minted from what was decided, and the authority's own check of them.

use crate::authority::Authority;
use crate::http::error::{ApiError, ApiResult};
use crate::keys::KeySet;
use crate::lives::CLIENT_TOKEN_TTL;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::auth::Amr;
use reseal_core::claims::{AccessTokenClaims, SessionClaims};
use reseal_core::session::AccessLife;
use reseal_core::touch::PresentedToken;
use reseal_core::{Acr, Client, Scope, Session, SessionId, Strength, Timestamp, User, UserId};
use reseal_jose::{Algorithm, Jws, SigningKey};
use serde::Deserialize;
use std::time::Duration;

/// A signed access token with its life.
#[derive(Clone)]
pub struct Minted {
    /// The compact JWS.
    pub token: String,
    /// When it is good.
    pub life: AccessLife,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("life", &self.life).finish_non_exhaustive()
    }
}

/// What a session's token is made of.
#[derive(Clone, Copy, Debug)]
pub struct SessionToken<'a> {
    /// The session as it is after the decision.
    pub session: &'a Session,
    /// The record to project.
    pub user: &'a User,
    /// Through which client.
    pub client: &'a Client,
    /// What the token may vouch for.
    pub strength: Strength,
    /// What it grants: never more than the session and the client may have.
    pub scope: &'a Scope,
    /// When it is good.
    pub life: AccessLife,
}

/// Longest time between a decision and the signature of what was decided (design §6).
const MAX_SIGNING_DELAY: Duration = Duration::from_secs(10);

impl Authority {
    /// Signs a session's access token, decided on at `now`.
    pub fn mint(&self, what: SessionToken<'_>, now: Timestamp) -> ApiResult<Minted> {
        let subject = SessionClaims {
            session: what.session,
            strength: what.strength,
            user: what.user,
            projection: &what.client.claims,
        };
        self.sign(what.client, what.scope, what.life, (Some(subject), now))
    }

    /// Signs a client's own access token (RFC 6749 §4.4).
    pub fn mint_for_client(&self, client: &Client, scope: &Scope, now: Timestamp) -> ApiResult<Minted> {
        let ttl = i64::try_from(CLIENT_TOKEN_TTL.as_secs()).unwrap_or(0);
        let life = AccessLife { iat: now.secs(), exp: now.secs() + ttl, renew_at: None };
        self.sign(client, scope, life, (None, now))
    }

    /// The key that signs the client's tokens.
    pub fn signing_key<'a>(
        &self,
        keys: &'a KeySet,
        client: &Client,
        now: Timestamp,
    ) -> ApiResult<&'a SigningKey> {
        let algorithm: Algorithm = client.algorithm.parse().map_err(|_| ApiError::unavailable(RETRY))?;
        keys.signing(algorithm, now).ok_or_else(|| {
            tracing::error!(%algorithm, "no key signs for this algorithm yet");
            ApiError::unavailable(RETRY)
        })
    }

    fn sign(
        &self,
        client: &Client,
        scope: &Scope,
        life: AccessLife,
        (subject, now): (Option<SessionClaims<'_>>, Timestamp),
    ) -> ApiResult<Minted> {
        let keys = self.keys.load();
        let key = self.signing_key(&keys, client, now)?;
        let mut audience = Vec::with_capacity(1 + client.audience.len());
        audience.push(self.issuer.to_string());
        audience.extend(client.audience.iter().filter(|a| **a != *self.issuer).cloned());
        let claims = AccessTokenClaims {
            issuer: &self.issuer,
            audience: &audience,
            client_id: &client.id,
            jti: &URL_SAFE_NO_PAD.encode(self.random.bytes::<16>()),
            life,
            scope,
            subject,
        };
        let payload = serde_json::to_vec(&claims).map_err(|error| {
            tracing::error!(%error, "claims do not serialize");
            ApiError::unavailable(RETRY)
        })?;
        let token = key.sign("at+jwt", &payload, self.random.source()).map_err(|error| {
            tracing::error!(%error, "signing failed");
            ApiError::unavailable(RETRY)
        })?;
        self.may_sign(client, life, now)?;
        Ok(Minted { token, life })
    }

    /// Whether what was decided at `now` may still leave: in time, by knowledge that is fresh enough, for a client
    /// as it still is, and of a life that every node knows of.
    fn may_sign(&self, client: &Client, life: AccessLife, now: Timestamp) -> ApiResult<()> {
        let secs = u64::try_from(life.exp - life.iat).unwrap_or(0);
        let why = if self.clock.now().since(now) > MAX_SIGNING_DELAY {
            "it took too long"
        } else if !self.knowledge.covers(now) {
            "this node does not know what others changed lately"
        } else if self.clients.is_superseded(client) {
            "the client was changed meanwhile"
        } else if !self.lives.allows(Duration::from_secs(secs), now) {
            "other nodes do not know yet that tokens may live so long"
        } else {
            return Ok(());
        };
        tracing::warn!(client_id = %client.id, "a token was not signed: {why}");
        Err(ApiError::unavailable(RETRY))
    }

    /// Verifies one of our own access tokens: signature, type, issuer, audience, and, unless
    /// `expired_too`, its life, without any leeway (design §8).
    pub fn verify_access_token(
        &self,
        token: &str,
        now: Timestamp,
        expired_too: bool,
    ) -> Result<OwnClaims, TokenFault> {
        let jws = Jws::parse(token).map_err(|_| TokenFault::Malformed)?;
        let kid = jws.header().kid.as_deref().ok_or(TokenFault::Malformed)?;
        let keys = self.keys.load();
        let key = keys.verifying(kid, now).ok_or(TokenFault::UnknownKey)?;
        let payload = jws.verify(key).map_err(|_| TokenFault::BadSignature)?;
        if !jws.header().typ.as_deref().is_some_and(is_access_token_type) {
            return Err(TokenFault::WrongType);
        }
        let claims: OwnClaims = serde_json::from_slice(payload).map_err(|_| TokenFault::Malformed)?;
        if claims.iss != *self.issuer || !claims.aud.iter().any(|a| **a == *self.issuer) {
            return Err(TokenFault::NotForUs);
        }
        if !expired_too && now.secs() >= claims.exp {
            return Err(TokenFault::Expired);
        }
        Ok(claims)
    }
}

/// `at+jwt` or `application/at+jwt`, in any case (RFC 9068 §4).
fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

const RETRY: Duration = Duration::from_secs(1);

/// Why a token was refused. The wire says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not an access token of our form.
    #[error("malformed")]
    Malformed,
    /// Its key is not ours, or not trusted any more.
    #[error("unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("bad signature")]
    BadSignature,
    /// Another kind of token.
    #[error("wrong type")]
    WrongType,
    /// Another issuer or audience.
    #[error("not for this authority")]
    NotForUs,
    /// Its time is over.
    #[error("expired")]
    Expired,
}

/// The claims of one of our tokens, verified.
#[derive(Clone, Debug, Deserialize)]
pub struct OwnClaims {
    /// Issuer.
    pub iss: String,
    /// Subject: user, or the client itself.
    pub sub: String,
    /// Audience.
    pub aud: Vec<String>,
    /// Client.
    pub client_id: reseal_core::ClientId,
    /// Issued at.
    pub iat: i64,
    /// Expires.
    pub exp: i64,
    /// What it grants.
    pub scope: Scope,
    /// Session; absent from a client's own token.
    #[serde(default)]
    pub sid: Option<SessionId>,
    /// The user's revision.
    #[serde(default)]
    pub rev: Option<u64>,
    /// When the user authenticated.
    #[serde(default)]
    pub auth_time: Option<i64>,
    /// How strongly.
    #[serde(default)]
    pub acr: Option<Acr>,
    /// How.
    #[serde(default)]
    pub amr: Option<Amr>,
}

impl OwnClaims {
    /// What the token says of itself when it is presented for renewal; `None` for a client's own token.
    pub fn presented(&self) -> Option<PresentedToken> {
        Some(PresentedToken {
            iat: self.iat,
            exp: self.exp,
            rev: self.rev?,
            strength: Strength {
                acr: self.acr?,
                amr: self.amr?,
                authenticated_at: Timestamp::from_secs(self.auth_time?),
            },
        })
    }

    /// The user; `None` for a client's own token.
    pub fn user_id(&self) -> Option<UserId> {
        self.sid.and(self.sub.parse().ok())
    }
}
