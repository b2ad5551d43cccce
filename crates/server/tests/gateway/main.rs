//! Gateway mode over the real routes: what a proxy is told, and the hosted pages without any script.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed unwrap is a failed test; helpers are shared"
)]

mod common;
mod factor;
mod login;
mod logout;
mod setup;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod verify;
