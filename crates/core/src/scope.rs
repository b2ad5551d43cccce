//! Scope (RFC 6749 §3.3): a set of case-sensitive words.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of scope tokens, printed in order with single spaces between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(BTreeSet<String>);

/// A text that is no scope: RFC 6749 §3.3 allows words of visible ASCII without `"` and `\`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is a list of words (visible ASCII without quotes or backslashes), 1024 characters at most")]
pub struct InvalidScope;

impl Scope {
    /// Longest scope accepted, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The scope with no words.
    pub const fn empty() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether there are no words.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the word is in the set.
    pub fn contains(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether every word is also in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The words both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The words that do not start so.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Self {
        Self(self.0.iter().filter(|word| !word.starts_with(prefix)).cloned().collect())
    }

    /// The words in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(s: &str) -> Result<Self, InvalidScope> {
        if s.len() > Self::MAX_LEN {
            return Err(InvalidScope);
        }
        let is_word = |w: &&str| w.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        let words: Vec<&str> = s.split(' ').filter(|w| !w.is_empty()).collect();
        if words.iter().all(is_word) {
            Ok(Self(words.into_iter().map(str::to_owned).collect()))
        } else {
            Err(InvalidScope)
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_one_set() {
        let scope: Scope = "write read  read".parse().unwrap();
        assert_eq!(scope.to_string(), "read write");
        assert!(scope.contains("read") && !scope.contains("rea"));
        assert_eq!(scope.without_prefix("rea").to_string(), "write");
    }

    #[test]
    fn refuses_what_rfc_6749_forbids() {
        for bad in ["a\"b", "a\\b", "a\tb", "ä", &"x".repeat(1025)] {
            assert_eq!(bad.parse::<Scope>(), Err(InvalidScope), "{bad}");
        }
    }

    #[test]
    fn narrower_is_a_subset_and_wider_is_not() {
        let scope = |s: &str| s.parse::<Scope>().unwrap();
        assert!(scope("read").is_subset(&scope("write read")));
        assert!(Scope::empty().is_subset(&scope("read")));
        assert!(!scope("read admin").is_subset(&scope("read write")));
        assert_eq!(scope("read admin").intersection(&scope("write read")), scope("read"));
        assert_eq!(scope("").words().count(), 0);
        assert!(scope("").is_empty());
    }

    #[test]
    fn words_are_case_sensitive() {
        assert!(!"Read".parse::<Scope>().unwrap().contains("read"));
    }

    #[test]
    fn a_scope_is_one_string_on_the_wire() {
        let scope: Scope = serde_json::from_str(r#""b a""#).unwrap();
        assert_eq!(serde_json::to_string(&scope).unwrap(), r#""a b""#);
        assert!(serde_json::from_str::<Scope>(r#"["a"]"#).is_err());
    }
}
