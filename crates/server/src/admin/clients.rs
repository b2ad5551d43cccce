//! `/v1/admin/clients`: registered applications and their secrets.

use super::{Admin, page_limit};
use crate::authority::App;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::query::Query;
use crate::jobs;
use crate::manage::clients::{ClientDeletion, ClientPatch, ClientSecret, NewClient};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use reseal_core::claims::Projection;
use reseal_core::{Client, ClientId, PolicyName, Scope};
use reseal_jose::Algorithm;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

/// A registered client. Times are Unix seconds.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ClientRecord {
    /// Its id.
    client_id: String,
    /// Shown once, in the answer that made it: only its hash is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// A name for people.
    name: String,
    /// Whether it has a secret.
    confidential: bool,
    /// The policy of its sessions.
    policy: String,
    /// Resource servers its tokens are for, besides the authority itself.
    audience: Vec<String>,
    /// What its sessions and its own tokens may be granted.
    scope: String,
    /// What of the user's record its tokens show.
    claims: Vec<String>,
    /// Origins from which browsers may call for it.
    origins: Vec<String>,
    /// Signing algorithm of its tokens.
    #[schema(example = "ES256")]
    algorithm: String,
    /// Whether it may ask about tokens.
    introspect: bool,
    /// Disabled clients get nothing.
    disabled: bool,
    /// When it was registered.
    created_at: i64,
    /// When it last changed.
    updated_at: i64,
}

impl ClientRecord {
    fn new(client: Client, secret: Option<&ClientSecret>) -> Self {
        Self {
            confidential: client.is_confidential(),
            client_id: client.id.to_string(),
            client_secret: secret.map(|s| s.reveal().to_owned()),
            name: client.name,
            policy: client.policy.to_string(),
            audience: client.audience,
            scope: client.scope.to_string(),
            claims: client.claims.names(),
            origins: client.origins,
            algorithm: client.algorithm,
            introspect: client.introspect,
            disabled: client.disabled,
            created_at: client.created_at.secs(),
            updated_at: client.updated_at.secs(),
        }
    }
}

impl std::fmt::Debug for ClientRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientRecord").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// A page of clients.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClientPage {
    /// Clients in the order of their ids.
    items: Vec<ClientRecord>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// `next` of the page before.
    #[param(min_length = 1, max_length = 64)]
    after: Option<String>,
    /// Most items, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A client to register.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateClientRequest {
    /// Its id: 1 to 64 letters, digits, '.', '_' or '-'; default: a random one.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    client_id: Option<String>,
    /// A name for people.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// Whether it gets a secret: true for what runs on a server, false for browsers and phones.
    #[serde(default)]
    confidential: bool,
    /// The policy of its sessions.
    #[schema(example = "app")]
    policy: String,
    /// Resource servers its tokens are for, besides the authority itself.
    #[serde(default)]
    #[schema(max_items = 16)]
    audience: Vec<String>,
    /// What its sessions and its own tokens may be granted. `reseal:` words for confidential clients only.
    #[serde(default)]
    #[schema(max_length = 1024)]
    scope: String,
    /// What of the user's record its tokens show, like `roles` or `attributes.plan`.
    #[serde(default)]
    #[schema(max_items = 64)]
    claims: Vec<String>,
    /// Origins from which browsers may call for it, like `https://app.example`.
    #[serde(default)]
    #[schema(max_items = 64)]
    origins: Vec<String>,
    /// ES256 (default), EdDSA or RS256.
    #[serde(default)]
    #[schema(example = "ES256")]
    algorithm: Option<String>,
    /// Whether it may ask about tokens; confidential clients only.
    #[serde(default)]
    introspect: bool,
}

