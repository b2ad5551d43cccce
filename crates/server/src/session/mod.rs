//! First-party sessions: login, renewal, the session itself, my devices (design §8).

pub mod factor;
pub mod list;
pub mod login;
pub mod renew;
pub mod show;

use crate::authority::App;
use utoipa_axum::router::OpenApiRouter;

/// The routes under `/v1/session` and `/v1/sessions`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(login::routes())
        .merge(factor::routes())
        .merge(renew::routes())
        .merge(show::routes())
        .merge(list::routes())
}
