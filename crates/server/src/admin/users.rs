//! `/v1/admin/users`: the records.

use super::{Admin, nullable, page_limit};
use crate::authority::App;
use crate::challenges::Secret;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::etag::{IfMatch, etag};
use crate::http::query::Query;
use crate::manage::users::NewUser;
use crate::me::UserView;
use crate::password::Password;
use crate::session::login::busy;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use reseal_core::user::UserPatch;
use reseal_core::{EndReason, Timestamp, User, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A user's record as an administrator sees it. Times are Unix seconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserRecord {
    /// The record.
    #[serde(flatten)]
    user: UserView,
    /// Disabled users cannot log in and have no live sessions.
    disabled: bool,
}

impl UserRecord {
    fn new(user: &User) -> Self {
        Self { user: UserView::new(user), disabled: user.disabled }
    }
}

/// A page of users.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserPage {
    /// Users in the order of their ids.
    items: Vec<UserRecord>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which users.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// Only the user of this name (case does not matter).
    #[param(max_length = 128)]
    username: Option<String>,
    /// `next` of the page before.
    #[param(min_length = 36, max_length = 36)]
    after: Option<String>,
    /// Most items, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A user to create.
///
/// An administrator sets a password here or never: what a user logs in with is known to him alone (ASVS
/// 6.4.6), and a lost one is replaced by the user himself. So the password here is the one that the user
/// chose in the application's own sign-up, or a random one; `password_hash` takes over an account from
/// another system. With neither, there is no login by password until the user has one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// The name to log in with; unique, case does not matter.
    #[schema(min_length = 1, max_length = 128)]
    username: String,
    /// The first password. Checked like any new password.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    password: Option<Password>,
    /// Instead of `password`: a hash in PHC format (argon2), bcrypt, or Django's pbkdf2_sha256. It is
    /// replaced by a current one at the first login.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    password_hash: Option<Secret>,
    /// Full name.
    #[serde(default)]
    #[schema(max_length = 256)]
    name: Option<String>,
    /// E-mail address.
    #[serde(default)]
    #[schema(max_length = 254)]
    email: Option<String>,
    /// Phone number with + and the country code.
    #[serde(default)]
    #[schema(max_length = 64, example = "+4915112345678")]
    phone_number: Option<String>,
    /// Whether it is proved that the number is the user's; then it is the second factor.
    #[serde(default)]
    phone_number_verified: bool,
    /// Roles.
    #[serde(default)]
    #[schema(max_items = 64)]
    roles: Vec<String>,
    /// Anything else the application wants in its tokens; 64 at most, 4096 bytes together.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Object>)]
    attributes: BTreeMap<String, Value>,
}

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PatchUserRequest {
    /// Full name; null clears it.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 256)]
    name: Option<Option<String>>,
    /// E-mail address; null clears it.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 254)]
    email: Option<Option<String>>,
    /// Phone number; null clears it. A new one is unverified unless the patch says otherwise.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 64, example = "+4915112345678")]
    phone_number: Option<Option<String>>,
    /// Whether it is proved that the number is the user's.
    phone_number_verified: Option<bool>,
    /// All roles, in place of those there are.
    #[schema(max_items = 64)]
    roles: Option<Vec<String>>,
    /// Attributes to set; null removes one; those not named stay.
    #[schema(value_type = BTreeMap<String, Object>)]
    attributes: BTreeMap<String, Value>,
    /// True ends all sessions of the user and lets nobody log in as him.
    disabled: Option<bool>,
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, delete))
        .routes(routes!(reset_factors))
}

/// All users, or the one of a name.
#[utoipa::path(
    get, path = "/v1/admin/users", tag = "admin", params(UserQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Users", body = UserPage),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn list(State(app): State<App>, _: Admin, Query(query): Query<UserQuery>) -> ApiResult<Json<UserPage>> {
    let limit = page_limit(query.limit)?;
    let after = query.after.map(|a| a.parse::<UserId>()).transpose();
    let after = after.map_err(|_| ApiError::invalid_request("after is not a user id."))?;
    if let Some(username) = query.username {
        let found = app.store.user_by_username(&username).await?.map(|(user, _)| user);
        let found = found.filter(|user| after.is_none_or(|after| user.id > after));
        return Ok(Json(UserPage { items: found.iter().map(UserRecord::new).collect(), next: None }));
    }
    let users = app.store.users(after, limit).await?;
    let next = (users.len() == limit).then(|| users.last().map(|u| u.id.to_string())).flatten();
    Ok(Json(UserPage { items: users.iter().map(UserRecord::new).collect(), next }))
}

