//! `rsl_rt_` + base64url(version 1, key id 4, session id 16, number 8, nonce 16, tag 16), big-endian.

use super::{CredentialText, Malformed, decode};
use crate::id::{KeyId, SessionId};
use crate::session::Session;
use std::fmt;

pub(super) const PREFIX: &str = "rsl_rt_";
pub(super) const VERSION: u8 = 1;
pub(super) const SIGNED_LEN: usize = 1 + 4 + 16 + 8 + 16;
const LEN: usize = SIGNED_LEN + 16;

/// A refresh token of ours: its tag was right, or we made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefreshToken {
    /// The session it renews.
    pub session_id: SessionId,
    /// The key it is made with.
    pub key_id: KeyId,
    /// Its number `k`: 1 at login, then one more with each advance. `generation` on the wire.
    pub number: u64,
    /// Tells siblings of the same number apart.
    pub nonce: [u8; 16],
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({} of {})", self.number, self.session_id)
    }
}

/// A text of the right form whose tag has not been looked at.
pub struct UnverifiedRefreshToken {
    pub(super) bytes: [u8; LEN],
    pub(super) key_id: KeyId,
}

impl UnverifiedRefreshToken {
    /// Parses the text. Only the canonical spelling is accepted.
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

    /// Reads the fields. To be called once the tag was found right.
    pub(super) fn into_token(self) -> Result<RefreshToken, Malformed> {
        let at = |from: usize, to: usize| &self.bytes[from..to];
        let number = u64::from_be_bytes(at(21, 29).try_into().map_err(|_| Malformed)?);
        if number == 0 || number >= i64::MAX.unsigned_abs() {
            return Err(Malformed);
        }
        Ok(RefreshToken {
            session_id: SessionId::from_bytes(at(5, 21).try_into().map_err(|_| Malformed)?),
            key_id: self.key_id,
            number,
            nonce: at(29, 45).try_into().map_err(|_| Malformed)?,
        })
    }
}

impl RefreshToken {
    /// Whether this session's tokens are made with the key that this one is made with. To be asked before
    /// anything is decided: a key that leaked and was replaced still verifies the tokens of its own
    /// sessions, and must not open those that started after.
    pub fn is_of(&self, session: &Session) -> bool {
        self.session_id == session.id && self.key_id == session.key_id
    }

    /// The bytes that the tag covers.
    pub(super) fn signed_bytes(&self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.key_id.0.to_be_bytes());
        bytes[5..21].copy_from_slice(self.session_id.as_bytes());
        bytes[21..29].copy_from_slice(&self.number.to_be_bytes());
        bytes[29..45].copy_from_slice(&self.nonce);
        bytes
    }

    pub(super) fn text(&self, tag: &[u8; 16]) -> CredentialText {
        let mut bytes = zeroize::Zeroizing::new([0; LEN]);
        bytes[..SIGNED_LEN].copy_from_slice(&self.signed_bytes());
        bytes[SIGNED_LEN..].copy_from_slice(tag);
        CredentialText::new(PREFIX, &*bytes)
    }
}
