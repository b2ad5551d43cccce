//! Many times of one kind.

use std::fmt;
use std::time::Duration;

/// Times of one kind, in order.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// In order.
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many thousandths of them do not pass.
    pub(crate) fn at(&self, thousandths: usize) -> Duration {
        self.0.get((self.0.len().saturating_sub(1)) * thousandths / 1000).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.0.last() else { return f.write_str("none") };
        let at = |share: usize| self.at(share).as_secs_f64() * 1e3;
        write!(
            f,
            "{} times: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms",
            self.0.len(),
            at(500),
            at(990),
            at(999),
            last.as_secs_f64() * 1e3
        )
    }
}
