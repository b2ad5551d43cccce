//! What goes out in one piece.

use bytes::{Bytes, BytesMut};
use reseal_core::feed::FeedMessage;

/// From so many bytes on a chunk is full: a reader never has more than about this in memory, and its
/// connection as much again.
const FULL: usize = 64 * 1024;

/// Messages one after another. A single one is shared with whoever else sends it, not copied.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    one: Option<Bytes>,
    many: BytesMut,
    events: u64,
}

impl Chunk {
    /// Adds an event.
    pub(super) fn push_event(&mut self, bytes: &Bytes) {
        self.push(bytes);
        self.events += 1;
    }

    /// Adds a message that is no event.
    pub(super) fn push_message(&mut self, message: &FeedMessage, epoch: [u8; 16]) {
        self.push(&Bytes::from(message.encode(epoch)));
    }

    /// How many events are in it.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Whether it should go first.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Bytes {
        self.one.unwrap_or_else(|| self.many.freeze())
    }

    fn push(&mut self, bytes: &Bytes) {
        if self.is_empty() {
            self.one = Some(bytes.clone());
            return;
        }
        if let Some(first) = self.one.take() {
            self.many.extend_from_slice(&first);
        }
        self.many.extend_from_slice(bytes);
    }

    fn len(&self) -> usize {
        self.one.as_ref().map_or(self.many.len(), Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_shared_and_several_follow_one_another() {
        let first = Bytes::from_static(b"one\n\n");
        let mut chunk = Chunk::default();
        assert!(chunk.is_empty());
        chunk.push_event(&first);
        let single = Chunk { one: chunk.one.clone(), ..Chunk::default() }.into_bytes();
        assert_eq!(single.as_ptr(), first.as_ptr());
        chunk.push_event(&Bytes::from_static(b"two\n\n"));
        chunk.push_message(&FeedMessage::StartOver, [0; 16]);
        assert_eq!(chunk.events(), 2);
        assert_eq!(chunk.into_bytes(), "one\n\ntwo\n\nevent: start-over\ndata: {}\n\n");
    }
}
