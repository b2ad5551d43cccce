//! What of his record a user may write: the body of `PATCH /v1/me` against `users.user_writable`.

use crate::http::error::{ApiError, ApiResult};
use reseal_core::user::UserPatch;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// A change of my record: what is absent stays, null clears.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub(super) struct PatchRequest {
    /// Full name.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 256)]
    name: Option<Option<String>>,
    /// E-mail address.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 254)]
    email: Option<Option<String>>,
    /// Attributes by name; null removes one, those not named stay.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Object>>)]
    attributes: BTreeMap<String, Value>,
    /// Whatever else is named is not for users to write.
    #[serde(flatten)]
    #[schema(ignore)]
    other: BTreeMap<String, IgnoredAny>,
}

/// Null is a value here; only an absent member is none.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

impl PatchRequest {
    /// The change, if all of it is in `writable` (`name`, `email`, `attributes.NAME`).
    pub(super) fn into_patch(self, writable: &[String]) -> ApiResult<UserPatch> {
        let may = |member: &str| writable.iter().any(|w| w == member);
        let mut members: Vec<String> = self.other.into_keys().collect();
        members.extend(self.name.is_some().then(|| "name".to_owned()));
        members.extend(self.email.is_some().then(|| "email".to_owned()));
        members.extend(self.attributes.keys().map(|a| format!("attributes.{a}")));
        let known = |m: &str| matches!(m, "name" | "email") || m.starts_with("attributes.");
        match members.iter().find(|m| !known(m) || !may(m)) {
            Some(member) => Err(not_writable(member)),
            None => Ok(UserPatch {
                name: self.name,
                email: self.email,
                attributes: self.attributes,
                ..UserPatch::default()
            }),
        }
    }
}

fn not_writable(member: &str) -> ApiError {
    let member: String = member.chars().filter(|c| !c.is_control()).take(80).collect();
    ApiError::forbidden(
        "not_writable",
        format!("{member:?} is not for users to change. What is stands in the setting users.user_writable."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patch(body: Value, writable: &[&str]) -> Result<UserPatch, &'static str> {
        let request: PatchRequest = serde_json::from_value(body).unwrap();
        let writable: Vec<String> = writable.iter().map(|w| (*w).to_owned()).collect();
        request.into_patch(&writable).map_err(|e| e.code())
    }

    #[test]
    fn only_what_is_listed_can_be_written() {
        let all = ["name", "email", "attributes.plan"];
        assert!(patch(json!({ "name": "A", "email": "a@b.c", "attributes": { "plan": 1 } }), &all).is_ok());
        assert_eq!(patch(json!({ "email": "a@b.c" }), &["name"]), Err("not_writable"));
        assert_eq!(patch(json!({ "attributes": { "plan": 1, "level": 2 } }), &all), Err("not_writable"));
        assert_eq!(patch(json!({ "attributes": { "plan": null } }), &["name"]), Err("not_writable"));
    }

    #[test]
    fn no_setting_lets_a_user_write_roles_or_the_phone() {
        for member in
            ["roles", "phone_number", "phone_number_verified", "username", "disabled", "revision", "x"]
        {
            assert_eq!(patch(json!({ member: "v" }), &["name", member]), Err("not_writable"), "{member}");
        }
    }

    #[test]
    fn null_clears_and_absence_leaves() {
        let cleared = patch(json!({ "name": null }), &["name"]).unwrap();
        assert_eq!((cleared.name, cleared.email), (Some(None), None));
        assert_eq!(patch(json!({}), &[]), Ok(UserPatch::default()));
    }
}
