//! The hub: what this node has read of the log, encoded once for all readers, and the wake-up for them.

use super::chunk::Chunk;
use bytes::Bytes;
use reseal_core::Timestamp;
use reseal_core::event::LoggedEvent;
use reseal_core::feed::FeedMessage;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Most events, and bytes of them, that are kept. Who is behind reads the store.
const MAX_EVENTS: usize = 20_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// A node that read the log longer ago than this says nothing of being alive (design §7).
const FRESH: Duration = Duration::from_secs(1);

/// One per node, between the one reader of the log and the readers of the feed.
pub struct Hub {
    /// Which log this is.
    pub epoch: [u8; 16],
    ring: RwLock<Ring>,
    /// The number of the newest event that readers may know of: what it makes stale on this node was dropped.
    last: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// When the newest successful reading of the log began.
    read_at: Mutex<Option<Instant>>,
    /// When the newest reading that failed began.
    failed_at: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
    max_readers: usize,
    /// Held by whoever reads the log.
    pub(super) reading: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("last", &self.last())
            .field("readers", &self.readers())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// The hub of the log of that epoch, for so many readers at most.
    pub fn new(epoch: [u8; 16], max_readers: usize) -> Self {
        Self {
            epoch,
            ring: RwLock::default(),
            last: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            read_at: Mutex::new(None),
            failed_at: Mutex::new(None),
            places: Arc::new(Semaphore::new(max_readers)),
            max_readers,
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.max_readers.saturating_sub(self.places.available_permits())
    }

    /// A place for one more reader.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Ends all readers, and lets no new one in.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Turns true when the readers have to go.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// The number of the newest event that readers may know of.
    pub(super) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Changes whenever there is more for readers.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Whether this node has read the log within the last second.
    pub(super) fn is_fresh(&self) -> bool {
        let read_at = *self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        read_at.is_some_and(|at| at.elapsed() <= FRESH)
    }

    /// The log was read to its end by a reading that began then.
    pub(super) fn was_read(&self, begun: Instant) {
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// A reading of the log that began then failed.
    pub(super) fn was_not_read(&self, begun: Instant) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// Whether a reading that began since then failed.
    pub(super) fn has_failed_since(&self, then: Instant) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|begun| begun >= then)
    }

    /// Begins after the event of that number: earlier ones are in the store.
    pub(super) fn begin_after(&self, seq: u64) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring { from: seq, ..Ring::default() };
        self.last.send_replace(seq);
    }

    /// Hands readers the events that follow those of before, up to the number `upto`.
    pub(super) fn publish(&self, events: &[LoggedEvent], upto: u64) {
        let encoded: Vec<Entry> = events.iter().map(|logged| Entry::new(logged, self.epoch)).collect();
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        encoded.into_iter().for_each(|entry| ring.push(entry));
        drop(ring);
        self.last.send_replace(upto);
    }

    /// Adds the live events after `cursor` to the chunk while it has room, and says how far it got; `last`
    /// is the newest that the caller knows of. `None`: the ring does not go back so far.
    pub(super) fn read(&self, cursor: u64, last: u64, now: Timestamp, chunk: &mut Chunk) -> Option<u64> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).read(cursor, last, now, chunk)
    }
}

/// An event, encoded.
struct Entry {
    seq: u64,
    until: Timestamp,
    bytes: Bytes,
}

impl Entry {
    fn new(logged: &LoggedEvent, epoch: [u8; 16]) -> Self {
        let text = FeedMessage::Event(logged.clone()).encode(epoch);
        Self { seq: logged.seq, until: logged.event.until, bytes: Bytes::from(text) }
    }
}

/// The newest events in the order of the log.
#[derive(Default)]
struct Ring {
    /// All events after this number that were published are here.
    from: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.entries.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
            self.from = oldest.seq;
        }
    }

    fn read(&self, cursor: u64, last: u64, now: Timestamp, chunk: &mut Chunk) -> Option<u64> {
        if cursor < self.from {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.seq <= cursor);
        let mut reached = cursor;
        for entry in self.entries.range(first..).take_while(|entry| entry.seq <= last) {
            if chunk.is_full() {
                return Some(reached);
            }
            if entry.until > now {
                chunk.push_event(&entry.bytes);
            }
            reached = entry.seq;
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::event::{Event, EventKind};

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn event(seq: u64, lives: i64, size: usize) -> LoggedEvent {
        let kind = EventKind::KeysChanged { withdrawn: vec!["k".repeat(size)] };
        LoggedEvent { seq, event: Event { kind, until: Timestamp::from_secs(1000 + lives) } }
    }

    fn read(hub: &Hub, cursor: u64) -> Option<(u64, u64)> {
        let mut chunk = Chunk::default();
        let reached = hub.read(cursor, hub.last(), NOW, &mut chunk)?;
        Some((reached, chunk.events()))
    }

    #[test]
    fn a_reader_gets_what_lives_after_its_cursor() {
        let hub = Hub::new([1; 16], 1);
        hub.begin_after(4);
        assert_eq!(read(&hub, 4), Some((4, 0)));
        assert_eq!(read(&hub, 3), None, "before the ring began");
        hub.publish(&[event(5, 60, 1), event(6, 0, 1), event(9, 60, 1)], 11);
        assert_eq!(read(&hub, 4), Some((11, 2)), "one is past its time");
        assert_eq!(read(&hub, 5), Some((11, 1)));
        assert_eq!(read(&hub, 9), Some((11, 0)));
        assert_eq!(read(&hub, 11), Some((11, 0)));
    }

    #[test]
    fn a_chunk_that_is_full_goes_first() {
        let hub = Hub::new([1; 16], 1);
        hub.begin_after(0);
        let events: Vec<LoggedEvent> = (1..=30).map(|seq| event(seq, 60, 10_000)).collect();
        hub.publish(&events, 30);
        let (mut cursor, mut chunks, mut seen) = (0, 0, 0);
        while cursor < 30 {
            let (reached, events) = read(&hub, cursor).unwrap();
            (cursor, chunks, seen) = (reached, chunks + 1, seen + events);
        }
        assert_eq!(seen, 30);
        assert!(chunks > 1);
    }

    #[test]
    fn the_ring_keeps_to_its_bounds_and_knows_how_far_back_it_goes() {
        let hub = Hub::new([1; 16], 1);
        hub.begin_after(0);
        for seq in 1..=1000 {
            hub.publish(&[event(seq, 60, 10_000)], seq);
        }
        let ring = hub.ring.read().unwrap();
        assert!(ring.bytes <= MAX_BYTES && ring.entries.len() <= MAX_EVENTS);
        assert_eq!(ring.bytes, ring.entries.iter().map(|entry| entry.bytes.len()).sum::<usize>());
        assert_eq!(ring.from + 1, ring.entries[0].seq);
        let from = ring.from;
        drop(ring);
        assert_eq!(read(&hub, from - 1), None);
        assert!(read(&hub, from).is_some());
        let many: Vec<LoggedEvent> = (1001..40_000).map(|seq| event(seq, 60, 1)).collect();
        hub.publish(&many, 39_999);
        assert!(hub.ring.read().unwrap().entries.len() <= MAX_EVENTS);
    }
}