/// Create a user.
#[utoipa::path(
    post, path = "/v1/admin/users", tag = "admin",
    request_body = CreateUserRequest,
    security(("bearer" = [])),
    responses(
        (status = 201, description = "Created; `ETag` has the revision, `Location` the address", body = UserRecord),
        (status = 400, description = "Malformed, or a password that is too weak", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 409, description = "The username is taken", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn create(
    State(app): State<App>,
    admin: Admin,
    JsonBody(body): JsonBody<CreateUserRequest>,
) -> ApiResult<Response> {
    let mut new = NewUser {
        username: body.username,
        name: body.name,
        email: body.email,
        phone_number: body.phone_number,
        phone_number_verified: body.phone_number_verified,
        roles: body.roles,
        attributes: body.attributes,
        disabled: false,
        password_hash: None,
    };
    new.password_hash = match (body.password, body.password_hash) {
        (None, None) => None,
        (Some(password), None) => Some(hash(&app, (&new, password), admin.now).await?),
        (None, Some(hash)) => Some(hash.reveal().to_owned()),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_request("Send password or password_hash, not both."));
        }
    };
    let user = app.manage(admin.now).create_user(new).await?;
    tracing::info!(sub = %user.id, client_id = %admin.client.id, "user created");
    let location = format!("{}/v1/admin/users/{}", app.issuer, user.id);
    let mut response = record(StatusCode::CREATED, &user);
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One user.
#[utoipa::path(
    get, path = "/v1/admin/users/{id}", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The record; `ETag` has the revision", body = UserRecord),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn show(State(app): State<App>, _: Admin, Path(id): Path<String>) -> ApiResult<Response> {
    let user = app.store.user(user_id(&id)?).await?.ok_or_else(no_user)?;
    Ok(record(StatusCode::OK, &user))
}

/// Change a user. The revision grows once however much changes; the log tells verifiers,
/// and the next renewal of each session carries the new claims.
#[utoipa::path(
    patch, path = "/v1/admin/users/{id}", tag = "admin",
    params(
        ("id" = String, Path, description = "`sub` of the user"),
        ("If-Match" = Option<String>, Header, description = "The revision that the record must have, like \"7\""),
    ),
    request_body = PatchUserRequest,
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The record as it is now; `ETag` has the revision", body = UserRecord),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 412, description = "The record has another revision than If-Match names", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn change(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
    IfMatch(revision): IfMatch,
    JsonBody(body): JsonBody<PatchUserRequest>,
) -> ApiResult<Response> {
    let patch = UserPatch {
        name: body.name,
        email: body.email,
        phone_number: body.phone_number,
        phone_number_verified: body.phone_number_verified,
        roles: body.roles,
        attributes: body.attributes,
        disabled: body.disabled,
    };
    let user = app.manage(admin.now).patch_user(user_id(&id)?, &patch, revision).await?;
    tracing::info!(
        sub = %user.id, client_id = %admin.client.id, revision = user.revision, disabled = user.disabled,
        roles = patch.roles.is_some(), "user changed"
    );
    if patch.disabled == Some(true) {
        app.metrics.session_ended(EndReason::UserDisabled.as_str());
    }
    Ok(record(StatusCode::OK, &user))
}

/// Delete a user; all sessions end.
#[utoipa::path(
    delete, path = "/v1/admin/users/{id}", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user")),
    security(("bearer" = [])),
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn delete(State(app): State<App>, admin: Admin, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let id = user_id(&id)?;
    app.manage(admin.now).delete_user(id).await?;
    app.metrics.session_ended(EndReason::UserDisabled.as_str());
    tracing::info!(sub = %id, client_id = %admin.client.id, "user deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Take a user's second factor away: the phone number and the recovery codes. Sessions stay; end them too
/// where the phone was stolen.
#[utoipa::path(
    delete, path = "/v1/admin/users/{id}/factors", tag = "admin",
    params(("id" = String, Path, description = "`sub` of the user")),
    security(("bearer" = [])),
    responses(
        (status = 204, description = "The user logs in with the password alone"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "No good token", body = ErrorBody),
        (status = 403, description = "Not the scope reseal:admin, or a user's token", body = ErrorBody),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn reset_factors(
    State(app): State<App>,
    admin: Admin,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let user = app.manage(admin.now).reset_factors(user_id(&id)?).await?;
    tracing::warn!(sub = %user.id, client_id = %admin.client.id, "second factor reset");
    Ok(StatusCode::NO_CONTENT)
}

/// The id in a path. What cannot be an id names nobody: 404.
pub(super) fn user_id(text: &str) -> ApiResult<UserId> {
    text.parse().map_err(|_| no_user())
}

pub(super) fn no_user() -> ApiError {
    ApiError::not_found("user")
}

fn record(status: StatusCode, user: &User) -> Response {
    (status, [(header::ETAG, etag(user.revision))], Json(UserRecord::new(user))).into_response()
}

/// The hash of a first password, which must be good enough like any new one.
async fn hash(app: &App, (new, password): (&NewUser, Password), now: Timestamp) -> ApiResult<String> {
    let (user, _) = new.clone().into_record(UserId::from_bytes([0; 16]), now)?;
    app.check_new_password(&password, &user).await?;
    Ok(app.hasher.hash(password).await.map_err(busy)?.to_string())
}
