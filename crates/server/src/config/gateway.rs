//! `[gateway]`: the hosted pages, and what `GET /gateway/verify` keeps.

use crate::gateway::ReturnTargets;
use reseal_core::ClientId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gateway mode: the hosted pages `/login` and `/logout`, and what `/gateway/verify` keeps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// The client that the hosted pages log users in to: public, with a cookie policy. Without it they
    /// answer 404.
    #[schemars(with = "Option<String>")]
    pub client_id: Option<ClientId>,
    /// Where the hosted pages may send the browser afterwards, besides paths on the host they are on:
    /// origins, or URLs whose path everything must lie under.
    pub return_to: Vec<String>,
    /// What the hosted pages call the app; default: the client's name.
    pub title: Option<String>,
    /// Most bytes of signed tokens kept for the next requests of their sessions.
    pub token_cache_bytes: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { client_id: None, return_to: Vec::new(), title: None, token_cache_bytes: 32 * 1024 * 1024 }
    }
}

impl GatewayConfig {
    /// The key that cannot be used, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        ReturnTargets::parse(&self.return_to).map_err(|e| ("return_to", e.to_string()))?;
        let title = self.title.as_deref().unwrap_or("-");
        if title.trim().is_empty() || title.len() > 100 || title.chars().any(char::is_control) {
            return Err(("title", "must have 1 to 100 characters in one line".to_owned()));
        }
        if !(64 * 1024..=1 << 40).contains(&self.token_cache_bytes) {
            return Err(("token_cache_bytes", "must lie between 65536 (64 KiB) and 2^40".to_owned()));
        }
        Ok(())
    }
}
