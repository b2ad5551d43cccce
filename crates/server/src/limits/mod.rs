//! Limits on failed logins, and on text messages.
//!
//! # What stops guessing, and what does not lock anybody out (ASVS 6.1.1, 6.3.1)
//!
//! Only failures count; however often the right password comes, nothing here refuses it. There are three
//! counters of failures ([`LoginLimits`] has the numbers):
//!
//! - **Account and address.** A burst of failures is allowed, then one more each time `window` divided by
//!   the burst has passed. It stops the guesser who tries many passwords for one account.
//! - **Address**, over all accounts. It stops the one who tries one password for many accounts. An IPv6
//!   address counts by its /64, which is what one subscriber has.
//! - **Account**, over all addresses. It refuses nobody by itself: whoever could fill it would lock the
//!   user out. While it is full the account is *under pressure*, and the first counter shrinks to
//!   `burst_under_pressure`.
//!
//! A pair of account and address with a login in the last `remember_address` is *known*: for it only the
//! first counter holds, at its full burst. So neither a botnet nor a guesser behind the same router or
//! proxy locks out users where they usually are.
//!
//! Failures from address A never stop a login from address B; one address cannot even bring an account
//! under pressure, since its own counter stops it before, and under pressure a strange address still has
//! its first tries. A botnet of N addresses has N times `burst_under_pressure` guesses per window against
//! one account, which is the price of not letting it lock the user out. A success empties the counter of
//! account and address, and of no other: a guesser cannot wash the address's counter with an account of
//! his own.
//!
//! **Parallel guesses** gain nothing. What was admitted is judged again when its outcome is known
//! ([`LoginLimiter::success`], [`LoginLimiter::failure`]): if others used up the allowance in between, the
//! answer is the same [`TooMany`], whether the password was right or not. Logins with the right password,
//! on the other hand, may run in any number at once.
//!
//! # Where counters lie
//!
//! A counter is one number: the time at which it will be empty again (the "theoretical arrival time" of
//! GCRA). So an empty counter needs no entry, and waits are exact. What comes of the numbers is decided by pure
//! rules (`rules`), next to them: in memory, or, where several nodes share the store, in its
//! [cells](reseal_store::Cells), so that a limit holds over all nodes together. Cells are named by a keyed hash:
//! the store tells nobody who tried to log in, or from where. While it is away, logins are refused anyway.
//!
//! In memory the number of entries is fixed. A full table drops the counters that are nearest to empty. Whoever
//! wants to have his own full counter dropped must first fill thousands of others as far, each from an
//! address or for an account that has its own limit. Counters in memory are lost at a restart.

mod budget;
mod cells;
mod rules;
mod table;

pub use budget::Budget;
pub use cells::Shared;

use cells::Naming;
use reseal_core::policy::Ttl;
use reseal_store::{CellKey, StoreError};
use rules::{LoginRules, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;

/// Limits on failed logins. Each counter allows a burst of failures and forgets it within `window`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginLimits {
    /// Time in which a full counter empties.
    pub window: Ttl,
    /// Failures for one account from one address.
    pub burst: NonZeroU32,
    /// The same while the account is under pressure, for addresses that it was not logged in from lately.
    pub burst_under_pressure: NonZeroU32,
    /// Failures from one address over all accounts, those that were logged in from there lately aside.
    pub burst_per_address: NonZeroU32,
    /// Failures for one account over all addresses before it is under pressure.
    pub pressure: NonZeroU32,
    /// How long it is remembered that an account was logged in from an address.
    pub remember_address: Ttl,
}

impl Default for LoginLimits {
    fn default() -> Self {
        let n = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            window: Ttl(Duration::from_secs(15 * 60)),
            burst: n(10),
            burst_under_pressure: n(2),
            burst_per_address: n(100),
            pressure: n(100),
            remember_address: Ttl(Duration::from_secs(30 * 86_400)),
        }
    }
}

/// Too many; the time after which the next one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many; try again in {} ms", .0.as_millis())]
pub struct TooMany(pub Duration);

/// Why there is no answer of a limit that allows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Too many.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The counters cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A login that was admitted and whose outcome is not known yet. Dropped without one it counts nothing:
/// then nobody learned whether the password was right.
#[derive(Debug)]
#[must_use = "tell the limiter the outcome"]
pub struct Attempt(Keys);

