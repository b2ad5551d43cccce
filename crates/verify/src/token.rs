//! A verified access token.

use reseal_core::SessionId;
use reseal_jose::VerifyingKey;
use serde::Deserialize;
use std::fmt;

/// A token whose signature and claims were checked: the claims that every access token has (RFC 9068 §2.2,
/// design §6), and the payload for all others.
///
/// `Debug` shows ids and times, never the payload.
#[derive(Clone)]
pub struct Token {
    pub(crate) registered: Registered,
    pub(crate) kid: Option<String>,
    /// The thumbprint (RFC 7638) of the key that verified it: more exact than a name.
    pub(crate) key: Box<str>,
    /// The payload: JSON, checked.
    pub(crate) payload: Box<str>,
    /// The ids in binary, where they are ours.
    pub(crate) session_id: Option<SessionId>,
    pub(crate) user_id: Option<reseal_core::UserId>,
}

/// The registered claims, as they are read from the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) nbf: Option<i64>,
    pub(crate) iat: Option<i64>,
    pub(crate) jti: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) scope: Vec<String>,
    pub(crate) sid: Option<String>,
    pub(crate) rev: Option<u64>,
    pub(crate) auth_time: Option<i64>,
    pub(crate) acr: Option<String>,
    pub(crate) amr: Vec<String>,
    pub(crate) renew_at: Option<i64>,
}

impl Token {
    /// Of a payload whose signature was checked with that key.
    pub(crate) fn new(registered: Registered, payload: &str, key: &VerifyingKey) -> Self {
        // Only with both are the ids surely those of this authority's users; a client's own `sub` is its name.
        let session_id = registered.sid.as_deref().and_then(|sid| sid.parse().ok());
        let user_id = session_id.and_then(|_: SessionId| registered.sub.parse().ok());
        Self {
            kid: key.kid().map(str::to_owned),
            key: key.thumbprint().into(),
            payload: payload.into(),
            registered,
            session_id,
            user_id,
        }
    }

    /// Who issued it.
    pub fn issuer(&self) -> &str {
        &self.registered.iss
    }

    /// The user, or the client itself (`client_credentials`).
    pub fn subject(&self) -> &str {
        &self.registered.sub
    }

    /// For whom it is.
    pub fn audience(&self) -> &[String] {
        &self.registered.aud
    }

    /// Through which client it was issued.
    pub fn client_id(&self) -> Option<&str> {
        self.registered.client_id.as_deref()
    }

    /// The session; none in a client's own token.
    pub fn session_id(&self) -> Option<&str> {
        self.registered.sid.as_deref()
    }

    /// The token's own id.
    pub fn id(&self) -> Option<&str> {
        self.registered.jti.as_deref()
    }

    /// When it was issued, Unix seconds.
    pub const fn issued_at(&self) -> Option<i64> {
        self.registered.iat
    }

    /// When it expires, Unix seconds.
    pub const fn expires_at(&self) -> i64 {
        self.registered.exp
    }

    /// From when on its holder may renew it by presenting it, Unix seconds (design §6).
    pub const fn renew_at(&self) -> Option<i64> {
        self.registered.renew_at
    }

    /// The revision of the user's record that it shows.
    pub const fn revision(&self) -> Option<u64> {
        self.registered.rev
    }

    /// When the user authenticated, Unix seconds.
    pub const fn authenticated_at(&self) -> Option<i64> {
        self.registered.auth_time
    }

    /// How strongly (`aal1`, `aal2`).
    pub fn acr(&self) -> Option<&str> {
        self.registered.acr.as_deref()
    }

    /// By what means (RFC 8176).
    pub fn amr(&self) -> &[String] {
        &self.registered.amr
    }

    /// What it grants.
    pub fn scope(&self) -> &[String] {
        &self.registered.scope
    }

    /// Whether it grants this.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.registered.scope.iter().any(|s| s == scope)
    }

    /// The key that signed it.
    pub fn key_id(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The claims as a type of yours; borrowed where it borrows. Claims that the type does not name are passed by.
    ///
    /// # Errors
    /// When a claim that the type wants is missing or of another type. That is no fault of the client's: 500, see
    /// `UnfitClaims`, or your own default.
    pub fn claims<'a, C: Deserialize<'a>>(&'a self) -> Result<C, serde_json::Error> {
        serde_json::from_str(&self.payload)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("iss", &self.registered.iss)
            .field("sub", &self.registered.sub)
            .field("client_id", &self.registered.client_id)
            .field("sid", &self.registered.sid)
            .field("exp", &self.registered.exp)
            .finish_non_exhaustive()
    }
}
