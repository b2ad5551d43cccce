//! The notes against a real authority: the binary in development mode, whose clock can be moved. The service runs
//! in the test's process, on a socket of its own, so that its clock can follow; once as the binary that it is.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod authority;
mod away;
mod changes;
mod service;
mod sliding;
mod story;
