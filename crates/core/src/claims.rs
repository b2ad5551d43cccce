//! Claims: what the access token says (RFC 9068, design §6), and which of it is projected from the record.

use crate::auth::Strength;
use crate::id::ClientId;
use crate::scope::Scope;
use crate::session::{AccessLife, Session};
use crate::user::{User, is_attribute_name};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use std::fmt;

/// One claim that a client may have projected into its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    Username,
    Name,
    Email,
    PhoneNumber,
    PhoneNumberVerified,
    Roles,
    Attribute(String),
}

/// Which members of the record a client's tokens show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection(Vec<Claim>);

/// A name that is no member of the record that a token may show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a claim; use preferred_username, name, email, phone_number, phone_number_verified, roles or attributes.NAME"
)]
pub struct InvalidClaim(String);

impl Projection {
    /// Reads a list like `["name", "roles", "attributes.plan"]`.
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, InvalidClaim> {
        let mut claims = Vec::new();
        for name in names {
            let name = name.as_ref();
            let claim = match name {
                "preferred_username" => Claim::Username,
                "name" => Claim::Name,
                "email" => Claim::Email,
                "phone_number" => Claim::PhoneNumber,
                "phone_number_verified" => Claim::PhoneNumberVerified,
                "roles" => Claim::Roles,
                _ => match name.strip_prefix("attributes.") {
                    Some(attribute) if is_attribute_name(attribute) => Claim::Attribute(attribute.to_owned()),
                    _ => return Err(InvalidClaim(name.chars().take(80).collect())),
                },
            };
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
        Ok(Self(claims))
    }

    /// Whether the claim of this name is shown.
    pub fn shows(&self, name: &str) -> bool {
        self.0.iter().any(|claim| match claim {
            Claim::Username => name == "preferred_username",
            Claim::Name => name == "name",
            Claim::Email => name == "email",
            Claim::PhoneNumber => name == "phone_number",
            Claim::PhoneNumberVerified => name == "phone_number_verified",
            Claim::Roles => name == "roles",
            Claim::Attribute(attribute) => name.strip_prefix("attributes.") == Some(attribute),
        })
    }

    /// The names, as they were written.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Username => "preferred_username",
            Self::Name => "name",
            Self::Email => "email",
            Self::PhoneNumber => "phone_number",
            Self::PhoneNumberVerified => "phone_number_verified",
            Self::Roles => "roles",
            Self::Attribute(name) => return write!(f, "attributes.{name}"),
        })
    }
}

impl Serialize for Projection {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Projection {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(Vec::<String>::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// The payload of an access token, borrowed from what it is made of. Serializes to the JWT claims set.
#[derive(Debug)]
pub struct AccessTokenClaims<'a> {
    /// Issuer.
    pub issuer: &'a str,
    /// The issuer first, then the client's audience list: never empty.
    pub audience: &'a [String],
    /// The client.
    pub client_id: &'a ClientId,
    /// A random id.
    pub jti: &'a str,
    /// When it is good.
    pub life: AccessLife,
    /// What it grants.
    pub scope: &'a Scope,
    /// Of whom and which session; `None` for `client_credentials`, whose `sub` is the client.
    pub subject: Option<SessionClaims<'a>>,
}

/// What a session's token says about the user and the session.
#[derive(Debug)]
pub struct SessionClaims<'a> {
    /// The session.
    pub session: &'a Session,
    /// How strongly the user was authenticated, as far as this token may say.
    pub strength: Strength,
    /// The record.
    pub user: &'a User,
    /// What of it to show.
    pub projection: &'a Projection,
}

impl Serialize for AccessTokenClaims<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("iss", self.issuer)?;
        match &self.subject {
            Some(subject) => map.serialize_entry("sub", &subject.user.id)?,
            None => map.serialize_entry("sub", self.client_id)?,
        }
        map.serialize_entry("aud", self.audience)?;
        map.serialize_entry("client_id", self.client_id)?;
        map.serialize_entry("iat", &self.life.iat)?;
        map.serialize_entry("exp", &self.life.exp)?;
        map.serialize_entry("jti", self.jti)?;
        if let Some(subject) = &self.subject {
            map.serialize_entry("sid", &subject.session.id)?;
            map.serialize_entry("rev", &subject.user.revision)?;
            map.serialize_entry("auth_time", &subject.strength.authenticated_at.secs())?;
            map.serialize_entry("acr", subject.strength.acr.as_str())?;
            map.serialize_entry("amr", &subject.strength.amr)?;
            if let Some(thumbprint) = &subject.session.binding {
                map.serialize_entry("cnf", &Confirmation::of(thumbprint))?;
            }
        }
        map.serialize_entry("scope", self.scope)?;
        if let Some(renew_at) = self.life.renew_at {
            map.serialize_entry("renew_at", &renew_at)?;
        }
        if let Some(subject) = &self.subject {
            subject.serialize_projection(&mut map)?;
        }
        map.end()
    }
}

/// The key that a token is bound to (RFC 7800), by its thumbprint (RFC 9449 §6.1).
#[derive(Serialize)]
struct Confirmation {
    jkt: String,
}

impl Confirmation {
    fn of(thumbprint: &[u8; 32]) -> Self {
        use base64::Engine as _;
        Self { jkt: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(thumbprint) }
    }
}

impl SessionClaims<'_> {
    fn serialize_projection<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let user = self.user;
        let mut attributes = serde_json::Map::new();
        for claim in &self.projection.0 {
            match claim {
                Claim::Username => map.serialize_entry("preferred_username", &user.username)?,
                Claim::Name => map.serialize_entry("name", &user.name)?,
                Claim::Email => map.serialize_entry("email", &user.email)?,
                Claim::PhoneNumber => map.serialize_entry("phone_number", &user.phone_number)?,
                Claim::PhoneNumberVerified => {
                    map.serialize_entry("phone_number_verified", &user.phone_number_verified)?;
                }
                Claim::Roles => map.serialize_entry("roles", &user.roles)?,
                Claim::Attribute(name) => {
                    let value = user.attributes.get(name).cloned().unwrap_or(Value::Null);
                    attributes.insert(name.clone(), value);
                }
            }
        }
        if !attributes.is_empty() {
            map.serialize_entry("attributes", &attributes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
