//! OAuth 2.0: token, revocation, introspection, metadata and keys.

pub mod introspect;
pub mod metadata;
pub mod refresh;
pub mod revoke;
pub mod token;

use crate::authority::App;
use serde::{Deserialize, Deserializer};
use utoipa_axum::router::OpenApiRouter;

/// The routes under `/oauth`, `/.well-known` and `/jwks.json`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(token::routes())
        .merge(revoke::routes())
        .merge(introspect::routes())
        .merge(metadata::routes())
}

/// Reads a parameter; one without a value counts as left out (RFC 6749 §3.1 and §3.2).
fn filled<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + AsRef<str>,
{
    Ok(Option::<T>::deserialize(deserializer)?.filter(|text| !text.as_ref().is_empty()))
}
