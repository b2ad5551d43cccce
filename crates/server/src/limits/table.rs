//! Tables of a fixed size: times by key, until they say nothing any more.

use reseal_store::CellKey;
use std::collections::HashMap;

/// A map of at most `max` entries, each with the time from which on it says nothing. When it is full,
/// those whose time is over go; if that is not enough, the eighth of it whose time comes first.
#[derive(Debug)]
pub(super) struct Table {
    max: usize,
    times: HashMap<CellKey, i64>,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(8), times: HashMap::new() }
    }

    pub(super) fn find(&self, key: CellKey) -> Option<i64> {
        self.times.get(&key).copied()
    }

    pub(super) fn insert(&mut self, now: i64, key: CellKey, time: i64) {
        if self.times.len() >= self.max && !self.times.contains_key(&key) {
            self.make_room(now);
        }
        self.times.insert(key, time);
    }

    pub(super) fn remove(&mut self, key: CellKey) {
        self.times.remove(&key);
    }

    fn make_room(&mut self, now: i64) {
        self.times.retain(|_, time| *time > now);
        let wanted = self.max - self.max / 8;
        let Some(mut surplus) = self.times.len().checked_sub(wanted).filter(|n| *n > 0) else { return };
        let mut times: Vec<i64> = self.times.values().copied().collect();
        let (earlier, last, _) = times.select_nth_unstable(surplus - 1);
        let last = *last;
        // Those before `last` all go; of those at it, as many as are still wanted.
        let before = earlier.iter().filter(|t| **t < last).count();
        surplus -= before;
        self.times.retain(|_, time| {
            if *time == last && surplus > 0 {
                surplus -= 1;
                return false;
            }
            *time >= last
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u64) -> CellKey {
        u128::from(n).to_be_bytes()
    }

    #[test]
    fn a_full_table_drops_what_is_nearest_to_empty() {
        let mut table = Table::new(80);
        for key in 0..80 {
            table.insert(0, self::key(key), 1000 + i64::try_from(key).unwrap());
        }
        table.insert(0, key(1000), 5000);
        assert_eq!(table.times.len(), 71);
        assert!(
            (0..10).all(|k| table.find(key(k)).is_none()) && (10..80).all(|k| table.find(key(k)).is_some())
        );
    }

    #[test]
    fn what_says_nothing_any_more_goes_first() {
        let mut table = Table::new(80);
        for key in 0..80 {
            table.insert(0, self::key(key), if key % 2 == 0 { 10 } else { 1000 });
        }
        table.insert(10, key(1000), 5000);
        assert_eq!(table.times.len(), 41);
    }

    proptest! {
        #[test]
        fn a_table_never_grows_past_its_size_nor_drops_more_than_an_eighth(
            times in proptest::collection::vec(1i64..5, 0..400),
            max in 8usize..64,
        ) {
            let mut table = Table::new(max);
            for (key, time) in times.iter().enumerate() {
                let before = table.times.len();
                table.insert(0, self::key(u64::try_from(key).unwrap()), *time);
                prop_assert!(table.times.len() <= max);
                prop_assert!(table.times.len() + max / 8 >= before);
            }
        }
    }
}
