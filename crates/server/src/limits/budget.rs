//! A budget: so many per time, for what costs money.

use super::cells::{Naming, Shared};
use super::{LimitError, TooMany};
use reseal_store::CellKey;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// At most `MOST` within any time of length `per`, for each key: text messages per user and per number.
///
/// It remembers when each one was taken, so the bound holds for every stretch of that length, not only
/// from midnight to midnight. Where several nodes share the store it is one budget for all of them, in the
/// store's cells. In memory a full table forgets the keys that took least; it is lost at a restart.
pub struct Budget {
    max: usize,
    per: i64,
    taken: Taken,
}

enum Taken {
    Memory(Mutex<HashMap<CellKey, VecDeque<i64>>>, Naming),
    Shared(Shared),
}

/// The most that a budget may be: in the store each of it has a cell of its own.
pub(super) const MOST: usize = 20;
/// Most keys: a few MiB when full.
const MAX_KEYS: usize = 16 * 1024;

impl Budget {
    /// A budget of which nothing is taken, in memory.
    pub fn new(max: usize, per: Duration) -> Self {
        Self::with(max, per, Taken::Memory(Mutex::new(HashMap::new()), Naming::random()))
    }

    /// The budget that all nodes share.
    pub fn shared(max: usize, per: Duration, cells: Shared) -> Self {
        Self::with(max, per, Taken::Shared(cells))
    }

    fn with(max: usize, per: Duration, taken: Taken) -> Self {
        let per = i64::try_from(per.as_millis()).unwrap_or(i64::MAX);
        Self { max: max.min(MOST), per, taken }
    }

    /// Takes one from the budget of both keys, or from none of them.
    pub async fn take(&self, now_ms: i64, keys: [&str; 2]) -> Result<(), LimitError> {
        match &self.taken {
            Taken::Memory(taken, naming) => {
                let taken = &mut taken.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(self.take_in_memory(
                    now_ms,
                    keys.map(|key| naming.key(&[b"budget", key.as_bytes()])),
                    taken,
                )?)
            }
            Taken::Shared(cells) => {
                let (max, per) = (self.max, self.per);
                let name = |n: usize| {
                    let place = u64::try_from(n % MOST).unwrap_or(u64::MAX).to_be_bytes();
                    cells.naming().key(&[b"budget", keys[n / MOST].as_bytes(), &place])
                };
                let all: [CellKey; 2 * MOST] = std::array::from_fn(name);
                Ok(cells.update(all, move |values| take_in_cells(values, (max, per), now_ms)).await??)
            }
        }
    }

    fn take_in_memory(
        &self,
        now_ms: i64,
        keys: [CellKey; 2],
        taken: &mut HashMap<CellKey, VecDeque<i64>>,
    ) -> Result<(), TooMany> {
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
                self.make_room(now_ms, taken);
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

    fn make_room(&self, now: i64, taken: &mut HashMap<CellKey, VecDeque<i64>>) {
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

/// Takes one from each of the two budgets. A cell is the time at which what was taken comes back.
fn take_in_cells(
    values: &[Option<i64>; 2 * MOST],
    (max, per): (usize, i64),
    now: i64,
) -> Result<[Option<i64>; 2 * MOST], TooMany> {
    // A clock that was set back must make no wait longer than the whole time.
    let back_at = |n: usize| values[n].unwrap_or(now).min(now.saturating_add(per));
    let mut next = [None; 2 * MOST];
    let mut wait = 0;
    for first in [0, MOST] {
        let soonest = (first..first + max).min_by_key(|n| back_at(*n));
        let due = soonest.map_or(per, |n| back_at(n).saturating_sub(now));
        wait = wait.max(due);
        if let Some(n) = soonest {
            next[n] = Some(now.saturating_add(per));
        }
    }
    if wait > 0 { Err(TooMany(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))) } else { Ok(next) }
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

    /// A budget in memory, which never waits for anything.
    fn take(budget: &Budget, now: i64, keys: [&str; 2]) -> Result<(), TooMany> {
        let Taken::Memory(taken, naming) = &budget.taken else { panic!("it is shared") };
        let keys = keys.map(|key| naming.key(&[key.as_bytes()]));
        budget.take_in_memory(now, keys, &mut taken.lock().unwrap())
    }

    #[test]
    fn what_is_taken_comes_back_after_a_day() {
        let budget = Budget::new(2, DAY);
        take(&budget, 0, ["a", "b"]).unwrap();
        take(&budget, HOUR_MS, ["a", "b"]).unwrap();
        assert_eq!(take(&budget, 2 * HOUR_MS, ["a", "c"]), Err(TooMany(Duration::from_secs(22 * 3600))));
        assert_eq!(take(&budget, 24 * HOUR_MS - 1, ["a", "c"]), Err(TooMany(Duration::from_millis(1))));
        take(&budget, 24 * HOUR_MS, ["a", "c"]).unwrap();
        assert_eq!(take(&budget, 24 * HOUR_MS, ["a", "c"]), Err(TooMany(Duration::from_secs(3600))));
    }

    #[test]
    fn a_refusal_takes_from_no_key() {
        let budget = Budget::new(1, DAY);
        take(&budget, 0, ["other", "number"]).unwrap();
        assert!(take(&budget, 1, ["user", "number"]).is_err());
        take(&budget, 2, ["user", "another"]).unwrap();
    }

    #[test]
    fn a_table_of_full_budgets_keeps_them_while_others_pass() {
        let budget = Budget::new(3, DAY);
        for _ in 0..3 {
            take(&budget, 0, ["victim", "number"]).unwrap();
        }
        for n in 0..3 * MAX_KEYS {
            take(&budget, 1, [&format!("user {n}"), &format!("number {n}")]).unwrap();
        }
        let Taken::Memory(taken, _) = &budget.taken else { panic!("it is shared") };
        assert!(taken.lock().unwrap().len() <= MAX_KEYS);
        assert!(take(&budget, 2, ["victim", "another"]).is_err());
    }

    proptest! {
        #[test]
        fn no_stretch_of_the_length_has_more_and_cells_say_the_same(
            steps in proptest::collection::vec((0i64..40, proptest::bool::ANY), 1..200),
            max in 1usize..6,
        ) {
            let budget = Budget::new(max, Duration::from_millis(100));
            let mut cells = [None; 2 * MOST];
            let mut others = [None; 2 * MOST];
            let (mut now, mut taken) = (0, Vec::new());
            for (step, is_other) in steps {
                now += step;
                // The second key is shared by two users.
                let mine = if is_other { &mut others } else { &mut cells };
                let answer = take(&budget, now, [if is_other { "o" } else { "k" }, "shared"]);
                let in_cells = take_in_cells(mine, (max, 100), now);
                prop_assert_eq!(in_cells.map(drop), answer);
                if let Ok(next) = in_cells {
                    for (value, next) in mine.iter_mut().zip(next) {
                        *value = next.or(*value);
                    }
                    let shared = mine[MOST..].to_vec();
                    cells[MOST..].copy_from_slice(&shared);
                    others[MOST..].copy_from_slice(&shared);
                    taken.push(now);
                }
                if let Err(TooMany(wait)) = answer {
                    let due = now + i64::try_from(wait.as_millis()).unwrap();
                    prop_assert!(taken.iter().filter(|t| due - **t < 100).count() < max);
                }
            }
            for from in &taken {
                let within = taken.iter().filter(|t| (*from..from + 100).contains(*t)).count();
                prop_assert!(within <= max);
            }
        }
    }
}
