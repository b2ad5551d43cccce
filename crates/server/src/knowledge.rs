//! What a node may go by of what others on the store changed.
//!
//! A node remembers clients, keys and lives of tokens. It learns that they changed by *reading*: the event log
//! and three marks that every change renews. What a reading finds is complete as of its beginning, and for
//! [`LEASE`] from then on the node may sign by what it knows. After that it reads again first, and where it
//! cannot, it answers 503. So a node that was stalled or cut off signs nothing by old knowledge, and a change
//! of a client needs to reach back no further than that ([`KNOWN_WITHIN`]).

use crate::authority::Authority;
use crate::jobs::JobError;
use crate::keys::KeysError;
use crate::manage::CLIENTS_CHANGED;
use arc_swap::ArcSwapOption;
use reseal_core::Timestamp;
use reseal_store::{Store, StoreError};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a node may go by what a reading found, from its beginning.
pub const LEASE: Duration = Duration::from_secs(2);
/// In this time after it was decided on, every node that may sign knows of a change: its commit, and a lease.
pub const KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// By how much the clocks of nodes on one store may differ while they follow it.
pub const CLOCKS: Duration = Duration::from_millis(500);
/// A request that comes later than this in the lease has the node read first.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Marks are read no more often than this, however often events come.
const MARKS: Duration = Duration::from_millis(150);

/// Whether several nodes may serve the store at once. Where not, the one that does is told of its own changes at
/// once, and only commands change things beside it.
pub fn is_shared(store: &dyn Store) -> bool {
    store.cells().is_some()
}

/// How old this node's knowledge is.
#[derive(Debug)]
pub struct Knowledge {
    /// When the newest complete reading began (milliseconds by the authority's clock).
    as_of: AtomicI64,
    /// When the marks were read last.
    marks_at: Mutex<Option<Instant>>,
    /// The mark of the last change of a client; `None` before the first reading.
    clients: ArcSwapOption<Option<Vec<u8>>>,
}

impl Knowledge {
    /// Nothing is known.
    #[expect(
        clippy::new_without_default,
        reason = "a node begins with nothing, which is no default to go by"
    )]
    pub fn new() -> Self {
        Self { as_of: AtomicI64::new(i64::MIN), marks_at: Mutex::new(None), clients: ArcSwapOption::empty() }
    }

    /// When the newest complete reading began.
    pub fn as_of(&self) -> Timestamp {
        Timestamp::from_millis(self.as_of.load(Ordering::Acquire))
    }

    /// A reading that began then is complete.
    pub(crate) fn was_read(&self, begun: Timestamp) {
        self.as_of.store(begun.millis(), Ordering::Release);
    }

    /// Whether what is decided at `now` may be signed by what is known.
    pub fn covers(&self, now: Timestamp) -> bool {
        now.since(self.as_of()) <= LEASE
    }

    /// After a clock was set back as well: knowledge must not seem young for longer than it is.
    fn wants_reading(&self, now: Timestamp) -> bool {
        let as_of = self.as_of();
        now.since(as_of) > READ_AGAIN || as_of.since(now) > READ_AGAIN
    }

    fn marks_are_due(&self) -> bool {
        self.marks_at.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() >= MARKS)
    }

    fn marks_were_read(&self, begun: Instant) {
        *self.marks_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }
}

impl Authority {
    /// Reads what others changed, if the last reading lies too far back to go by.
    pub async fn be_current(&self) -> Result<(), StoreError> {
        if !self.knowledge.wants_reading(self.clock.now()) {
            return Ok(());
        }
        crate::feed::log::read_log_unless_current(self).await.map_err(into_store_error)
    }

    /// Whether the last reading lies too far back for a request to go by.
    pub(crate) fn wants_reading(&self) -> bool {
        self.knowledge.wants_reading(self.clock.now())
    }

    /// Looks at the marks that changes leave, and drops or reads again what they make old.
    pub(crate) async fn read_marks(&self, always: bool) -> Result<(), JobError> {
        if !always && !self.knowledge.marks_are_due() {
            return Ok(());
        }
        let begun = Instant::now();
        let store = &*self.store;
        let (clients, keys, lives) = tokio::join!(
            store.meta(CLIENTS_CHANGED),
            self.keys.is_current(store),
            self.lives.read(store, self.clock.now()),
        );
        lives?;
        self.keys.tokens_live(self.lives.longest(self.clock.now()));
        let clients = clients?;
        if self.knowledge.clients.load().as_deref() != Some(&clients) {
            self.clients.clear();
            self.knowledge.clients.store(Some(std::sync::Arc::new(clients)));
        }
        if !keys? {
            self.keys.reload(store, self.clock.now()).await?;
        }
        self.knowledge.marks_were_read(begun);
        Ok(())
    }
}

fn into_store_error(error: JobError) -> StoreError {
    match error {
        JobError::Store(error) | JobError::Keys(KeysError::Store(error)) => error,
        JobError::Keys(error) => StoreError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_serves_for_a_lease_and_no_longer() {
        let (at, ms) = (Timestamp::from_secs(1000), Duration::from_millis(1));
        let knowledge = Knowledge::new();
        assert!(!knowledge.covers(at) && knowledge.wants_reading(at));
        knowledge.was_read(at);
        assert!(knowledge.covers(at) && knowledge.covers(at + LEASE) && !knowledge.covers(at + LEASE + ms));
        assert!(!knowledge.wants_reading(at + READ_AGAIN) && knowledge.wants_reading(at + READ_AGAIN + ms));
        assert!(knowledge.covers(at - LEASE), "what was decided a while ago and is signed now");
        assert!(knowledge.wants_reading(at - READ_AGAIN - ms), "the clock was set back");
    }

    #[test]
    fn a_change_takes_effect_after_every_lease_from_before_it() {
        assert!(KNOWN_WITHIN >= LEASE + CLOCKS && READ_AGAIN < LEASE && MARKS < READ_AGAIN);
    }
}
