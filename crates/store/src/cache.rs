//! What an engine keeps parsed, so that a renewal parses no JSON and no scope.
//!
//! Nothing here can go stale: a user is good for exactly one version of one creation, and the number of a text is never
//! given to another. Only a rolled back transaction can make both untrue, so the writer then drops all.

use reseal_core::{ClientId, PolicyName, Scope, User, UserId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Parsed values, by the numbers that they have in one database.
pub(crate) struct Caches {
    pub(crate) users: Cache<UserId, Arc<User>>,
    pub(crate) clients: Cache<i64, ClientId>,
    pub(crate) policies: Cache<i64, PolicyName>,
    pub(crate) scopes: Cache<i64, Scope>,
    pub(crate) user_agents: Cache<i64, Arc<str>>,
}

impl Caches {
    /// Caches of about so many bytes together.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            users: Cache::new(bytes / 2),
            clients: Cache::new(bytes / 16),
            policies: Cache::new(bytes / 16),
            scopes: Cache::new(bytes / 8),
            user_agents: Cache::new(bytes / 4),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.users.clear();
        self.clients.clear();
        self.policies.clear();
        self.scopes.clear();
        self.user_agents.clear();
    }
}

/// A bounded map that forgets about the least recently used: values live in the young generation, move to
/// the old one when the young is full, and go with it unless they were asked for meanwhile.
pub(crate) struct Cache<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    max_bytes: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, max_bytes: max_bytes / 2 }
    }

    pub(crate) fn find(&mut self, key: K) -> Option<V> {
        if let Some((value, _)) = self.young.get(&key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(&key)?;
        self.insert(key, value.clone(), bytes);
        Some(value)
    }

    /// Keeps a value that takes about so many bytes.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        if self.young_bytes + bytes > self.max_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some((_, replaced)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes -= replaced;
        }
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = Cache::new(1000);
        for key in 0..1000 {
            cache.insert(key, key, 10);
            assert_eq!(cache.find(0), Some(0), "asked for each time, so it stays");
        }
        assert!(cache.young.len() + cache.old.len() <= 100);
        assert_eq!(cache.find(1), None);
        assert_eq!(cache.find(999), Some(999));
        cache.clear();
        assert_eq!(cache.find(999), None);
    }

    #[test]
    fn replacing_a_value_counts_it_once() {
        let mut cache = Cache::new(100);
        for value in 0..1000 {
            cache.insert(1, value, 20);
        }
        assert_eq!(cache.find(1), Some(999));
        assert!(cache.young_bytes <= 50);
    }
}
