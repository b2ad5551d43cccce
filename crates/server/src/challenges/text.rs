//! The text that the caller holds for a challenge, and what he answers it with.

use crate::random::Random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::Scope;
use reseal_core::client::SecretHash;
use serde::Deserialize;
use std::fmt;
use zeroize::Zeroizing;

/// The caller's copy of a challenge: 256 random bits, of which the store keeps only the hash.
///
/// It may carry the scope that the login asked for. Since the whole text is hashed, what a text says is
/// ours as soon as its challenge is found.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct ChallengeText(Zeroizing<String>);

impl ChallengeText {
    const PREFIX: &'static str = "rsl_ch_";

    /// A new one; `scope` where a login asked for less than its client may have.
    pub fn new(random: &Random, scope: Option<&Scope>) -> Self {
        let mut text = random.secret_text(Self::PREFIX);
        if let Some(scope) = scope {
            text.push('.');
            URL_SAFE_NO_PAD.encode_string(scope.to_string(), &mut text);
        }
        Self(text.into())
    }

    /// What the store knows it by.
    pub fn id(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }

    /// The scope that the login asked for, if it was less than all.
    pub fn scope(&self) -> Option<Scope> {
        let (_, encoded) = self.0.split_once('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    }

    /// The text itself, for its holder and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChallengeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeText(…)")
    }
}

/// A text that hides from `Debug` and leaves no copy in memory: a code as it was typed, a secret.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_of_the_login_travels_with_it() {
        let random = Random::new();
        let scope: Scope = "read write:all".parse().unwrap();
        assert_eq!(ChallengeText::new(&random, Some(&scope)).scope(), Some(scope));
        assert_eq!(ChallengeText::new(&random, Some(&Scope::empty())).scope(), Some(Scope::empty()));
        assert_eq!(ChallengeText::new(&random, None).scope(), None);
    }

    #[test]
    fn another_scope_is_another_challenge() {
        let random = Random::new();
        let narrow = ChallengeText::new(&random, Some(&Scope::empty()));
        let (secret, _) = narrow.reveal().split_once('.').unwrap();
        let widened: ChallengeText = serde_json::from_value(secret.into()).unwrap();
        assert!(widened.id() != narrow.id());
    }

    #[test]
    fn it_does_not_print() {
        let text = ChallengeText::new(&Random::new(), None);
        assert!(!format!("{text:?}").contains(&text.reveal()[7..]));
    }
}
