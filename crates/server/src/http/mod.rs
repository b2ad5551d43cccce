//! What every handler shares: errors, bodies, callers, origins, answers.

pub mod answer;
pub(crate) mod asset;
pub mod body;
pub mod caller;
pub mod client_auth;
pub mod client_token;
pub mod error;
pub mod etag;
pub mod origin;
pub mod query;
