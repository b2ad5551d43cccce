//! Users: the record that claims are projected from, and how it changes.

use crate::id::UserId;
use crate::time::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A user's record. What must never reach a token (password hash, factor secrets) is not in it but in
/// [`UserSecrets`], so no projection can name it.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// `sub`.
    pub id: UserId,
    /// The name to log in with, as the user wrote it; unique by [`username_key`].
    pub username: String,
    /// Full name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number in E.164.
    pub phone_number: Option<String>,
    /// Whether the user has proved that the number is his; then it is his second factor.
    pub phone_number_verified: bool,
    /// Roles.
    pub roles: Vec<String>,
    /// Anything else the application wants in its tokens.
    pub attributes: BTreeMap<String, Value>,
    /// Disabled users cannot log in and have no live sessions.
    pub disabled: bool,
    /// Grows by one on every change that a token may show; `rev` in tokens.
    pub revision: u64,
    /// Raised by password, factor and disabling: a login that began before starts no session.
    pub auth_epoch: u64,
    /// Raised by every write; for compare-and-swap.
    pub version: u32,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What proves that somebody is the user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserSecrets {
    /// The password's hash (PHC string, bcrypt or Django's format), if there is a password.
    pub password: Option<String>,
    /// SHA-256 of each unused recovery code; the codes have more than 112 bits (ASVS 6.5.2).
    pub recovery_codes: Vec<[u8; 32]>,
}

impl fmt::Debug for UserSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserSecrets(…)")
    }
}

/// A change of a record: `None` leaves a member, `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserPatch {
    /// Full name.
    pub name: Option<Option<String>>,
    /// E-mail address.
    pub email: Option<Option<String>>,
    /// Phone number (unverified unless `phone_number_verified` is patched too).
    pub phone_number: Option<Option<String>>,
    /// Whether the phone number is verified.
    pub phone_number_verified: Option<bool>,
    /// All roles.
    pub roles: Option<Vec<String>>,
    /// Attributes by name; null removes one, others stay.
    pub attributes: BTreeMap<String, Value>,
    /// Disables or enables the user.
    pub disabled: Option<bool>,
}

/// Why a record cannot be changed so: the member at fault and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {reason}")]
pub struct InvalidUser {
    /// The member.
    pub member: String,
    /// The reason.
    pub reason: &'static str,
}

impl User {
    /// Whether login needs a second factor.
    pub const fn has_second_factor(&self) -> bool {
        self.phone_number_verified && self.phone_number.is_some()
    }

    /// The record with the patch applied, or `None` when it changes nothing. The revision grows by one,
    /// however much changed: whoever sent `If-Match` must learn of any change, disabling included.
    pub fn patched(&self, patch: &UserPatch, now: Timestamp) -> Result<Option<Self>, InvalidUser> {
        let mut next = self.clone();
        if let Some(name) = &patch.name {
            next.name.clone_from(name);
        }
        if let Some(email) = &patch.email {
            next.email.clone_from(email);
        }
        if let Some(phone) = &patch.phone_number
            && *phone != next.phone_number
        {
            next.phone_number.clone_from(phone);
            next.phone_number_verified = false;
        }
        if let Some(verified) = patch.phone_number_verified {
            next.phone_number_verified = verified && next.phone_number.is_some();
        }
        if let Some(roles) = &patch.roles {
            next.roles.clone_from(roles);
            next.roles.sort();
            next.roles.dedup();
        }
        for (name, value) in &patch.attributes {
            if value.is_null() {
                next.attributes.remove(name);
            } else {
                next.attributes.insert(name.clone(), value.clone());
            }
        }
        if let Some(disabled) = patch.disabled {
            next.disabled = disabled;
        }
        next.check()?;
        if next == *self {
            return Ok(None);
        }
        let factor_changed = next.has_second_factor() != self.has_second_factor()
            || (next.has_second_factor() && next.phone_number != self.phone_number);
        if factor_changed || next.disabled != self.disabled {
            next.auth_epoch += 1;
        }
        next.revision += 1;
        next.version = next.version.wrapping_add(1);
        next.updated_at = now;
        Ok(Some(next))
    }

