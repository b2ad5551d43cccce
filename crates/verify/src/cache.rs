//! A bounded cache of verified tokens.
//!
//! Set-associative: the token's SHA-256 picks a small set, and a full set drops its least recently used
//! entry. Nothing is scanned, no lock is held by more than one set, and a look-up allocates nothing. Only tokens
//! that were verified come in, so no stream of forgeries pushes a good one out.

use crate::token::Token;
use std::sync::{Arc, Mutex, PoisonError};

/// How many entries a set has. So many that sets fill evenly: a cache that is half full loses one token in
/// ten thousand to a full set (with 8 it would be one in twenty, verified anew each time).
const WAYS: usize = 32;
/// Most entries that can be asked for.
pub(crate) const MAX_ENTRIES: usize = 1 << 24;

/// The SHA-256 of a token.
pub(crate) type TokenHash = [u8; 32];

/// The hash under which a token is kept.
pub(crate) fn hash(token: &str) -> TokenHash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Tokens by their hash, with the generation of the key set that they were last found good under.
pub(crate) struct TokenCache {
    sets: Box<[Mutex<Vec<Entry>>]>,
    ways: usize,
}

struct Entry {
    hash: TokenHash,
    generation: u64,
    token: Arc<Token>,
}

impl TokenCache {
    /// For at most `entries`; 0 keeps nothing.
    pub(crate) fn new(entries: usize) -> Self {
        let entries = entries.min(MAX_ENTRIES);
        let ways = entries.min(WAYS);
        let sets = entries.checked_div(ways).unwrap_or(0);
        // A set takes memory with its first entry.
        Self { sets: (0..sets).map(|_| Mutex::default()).collect(), ways }
    }

    /// Whether it keeps anything.
    pub(crate) const fn is_off(&self) -> bool {
        self.ways == 0
    }

    /// The token and the generation of the keys under which it was good.
    pub(crate) fn get(&self, hash: &TokenHash) -> Option<(Arc<Token>, u64)> {
        let mut set = self.set(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        let at = set.iter().position(|entry| entry.hash == *hash)?;
        set[..=at].rotate_right(1);
        let entry = set.first()?;
        Some((Arc::clone(&entry.token), entry.generation))
    }

    /// Keeps a token that was verified with keys of this generation. In a full set the least recently used goes.
    pub(crate) fn put(&self, hash: TokenHash, token: Arc<Token>, generation: u64) {
        let Some(set) = self.set(&hash) else { return };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.retain(|entry| entry.hash != hash);
        set.truncate(self.ways - 1);
        set.insert(0, Entry { hash, generation, token });
    }

    /// Forgets a token.
    pub(crate) fn remove(&self, hash: &TokenHash) {
        if let Some(set) = self.set(hash) {
            set.lock().unwrap_or_else(PoisonError::into_inner).retain(|entry| entry.hash != *hash);
        }
    }

    fn set(&self, hash: &TokenHash) -> Option<&Mutex<Vec<Entry>>> {
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        let sets = u64::try_from(self.sets.len()).ok().filter(|sets| *sets > 0)?;
        let index = usize::try_from(u64::from_le_bytes(head) % sets).ok()?;
        self.sets.get(index)
    }
}

#[cfg(test)]
mod tests;
