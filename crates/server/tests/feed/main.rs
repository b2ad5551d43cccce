//! The feed (design §7): who may read it, what comes in which order, and when it ends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "the modules of a test share what they need")]

mod access;
mod common;
mod heartbeats;
mod late;
mod sockets;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tail;
