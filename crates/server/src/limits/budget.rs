//! A budget: so many per time, for what costs money.

use super::TooMany;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// At most `max` within any time of length `per`, for each key: text messages per user and per number.
///
/// It remembers when each one was taken, so the bound holds for every stretch of that length, not only
/// from midnight to midnight. A full table forgets the keys that took least; it is lost at a restart.
pub struct Budget {
    max: usize,
    per: i64,
    hasher: RandomState,
    taken: Mutex<HashMap<u64, VecDeque<i64>>>,
}

/// Most keys: a few MiB when full.
const MAX_KEYS: usize = 16 * 1024;

impl Budget {
    /// A budget of which nothing is taken.
    pub fn new(max: u32, per: Duration) -> Self {
        Self {
            max: usize::try_from(max).unwrap_or(usize::MAX),
            per: i64::try_from(per.as_millis()).unwrap_or(i64::MAX),
            hasher: RandomState::new(),
            taken: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one from the budget of every key, or from none of them.
    pub fn take(&self, now_ms: i64, keys: &[impl AsRef<str>]) -> Result<(), TooMany> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<u64> = keys.iter().map(|key| self.hasher.hash_one(key.as_ref())).collect();
        let mut wait = 0;
        for key in &keys {
            if let Some(times) = taken.get_mut(key) {
                self.forget_old(now_ms, times);
                if times.len() >= self.max {
                    let first = times.front().copied().unwrap_or(now_ms);
                    wait = wait.max(first.saturating_add(self.per).saturating_sub(now_ms));
                }
            } else if self.max == 0 {
                wait = wait.max(self.per);
            }
        }
        if wait > 0 {
            return Err(TooMany(Duration::from_millis(u64::try_from(wait).unwrap_or(0))));
        }
        for key in keys {
            if taken.len() >= MAX_KEYS && !taken.contains_key(&key) {
                self.make_room(now_ms, &mut taken);
            }
            taken.entry(key).or_default().push_back(now_ms);
        }
        Ok(())
    }

    /// Forgets what lies a whole `per` back, or in the future of a clock that was set back.
    fn forget_old(&self, now: i64, times: &mut VecDeque<i64>) {
        let kept = |time: &i64| *time <= now && now.saturating_sub(*time) < self.per;
        if !times.iter().all(kept) {
            times.retain(kept);
        }
    }

    fn make_room(&self, now: i64, taken: &mut HashMap<u64, VecDeque<i64>>) {
        taken.retain(|_, times| {
            self.forget_old(now, times);
            !times.is_empty()
        });
        // Nobody gets his own full budget forgotten without taking as much under thousands of other keys.
        let mut least = 1;
        while taken.len() >= MAX_KEYS {
            taken.retain(|_, times| times.len() > least);
            least += 1;
        }
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("max", &self.max).field("per", &self.per).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn what_is_taken_comes_back_after_a_day() {
        let budget = Budget::new(2, DAY);
        budget.take(0, &["a"]).unwrap();
        budget.take(HOUR_MS, &["a"]).unwrap();
        assert_eq!(budget.take(2 * HOUR_MS, &["a"]), Err(TooMany(Duration::from_secs(22 * 3600))));
        assert_eq!(budget.take(24 * HOUR_MS - 1, &["a"]), Err(TooMany(Duration::from_millis(1))));
        budget.take(24 * HOUR_MS, &["a"]).unwrap();
        assert_eq!(budget.take(24 * HOUR_MS, &["a"]), Err(TooMany(Duration::from_secs(3600))));
    }

    #[test]
    fn a_refusal_takes_from_no_key() {
        let budget = Budget::new(1, DAY);
        budget.take(0, &["number"]).unwrap();
        assert!(budget.take(1, &["user", "number"]).is_err());
        budget.take(2, &["user"]).unwrap();
    }

    #[test]
    fn a_table_of_full_budgets_keeps_them_while_others_pass() {
        let budget = Budget::new(3, DAY);
        for _ in 0..3 {
            budget.take(0, &["victim"]).unwrap();
        }
        for n in 0..3 * MAX_KEYS {
            budget.take(1, &[n.to_string()]).unwrap();
        }
        assert!(budget.taken.lock().unwrap().len() <= MAX_KEYS);
        assert!(budget.take(2, &["victim"]).is_err());
    }

    proptest! {
        #[test]
        fn no_stretch_of_the_length_has_more(steps in proptest::collection::vec(0i64..40, 1..200), max in 1u32..6) {
            let budget = Budget::new(max, Duration::from_millis(100));
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                match budget.take(now, &["k"]) {
                    Ok(()) => taken.push(now),
                    Err(TooMany(wait)) => {
                        let due = now + i64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(taken.iter().filter(|t| due - **t < 100).count() < usize::try_from(max).unwrap());
                    }
                }
            }
            for from in &taken {
                let within = taken.iter().filter(|t| (*from..from + 100).contains(*t)).count();
                prop_assert!(within <= usize::try_from(max).unwrap());
            }
        }
    }
}
