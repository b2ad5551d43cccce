//! Gateway mode (design §9): for apps behind a proxy that should not know about any of this.
//!
//! `GET /gateway/verify` turns the browser's session cookie into an access token; the hosted pages `/login`
//! and `/logout`, which the proxy passes on to the authority on the app's own host, make and end the session.

mod asked;
mod cache;
mod code;
mod demand;
mod identity;
mod login;
mod logout;
mod original;
mod pages;
mod return_to;
mod sign_in;
mod site;
mod verify;
mod words;

pub use pages::routes as pages;
pub use return_to::{InvalidTarget, Refused, ReturnTargets, ReturnTo};

use crate::authority::{App, Authority};
use crate::config::GatewayConfig;
use cache::TokenCache;
use reseal_core::policy::Policies;
use reseal_core::{Client, ClientId, Timestamp};
use reseal_store::StoreError;
use std::fmt;
use utoipa_axum::router::OpenApiRouter;

/// The state of gateway mode.
pub struct Gateway {
    /// The client that the hosted pages log in to.
    client_id: Option<ClientId>,
    /// Where they may send the browser.
    targets: ReturnTargets,
    /// What they call the app.
    title: Option<String>,
    /// Tokens for the apps behind the proxy.
    tokens: TokenCache,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Gateway {
    /// As the configuration says. In development mode, where it names no client, the pages log in to `dev`
    /// and may send the browser to any port of this machine.
    pub fn open(config: &GatewayConfig, dev: Option<&ClientId>) -> Result<Self, InvalidTarget> {
        let mut targets = ReturnTargets::parse(&config.return_to)?;
        let mut client_id = config.client_id.clone();
        if let (None, Some(dev)) = (&client_id, dev) {
            client_id = Some(dev.clone());
            targets = targets.and_loopback();
        }
        let tokens = TokenCache::new(config.token_cache_bytes);
        Ok(Self { client_id, targets, title: config.title.clone(), tokens })
    }

    /// Drops tokens that are of no more use.
    pub fn sweep(&self, now: Timestamp) {
        self.tokens.sweep(now);
    }

    /// Bytes of tokens that were kept at the last sweep, about.
    pub fn token_bytes(&self) -> usize {
        self.tokens.bytes()
    }
}

/// Says in the log what keeps the hosted pages from being used, so that nobody learns of it from a visitor
/// first. It keeps nothing from starting: a client may be registered later.
pub async fn warn_if_unusable(app: &Authority) -> Result<(), StoreError> {
    if let Some(id) = &app.gateway.client_id
        && let Err(why) = site::usable(app, id).await?
    {
        tracing::warn!(client_id = %id, "no sign-in page yet: the client of [gateway] {why}");
    }
    Ok(())
}

/// Why the hosted pages cannot use this client of `[gateway]` (`None`: it is not registered), for whoever looks
/// without an authority.
pub fn unusable(client: Option<&Client>, policies: &Policies) -> Option<&'static str> {
    site::unusable(client, policies)
}

/// The routes that are part of the API.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(verify::routes())
}
