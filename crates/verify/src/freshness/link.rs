//! Whether the feed is heard: pure, both clocks are arguments.

use std::time::Duration;

/// After so long without a word the feed counts as lost (design §7).
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(15);

/// An instant by two clocks: the monotonic one stands still while a machine sleeps, the wall clock may be
/// set back. The feed is lost if either says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since some fixed instant.
    pub monotonic: Duration,
    /// Since the Unix epoch.
    pub wall: Duration,
}

impl Moment {
    /// The longer of the times that the two clocks say have passed since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        monotonic.max(self.wall.saturating_sub(earlier.wall))
    }
}

/// What is known of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// The last word on a connection that had caught up. None before the first `caught-up`.
    last_heard: Option<Moment>,
    /// Whether the connection of now has caught up.
    caught_up: bool,
    /// Whether any ever did.
    is_known: bool,
}

impl Link {
    /// Whether the feed had been lost before, the start aside.
    pub(super) fn caught_up(&mut self, now: Moment) -> bool {
        let is_back = self.is_known && self.is_lost(now);
        *self = Self { last_heard: Some(now), caught_up: true, is_known: true };
        is_back
    }

    /// An event or a heartbeat. On a connection that has not caught up it says nothing of what is missing.
    pub(super) fn heard(&mut self, now: Moment) {
        if self.caught_up {
            self.last_heard = Some(now);
        }
    }

    /// The connection is gone, or all events come again: what was heard before still counts for its time.
    pub(super) fn behind(&mut self) {
        self.caught_up = false;
    }

    /// As before the first `caught-up`.
    pub(super) fn lose(&mut self) {
        *self = Self { is_known: self.is_known, ..Self::default() };
    }

    pub(super) const fn is_caught_up(self) -> bool {
        self.caught_up
    }

    pub(super) fn last_heard(self) -> Option<Moment> {
        self.last_heard
    }

    pub(super) fn is_lost(self, now: Moment) -> bool {
        self.last_heard.is_none_or(|heard| now.since(heard) > HEARTBEAT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(monotonic: u64, wall: u64) -> Moment {
        Moment { monotonic: Duration::from_secs(monotonic), wall: Duration::from_secs(wall) }
    }

    #[test]
    fn it_is_lost_until_the_first_caught_up_and_fifteen_seconds_after_the_last_word() {
        let mut link = Link::default();
        assert!(link.is_lost(at(0, 1000)));
        link.heard(at(1, 1001));
        assert!(link.is_lost(at(1, 1001)), "a heartbeat before caught-up proves nothing");
        assert!(!link.caught_up(at(2, 1002)), "the start is no loss");
        assert!(!link.is_lost(at(17, 1017)));
        assert!(link.is_lost(at(18, 1018)));
        link.heard(at(10, 1010));
        assert!(!link.is_lost(at(18, 1018)));
    }

    #[test]
    fn either_clock_may_say_so() {
        let mut link = Link::default();
        link.caught_up(at(0, 1000));
        assert!(link.is_lost(at(1, 4600)), "the machine slept");
        assert!(link.is_lost(at(20, 900)), "the wall clock was set back");
        assert!(!link.is_lost(at(5, 900)));
    }

    #[test]
    fn a_new_connection_is_not_heard_before_it_has_caught_up() {
        let mut link = Link::default();
        link.caught_up(at(0, 1000));
        link.behind();
        assert!(!link.is_lost(at(5, 1005)), "a short interruption is no loss");
        link.heard(at(14, 1014));
        assert!(link.is_lost(at(16, 1016)));
        assert!(link.caught_up(at(17, 1017)), "it is back");
        assert!(!link.is_lost(at(18, 1018)));
        link.behind();
        assert!(!link.caught_up(at(20, 1020)), "a short interruption is no loss");
        link.lose();
        assert!(link.is_lost(at(20, 1020)) && link.caught_up(at(20, 1020)));
    }
}
