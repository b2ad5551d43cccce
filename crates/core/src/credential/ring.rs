//! The key ring: HMAC keys by number, each with a subkey per purpose (HKDF, RFC 5869).

use super::{
    CredentialText, RefreshToken, SessionCookie, Unauthentic, UnverifiedRefreshToken, UnverifiedSessionCookie,
};
use crate::id::KeyId;
use crate::session::Session;
use aws_lc_rs::{hkdf, hmac};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// The keys this node has. Cheap to clone; replaced whole when a key is added.
#[derive(Clone)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, Arc<RingKey>>,
    current: KeyId,
}

/// One key, expanded into a subkey per purpose, so that no tag of one kind is ever good as another.
pub struct RingKey {
    refresh_tag: hmac::Key,
    refresh_nonce: hmac::Key,
    cookie_tag: hmac::Key,
    one_time_code: hmac::Key,
}

impl RingKey {
    /// Expands 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"reseal key ring v1").extract(secret);
        let subkey = |purpose: &[u8]| {
            let info = [purpose];
            let okm = prk.expand(&info, hmac::HMAC_SHA256).expect("32 bytes are within HKDF's limit");
            hmac::Key::from(okm)
        };
        Self {
            refresh_tag: subkey(b"refresh token tag"),
            refresh_nonce: subkey(b"refresh token nonce"),
            cookie_tag: subkey(b"session cookie tag"),
            one_time_code: subkey(b"one-time code"),
        }
    }
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingKey(…)")
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys.keys()).field("current", &self.current).finish()
    }
}

impl KeyRing {
    /// A ring of these keys; `None` when `current` is not among them.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, RingKey)>, current: KeyId) -> Option<Self> {
        let keys: BTreeMap<_, _> = keys.into_iter().map(|(id, key)| (id, Arc::new(key))).collect();
        keys.contains_key(&current).then_some(Self { keys, current })
    }

    /// The key that new sessions are made with.
    pub const fn current(&self) -> KeyId {
        self.current
    }

    /// Whether the key is on this node.
    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.contains_key(&id)
    }

    /// Whether the key of that number is gone for good: keys are numbered as they are made, and one with a
    /// higher number is here. Whatever was made with it has died or was given up, so its holder must not be
    /// told to come again.
    pub fn has_forgotten(&self, id: KeyId) -> bool {
        !self.contains(id) && self.keys.last_key_value().is_some_and(|(newest, _)| id < *newest)
    }

    /// Checks the tag of a refresh token.
    pub fn authenticate_refresh_token(
        &self,
        token: UnverifiedRefreshToken,
    ) -> Result<RefreshToken, Unauthentic> {
        let key = self.key(token.key_id)?;
        let (signed, tag) = token.split();
        if !bool::from(tag16(&key.refresh_tag, &[signed]).ct_eq(tag)) {
            return Err(Unauthentic::Forged);
        }
        token.into_token().map_err(|_| Unauthentic::Forged)
    }

    /// Checks the tag of a session cookie.
    pub fn authenticate_session_cookie(
        &self,
        cookie: UnverifiedSessionCookie,
    ) -> Result<SessionCookie, Unauthentic> {
        let key = self.key(cookie.key_id)?;
        let (signed, tag) = cookie.split();
        if !bool::from(tag16(&key.cookie_tag, &[signed]).ct_eq(tag)) {
            return Err(Unauthentic::Forged);
        }
        cookie.into_cookie().map_err(|_| Unauthentic::Forged)
    }

    /// The successor of the refresh token in use: (used + 1, derive(used_nonce, branch)). It can be made
    /// again, byte for byte, as long as the row stays as it is.
    pub fn successor(&self, session: &Session) -> Result<RefreshToken, Unauthentic> {
        let key = self.key(session.key_id)?;
        let row = &session.rotation;
        let number = row.used + 1;
        let nonce = tag16(
            &key.refresh_nonce,
            &[session.id.as_bytes(), &number.to_be_bytes(), &row.used_nonce, &row.branch.to_be_bytes()],
        );
        Ok(RefreshToken { session_id: session.id, key_id: session.key_id, number, nonce })
    }

    /// The text of a session's refresh token.
    pub fn refresh_token_text(
        &self,
        session: &Session,
        token: &RefreshToken,
    ) -> Result<CredentialText, Unauthentic> {
        debug_assert!(token.is_of(session), "made by `successor` of the same session");
        let key = self.key(token.key_id)?;
        Ok(token.text(&tag16(&key.refresh_tag, &[&token.signed_bytes()])))
    }

    /// The text of a session's cookie of its newest generation; `None` for sessions without cookie.
    pub fn session_cookie_text(&self, session: &Session) -> Result<Option<CredentialText>, Unauthentic> {
        let Some(state) = session.cookie else { return Ok(None) };
        let key = self.key(session.key_id)?;
        let (session_id, key_id) = (session.id, session.key_id);
        let cookie = SessionCookie { session_id, key_id, generation: state.generation };
        Ok(Some(cookie.text(&tag16(&key.cookie_tag, &[&cookie.signed_bytes()]))))
    }

    /// The hash under which a one-time code is kept: keyed, since a million codes are quickly tried,
    /// and bound to the challenge it was sent for (ASVS 6.6.2).
    pub fn code_hash(
        &self,
        key_id: KeyId,
        challenge: &[u8; 32],
        code: &str,
    ) -> Result<[u8; 32], Unauthentic> {
        let key = self.key(key_id)?;
        let mut context = hmac::Context::with_key(&key.one_time_code);
        context.update(challenge);
        context.update(code.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        Ok(hash)
    }

    fn key(&self, id: KeyId) -> Result<&RingKey, Unauthentic> {
        self.keys.get(&id).map(Arc::as_ref).ok_or(Unauthentic::UnknownKey(id))
    }
}

/// HMAC-SHA256 cut to 16 bytes (RFC 2104 §5). The parts have fixed lengths, so they need no separators.
fn tag16(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 16] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 16];
    tag.copy_from_slice(&context.sign().as_ref()[..16]);
    tag
}
