//! Several authorities on one store, behind a proxy, while parts of it die: nobody is logged out, and nothing
//! that was acknowledged is undone.
//!
//! Real binaries and servers only. `RESEAL_LONG=1` runs ten rounds of each fault instead of one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "how long a recovery took is what a reader of the test wants to see")]
#![allow(clippy::disallowed_methods, reason = "faults last for a real while, and recovery is measured")]

mod faults;
mod feed;
mod http;
mod load;
mod nodes;
mod outbox;
mod postgres;
mod proxies;
mod redis;
mod sharing;

/// Each of these tests is a cluster with all its servers: one at a time is load enough.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Waits for the tests before.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
