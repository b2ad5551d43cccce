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
//! # Memory
//!
//! A counter is one number: the time at which it will be empty again (the "theoretical arrival time" of
//! GCRA). So an empty counter needs no entry, and waits are exact. Entries are keyed by 64 bits of a keyed
//! hash, and their number is fixed. A full table drops the counters that are nearest to empty. Whoever
//! wants to have his own full counter dropped must first fill thousands of others as far, each from an
//! address or for an account that has its own limit. Counters are lost at a restart, and each node has its
//! own.

mod budget;
mod table;

pub use budget::Budget;

use reseal_core::policy::Ttl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use table::{Counters, Rate, Remembered};

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

/// A login that was admitted and whose outcome is not known yet. Dropped without one it counts nothing:
/// then nobody learned whether the password was right.
#[derive(Debug)]
#[must_use = "tell the limiter the outcome"]
pub struct Attempt {
    pair: u64,
    address: u64,
    account: u64,
}

/// Counts failed logins. See the [module](self) for the rules. Time is an argument: milliseconds since the
/// Unix epoch.
pub struct LoginLimiter {
    hasher: RandomState,
    burst: u32,
    burst_under_pressure: u32,
    state: Mutex<State>,
}

struct State {
    pairs: Counters,
    addresses: Counters,
    accounts: Counters,
    logged_in: Remembered,
}

/// Entries per table: under 1 MiB each when full.
const MAX_ENTRIES: usize = 32 * 1024;

impl LoginLimiter {
    /// A limiter without history.
    pub fn new(limits: &LoginLimits) -> Self {
        Self::with_capacity(limits, MAX_ENTRIES)
    }

    fn with_capacity(limits: &LoginLimits, entries: usize) -> Self {
        let counters = |burst: NonZeroU32| Counters::new(Rate::new(burst.get(), limits.window.0), entries);
        Self {
            hasher: RandomState::new(),
            burst: limits.burst.get(),
            burst_under_pressure: limits.burst_under_pressure.get().min(limits.burst.get()),
            state: Mutex::new(State {
                pairs: counters(limits.burst),
                addresses: counters(limits.burst_per_address),
                accounts: counters(limits.pressure),
                logged_in: Remembered::new(limits.remember_address.0, entries),
            }),
        }
    }

    /// Admits a login or says how long to wait. `account` is the normalised username, whether or not there
    /// is such a user.
    pub fn check(&self, now_ms: i64, account: &str, address: IpAddr) -> Result<Attempt, TooMany> {
        let address = network(address);
        let attempt = Attempt {
            pair: self.hasher.hash_one(("pair", account, address)),
            address: self.hasher.hash_one(("address", address)),
            account: self.hasher.hash_one(("account", account)),
        };
        self.judge(&self.lock(), now_ms, &attempt)?;
        Ok(attempt)
    }

    /// The password was right. The login is good only if this is: the allowance may have been used up by
    /// parallel guesses since [`check`](Self::check), of which this would be one too many.
    pub fn success(&self, now_ms: i64, attempt: Attempt) -> Result<(), TooMany> {
        let mut state = self.lock();
        self.judge(&state, now_ms, &attempt)?;
        state.pairs.clear(attempt.pair);
        state.logged_in.insert(now_ms, attempt.pair);
        Ok(())
    }

    /// The password was wrong. An error must be answered instead of telling so, or parallel guesses would
    /// learn which of them was wrong although too many were.
    pub fn failure(&self, now_ms: i64, attempt: Attempt) -> Result<(), TooMany> {
        let mut state = self.lock();
        self.judge(&state, now_ms, &attempt)?;
        state.pairs.add(now_ms, attempt.pair);
        state.addresses.add(now_ms, attempt.address);
        state.accounts.add(now_ms, attempt.account);
        Ok(())
    }

    fn judge(&self, state: &State, now_ms: i64, attempt: &Attempt) -> Result<(), TooMany> {
        let known = state.logged_in.contains(now_ms, attempt.pair);
        let pressed = !known && state.accounts.wait(now_ms, attempt.account).is_some();
        let burst = if pressed { self.burst_under_pressure } else { self.burst };
        let of_pair = state.pairs.wait_within(now_ms, attempt.pair, burst);
        let of_address = if known { None } else { state.addresses.wait(now_ms, attempt.address) };
        // None is less than any wait.
        of_pair.max(of_address).map_or(Ok(()), |wait| Err(TooMany(wait)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LoginLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLimiter").field("burst", &self.burst).finish_non_exhaustive()
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
