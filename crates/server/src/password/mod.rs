//! Passwords: what is typed, what may be a new one, what is kept of it, and where it is hashed.
//!
//! A [`Password`] is checked exactly as typed: no normalisation, no case folding, no cutting (ASVS 6.2.8).
//! What is kept is a [`StoredHash`]: Argon2id with OWASP's parameters, or what another system left (bcrypt,
//! Django's PBKDF2, Argon2 with other parameters) until its owner logs in and it is replaced. Hashing
//! happens in a bounded pool of its own threads, the [`Hasher`]. What users may choose is the
//! [`PasswordPolicy`]'s affair.

mod breached;
mod common;
mod hasher;
mod memory;
mod policy;
mod stored;

pub use breached::{BreachedFileError, BreachedPasswords};
pub use hasher::{HashError, Hasher, Verdict};
pub use policy::{PasswordPolicy, WeakPassword};
pub use stored::{InvalidHash, PasswordHash, StoredHash};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use zeroize::Zeroizing;

/// A password as typed, at most 1024 bytes. It hides from Debug and is wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// A text that is too long for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most {} bytes", Password::MAX_BYTES)]
pub struct PasswordTooLong;

impl Password {
    /// Most bytes. Hashing costs the same for all of them; this bounds what is carried around.
    pub const MAX_BYTES: usize = 1024;

    /// A password from its text.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Result<Self, PasswordTooLong> {
        let text = text.into();
        if text.len() > Self::MAX_BYTES { Err(PasswordTooLong) } else { Ok(Self(text)) }
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PasswordVisitor;

        impl Visitor<'_> for PasswordVisitor {
            type Value = Password;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of at most {} bytes", Password::MAX_BYTES)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Password, E> {
                // Before it is copied, so that a long one is never kept.
                if text.len() > Password::MAX_BYTES {
                    return Err(E::custom(PasswordTooLong));
                }
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Password, E> {
                Password::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_string(PasswordVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_as_typed_up_to_its_limit() {
        for text in ["", " pass word ", "пароль\u{0}", &"ä".repeat(512)] {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(serde_json::from_str::<Password>(&json).unwrap().reveal(), text);
        }
        let long = serde_json::to_string(&"x".repeat(1025)).unwrap();
        let error = serde_json::from_str::<Password>(&long).unwrap_err().to_string();
        assert!(error.contains("1024") && !error.contains("xx"), "{error}");
    }

    #[test]
    fn what_is_no_string_is_no_password() {
        for json in ["1", "null", "[]", "{}"] {
            assert!(serde_json::from_str::<Password>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_password_hides_from_debug() {
        assert_eq!(format!("{:?}", Password::new("hunter2".to_owned()).unwrap()), "Password(…)");
    }
}
