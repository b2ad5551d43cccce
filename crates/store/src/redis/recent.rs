//! A bounded map that forgets what was used least recently.

use std::collections::HashMap;
use std::hash::Hash;

/// Values live in the young generation, move to the old one when the young is full, and go with it unless they
/// were asked for meanwhile.
pub(super) struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
    max: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    /// A map of values that weigh no more than `max` together.
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, max: max / 2 }
    }

    pub(super) fn find(&mut self, key: K) -> Option<V> {
        if let Some((value, _)) = self.young.get(&key) {
            return Some(value.clone());
        }
        let (value, weight) = self.old.remove(&key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.weight + weight > self.max {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        if let Some((_, replaced)) = self.young.insert(key, (value, weight)) {
            self.weight -= replaced;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut map = Recent::new(1000);
        for key in 0..1000 {
            map.insert(key, key, 10);
            assert_eq!(map.find(0), Some(0), "asked for each time");
        }
        assert!(map.young.len() + map.old.len() <= 100);
        assert_eq!(map.find(1), None);
        for value in 0..1000 {
            map.insert(7, value, 20);
        }
        assert_eq!(map.find(7), Some(999));
        assert!(map.weight <= 500, "a replaced value counts once");
    }
}
