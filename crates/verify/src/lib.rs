//! Verify access tokens where they are used, and know of every change within a second.
//!
//! A resource server checks the signature and the claims of each token itself, with the issuer's published keys and
//! without a call per request. What a local check cannot see (a session that ended, a role that was taken away,
//! a key that leaked) the authority's *feed* tells within a second, typically in milliseconds.
//!
//! ```no_run
//! use axum::{Json, Router, routing::{get, post}};
//! use reseal_verify::{Authenticated, OnFeedLost, Refusal, Verifier, VerifyLayer};
//! use serde::{Deserialize, Serialize};
//!
//! /// What of the token the handlers want; all else is passed by.
//! #[derive(Deserialize)]
//! struct Claims {
//!     name: Option<String>,
//! }
//!
//! #[derive(Serialize)]
//! struct Order {
//!     id: u64,
//!     by: String,
//! }
//!
//! /// Anybody with a good token.
//! async fn hello(user: Authenticated<Claims>) -> String {
//!     format!("Hello {}", user.claims.name.as_deref().unwrap_or("stranger"))
//! }
//!
//! /// Only with the scope, and after a login with a second factor within the last five minutes.
//! async fn order(user: Authenticated<Claims>) -> Result<Json<Order>, Refusal> {
//!     user.require_scope("orders:write")?;
//!     user.require_acr("aal2")?;
//!     user.require_max_age(300)?;
//!     Ok(Json(Order { id: 1, by: user.token().subject().to_owned() }))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let verifier = Verifier::builder("https://auth.example.com")
//!         .audience("https://orders.example.com") // who we are: a token must be for us
//!         .client("orders-api", std::env::var("ORDERS_API_SECRET")?) // has the scope reseal:feed
//!         .feed(OnFeedLost::Accept) // what to do while the feed is away
//!         .build()
//!         .await?;
//!     let watched = verifier.clone();
//!     let app = Router::new()
//!         .route("/hello", get(hello))
//!         .route("/orders", post(order))
//!         // Answers 401, 403 and 503 as the standards have them, and lets tokens slide.
//!         .route_layer(VerifyLayer::new(verifier.clone()))
//!         .route("/health", get(move || async move { Json(watched.health()) }))
//!         .with_state(verifier);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     axum::serve(listener, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! Without axum, or without any web framework, [`Verifier::verify`] takes the token's text:
//!
//! ```
//! use aws_lc_rs::rand::SystemRandom;
//! use reseal_jose::{Algorithm, JwkSet, SigningKey, VerifyingKeys};
//! use reseal_verify::{ManualClock, Verifier, VerifyError};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Somebody else's part: an issuer with a key, and a token.
//! let random = SystemRandom::new();
//! let key = SigningKey::generate(Algorithm::Es256, &random)?;
//! let payload = br#"{"iss":"https://auth.example.com","sub":"alice","aud":"orders","exp":1300,"name":"Alice"}"#;
//! let token = key.sign("at+jwt", payload, &random)?;
//!
//! // Ours: given keys, and a clock that a test can move.
//! let clock = Arc::new(ManualClock::new(1000));
//! let verifier = Verifier::builder("https://auth.example.com")
//!     .audience("orders")
//!     .keys(VerifyingKeys::from_set(&JwkSet { keys: vec![key.public_jwk().clone()] }))
//!     .clock(clock.clone())
//!     .build()
//!     .await?;
//! let verified = verifier.verify(&token).await?;
//! assert_eq!(verified.subject(), "alice");
//!
//! // Claims as a type of yours, borrowed from the token.
//! #[derive(serde::Deserialize)]
//! struct Claims<'a> {
//!     name: &'a str,
//! }
//! assert_eq!(verified.claims::<Claims<'_>>()?.name, "Alice");
//!
//! // Dead when now >= exp + leeway, to the second, in the cache as well.
//! clock.set(1305);
//! assert_eq!(verifier.verify(&token).await.err(), Some(VerifyError::Expired));
//! # Ok(()) }
//! ```
//!
//! # What is checked
//!
//! On every call: the time (`exp` and `nbf` with the leeway), `iss` (exactly), `aud`, and what the feed told. Once per
//! token and then remembered by its SHA-256: its form, `alg` against the list *and* the key, `typ` (`at+jwt`, RFC 9068
//! §4), the signature, and that no claim is there twice. A remembered token is forgotten as soon as its key leaves the
//! key set or is withdrawn. Only verified tokens are remembered, so no flood of forgeries pushes one out.
//!
//! # Keys
//!
//! The issuer's metadata is looked for where RFC 8414 §3.1 has it, then where OpenID Connect Discovery has it, and must name
//! the very same issuer. One task fetches the key set: at three quarters to nine tenths of its `max-age`
//! ([`MIN_REFRESH`] to [`MAX_REFRESH`]), at once when the feed withdraws a key or is back after a loss, and when a token
//! names a key that is not in the set. However many such tokens wait, that is one fetch, at most once in
//! [`DEFAULT_KEY_COOLDOWN`]; a name that a fresh set did not have is not asked for again for a minute. While fetching
//! fails, the old keys go on for [`MAX_STALE`].
//!
//! # When something is away
//!
//! A token that cannot be judged is [`VerifyError::Unavailable`]: 503, never 401, since no client shall sign out because the
//! authority is away. The keys are missing only before the first fetch; [`Builder::build`] does not fail for that, and
//! the verifier mends itself. For the feed see [`OnFeedLost`]. [`Verifier::health`] tells how things are.
//!
//! # Other issuers
//!
//! Any issuer of JWT access tokens will do, with the feed off: `sub` may be any text, `aud` and `scope` text or array, times
//! may have fractions. Issuers older than RFC 9068 need [`Builder::types`] or [`Builder::any_type`].
//!
//! # Features
//!
//! `axum` (default): the extractors, and the layer. `tower`: the layer alone. Neither: the core.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

#[cfg(feature = "tower")]
mod bearer;
mod builder;
mod cache;
#[cfg(feature = "tower")]
mod challenge;
mod clock;
mod counters;
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
mod random;
#[cfg(feature = "tower")]
mod refusal;
#[cfg(feature = "tower")]
mod renew;
#[cfg(feature = "tower")]
mod requirements;
mod rules;
mod token;
#[cfg(feature = "tower")]
mod verified;
mod verifier;

pub use builder::{BuildError, Builder, DEFAULT_CACHE, DEFAULT_LEEWAY, MAX_LEEWAY, OnFeedLost};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Unavailable, VerifyError};
#[cfg(feature = "axum")]
pub use extract::Authenticated;
pub use health::{FeedHealth, Health};
pub use introspect::{INTROSPECTION_LIFE, INTROSPECTION_TIMEOUT};
pub use keys::{DEFAULT_KEY_COOLDOWN, DEFAULT_REFRESH, KeysHealth, MAX_REFRESH, MAX_STALE, MIN_REFRESH};
pub use token::Token;
pub use verifier::{Checked, Verifier};
#[cfg(feature = "tower")]
pub use {
    bearer::bearer,
    challenge::Answer,
    layer::{OnStale, RENEWED_ACCESS_TOKEN, RequireLayer, RequireService, VerifyLayer, VerifyService},
    refusal::{
        InsufficientAuthentication, InsufficientScope, InvalidToken, MalformedAuthorization, MissingToken,
        Refusal, TemporarilyUnavailable, UnfitClaims,
    },
    requirements::Requirements,
    verified::{StandardClaims, Verified},
};
