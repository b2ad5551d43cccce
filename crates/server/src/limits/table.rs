//! Tables of a fixed size: counters that empty by themselves, and keys that are remembered for a while.

use std::collections::HashMap;
use std::time::Duration;

/// How many events a counter holds, and how fast it empties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    burst: u32,
    /// Milliseconds in which one event is forgotten.
    interval: i64,
}

impl Rate {
    /// `burst` events in `window`.
    pub(super) fn new(burst: u32, window: Duration) -> Self {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { burst: burst.max(1), interval: (window / i64::from(burst.max(1))).max(1) }
    }
}

/// Counters by key. Each is the time (milliseconds) at which it will be empty.
#[derive(Debug)]
pub(super) struct Counters {
    rate: Rate,
    empty_at: Table,
}

impl Counters {
    pub(super) fn new(rate: Rate, max: usize) -> Self {
        Self { rate, empty_at: Table::new(max) }
    }

    /// How long until the counter has room for one more event; `None`: it has room now.
    pub(super) fn wait(&self, now: i64, key: u64) -> Option<Duration> {
        self.wait_within(now, key, self.rate.burst)
    }

    /// The same for a counter that holds only `burst` events.
    pub(super) fn wait_within(&self, now: i64, key: u64, burst: u32) -> Option<Duration> {
        let Rate { interval, .. } = self.rate;
        let room_at = self.empty_at(now, key).saturating_sub(interval.saturating_mul(i64::from(burst) - 1));
        let wait = room_at.saturating_sub(now);
        (wait > 0).then(|| Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    /// Counts an event. A full counter stays as it is, so no wait is ever longer than it takes to empty.
    pub(super) fn add(&mut self, now: i64, key: u64) {
        let next = self.empty_at(now, key).saturating_add(self.rate.interval);
        self.empty_at.insert(now, key, self.capped(now, next));
    }

    /// Empties a counter.
    pub(super) fn clear(&mut self, key: u64) {
        self.empty_at.remove(key);
    }

    fn empty_at(&self, now: i64, key: u64) -> i64 {
        let stored = self.empty_at.find(key).unwrap_or(now);
        // A clock that was set back must not make a wait longer than a full counter's.
        self.capped(now, stored).max(now)
    }

    fn capped(&self, now: i64, empty_at: i64) -> i64 {
        empty_at.min(now.saturating_add(self.rate.interval.saturating_mul(i64::from(self.rate.burst))))
    }
}

/// Keys that are remembered for a time after they were last put in.
#[derive(Debug)]
pub(super) struct Remembered {
    ttl: i64,
    until: Table,
}

impl Remembered {
    pub(super) fn new(ttl: Duration, max: usize) -> Self {
        Self { ttl: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX), until: Table::new(max) }
    }

    pub(super) fn insert(&mut self, now: i64, key: u64) {
        self.until.insert(now, key, now.saturating_add(self.ttl));
    }

    pub(super) fn contains(&self, now: i64, key: u64) -> bool {
        self.until.find(key).is_some_and(|until| until > now)
    }
}

/// A map of at most `max` entries, each with the time from which on it says nothing. When it is full,
/// those whose time is over go; if that is not enough, the eighth of it whose time comes first.
#[derive(Debug)]
struct Table {
    max: usize,
    times: HashMap<u64, i64>,
}

impl Table {
    fn new(max: usize) -> Self {
        Self { max: max.max(8), times: HashMap::new() }
    }

    fn find(&self, key: u64) -> Option<i64> {
        self.times.get(&key).copied()
    }

    fn insert(&mut self, now: i64, key: u64, time: i64) {
        if self.times.len() >= self.max && !self.times.contains_key(&key) {
            self.make_room(now);
        }
        self.times.insert(key, time);
    }

    fn remove(&mut self, key: u64) {
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

    #[test]
    fn a_full_table_drops_what_is_nearest_to_empty() {
        let mut table = Table::new(80);
        for key in 0..80 {
            table.insert(0, key, 1000 + i64::try_from(key).unwrap());
        }
        table.insert(0, 1000, 5000);
        assert_eq!(table.times.len(), 71);
        assert!((0..10).all(|k| table.find(k).is_none()) && (10..80).all(|k| table.find(k).is_some()));
    }

    #[test]
    fn what_says_nothing_any_more_goes_first() {
        let mut table = Table::new(80);
        for key in 0..80 {
            table.insert(0, key, if key % 2 == 0 { 10 } else { 1000 });
        }
        table.insert(10, 1000, 5000);
        assert_eq!(table.times.len(), 41);
    }

    #[test]
    fn a_full_counter_stays_as_it_is() {
        let mut counters = Counters::new(Rate::new(4, Duration::from_secs(8)), 8);
        for _ in 0..10 {
            counters.add(0, 1);
        }
        assert_eq!(counters.wait(1000, 1), Some(Duration::from_secs(1)));
        assert_eq!(counters.wait(2000, 1), None);
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
                table.insert(0, u64::try_from(key).unwrap(), *time);
                prop_assert!(table.times.len() <= max);
                prop_assert!(table.times.len() + max / 8 >= before);
            }
        }

        #[test]
        fn no_time_admits_more_than_a_burst_and_what_has_been_forgotten(
            steps in proptest::collection::vec(0i64..2000, 1..200),
            burst in 1u32..12,
        ) {
            let window = Duration::from_secs(10);
            let mut counters = Counters::new(Rate::new(burst, window), 8);
            let mut admitted = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                match counters.wait(now, 1) {
                    None => {
                        counters.add(now, 1);
                        admitted.push(now);
                    }
                    Some(wait) => {
                        let wait = i64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(counters.wait(now + wait, 1).is_none(), "the wait is enough");
                        prop_assert!(counters.wait(now + wait - 1, 1).is_some(), "and not too long");
                        prop_assert!(wait <= 10_000 / i64::from(burst));
                    }
                }
            }
            let interval = 10_000 / i64::from(burst);
            for (i, from) in admitted.iter().enumerate() {
                for (n, to) in admitted[i..].iter().enumerate() {
                    let allowed = i64::from(burst) + (to - from) / interval;
                    prop_assert!(i64::try_from(n).unwrap() < allowed);
                }
            }
        }

        #[test]
        fn a_clock_that_is_set_back_locks_nobody_out(back in 0i64..100_000_000) {
            let mut counters = Counters::new(Rate::new(4, Duration::from_secs(8)), 8);
            for _ in 0..4 {
                counters.add(1_000_000_000, 1);
            }
            let wait = counters.wait(1_000_000_000 - back, 1);
            prop_assert!(wait.is_none_or(|w| w <= Duration::from_secs(2)));
        }
    }
}
