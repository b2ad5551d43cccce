//! My record, my phone, my password: what users change themselves (design §8).
//!
//! Every change here is one commit: the record by compare-and-swap, the caller's own session (which must
//! still be live), the event for verifiers and the line for the timeline. Whoever loses a race reads and
//! decides again, so changes of different members at once lose nothing.

mod commit;
mod confirm;
mod password;
pub mod patch;
mod phone;
mod record;

use crate::authority::App;
use reseal_core::User;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa_axum::router::OpenApiRouter;

/// A user's record as its owner sees it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserView {
    /// The user's id, `sub` in tokens.
    pub sub: String,
    /// The name to log in with.
    pub username: String,
    /// Full name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number (E.164); null until there is one.
    #[schema(example = "+4915112345678")]
    pub phone_number: Option<String>,
    /// Whether the number was proved; then it is the second factor.
    pub phone_number_verified: bool,
    /// Roles.
    pub roles: Vec<String>,
    /// What the application keeps.
    #[schema(value_type = BTreeMap<String, Object>, additional_properties)]
    pub attributes: BTreeMap<String, Value>,
    /// Grows with every change that a token may show; `rev` in tokens, and the `ETag` of this record.
    pub revision: u64,
    /// When the record was made.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
}

impl UserView {
    /// The record without what is none of the owner's business.
    pub fn new(user: &User) -> Self {
        Self {
            sub: user.id.to_string(),
            username: user.username.clone(),
            name: user.name.clone(),
            email: user.email.clone(),
            phone_number: user.phone_number.clone(),
            phone_number_verified: user.phone_number_verified,
            roles: user.roles.clone(),
            attributes: user.attributes.clone(),
            revision: user.revision,
            created_at: user.created_at.secs(),
            updated_at: user.updated_at.secs(),
        }
    }
}

/// The routes under `/v1/me`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(record::routes()).merge(phone::routes()).merge(password::routes())
}
