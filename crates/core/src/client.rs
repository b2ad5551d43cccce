//! Clients: applications registered with the authority (RFC 6749 §2).

use crate::claims::Projection;
use crate::id::{ClientId, PolicyName};
use crate::scope::Scope;
use crate::time::Timestamp;
use std::fmt;
use subtle::ConstantTimeEq as _;

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client_id`.
    pub id: ClientId,
    /// A name for people.
    pub name: String,
    /// SHA-256 of the secret of a confidential client (256 random bits, so a plain hash is enough);
    /// `None`: a public client.
    pub secret_hash: Option<SecretHash>,
    /// The policy of its sessions.
    pub policy: PolicyName,
    /// Resource servers its tokens are for, besides the authority itself.
    pub audience: Vec<String>,
    /// What its sessions and its own tokens may be granted.
    pub scope: Scope,
    /// What of the user's record its tokens show.
    pub claims: Projection,
    /// Origins from which browsers may call for it (CORS, and cookies' cross-origin requests).
    pub origins: Vec<String>,
    /// Signing algorithm of its tokens: `ES256`, `EdDSA` or `RS256`.
    pub algorithm: String,
    /// Whether it may ask about tokens (RFC 7662).
    pub introspect: bool,
    /// Disabled clients get nothing.
    pub disabled: bool,
    /// Raised by every write; for compare-and-swap.
    pub version: u32,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Client {
    /// Whether the client has a secret.
    pub const fn is_confidential(&self) -> bool {
        self.secret_hash.is_some()
    }
}

/// The hash of a client's secret. Compares in constant time and prints nothing.
#[derive(Clone, Copy, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_hidden() {
        let hash = SecretHash::of("correct horse");
        assert_eq!(hash, SecretHash::of("correct horse"));
        assert_ne!(hash, SecretHash::of("correct horsf"));
        assert_eq!(hash.0[..4], [0x41, 0x04, 0xd3, 0x6f], "SHA-256");
        assert_eq!(format!("{hash:?}"), "SecretHash(…)");
    }
}