    /// The record after its password (or another secret) changed: the epoch grows, the claims do not.
    #[must_use]
    pub fn with_new_secret(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.auth_epoch += 1;
        next.version = next.version.wrapping_add(1);
        next.updated_at = now;
        next
    }

    /// The record after a backup of its store was put in place: above every revision that may have been issued
    /// since the backup was made, and with an epoch that voids what was under way then. `None`: its revision cannot
    /// be raised any more.
    pub fn restored(&self, now: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        next.revision = self.revision.checked_add(RESTORED_REVISIONS).filter(|rev| *rev <= MAX_REVISION)?;
        next.auth_epoch += 1;
        next.version = next.version.wrapping_add(1);
        next.updated_at = now;
        Some(next)
    }

    /// Checks sizes and characters. A record must fit into a token many times over.
    pub fn check(&self) -> Result<(), InvalidUser> {
        let fail = |member: &str, reason| Err(InvalidUser { member: member.to_owned(), reason });
        if !is_username(&self.username) {
            return fail("username", "1 to 128 characters without spaces around or control characters");
        }
        for (member, value, max) in [("name", &self.name, 256), ("email", &self.email, 254)] {
            if value
                .as_ref()
                .is_some_and(|v| v.is_empty() || v.len() > max || v.chars().any(char::is_control))
            {
                return fail(member, "empty, too long, or with control characters");
            }
        }
        if self.email.as_ref().is_some_and(|e| !is_email(e)) {
            return fail("email", "not an e-mail address");
        }
        if self.phone_number.as_ref().is_some_and(|p| !is_e164(p)) {
            return fail("phone_number", "not a phone number in E.164, for example +4915112345678");
        }
        let is_role = |r: &String| !r.is_empty() && r.len() <= 64 && !r.chars().any(char::is_control);
        if self.roles.len() > 64 || !self.roles.iter().all(is_role) {
            return fail("roles", "at most 64 roles of 1 to 64 characters");
        }
        if self.attributes.len() > 64 || self.attributes.keys().any(|k| !is_attribute_name(k)) {
            return fail("attributes", "at most 64, named with 1 to 64 letters, digits, '_' or '-'");
        }
        let size: usize = self.attributes.values().map(|v| v.to_string().len()).sum();
        if size > 4096 {
            return fail("attributes", "at most 4096 bytes together");
        }
        Ok(())
    }
}

/// The largest revision: what a number in JSON carries exactly everywhere (2^53 - 1, RFC 8259 §6).
pub const MAX_REVISION: u64 = (1 << 53) - 1;

/// By how much a revision grows when a backup is restored. Nobody knows how often the record changed since the
/// backup was made; each change was a durable write of this one row, and 2^32 of them, a thousand in every second,
/// take 50 days. Two million restores fit below [`MAX_REVISION`].
pub const RESTORED_REVISIONS: u64 = 1 << 32;

/// What makes usernames equal: case does not.
pub fn username_key(username: &str) -> String {
    username.to_lowercase()
}

/// Whether the text can be a username.
pub fn is_username(s: &str) -> bool {
    !s.is_empty() && s.len() <= 128 && s.trim() == s && !s.chars().any(char::is_control)
}

/// Whether the text can name an attribute.
pub fn is_attribute_name(s: &str) -> bool {
    (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A shape check only; an address is proved by a message to it, not by a pattern.
fn is_email(s: &str) -> bool {
    s.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && local.len() <= 64 && !domain.is_empty() && !s.chars().any(char::is_whitespace)
    })
}

/// The form of E.164: `+`, then 2 to 15 digits, the first not zero. (Whether such a number can exist is
/// asked of a library at the edge.)
fn is_e164(s: &str) -> bool {
    s.strip_prefix('+').is_some_and(|d| {
        (2..=15).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()) && !d.starts_with('0')
    })
}

#[cfg(test)]
mod tests;
