//! Refresh tokens and session cookies as bytes, and the key ring that makes and authenticates them.
//!
//! Both authenticate themselves: a forged one costs one HMAC and no read, and a leaked database holds
//! none. Their texts start with a prefix by which secret scanners find leaked ones.

mod refresh_token;
mod ring;
mod session_cookie;

pub use refresh_token::{RefreshToken, UnverifiedRefreshToken};
pub use ring::{KeyRing, RingKey};
pub use session_cookie::{SessionCookie, UnverifiedSessionCookie};

use std::fmt;
use zeroize::Zeroizing;

/// A credential in the form that its holder gets. Its `Debug` hides it.
#[derive(Clone)]
pub struct CredentialText(Zeroizing<String>);

impl CredentialText {
    fn new(prefix: &str, bytes: &[u8]) -> Self {
        use base64::Engine as _;
        let mut text = String::with_capacity(prefix.len() + bytes.len() * 4 / 3 + 3);
        text.push_str(prefix);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        Self(Zeroizing::new(text))
    }

    /// The text itself, to be handed to its holder and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CredentialText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialText(…)")
    }
}

/// The text is not a credential of this kind. Says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed credential")]
pub struct Malformed;

/// Why a well-formed credential was not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// It names a key this node does not have (yet): reload the ring, and if the key stays unknown
    /// answer 503, never `invalid_grant`; a client must not log out because a node is behind.
    #[error("made with a key that is not on this node")]
    UnknownKey(crate::KeyId),
    /// Its tag is wrong.
    #[error("forged credential")]
    Forged,
}

/// Decodes `prefix` + canonical base64url into exactly `N` bytes.
fn decode<const N: usize>(prefix: &str, text: &str) -> Result<[u8; N], Malformed> {
    use base64::Engine as _;
    let encoded = text.strip_prefix(prefix).ok_or(Malformed)?;
    if encoded.len() != (N * 4).div_ceil(3) {
        return Err(Malformed);
    }
    let mut bytes = [0; N];
    match base64::engine::general_purpose::URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) {
        Ok(n) if n == N => Ok(bytes),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests;
