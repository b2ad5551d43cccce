//! The verifier from outside: with given keys, with an issuer that does what a test wants, and with a real authority.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "the modules of a test share what they need")]

mod authority;
mod issuer;
mod mutations;
mod oracle;
mod support;
mod tokens;
