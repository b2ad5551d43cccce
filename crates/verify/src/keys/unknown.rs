//! When a key that is not in the set is worth a fetch. Pure: `now` is the time since some fixed instant.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A name that a fresh set did not have is not asked for again for so long.
const MISSING_FOR: Duration = Duration::from_secs(60);
/// Most names that are remembered as missing.
const MAX_MISSING: usize = 1024;

/// What is known of names that are in no set.
pub(super) struct Unknown {
    cooldown: Duration,
    asked_at: Option<Duration>,
    /// By the hash of the name: names are as long as an attacker likes.
    missing: HashMap<u64, Duration>,
    hasher: RandomState,
}

impl Unknown {
    pub(super) fn new(cooldown: Duration) -> Self {
        Self { cooldown, asked_at: None, missing: HashMap::new(), hasher: RandomState::new() }
    }

    /// Whether to fetch for this name: not if a fresh set was seen not to have it, and at most once per cooldown
    /// whatever the names.
    pub(super) fn ask(&mut self, kid: Option<&str>, now: Duration) -> bool {
        let known = self.missing.get(&self.hasher.hash_one(kid));
        if known.is_some_and(|seen| now < *seen + MISSING_FOR) {
            return false;
        }
        if self.asked_at.is_some_and(|asked| now < asked + self.cooldown) {
            return false;
        }
        self.asked_at = Some(now);
        true
    }

    /// A set that was fetched just now does not have it.
    pub(super) fn is_missing(&mut self, kid: Option<&str>, now: Duration) {
        if self.missing.len() >= MAX_MISSING {
            // At worst the cooldown alone holds until they are known again.
            self.missing.clear();
        }
        self.missing.insert(self.hasher.hash_one(kid), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_flood_of_made_up_names_costs_one_fetch_per_cooldown() {
        let mut unknown = Unknown::new(at(10));
        let mut fetches = 0;
        for n in 0..100_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            if unknown.ask(Some(&n.to_string()), now) {
                fetches += 1;
            }
            unknown.is_missing(Some(&n.to_string()), now);
            assert!(unknown.missing.len() <= MAX_MISSING);
        }
        assert_eq!(fetches, 10);
    }

    #[test]
    fn a_name_that_is_missing_is_not_asked_for_again_for_a_minute() {
        let mut unknown = Unknown::new(at(10));
        assert!(unknown.ask(Some("a"), at(0)));
        unknown.is_missing(Some("a"), at(1));
        assert!(!unknown.ask(Some("a"), at(60)));
        assert!(unknown.ask(Some("b"), at(60)), "another may be new");
        assert!(!unknown.ask(Some("a"), at(61)), "the cooldown of b");
        assert!(unknown.ask(Some("a"), at(70)));
    }
}
