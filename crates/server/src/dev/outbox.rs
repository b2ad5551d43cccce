//! The outbox: where development mode's text messages go.

use crate::clock::Clock;
use crate::sms::{SmsError, TextMessages};
use async_trait::async_trait;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Messages that are kept; the oldest make room.
const MAX: usize = 1000;

/// A message that was "sent".
#[derive(Clone, Debug, Serialize)]
pub struct SentText {
    /// The number, in E.164.
    pub to: String,
    /// What it says.
    pub text: String,
    /// When (Unix seconds, by the authority's clock).
    pub at: i64,
}

/// Keeps text messages for `GET /dev/outbox`.
pub struct Outbox {
    clock: Clock,
    sent: Mutex<VecDeque<SentText>>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbox")
    }
}

impl Outbox {
    /// An empty one, by this clock.
    pub const fn new(clock: Clock) -> Self {
        Self { clock, sent: Mutex::new(VecDeque::new()) }
    }

    /// All messages, oldest first.
    pub fn messages(&self) -> Vec<SentText> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[async_trait]
impl TextMessages for Outbox {
    async fn send(&self, to: &str, text: &str) -> Result<(), SmsError> {
        let at = self.clock.now().secs();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() == MAX {
            sent.pop_front();
        }
        sent.push_back(SentText { to: to.to_owned(), text: text.to_owned(), at });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_messages_make_room() {
        let outbox = Outbox::new(Clock::manual(reseal_core::Timestamp::from_secs(7)));
        for i in 0..=MAX {
            outbox.send("+4915112345678", &i.to_string()).await.unwrap();
        }
        let all = outbox.messages();
        assert_eq!((all.len(), all[0].text.as_str(), all[0].at), (MAX, "1", 7));
        assert_eq!(all[MAX - 1].text, MAX.to_string());
    }
}
