//! One-time codes: a challenge that waits for one (second factor at login, proof of a phone number).

use crate::client::SecretHash;
use crate::id::{ClientId, KeyId, SessionId, UserId};
use crate::time::Timestamp;
use std::time::Duration;

/// How long a code is good (ASVS 6.5.5 allows ten minutes).
pub const CODE_TTL: Duration = Duration::from_secs(300);
/// How often a code may be tried.
pub const CODE_TRIES: u8 = 5;
/// How often a code may be sent for one challenge, the first time included.
pub const CODE_SENDS: u8 = 3;
/// Shortest time between two messages for one challenge.
pub const RESEND_AFTER: Duration = Duration::from_secs(30);

/// What a challenge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The second step of a login through this client; the password was right.
    Login {
        /// The client.
        client_id: ClientId,
        /// When the password was found right.
        password_at: Timestamp,
    },
    /// Turning on the phone as second factor, asked for by this session.
    Phone {
        /// The session that asked; only it may answer.
        session_id: SessionId,
    },
}

/// A challenge as it is stored. The caller's copy is a random text of which only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// SHA-256 of the text the caller holds.
    pub id: SecretHash,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose.
    pub user_id: UserId,
    /// Where the code went (E.164).
    pub phone_number: String,
    /// The user's `auth_epoch` when it began; if it has grown, the challenge is void.
    pub auth_epoch: u64,
    /// The ring key of `code_hash`.
    pub key_id: KeyId,
    /// Keyed hash of the newest code.
    pub code_hash: SecretHash,
    /// Tries left.
    pub tries_left: u8,
    /// Messages sent.
    pub sends: u8,
    /// When the last one was.
    pub sent_at: Timestamp,
    /// When the challenge dies.
    pub expires_at: Timestamp,
    /// Raised by every write; for compare-and-swap.
    pub version: u32,
}

/// The answer to a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right. Delete the challenge in the transaction of what it allows: it is good once.
    Accepted,
    /// Wrong; store the challenge with one try less before answering.
    Wrong(Challenge),
    /// Too late, or tried too often: only a new challenge helps.
    Void,
}

impl Challenge {
    /// Judges a code by its hash, `None` when it cannot be a code at all (that costs a try too).
    pub fn judge(&self, code_hash: Option<SecretHash>, now: Timestamp) -> Verdict {
        if now >= self.expires_at || self.tries_left == 0 {
            return Verdict::Void;
        }
        if code_hash == Some(self.code_hash) {
            return Verdict::Accepted;
        }
        let mut next = self.clone();
        next.tries_left -= 1;
        next.version = next.version.wrapping_add(1);
        Verdict::Wrong(next)
    }

    /// The challenge with a new code, or why none is sent. Neither tries nor time are given back:
    /// resending must not help guessing.
    pub fn resend(&self, code_hash: SecretHash, now: Timestamp) -> Result<Self, Resend> {
        if now >= self.expires_at || self.tries_left == 0 {
            return Err(Resend::Void);
        }
        if self.sends >= CODE_SENDS {
            return Err(Resend::TooMany);
        }
        let waited = now.since(self.sent_at);
        if waited < RESEND_AFTER {
            return Err(Resend::Wait(RESEND_AFTER - waited));
        }
        let mut next = self.clone();
        next.code_hash = code_hash;
        next.sends += 1;
        next.sent_at = now;
        next.version = next.version.wrapping_add(1);
        Ok(next)
    }
}

/// Why no code is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// The challenge is over.
    Void,
    /// Enough messages were sent for it.
    TooMany,
    /// Not yet.
    Wait(Duration),
}

/// Six digits from random bytes, evenly distributed: `None` when the bytes fall into the uneven rest
/// (1 in 4,440) and others are needed.
pub fn code_from_random(bytes: [u8; 4]) -> Option<String> {
    let n = u32::from_be_bytes(bytes);
    let limit = u32::MAX - u32::MAX % 1_000_000;
    (n < limit).then(|| format!("{:06}", n % 1_000_000))
}

/// A recovery code from random bytes: 128 bits as 26 letters and digits that are hard to confuse
/// (Crockford's base32), in groups.
pub fn recovery_code_from_random(bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let n = u128::from_be_bytes(bytes);
    let mut text = String::with_capacity(31);
    for i in 0..26 {
        if i > 0 && i % 5 == 0 {
            text.push('-');
        }
        let index = usize::try_from((n >> (5 * i)) & 31).unwrap_or(0);
        text.push(char::from(ALPHABET[index]));
    }
    text
}

/// A recovery code as it is hashed: people add spaces, drop dashes, and confuse letters.
pub fn normalize_recovery_code(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let code: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            c => c,
        })
        .collect();
    (code.len() == 26).then_some(code)
}

#[cfg(test)]
mod tests;
