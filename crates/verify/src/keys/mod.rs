//! The issuer's public keys: given once, or fetched and kept fresh.

use crate::error::{Unavailable, VerifyError};
use arc_swap::ArcSwapOption;
use reseal_jose::{Jws, JwsError, MAX_CANDIDATES, VerifyingKey, VerifyingKeys};
use std::sync::Arc;

/// The keys that are good now.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: VerifyingKeys,
    /// Another number with every set.
    pub(crate) generation: u64,
}

impl KeySet {
    /// A set of that generation.
    pub(crate) const fn new(keys: VerifyingKeys, generation: u64) -> Self {
        Self { keys, generation }
    }

    /// Whether the key of this thumbprint is in the set.
    pub(crate) fn has(&self, thumbprint: &str) -> bool {
        self.keys.keys().iter().any(|key| key.thumbprint() == thumbprint)
    }

    /// Checks the signature; the payload, and the key that made it.
    pub(crate) fn verify<'k, 'j>(
        &'k self,
        jws: &'j Jws<'_>,
    ) -> Result<(&'j [u8], &'k VerifyingKey), JwsError> {
        let header = jws.header();
        let key = match header.kid.as_deref() {
            // The right algorithm first, so that a key of another one with the same name is not in the way.
            Some(kid) => {
                self.keys.find(kid, header.alg).or_else(|| self.keys.candidates(header).next())
            }
            None if self.keys.candidates(header).count() <= MAX_CANDIDATES => {
                let mut candidates = self.keys.candidates(header);
                if let Some(found) =
                    candidates.find_map(|key| jws.verify(key).ok().map(|payload| (payload, key)))
                {
                    return Ok(found);
                }
                self.keys.candidates(header).next()
            }
            None => None,
        };
        match key {
            Some(key) => jws.verify(key).map(|payload| (payload, key)),
            None => Err(self.keys.verify(jws).err().unwrap_or(JwsError::BadSignature)),
        }
    }
}

/// Where the keys are had from.
pub(crate) struct Keys {
    current: ArcSwapOption<KeySet>,
}

impl Keys {
    /// These and no others.
    pub(crate) fn given(keys: VerifyingKeys) -> Self {
        Self { current: ArcSwapOption::from_pointee(KeySet::new(keys, 1)) }
    }

    /// The keys that are good now.
    pub(crate) fn current(&self) -> Result<Arc<KeySet>, VerifyError> {
        self.current.load_full().ok_or(VerifyError::Unavailable(Unavailable::Keys))
    }
}
