//! `rsl_sc_` + base64url(version 1, key id 4, session id 16, generation 4, tag 16), big-endian.
//!
//! The key id is there so that a forged cookie costs no read, like a forged refresh token.

use super::{CredentialText, Malformed, decode};
use crate::id::{KeyId, SessionId};
use crate::session::Session;
use std::fmt;

pub(super) const PREFIX: &str = "rsl_sc_";
const VERSION: u8 = 1;
pub(super) const SIGNED_LEN: usize = 1 + 4 + 16 + 4;
const LEN: usize = SIGNED_LEN + 16;

/// A session cookie of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionCookie {
    /// The session it opens.
    pub session_id: SessionId,
    /// The key it is made with.
    pub key_id: KeyId,
    /// Raised at every change of privilege.
    pub generation: u32,
}

impl fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionCookie({} of {})", self.generation, self.session_id)
    }
}

/// A value of the right form whose tag has not been looked at.
pub struct UnverifiedSessionCookie {
    bytes: [u8; LEN],
    pub(super) key_id: KeyId,
}

impl UnverifiedSessionCookie {
    /// Parses the value. Only the canonical spelling is accepted.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bytes: [u8; LEN] = decode(PREFIX, text)?;
        if bytes[0] != VERSION {
            return Err(Malformed);
        }
        let key_id = KeyId(u32::from_be_bytes(bytes[1..5].try_into().map_err(|_| Malformed)?));
        Ok(Self { bytes, key_id })
    }

    /// The key it claims to be made with.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(SIGNED_LEN)
    }

    pub(super) fn into_cookie(self) -> Result<SessionCookie, Malformed> {
        Ok(SessionCookie {
            session_id: SessionId::from_bytes(self.bytes[5..21].try_into().map_err(|_| Malformed)?),
            key_id: self.key_id,
            generation: u32::from_be_bytes(self.bytes[21..25].try_into().map_err(|_| Malformed)?),
        })
    }
}

impl SessionCookie {
    /// Whether this session's cookies are made with the key that this one is made with (see
    /// [`RefreshToken::is_of`](super::RefreshToken::is_of)).
    pub fn is_of(&self, session: &Session) -> bool {
        self.session_id == session.id && self.key_id == session.key_id
    }

    pub(super) fn signed_bytes(&self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.key_id.0.to_be_bytes());
        bytes[5..21].copy_from_slice(self.session_id.as_bytes());
        bytes[21..25].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    pub(super) fn text(&self, tag: &[u8; 16]) -> CredentialText {
        let mut bytes = zeroize::Zeroizing::new([0; LEN]);
        bytes[..SIGNED_LEN].copy_from_slice(&self.signed_bytes());
        bytes[SIGNED_LEN..].copy_from_slice(tag);
        CredentialText::new(PREFIX, &*bytes)
    }
}
