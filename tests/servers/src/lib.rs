//! Real servers for tests, each on its own folder and a free port of 127.0.0.1.
//!
//! A server is stopped and its folder removed when its value is dropped, and when the test process ends in
//! whatever way. What cannot be started panics and says what to install: this crate is for tests
//! only, where a panic is a failed test.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod home;
mod link;
mod port;
mod postgres;
mod process;
mod program;
mod proxy;
mod redis;
mod wait;

pub use home::Folder;
pub use link::Link;
pub use port::Port;
pub use postgres::{Database, PgOptions, Postgres};
pub use process::Process;
pub use proxy::{HaProxy, Nginx};
pub use redis::{Answer, Redis, RedisCluster, RedisOptions};
pub use wait::{PATIENCE, until};
