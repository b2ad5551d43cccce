//! Verify access tokens where they are used, and know of every change within a second.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod error;
mod token;

pub use error::{Unavailable, VerifyError};
pub use token::Token;
