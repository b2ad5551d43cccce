//! Key sets that others publish: read with bounds, and used to verify.

use crate::algorithm::Algorithm;
use crate::excerpt;
use crate::header::Header;
use crate::jwk::{Jwk, JwkSet, RawSet};
use crate::jws::{Jws, JwsError};
use crate::members::Object;
use crate::verifying::{KeyError, VerifyingKey};
use serde_json::value::RawValue;

/// Longest key set that is read, in bytes: some 80 RSA keys of 4096 bits, or all of [`MAX_KEYS`] on curves.
pub const MAX_KEY_SET_LEN: usize = 64 * 1024;
/// Most keys in a set.
pub const MAX_KEYS: usize = 100;
/// Most keys that are tried for a token without a `kid`. Each costs as much as a forged token may cost us.
pub const MAX_CANDIDATES: usize = 8;

/// The keys of a set that tokens can be verified with, and why the others cannot (RFC 7517 §5).
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys {
    usable: Vec<VerifyingKey>,
    skipped: Vec<SkippedKey>,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its name, if it has one that could be read.
    pub kid: Option<String>,
    /// Why.
    pub reason: KeyError,
}

impl VerifyingKeys {
    /// Reads a key set. Keys that are malformed, unknown or not for verifying are skipped, not an error.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_KEY_SET_LEN {
            return Err(KeySetError::TooLong { length: json.len() });
        }
        let malformed = |fault: String| KeySetError::Malformed(fault);
        let set: Object<RawSet<Box<RawValue>>> =
            serde_json::from_slice(json).map_err(|error| malformed(excerpt(&error.to_string())))?;
        let raw = set.accept().map_err(|fault| malformed(fault.to_string()))?.0.ok_or(KeySetError::NoKeys)?;
        if raw.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys { found: raw.len() });
        }
        Ok(Self::of(raw.iter().map(|key| Jwk::parse(key.get().as_bytes()))))
    }

    /// Parses the keys of a set, skipping those that cannot be used.
    pub fn from_set(set: &JwkSet) -> Self {
        Self::of(set.keys.iter().cloned().map(Ok))
    }

    /// The keys that can be used, in the order of the set.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.usable
    }

    /// The keys that cannot, and why.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The key of that name for that algorithm.
    pub fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&VerifyingKey> {
        self.usable.iter().find(|key| key.kid() == Some(kid) && key.algorithm() == algorithm)
    }

    /// The keys that may have signed a token with this header: those of its `kid`, or without one those of
    /// its algorithm.
    pub fn candidates(&self, header: &Header) -> impl Iterator<Item = &VerifyingKey> {
        self.usable.iter().filter(move |key| match header.kid.as_deref() {
            Some(kid) => key.kid() == Some(kid),
            None => key.algorithm() == header.alg,
        })
    }

    /// Verifies a token with the key that its header names, or without a name with each of its algorithm
    /// (at most [`MAX_CANDIDATES`]), and returns the payload.
    pub fn verify<'j>(&self, jws: &'j Jws<'_>) -> Result<&'j [u8], JwsError> {
        let header = jws.header();
        let Some(kid) = header.kid.as_deref() else { return self.verify_unnamed(jws) };
        // The right algorithm first, so that a key of another one with the same name does not get in the way.
        match self.find(kid, header.alg).or_else(|| self.candidates(header).next()) {
            Some(key) => jws.verify(key),
            None => Err(JwsError::UnknownKey(excerpt(kid))),
        }
    }

    fn verify_unnamed<'j>(&self, jws: &'j Jws<'_>) -> Result<&'j [u8], JwsError> {
        let found = self.candidates(jws.header()).count();
        if found == 0 {
            return Err(JwsError::NoCandidate(jws.header().alg));
        }
        if found > MAX_CANDIDATES {
            return Err(JwsError::TooManyCandidates { found });
        }
        self.candidates(jws.header()).find_map(|key| jws.verify(key).ok()).ok_or(JwsError::BadSignature)
    }

    fn of(keys: impl Iterator<Item = Result<Jwk, KeyError>>) -> Self {
        let mut set = Self::default();
        let mut usable: Vec<(usize, VerifyingKey)> = Vec::new();
        for (index, key) in keys.enumerate() {
            let kid = key.as_ref().ok().and_then(|jwk| jwk.kid.clone());
            match key.and_then(|jwk| VerifyingKey::from_jwk(&jwk)) {
                // The same key once more is no harm, and of no use.
                Ok(key) if usable.iter().any(|(_, other)| is_same(other, &key)) => {}
                Ok(key) => usable.push((index, key)),
                Err(reason) => set.skipped.push(SkippedKey { index, kid, reason }),
            }
        }
        // Which of two different keys with one name is meant cannot be known, so neither is used.
        let ambiguous: Vec<bool> = usable
            .iter()
            .map(|(index, key)| usable.iter().any(|(other, twin)| other != index && is_ambiguous(key, twin)))
            .collect();
        for ((index, key), ambiguous) in usable.into_iter().zip(ambiguous) {
            if ambiguous {
                let kid = key.kid().map(str::to_owned);
                set.skipped.push(SkippedKey { index, kid, reason: KeyError::DuplicateKid });
            } else {
                set.usable.push(key);
            }
        }
        set.skipped.sort_by_key(|key| key.index);
        set
    }
}

fn is_same(a: &VerifyingKey, b: &VerifyingKey) -> bool {
    a.kid() == b.kid() && a.thumbprint() == b.thumbprint()
}

fn is_ambiguous(a: &VerifyingKey, b: &VerifyingKey) -> bool {
    a.kid().is_some() && a.kid() == b.kid() && a.algorithm() == b.algorithm()
}

/// Why a key set cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Longer than [`MAX_KEY_SET_LEN`].
    #[error("the key set has {length} bytes; more than {MAX_KEY_SET_LEN} are not read")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// No JSON object, or one with a member twice.
    #[error("this is not a JSON Web Key Set: {0}")]
    Malformed(String),
    /// An object without `keys`.
    #[error("this is not a JSON Web Key Set: it has no `keys`")]
    NoKeys,
    /// More than [`MAX_KEYS`].
    #[error("the key set has {found} keys; more than {MAX_KEYS} are not read")]
    TooManyKeys {
        /// How many.
        found: usize,
    },
}
