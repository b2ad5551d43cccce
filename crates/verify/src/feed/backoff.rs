//! How long to wait before the next connection: exponential with full jitter. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// A restart of the authority is over in a moment: for so many tries no wait is longer, since a change is
/// to be enforced within a second.
const BRIEF: Duration = Duration::from_millis(250);
const BRIEF_TRIES: u32 = 20;
const MOST: Duration = Duration::from_secs(5);
/// For what only a person can mend: a missing scope, a wrong secret.
const SLOW: Duration = Duration::from_secs(15);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After a connection that did well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Anything up to a bound that doubles with each failure, [`BRIEF`] for the first tries, then [`MOST`]: those
    /// who lost their connection together do not come back together.
    pub(crate) fn next(&mut self, chance: u16) -> Duration {
        let doubled = |first: Duration, times: u32| first.saturating_mul(2_u32.saturating_pow(times));
        let bound = match self.failures.checked_sub(BRIEF_TRIES) {
            None => doubled(FIRST, self.failures).min(BRIEF),
            Some(late) => doubled(BRIEF, late.saturating_add(1)).min(MOST),
        };
        self.failures = self.failures.saturating_add(1);
        share(bound, chance)
    }

    /// For what will not mend by itself soon.
    pub(crate) fn slow(chance: u16) -> Duration {
        SLOW / 2 + share(SLOW / 2, chance)
    }
}

fn share(bound: Duration, chance: u16) -> Duration {
    bound * u32::from(chance) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tries_often_for_a_while_then_doubles_up_to_five_seconds_and_jitters_over_all_of_it() {
        let mut backoff = Backoff::default();
        let brief = [50, 100, 200].into_iter().chain([250; 17]);
        for bound in brief.chain([500, 1000, 2000, 4000, 5000, 5000]) {
            let mut same = backoff;
            assert_eq!(same.next(u16::MAX), Duration::from_millis(bound));
            assert_eq!(backoff.next(0), Duration::ZERO);
        }
        for _ in 0..100 {
            assert!(backoff.next(u16::MAX) <= MOST);
        }
        backoff.reset();
        assert!(backoff.next(u16::MAX) <= FIRST);
        assert!((SLOW / 2..=SLOW).contains(&Backoff::slow(u16::MAX)));
    }
}
