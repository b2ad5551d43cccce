//! OAuth 2.0: token, revocation, introspection, metadata and keys.

pub mod introspect;
pub mod metadata;
pub mod refresh;
pub mod revoke;
pub mod token;

use crate::authority::App;
use utoipa_axum::router::OpenApiRouter;

/// The routes under `/oauth`, `/.well-known` and `/jwks.json`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(token::routes())
        .merge(revoke::routes())
        .merge(introspect::routes())
        .merge(metadata::routes())
}
