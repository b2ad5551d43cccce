//! The one place where the authority reads the time.
//!
//! # One clock per store
//!
//! Nodes that share a store decide on the same rows: one that is ahead by what `grace` leaves would call a
//! packet under way theft. So each follows the clock of the store ([`Clock::follow`]) and counts on by its
//! machine's monotonic clock between two looks; what the machines believe does not matter, and nodes agree
//! within the round trip to the store.
//!
//! A clock that follows never goes back, since `iat`, `renewed_at` and half-lives would lie in the future:
//! one that is ahead runs slower until it is right. One that is behind is set forward at once. A store's clock
//! that jumped is not followed. Who jumped is told by the machine's own clock: where that agrees with the store's,
//! it is this node that is wrong (the monotonic clock stands still while a machine sleeps).

use http::HeaderValue;
use reseal_core::Timestamp;
use reseal_store::{Store, StoreError};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout};

/// The authority's clock: the system's, the store's, or one that stands still until it is moved, for tests;
/// plus an offset that only development mode moves. Clones move together.
#[derive(Clone, Debug)]
pub struct Clock {
    base: Option<Timestamp>,
    offset_ms: Arc<AtomicI64>,
    followed: Arc<OnceLock<Followed>>,
}

/// The clock of a store, as it was measured.
#[derive(Debug)]
struct Followed {
    course: RwLock<Course>,
    /// How far the machine's clock is behind the store's (milliseconds; negative: ahead).
    machine_behind: AtomicI64,
    /// The same of the time that this node goes by.
    shown_behind: AtomicI64,
}

impl Followed {
    fn course(&self) -> RwLockReadGuard<'_, Course> {
        self.course.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How the clock goes on from one look at the store's to the next.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// When it was set.
    at: Instant,
    /// The time it should have shown then (milliseconds).
    right: i64,
    /// How far ahead of that it was (milliseconds, never negative).
    ahead: i64,
}

impl Course {
    /// The time at `at`: it runs at [`SLOWED`] as long as it is ahead.
    fn show(&self, at: Instant) -> i64 {
        let passed = millis(at.saturating_duration_since(self.at));
        self.right.saturating_add(passed).saturating_add((self.ahead - passed / SLOWED).max(0))
    }

    /// The course from `at` on, when the right time is known to lie within `margin` of `right`.
    fn corrected(&self, at: Instant, right: i64, margin: i64) -> Self {
        let shown = self.show(at);
        if (shown - right).abs() <= margin {
            // As right as anyone can tell: it just goes on.
            return Self { at, right: shown, ahead: 0 };
        }
        Self { at, right, ahead: (shown - right).max(0) }
    }
}

/// A clock that is ahead loses one part in so many until it is right.
const SLOWED: i64 = 5;
/// Looks at the store's clock in one measurement; the one with the shortest round trip counts.
const LOOKS: usize = 3;
/// Longest round trip of a look that says anything.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// A machine whose clock differs by more than this from the store's is not to be trusted with sessions, and
/// a running node does not follow a store's clock that jumped so far.
pub const MOST_DIFFERENCE: Duration = Duration::from_secs(30);

