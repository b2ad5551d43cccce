//! Several nodes on one store: what one does holds on the others, and none needs what another one remembers.
//!
//! The nodes are authorities in this process. Each sees the store through a [`common::Link`] of its own, which
//! has a clock and cells as a database server has, tells of no other node's commits, and can be cut.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "the modules are parts of one test")]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod clocks;
mod common;
mod keys;
mod limits;
mod postgres;
mod rolling;
mod stalled;
