//! The whole story over HTTP against the real binary: logins, renewals, updates, thieves, crashes.
//!
//! Time is moved by `POST /dev/clock`; nothing waits for an expiry.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crash;
mod feed;
mod migrate;
mod policies;
mod races;
mod record;
mod rotation;
mod server;
mod verifiers;
mod wire;
