//! How long to wait before the next connection: exponential with full jitter. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
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

    /// Anything up to a bound that doubles with each failure: those who lost their connection together
    /// do not come back together.
    pub(crate) fn next(&mut self, chance: u16) -> Duration {
        let bound = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(MOST);
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
    fn it_doubles_up_to_five_seconds_and_jitters_over_all_of_it() {
        let mut backoff = Backoff::default();
        for bound in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
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