/// What to change; what is left out stays, lists are replaced whole.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PatchClientRequest {
    /// A name for people.
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    /// The policy of the sessions that start from now on.
    policy: Option<String>,
    /// Resource servers its tokens are for.
    #[schema(max_items = 16)]
    audience: Option<Vec<String>>,
    /// What its sessions and its own tokens may be granted.
    #[schema(max_length = 1024)]
    scope: Option<String>,
    /// What of the user's record its tokens show.
    #[schema(max_items = 64)]
    claims: Option<Vec<String>>,
    /// Origins from which browsers may call for it.
    #[schema(max_items = 64)]
    origins: Option<Vec<String>>,
    /// ES256, EdDSA or RS256.
    algorithm: Option<String>,
    /// Whether it may ask about tokens.
    introspect: Option<bool>,
    /// True: it gets nothing, and its sessions are of no use until it is enabled again.
    disabled: Option<bool>,
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, delete))
        .routes(routes!(rotate_secret))
}

/// All clients.
#[utoipa::path(
    get, path = "/v1/admin/clients", tag = "admin", params(PageQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Clients", body = ClientPage),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<App>,
    _: Admin,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<ClientPage>> {
    let limit = page_limit(page.limit)?;
    let after = page.after.map(|a| a.parse::<ClientId>()).transpose();
    let after = after.map_err(|_| ApiError::invalid_request("after is not a client id."))?;
    let clients = app.store.clients(after.as_ref(), limit).await?;
    let next = (clients.len() == limit).then(|| clients.last().map(|c| c.id.to_string())).flatten();
    Ok(Json(ClientPage { items: clients.into_iter().map(|c| ClientRecord::new(c, None)).collect(), next }))
}

/// Register a client. The secret of a confidential one is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/admin/clients", tag = "admin",
    request_body = CreateClientRequest,
    security(("bearer" = [])),
    responses(
        (status = 201, description = "Registered; `Location` has the address", body = ClientRecord),
        (status = 400, description = "Malformed, or not valid together", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 409, description = "The id is taken", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn create(
    State(app): State<App>,
    admin: Admin,
    JsonBody(body): JsonBody<CreateClientRequest>,
) -> ApiResult<Response> {
    let new = NewClient {
        id: body.client_id.map(|id| id.parse()).transpose().map_err(|_| invalid("client_id"))?,
        name: body.name,
        confidential: body.confidential,
        policy: policy_name(&body.policy)?,
        audience: body.audience,
        scope: scope(&body.scope)?,
        claims: claims(&body.claims)?,
        origins: body.origins,
        algorithm: body.algorithm.as_deref().map_or(Ok(Algorithm::Es256), algorithm)?,
        introspect: body.introspect,
    };
    let (client, secret) = app.manage(admin.now).create_client(new).await?;
    app.clients_changed().await;
    ensure_keys(&app).await;
    tracing::info!(client = %client.id, client_id = %admin.client.id, "client created");
    let location = format!("{}/v1/admin/clients/{}", app.issuer, client.id);
    let record = ClientRecord::new(client, secret.as_ref());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(record)).into_response())
}

/// One client.
#[utoipa::path(
    get, path = "/v1/admin/clients/{id}", tag = "admin",
    params(("id" = String, Path, description = "The client's id")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The client", body = ClientRecord),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such client", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn show(State(app): State<App>, _: Admin, Path(id): Path<String>) -> ApiResult<Json<ClientRecord>> {
    let client = app.store.client(&client_id(&id)?).await?.ok_or_else(no_client)?;
    Ok(Json(ClientRecord::new(client, None)))
}

/// Change a client. What takes something away holds at once here, and the log tells verifiers.
#[utoipa::path(
    patch, path = "/v1/admin/clients/{id}", tag = "admin",
    params(("id" = String, Path, description = "The client's id")),
    request_body = PatchClientRequest,
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The client as it is now", body = ClientRecord),
        (status = 400, description = "Malformed, or not valid together", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such client", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn change(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<PatchClientRequest>,
) -> ApiResult<Json<ClientRecord>> {
    let id = client_id(&id)?;
    let patch = ClientPatch {
        name: body.name,
        policy: body.policy.as_deref().map(policy_name).transpose()?,
        audience: body.audience,
        scope: body.scope.as_deref().map(scope).transpose()?,
        claims: body.claims.as_deref().map(claims).transpose()?,
        origins: body.origins,
        algorithm: body.algorithm.as_deref().map(algorithm).transpose()?,
        introspect: body.introspect,
        disabled: body.disabled,
    };
    let done = app.manage(admin.now).patch_client(&id, &patch).await;
    app.clients_changed().await;
    let client = done?;
    ensure_keys(&app).await;
    tracing::info!(client = %client.id, client_id = %admin.client.id, disabled = client.disabled, "client changed");
    Ok(Json(ClientRecord::new(client, None)))
}

/// Delete a client. Its sessions end; where they are very many it takes several requests, and the client
/// is of no use from the first on.
#[utoipa::path(
    delete, path = "/v1/admin/clients/{id}", tag = "admin",
    params(("id" = String, Path, description = "The client's id")),
    security(("bearer" = [])),
    responses(
        (status = 202, description = "It is disabled and many of its sessions are ended; delete again"),
        (status = 204, description = "Deleted"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such client", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn delete(State(app): State<App>, admin: Admin, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let id = client_id(&id)?;
    let done = app.manage(admin.now).delete_client(&id, BATCHES).await;
    // Disabled or gone, or perhaps so where the answer was lost: in any case what is remembered is old.
    app.clients_changed().await;
    let deletion = done?;
    tracing::info!(client = %id, client_id = %admin.client.id, ?deletion, "client deleted");
    Ok(match deletion {
        ClientDeletion::Done => StatusCode::NO_CONTENT,
        ClientDeletion::MoreSessions => StatusCode::ACCEPTED,
    })
}

/// Give a confidential client a new secret. The old one is void at once.
#[utoipa::path(
    post, path = "/v1/admin/clients/{id}/secret", tag = "admin",
    params(("id" = String, Path, description = "The client's id")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The client with its new secret, shown once", body = ClientRecord),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such client", body = ErrorBody),
        (status = 409, description = "A public client has no secret", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn rotate_secret(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
) -> ApiResult<Json<ClientRecord>> {
    let id = client_id(&id)?;
    let done = app.manage(admin.now).rotate_client_secret(&id).await;
    app.clients_changed().await;
    let (client, secret) = done?;
    tracing::warn!(client = %client.id, client_id = %admin.client.id, "client secret rotated");
    Ok(Json(ClientRecord::new(client, Some(&secret))))
}

/// Sessions of a client are ended in at most so many batches per request.
const BATCHES: usize = 20;

/// Makes the first key of an algorithm that no client used before. A failure is tried again by the
/// rotation job; until then tokens of the client are 503.
async fn ensure_keys(app: &App) {
    if let Err(error) = jobs::ensure_keys(app).await {
        tracing::error!(%error, "keys could not be made");
    }
}

/// The id in a path. What cannot be an id names nothing: 404.
fn client_id(text: &str) -> ApiResult<ClientId> {
    text.parse().map_err(|_| no_client())
}

fn no_client() -> ApiError {
    ApiError::not_found("client")
}

fn invalid(member: &'static str) -> ApiError {
    ApiError::invalid_request(format!("{member}: 1 to 64 letters, digits, '.', '_' or '-'."))
}

fn policy_name(text: &str) -> ApiResult<PolicyName> {
    text.parse().map_err(|_| invalid("policy"))
}

fn scope(text: &str) -> ApiResult<Scope> {
    text.parse().map_err(|e| ApiError::invalid_request(format!("scope: {e}.")))
}

fn claims(names: &[String]) -> ApiResult<Projection> {
    Projection::parse(names).map_err(|e| ApiError::invalid_request(format!("claims: {e}.")))
}

fn algorithm(text: &str) -> ApiResult<Algorithm> {
    text.parse().map_err(|_| ApiError::invalid_request("algorithm: ES256, EdDSA or RS256."))
}
