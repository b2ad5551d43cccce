//! What a soak of the feed found.

use super::Times;
use std::fmt;
use std::time::Duration;

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Changes that a verifier did not know in the end.
    pub(crate) missed: usize,
    /// Tokens that a verifier accepted, after all, as current.
    pub(crate) accepted: usize,
    pub(super) changes: usize,
    pub(super) verifiers: usize,
    pub(super) cuts: usize,
    pub(super) restarts: usize,
    pub(super) seed: u64,
    /// At verifiers that had caught up.
    pub(super) connected: Times,
    /// At verifiers that were cut off, or whose authority was down.
    pub(super) catching_up: Times,
    pub(super) took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "feed: {} changes at {} verifiers in {:.0} s, {} connections cut, authority killed {} times (seed {})",
            self.changes,
            self.verifiers,
            self.took.as_secs_f64(),
            self.cuts,
            self.restarts,
            self.seed
        )?;
        writeln!(f, "feed: missed {}, stale tokens accepted as current {}", self.missed, self.accepted)?;
        writeln!(f, "feed: connected:    {}", self.connected)?;
        write!(f, "feed: reconnecting: {}", self.catching_up)
    }
}