/// One look at the store's clock.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When the answer came.
    at: Instant,
    /// What the store's clock showed then, at best knowledge.
    store: i64,
    /// By how much that may be wrong.
    margin: i64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::on(None)
    }

    /// A clock that stands at `start`.
    pub fn manual(start: Timestamp) -> Self {
        Self::on(Some(start))
    }

    fn on(base: Option<Timestamp>) -> Self {
        Self { base, offset_ms: Arc::default(), followed: Arc::default() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        let base = match (self.base, self.followed.get()) {
            (Some(base), _) => base.millis(),
            (None, Some(followed)) => followed.course().show(Instant::now()),
            (None, None) => system_now().millis(),
        };
        Timestamp::from_millis(base.saturating_add(offset))
    }

    /// Looks at the clock of the store, if it has one of its own, and goes by that from now on. Call it every
    /// few seconds. A clock that stands still goes on doing so.
    pub async fn follow(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.base.is_some() {
            return Ok(());
        }
        let mut best: Option<Look> = None;
        let mut failed = None;
        for _ in 0..LOOKS {
            match look(store).await {
                Ok(None) => return Ok(()),
                Ok(Some(look)) if best.is_none_or(|best| look.margin < best.margin) => best = Some(look),
                Ok(Some(_)) => {}
                // One that took too long says nothing; another one may.
                Err(error) => failed = Some(error),
            }
        }
        match (best, failed) {
            (Some(look), _) => {
                self.adopt(look, system_now().millis().saturating_sub(millis(look.at.elapsed())));
                Ok(())
            }
            (None, failed) => failed.map_or(Ok(()), Err),
        }
    }

    /// Goes by that look, made when the machine's clock showed `machine`.
    fn adopt(&self, look: Look, machine: i64) {
        let first = || Followed {
            course: RwLock::new(Course { at: look.at, right: look.store, ahead: 0 }),
            machine_behind: AtomicI64::new(0),
            shown_behind: AtomicI64::new(0),
        };
        let followed = self.followed.get_or_init(first);
        let mut course = followed.course.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let behind = look.store.saturating_sub(machine);
        // A store that jumped (a standby with a wrong clock took over) must not end sessions before their time.
        if !is_far(behind) || !is_far(look.store.saturating_sub(course.show(look.at))) {
            *course = course.corrected(look.at, look.store, look.margin);
        }
        let shown_behind = look.store.saturating_sub(course.show(look.at));
        drop(course);
        let agreed = self.agrees();
        followed.machine_behind.store(behind, Ordering::Relaxed);
        followed.shown_behind.store(shown_behind, Ordering::Relaxed);
        match (agreed, self.agrees()) {
            (true, false) if is_far(behind) => tracing::error!(
                behind_ms = behind,
                "this machine's clock and the store's differ by more than 30 seconds: not ready until one of them is set right"
            ),
            (true, false) => tracing::error!(
                ahead_ms = -shown_behind,
                "the time that this node goes by is more than 30 seconds ahead of the store's, and it never goes back: not ready; start it again"
            ),
            (false, true) => tracing::info!("this machine's clock and the store's agree again"),
            _ => {}
        }
    }

    /// How far the machine's clock is behind the store's, in milliseconds; negative: it is ahead. `None`: there is
    /// no other clock than the machine's.
    pub fn machine_behind(&self) -> Option<i64> {
        Some(self.followed.get()?.machine_behind.load(Ordering::Relaxed))
    }

    /// Whether the machine's clock, the store's and the time that this node goes by agree well enough to serve.
    pub fn agrees(&self) -> bool {
        let Some(followed) = self.followed.get() else { return true };
        let behind = [&followed.machine_behind, &followed.shown_behind];
        !behind.iter().any(|ms| is_far(ms.load(Ordering::Relaxed)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// The time as a `Date` header: clients go by that, and the HTTP library knows the system's clock only.
    pub fn http_date(&self) -> Option<HeaderValue> {
        let now = jiff::Timestamp::from_second(self.now().secs()).ok()?;
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
        HeaderValue::from_str(&text).ok()
    }

    /// How far ahead of its base the clock was moved.
    pub fn offset(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.offset_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }
}

/// Asks the store for its time once. The answer was right somewhere between question and answer; taken for the
/// middle, it is wrong by half the round trip at most.
async fn look(store: &dyn Store) -> Result<Option<Look>, StoreError> {
    let asked = Instant::now();
    let late = |_| StoreError::Unavailable("it took too long to tell the time".to_owned());
    let Some(time) = timeout(ROUND_TRIP, store.time()).await.map_err(late)?? else { return Ok(None) };
    let at = Instant::now();
    let half = millis(at.saturating_duration_since(asked)) / 2;
    // One more: milliseconds are rounded.
    Ok(Some(Look { at, store: time.millis().saturating_add(half), margin: half + 1 }))
}

fn is_far(ms: i64) -> bool {
    ms.unsigned_abs() > MOST_DIFFERENCE.as_millis().try_into().unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where the wall clock is read")]
fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(millis(since))
}

#[cfg(test)]
mod tests;
