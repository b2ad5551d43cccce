//! How often, and for how long, something is done again that was not done because of somebody else.

use super::Inner;
use super::fail::Fail;
use std::time::Duration;
use tokio::time::Instant;

/// How often.
pub(super) const RETRIES: u32 = 6;

/// The tries of one call. None begins once the call has taken as long as it may wait for anything: with a server
/// that hangs, each of them takes that long.
#[derive(Debug)]
pub(super) struct Tries {
    done: u32,
    until: Instant,
}

impl Tries {
    pub(super) fn within(timeout: Duration) -> Self {
        Self { done: 0, until: Instant::now() + timeout }
    }

    /// Waits a little before the next one, longer each time; `false`: there is to be none.
    pub(super) async fn back_off(&mut self) -> bool {
        if self.done >= RETRIES {
            return false;
        }
        // 10 ms to 320 ms: 0.6 s in all, so that a restart or a lock is waited out and a failover is not.
        let next = Instant::now() + Duration::from_millis(10 << self.done);
        if next >= self.until {
            return false;
        }
        tokio::time::sleep_until(next).await;
        self.done += 1;
        true
    }
}

impl Inner {
    pub(super) fn tries(&self) -> Tries {
        Tries::within(self.pool.timeout())
    }

    /// Waits a little before something that was not done is done again; `false`: it is not to be, or was tried
    /// often or long enough.
    pub(super) async fn again(&self, fail: &Fail, tries: &mut Tries) -> bool {
        // Another host may be the one that writes now; the same one will not.
        let in_vain = fail.is_read_only() && !self.pool.has_several_hosts();
        fail.may_retry() && !in_vain && tries.back_off().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn something_is_done_again_a_few_times_and_not_for_long() {
        let mut tries = Tries::within(Duration::from_secs(5));
        for _ in 0..RETRIES {
            assert!(tries.back_off().await);
        }
        assert!(!tries.back_off().await);

        let mut tries = Tries::within(Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(4900)).await;
        assert!(tries.back_off().await);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!tries.back_off().await, "the first two took all the time there is");
    }
}
