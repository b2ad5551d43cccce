//! All routes together, and the document that describes them.

use crate::authority::App;
use crate::{admin, dev, feed, gateway, me, oauth, ops, session};
use axum::Router;
use utoipa_axum::router::OpenApiRouter;

/// The routes of this authority, with everything that wraps them.
pub fn router(app: &App) -> Router {
    let (mut routes, _) = documented().split_for_parts();
    routes = routes.merge(gateway::pages());
    if app.dev.is_some() {
        routes = routes.merge(dev::routes());
    }
    ops::layers(routes, app)
}

/// The OpenAPI document, for `/openapi.json` and `reseal generate openapi`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    ops::openapi::complete(documented().split_for_parts().1)
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(ops::openapi::document())
        .merge(oauth::routes())
        .merge(session::routes())
        .merge(me::routes())
        .merge(admin::routes())
        .merge(gateway::routes())
        .merge(feed::routes())
        .merge(ops::routes())
}
