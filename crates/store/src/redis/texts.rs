//! Long texts of hot rows, which carry only a hash of them: user agents, scopes.

use crate::cache::Cache;
use reseal_core::Session;
use reseal_core::client::SecretHash;
use std::sync::Arc;

/// 16 bytes of the SHA-256 of a text.
pub(super) type TextHash = [u8; 16];

/// The hash of a text.
pub(super) fn hash(text: &str) -> TextHash {
    let hash = SecretHash::of(text).0;
    std::array::from_fn(|i| hash[i])
}

/// The texts that this process knows, in a bounded number of bytes.
pub(super) struct Known(Cache<TextHash, Arc<str>>);

impl Known {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Cache::new(bytes))
    }

    pub(super) fn find(&mut self, hash: TextHash) -> Option<Arc<str>> {
        self.0.find(hash)
    }

    /// Learns the texts of a session.
    pub(super) fn learn(&mut self, session: &Session) {
        let scope = session.scope.to_string();
        let names = [session.client_id.as_str(), session.policy.as_str(), &scope];
        for text in names.into_iter().chain(session.user_agent.as_deref()) {
            let hash = hash(text);
            if self.find(hash).is_none() {
                self.0.insert(hash, text.into(), text.len() + 96);
            }
        }
    }
}
