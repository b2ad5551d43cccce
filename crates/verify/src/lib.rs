//! Verify access tokens where they are used, and know of every change within a second.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

#[cfg(feature = "tower")]
mod bearer;
mod builder;
mod cache;
#[cfg(feature = "tower")]
mod challenge;
mod clock;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod feed;
pub mod freshness;
mod health;
mod http;
mod introspect;
mod keys;
#[cfg(feature = "tower")]
mod layer;
mod payload;
#[cfg(feature = "tower")]
mod refusal;
#[cfg(feature = "tower")]
mod renew;
#[cfg(feature = "tower")]
mod requirements;
mod random;
mod rules;
mod token;
#[cfg(feature = "tower")]
mod verified;
mod verifier;

pub use builder::{BuildError, Builder, DEFAULT_CACHE, DEFAULT_LEEWAY, MAX_LEEWAY, OnFeedLost};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Unavailable, VerifyError};
pub use health::{FeedHealth, Health};
pub use introspect::{INTROSPECTION_LIFE, INTROSPECTION_TIMEOUT};
pub use keys::{
    DEFAULT_KEY_COOLDOWN, DEFAULT_REFRESH, KeysHealth, MAX_REFRESH, MAX_STALE, MIN_REFRESH,
};
pub use token::Token;
pub use verifier::{Checked, Verifier};
#[cfg(feature = "axum")]
pub use extract::Authenticated;
#[cfg(feature = "tower")]
pub use {
    bearer::bearer,
    challenge::Answer,
    layer::{OnStale, RENEWED_ACCESS_TOKEN, RequireLayer, RequireService, VerifyLayer, VerifyService},
    refusal::{
        InsufficientAuthentication, InsufficientScope, InvalidToken, MalformedAuthorization, MissingToken, Refusal,
        TemporarilyUnavailable, UnfitClaims,
    },
    requirements::Requirements,
    verified::{StandardClaims, Verified},
};