/// Counts failed logins. See the [module](self) for the rules. Time is an argument: milliseconds since the
/// Unix epoch.
pub struct LoginLimiter {
    rules: LoginRules,
    counters: Counters,
}

enum Counters {
    Memory(Mutex<[Table; rules::CELLS]>, Naming),
    Shared(Shared),
}

/// The names of the cells of one login, in the order of [`LoginRules`].
type Keys = [CellKey; rules::CELLS];

/// Entries per table: about 1 MiB each when full.
const MAX_ENTRIES: usize = 32 * 1024;

impl LoginLimiter {
    /// A limiter without history that counts in memory.
    pub fn new(limits: &LoginLimits) -> Self {
        Self::with_capacity(limits, MAX_ENTRIES)
    }

    fn with_capacity(limits: &LoginLimits, entries: usize) -> Self {
        let tables = std::array::from_fn(|_| Table::new(entries));
        let counters = Counters::Memory(Mutex::new(tables), Naming::random());
        Self { rules: LoginRules::new(limits), counters }
    }

    /// A limiter that counts in cells of the store, together with all other nodes.
    pub fn shared(limits: &LoginLimits, cells: Shared) -> Self {
        Self { rules: LoginRules::new(limits), counters: Counters::Shared(cells) }
    }

    /// Admits a login or says how long to wait. `account` is the normalised username, whether or not there
    /// is such a user.
    pub async fn check(&self, now_ms: i64, account: &str, address: IpAddr) -> Result<Attempt, LimitError> {
        let keys = self.keys(account, network(address));
        let values = match &self.counters {
            Counters::Memory(tables, _) => read(&lock(tables), &keys),
            Counters::Shared(cells) => cells.read(keys).await?,
        };
        self.rules.judge(now_ms, &values)?;
        Ok(Attempt(keys))
    }

    /// The password was right. The login is good only if this is: the allowance may have been used up by
    /// parallel guesses since [`check`](Self::check), of which this would be one too many.
    pub async fn success(&self, now_ms: i64, attempt: Attempt) -> Result<(), LimitError> {
        self.settle(now_ms, attempt, LoginRules::success).await
    }

    /// The password was wrong. An error must be answered instead of telling so, or parallel guesses would
    /// learn which of them was wrong although too many were.
    pub async fn failure(&self, now_ms: i64, attempt: Attempt) -> Result<(), LimitError> {
        self.settle(now_ms, attempt, LoginRules::failure).await
    }

    /// Judges again and counts, next to the counters.
    async fn settle(
        &self,
        now_ms: i64,
        Attempt(keys): Attempt,
        outcome: fn(&LoginRules, i64, &Values) -> Result<Values, TooMany>,
    ) -> Result<(), LimitError> {
        match &self.counters {
            Counters::Memory(tables, _) => {
                let mut tables = lock(tables);
                let next = outcome(&self.rules, now_ms, &read(&tables, &keys))?;
                for ((table, key), value) in tables.iter_mut().zip(keys).zip(next) {
                    match value {
                        Some(time) if time > now_ms => table.insert(now_ms, key, time),
                        Some(_) => table.remove(key),
                        None => {}
                    }
                }
                Ok(())
            }
            Counters::Shared(cells) => {
                let rules = self.rules;
                Ok(cells.update(keys, move |values| outcome(&rules, now_ms, values)).await??)
            }
        }
    }

    fn keys(&self, account: &str, address: IpAddr) -> Keys {
        let naming = match &self.counters {
            Counters::Memory(_, naming) => naming,
            Counters::Shared(cells) => cells.naming(),
        };
        let (account, address) = (account.as_bytes(), address.to_string());
        [
            naming.key(&[b"login pair", account, address.as_bytes()]),
            naming.key(&[b"login address", address.as_bytes()]),
            naming.key(&[b"login account", account]),
            naming.key(&[b"login known", account, address.as_bytes()]),
        ]
    }
}

fn read(tables: &[Table; rules::CELLS], keys: &Keys) -> Values {
    std::array::from_fn(|n| tables[n].find(keys[n]))
}

fn lock(tables: &Mutex<[Table; rules::CELLS]>) -> MutexGuard<'_, [Table; rules::CELLS]> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for LoginLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLimiter").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What counts as one address: an IPv4 address, written as IPv6 or not, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
