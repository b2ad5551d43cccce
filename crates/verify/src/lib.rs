//! Verify access tokens where they are used, and know of every change within a second.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod builder;
mod cache;
mod clock;
mod error;
pub mod freshness;
mod keys;
mod payload;
mod rules;
mod token;
mod verifier;

pub use builder::{BuildError, Builder, DEFAULT_CACHE, DEFAULT_LEEWAY, MAX_LEEWAY, OnFeedLost};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Unavailable, VerifyError};
pub use token::Token;
pub use verifier::{Checked, Verifier};
