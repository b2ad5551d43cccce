//! The description of the API (OpenAPI 3.1), generated from the handlers.

use crate::authority::App;
use crate::http::error::ErrorBody;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use std::sync::OnceLock;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    Ref, RefOr, ResponseBuilder, path::Operation, tag::TagBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the document says before any route: title, licence, ways to authenticate, groups.
pub fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Reseal")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A session authority: starts, renews, updates and ends login sessions. Times are Unix seconds. Every \
             error is an ErrorBody with a stable code.",
        ))
        .contact(Some(ContactBuilder::new().name(Some("The Reseal authors")).build()))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token (RFC 9068)."))
        .build();
    let client = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some(
            "client_secret_basic; or client_id and client_secret in the body (client_secret_post).",
        ))
        .build();
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
        "__Host-reseal",
        "The session cookie; named `reseal` in development mode.",
    ));
    let components = ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("cookie", SecurityScheme::ApiKey(cookie))
        .security_scheme("client", SecurityScheme::Http(client))
        .schema(ErrorBody::name(), ErrorBody::schema())
        .build();
    let tags = TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(tags)).build()
}

const TAGS: [(&str, &str); 7] = [
    ("oauth", "OAuth 2.0 (RFC 6749, 7009, 7662, 8414)"),
    ("session", "First-party sessions: login, renewal, devices"),
    ("me", "The user's own record, phone and password"),
    ("admin", "Administration, with a token of scope reseal:admin"),
    ("gateway", "For the proxy before an app that knows nothing of sessions"),
    ("feed", "What verifiers must know, as server-sent events, with a token of scope reseal:feed"),
    ("operations", "Health, metrics, this document"),
];

/// Adds what every operation may answer because of what wraps it ([`super::layers()`]).
pub fn complete(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete, &mut item.head];
        for operation in operations.into_iter().flatten() {
            add_common(operation);
        }
    }
    document
}

fn add_common(operation: &mut Operation) {
    for (status, description) in COMMON {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
            let content = ContentBuilder::new()
                .schema(Some(RefOr::Ref(Ref::from_schema_name(ErrorBody::name()))))
                .build();
            let response =
                ResponseBuilder::new().description(description).content("application/json", content);
            RefOr::T(response.build())
        });
    }
}

const COMMON: [(&str, &str); 6] = [
    ("400", "Malformed"),
    ("408", "The body did not arrive in time"),
    ("413", "Body too large"),
    ("431", "Headers too large"),
    ("500", "A defect of the server; nothing more is told, the log has it"),
    ("503", "Try again; see Retry-After"),
];

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show))
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
async fn show() -> Response {
    // Made when it is first asked for: it costs memory that most authorities never need.
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| serde_json::to_vec(&crate::router::openapi()).unwrap_or_default().into());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, text.clone()).into_response()
}
