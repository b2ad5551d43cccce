//! The maps and the state of the connection, shared by the feed, which writes, and all who verify.

use super::link::{Link, Moment};
use super::{Entries, Facts, Freshness, Judgement};
use crate::Token;
use reseal_core::event::{EventKind, LoggedEvent};
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};

/// A long pause looks at the clocks so often.
const PAUSE_STEP: Duration = Duration::from_secs(15);

type Observer = Box<dyn Fn(&LoggedEvent) + Send + Sync>;

/// [`Freshness`] behind a lock, and whether the feed is heard. To judge a token is a read lock and a few
/// look-ups.
///
/// The feed of a [`Verifier`](crate::Verifier) keeps it up to date. Whoever brings the events in some other way calls
/// [`apply`](Self::apply), [`heard`](Self::heard) and the rest.
pub struct SharedFreshness {
    maps: RwLock<Freshness>,
    link: RwLock<Link>,
    keys_changed: watch::Sender<u64>,
    observer: OnceLock<Observer>,
    interrupted: Notify,
    come_again: Notify,
    started: Instant,
}

impl Default for SharedFreshness {
    fn default() -> Self {
        Self::new(super::DEFAULT_MAX_ENTRIES)
    }
}

impl SharedFreshness {
    /// Empty maps for so many entries, and a feed that is lost until it has caught up.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the edge where the feed reads the monotonic clock")]
    pub fn new(max_entries: usize) -> Self {
        Self {
            maps: RwLock::new(Freshness::new(max_entries)),
            link: RwLock::default(),
            keys_changed: watch::Sender::new(0),
            observer: OnceLock::new(),
            interrupted: Notify::new(),
            come_again: Notify::new(),
            started: Instant::now(),
        }
    }

    /// What the feed said of this token.
    #[must_use]
    pub fn judge(&self, token: &Token) -> Judgement {
        self.judge_facts(&Facts {
            kid: token.key_id(),
            sid: token.session_id,
            sub: token.user_id,
            rev: token.revision(),
            client_id: token.client_id(),
            iat: token.issued_at(),
        })
    }

    /// As [`judge`](Self::judge), for who has no [`Token`].
    #[must_use]
    pub fn judge_facts(&self, token: &Facts<'_>) -> Judgement {
        self.read().judge(token)
    }

    /// Whether that key was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self, kid: &str) -> bool {
        self.read().is_withdrawn(kid)
    }

    /// Whether changes may have been missed: it never caught up, nothing was heard for
    /// [15 s](super::HEARTBEAT_LIMIT), or the maps were too small.
    #[must_use]
    pub fn feed_is_lost(&self) -> bool {
        self.link().is_lost(self.moment()) || self.read().is_incomplete()
    }

    /// Changes whenever the key set is to be fetched again: keys were withdrawn, or the feed was lost for a
    /// while. What left it meanwhile concerns no token that is alive, but a leaked key can sign new ones.
    #[must_use]
    pub fn keys_changed(&self) -> watch::Receiver<u64> {
        self.keys_changed.subscribe()
    }

    /// Takes an event in. Any order, any repetition.
    pub fn apply(&self, event: &LoggedEvent) {
        self.write().apply(event);
        if matches!(event.event.kind, EventKind::KeysChanged { .. }) {
            self.change_keys();
        }
        if let Some(observer) = self.observer.get() {
            observer(event);
        }
    }

    /// All live events will come again. What is known stays until [`caught_up`](Self::caught_up).
    pub fn start_over(&self) {
        self.link_mut().behind();
        self.write().start_over();
    }

    /// All live events have come.
    pub fn caught_up(&self) {
        self.write().caught_up();
        let now = self.moment();
        let is_back = self.link_mut().caught_up(now);
        if is_back {
            self.change_keys();
        }
    }

    /// An event or a heartbeat came.
    pub fn heard(&self) {
        let now = self.moment();
        self.link_mut().heard(now);
    }

    /// The connection is gone. The feed is lost if no other one has caught up in time.
    pub fn disconnected(&self) {
        self.link_mut().behind();
    }

    /// The feed counts as lost at once, until it has caught up again.
    pub fn lose(&self) {
        self.link_mut().lose();
    }

    /// Drops some of what no living token needs any more; call it about once a second.
    pub fn prune(&self, now: i64) {
        self.write().prune(now);
    }

    /// Whether the maps cannot tell any more and all live events are to be asked for again: the clock was
    /// set back, or something found no place and now there is some.
    #[must_use]
    pub fn must_start_over(&self, now: i64) -> bool {
        self.read().must_start_over(now)
    }

    /// Whether something found no place in the maps.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.read().is_incomplete()
    }

    /// Whether the connection of now has caught up.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.link().is_caught_up()
    }

    /// How long ago something was heard.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        let now = self.moment();
        self.link().last_heard().map(|heard| now.since(heard))
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.read().entries()
    }

    /// Calls this after each event that was taken in, for measurements. Only the first observer counts.
    #[doc(hidden)]
    pub fn observe(&self, observer: impl Fn(&LoggedEvent) + Send + Sync + 'static) {
        drop(self.observer.set(Box::new(observer)));
    }

    /// Makes the feed drop its connection and come back, as when the network fails, for measurements.
    #[doc(hidden)]
    pub fn interrupt(&self) {
        self.interrupted.notify_one();
    }

    /// Until [`interrupt`](Self::interrupt).
    pub(crate) async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    /// Makes the feed ask for all live events again.
    pub(crate) fn come_again(&self) {
        self.come_again.notify_one();
    }

    /// Until [`come_again`](Self::come_again).
    pub(crate) async fn must_come_again(&self) {
        self.come_again.notified().await;
    }

    /// Waits so long by the clock that is ahead: the monotonic one stands still while a machine sleeps.
    pub(crate) async fn pause(&self, whole: Duration) {
        let from = self.moment();
        loop {
            let left = whole.saturating_sub(self.moment().since(from));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(PAUSE_STEP)).await;
        }
    }

    fn change_keys(&self) {
        self.keys_changed.send_modify(|count| *count += 1);
    }

    #[expect(clippy::disallowed_methods, reason = "the edge where the feed reads both clocks")]
    fn moment(&self) -> Moment {
        Moment {
            monotonic: self.started.elapsed(),
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    // A panic elsewhere leaves the maps whole: every change of them is one of entries that only get stricter.
    fn read(&self) -> RwLockReadGuard<'_, Freshness> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Freshness> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Link {
        *self.link.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn link_mut(&self) -> RwLockWriteGuard<'_, Link> {
        self.link.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedFreshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFreshness")
            .field("entries", &self.entries())
            .field("lost", &self.feed_is_lost())
            .finish_non_exhaustive()
    }
}
