//! Administration over HTTP, in this process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "the modules of a test share what they need")]

mod access;
mod clients;
mod common;
mod keys;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod users;
