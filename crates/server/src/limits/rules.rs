//! What comes of the counters of a login: pure, and the same wherever they lie.

use super::{LoginLimits, TooMany};
use std::time::Duration;

/// The cells of one login: the counters of the pair of account and address, of the address, and of the account;
/// and until when the pair is known.
pub(super) const CELLS: usize = 4;
/// Their values: the time (milliseconds) at which a counter is empty, or a pair is forgotten.
pub(super) type Values = [Option<i64>; CELLS];

/// The rules, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginRules {
    pair: Rate,
    address: Rate,
    account: Rate,
    burst_under_pressure: u32,
    remember: i64,
}

impl LoginRules {
    pub(super) fn new(limits: &LoginLimits) -> Self {
        let window = limits.window.0;
        Self {
            pair: Rate::new(limits.burst.get(), window),
            address: Rate::new(limits.burst_per_address.get(), window),
            account: Rate::new(limits.pressure.get(), window),
            burst_under_pressure: limits.burst_under_pressure.get().min(limits.burst.get()),
            remember: i64::try_from(limits.remember_address.0.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Whether a login is admitted.
    pub(super) fn judge(&self, now: i64, values: &Values) -> Result<(), TooMany> {
        let [pair, address, account, known] = *values;
        let known = known.is_some_and(|until| until > now);
        let pressed = !known && self.account.wait(now, account).is_some();
        let burst = if pressed { self.burst_under_pressure } else { self.pair.burst };
        let of_pair = self.pair.wait_within(now, pair, burst);
        let of_address = if known { None } else { self.address.wait(now, address) };
        // None is less than any wait.
        of_pair.max(of_address).map_or(Ok(()), |wait| Err(TooMany(wait)))
    }

    /// The password was right: the pair's counter is empty, and the pair is known. A value of `None` stays.
    pub(super) fn success(&self, now: i64, values: &Values) -> Result<Values, TooMany> {
        self.judge(now, values)?;
        // A counter that is empty needs no writing.
        let emptied = values[0].filter(|empty_at| *empty_at > now).map(|_| now);
        Ok([emptied, None, None, Some(now.saturating_add(self.remember))])
    }

    /// The password was wrong: one more in each counter. A value of `None` stays.
    pub(super) fn failure(&self, now: i64, values: &Values) -> Result<Values, TooMany> {
        self.judge(now, values)?;
        let [pair, address, account, _] = *values;
        let added = |rate: Rate, value| Some(rate.added(now, value));
        Ok([added(self.pair, pair), added(self.address, address), added(self.account, account), None])
    }
}

/// How many events a counter holds, and how fast it empties. A counter is the time (milliseconds) at which it
/// will be empty; none is empty.
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

    /// How long until the counter has room for one more event; `None`: it has room now.
    pub(super) fn wait(self, now: i64, counter: Option<i64>) -> Option<Duration> {
        self.wait_within(now, counter, self.burst)
    }

    /// The same for a counter that holds only `burst` events.
    pub(super) fn wait_within(self, now: i64, counter: Option<i64>, burst: u32) -> Option<Duration> {
        let empty_at = self.empty_at(now, counter);
        let room_at = empty_at.saturating_sub(self.interval.saturating_mul(i64::from(burst) - 1));
        let wait = room_at.saturating_sub(now);
        (wait > 0).then(|| Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    /// The counter with one more event. A full one stays as it is, so no wait is ever longer than it takes to
    /// empty.
    pub(super) fn added(self, now: i64, counter: Option<i64>) -> i64 {
        self.capped(now, self.empty_at(now, counter).saturating_add(self.interval))
    }

    fn empty_at(self, now: i64, counter: Option<i64>) -> i64 {
        // A clock that was set back must not make a wait longer than a full counter's.
        self.capped(now, counter.unwrap_or(now)).max(now)
    }

    fn capped(self, now: i64, empty_at: i64) -> i64 {
        empty_at.min(now.saturating_add(self.interval.saturating_mul(i64::from(self.burst))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_counter_stays_as_it_is() {
        let rate = Rate::new(4, Duration::from_secs(8));
        let mut counter = None;
        for _ in 0..10 {
            counter = Some(rate.added(0, counter));
        }
        assert_eq!(rate.wait(1000, counter), Some(Duration::from_secs(1)));
        assert_eq!(rate.wait(2000, counter), None);
    }

    proptest! {
        #[test]
        fn no_time_admits_more_than_a_burst_and_what_has_been_forgotten(
            steps in proptest::collection::vec(0i64..2000, 1..200),
            burst in 1u32..12,
        ) {
            let rate = Rate::new(burst, Duration::from_secs(10));
            let mut counter = None;
            let mut admitted = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                match rate.wait(now, counter) {
                    None => {
                        counter = Some(rate.added(now, counter));
                        admitted.push(now);
                    }
                    Some(wait) => {
                        let wait = i64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(rate.wait(now + wait, counter).is_none(), "the wait is enough");
                        prop_assert!(rate.wait(now + wait - 1, counter).is_some(), "and not too long");
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
            let rate = Rate::new(4, Duration::from_secs(8));
            let counter = (0..4).fold(None, |counter, _| Some(rate.added(1_000_000_000, counter)));
            let wait = rate.wait(1_000_000_000 - back, counter);
            prop_assert!(wait.is_none_or(|w| w <= Duration::from_secs(2)));
        }
    }
}
