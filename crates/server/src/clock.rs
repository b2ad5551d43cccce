//! The one place where the authority reads the time.

use http::HeaderValue;
use reseal_core::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The authority's clock: the system's plus an offset that only development mode moves, or one that
/// stands still until it is moved, for tests. Clones move together.
#[derive(Clone, Debug)]
pub struct Clock {
    base: Option<Timestamp>,
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { base: None, offset_ms: Arc::default() }
    }

    /// A clock that stands at `start`.
    pub fn manual(start: Timestamp) -> Self {
        Self { base: Some(start), offset_ms: Arc::default() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        let base = self.base.unwrap_or_else(system_now);
        Timestamp::from_millis(base.millis().saturating_add(offset))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    /// The time as a `Date` header: clients go by that, and the HTTP library knows the system's clock only.
    pub fn http_date(&self) -> Option<HeaderValue> {
        let now = jiff::Timestamp::from_second(self.now().secs()).ok()?;
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
        HeaderValue::from_str(&text).ok()
    }

    /// How far ahead of its base the clock is.
    pub fn offset(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.offset_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where the wall clock is read")]
fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
