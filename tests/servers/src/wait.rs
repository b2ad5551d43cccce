//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// Longer than anything takes that works, on a slow and loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks every few milliseconds until there is a value.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "waits for other processes, which nothing but the clock bounds"
)]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
