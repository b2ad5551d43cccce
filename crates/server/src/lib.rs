//! The Reseal authority over HTTP.
//!
//! A handler reads: parse → load → decide → commit → answer, and deciding is a call into
//! `reseal-core`. [`start::open`] makes an [`authority::Authority`] from a configuration,
//! [`router::router`] its routes, [`listen::serve`] answers them until told to stop; [`serve::serve`] is
//! all of that in order.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod admin;
pub mod authority;
pub mod challenges;
pub mod clock;
pub mod config;
mod connection;
pub mod dev;
pub mod feed;
pub mod gateway;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod knowledge;
pub mod limits;
pub mod listen;
pub mod lives;
pub mod manage;
pub mod master;
pub mod me;
pub mod oauth;
pub mod ops;
pub mod password;
pub mod random;
pub mod router;
pub mod serve;
pub mod session;
pub mod sms;
pub mod start;
pub mod tokens;
