//! Compact JWS (RFC 7515), JWK and JWK sets (RFC 7517), and thumbprints (RFC 7638) for ES256, EdDSA
//! and RS256, on `aws-lc-rs`.
//!
//! A small library with few choices, because choices are what attacks on tokens are made of:
//!
//! - One algorithm per key. The header of a token never chooses how it is verified; it only has to
//!   agree with the key.
//! - Keys are parsed and checked once ([`SigningKey`], [`VerifyingKey`]) and then kept.
//! - Strict parsing: one spelling of every token, no duplicate members, no extensions (`crit`, `b64`),
//!   no keys from the token itself (`jwk`, `jku`, `x5c` and `x5u` are ignored), and a bound on all sizes.
//! - No clock and no input or output. Randomness is an argument. The payload is bytes: what it says, and
//!   until when, is the caller's affair.
//!
//! ```
//! use aws_lc_rs::rand::SystemRandom;
//! use reseal_jose::{Algorithm, Jws, JwkSet, SigningKey, VerifyingKeys};
//!
//! let random = SystemRandom::new();
//! let key = SigningKey::generate(Algorithm::Es256, &random)?;
//! let token = key.sign("at+jwt", br#"{"sub":"alice"}"#, &random)?;
//!
//! // Somewhere else, from the published key set:
//! let published = serde_json::to_vec(&JwkSet { keys: vec![key.public_jwk().clone()] })?;
//! let keys = VerifyingKeys::parse(&published)?;
//! let jws = Jws::parse(&token)?;
//! assert_eq!(jws.header().kid.as_deref(), Some(key.kid()));
//! assert_eq!(jws.header().typ.as_deref(), Some("at+jwt"));
//! assert_eq!(keys.verify(&jws)?, br#"{"sub":"alice"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod algorithm;
mod base64url;
mod header;
mod jwk;
mod jws;
mod key_set;
mod members;
mod rsa;
mod signing;
mod verifying;

pub use algorithm::{Algorithm, AlgorithmError};
pub use base64url::Base64Error;
pub use header::{Header, MAX_HEADER_LEN};
pub use jwk::{Jwk, JwkSet, KeyMaterial};
pub use jws::{Jws, JwsError, MAX_TOKEN_LEN, Part};
pub use key_set::{KeySetError, MAX_CANDIDATES, MAX_KEY_SET_LEN, MAX_KEYS, SkippedKey, VerifyingKeys};
pub use signing::{SignError, SigningKey};
pub use verifying::{KeyError, VerifyingKey};

/// Foreign text for an error message: one line, and not much of it.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
