//! The rules of Reseal, and nothing else.
//!
//! This crate knows no clock, no random source, no socket and no file: `now` and random bytes are
//! arguments. So every rule can be tested at any instant, model-checked, and run by any store next to
//! the row it decides on. The server only carries what is decided here.
//!
//! Where to look:
//!
//! - [`session`]: the one row of a login session, how it starts, how long it lives, how it ends;
//! - [`refresh`]: the six rows of refresh-token rotation;
//! - [`touch`]: sliding tokens and session cookies;
//! - [`credential`]: refresh tokens and cookies as bytes, and the key ring that authenticates them;
//! - [`policy`]: lifetimes, their presets and what a tightened policy does to living sessions;
//! - [`claims`]: what an access token says; [`user`]: the record it is projected from;
//! - [`event`]: what verifiers must learn, [`feed`]: how it is written; [`timeline`]: what the owner may read;
//! - [`challenge`]: one-time codes; [`keys`]: when keys are published, sign, and retire.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod auth;
pub mod challenge;
pub mod claims;
pub mod client;
pub mod credential;
pub mod event;
pub mod feed;
#[cfg(test)]
mod fixture;
pub mod id;
pub mod keys;
pub mod policy;
pub mod refresh;
pub mod scope;
pub mod session;
pub mod time;
pub mod timeline;
pub mod touch;
pub mod user;

pub use auth::{Acr, Amr, Strength};
pub use client::Client;
pub use event::{EndReason, Event, EventKind};
pub use id::{ClientId, KeyId, PolicyName, SessionId, UserId};
pub use policy::{Policy, PolicyKind};
pub use scope::Scope;
pub use session::Session;
pub use time::Timestamp;
pub use timeline::{TimelineEntry, TimelineKind};
pub use user::User;
