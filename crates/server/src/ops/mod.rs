//! Operations: health, metrics, the API's description, logs and traces, and what wraps every request.

pub mod access;
pub mod errors;
pub mod health;
pub mod layers;
pub mod log;
pub mod metrics;
pub mod openapi;
mod process;
pub mod trace;

pub use layers::layers;
pub use metrics::Metrics;

use crate::authority::App;
use utoipa_axum::router::OpenApiRouter;

/// The routes `/health/*`, `/metrics` and `/openapi.json`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(health::routes()).merge(metrics::routes()).merge(openapi::routes())
}
