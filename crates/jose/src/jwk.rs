//! JSON Web Keys and sets of them, as they are written.

use crate::members::{Members, Object, Text};
use crate::verifying::KeyError;
use crate::{base64url, excerpt};
use aws_lc_rs::digest;
use serde::de::{Error as _, IgnoredAny, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A public key as JSON (RFC 7517). Well-formed, but not checked: a
/// [`VerifyingKey`](crate::VerifyingKey) made of it is.
///
/// Reading one refuses duplicate members. Private members (`d`, `p`, `k`, ...) are skipped and never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jwk {
    /// The key itself.
    pub material: KeyMaterial,
    /// Its name.
    pub kid: Option<String>,
    /// The only algorithm that it is for.
    pub alg: Option<String>,
    /// What it is for: `sig` or `enc`.
    pub key_use: Option<String>,
    /// What may be done with it, such as `verify`.
    pub key_ops: Option<Vec<String>>,
}

/// The members of a JWK that make the key (RFC 7518 §6, RFC 8037 §2), in base64url as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyMaterial {
    /// `"kty": "EC"`.
    Ec {
        /// The curve.
        crv: String,
        /// One coordinate.
        x: String,
        /// The other.
        y: String,
    },
    /// `"kty": "OKP"`.
    Okp {
        /// The curve.
        crv: String,
        /// The public key.
        x: String,
    },
    /// `"kty": "RSA"`.
    Rsa {
        /// The modulus.
        n: String,
        /// The public exponent.
        e: String,
    },
    /// A type of key that is not used here; only its name is kept.
    Other {
        /// The name of the type.
        kty: String,
    },
}

impl Jwk {
    /// A key that says nothing about itself but what it is.
    pub const fn new(material: KeyMaterial) -> Self {
        Self { material, kid: None, alg: None, key_use: None, key_ops: None }
    }

    /// Reads one key, at most [`MAX_KEY_SET_LEN`](crate::MAX_KEY_SET_LEN) bytes of JSON.
    pub fn parse(json: &[u8]) -> Result<Self, KeyError> {
        if json.len() > crate::MAX_KEY_SET_LEN {
            return Err(KeyError::Malformed("it is too long".to_owned()));
        }
        let object: Object<RawJwk> =
            serde_json::from_slice(json).map_err(|error| KeyError::Malformed(excerpt(&error.to_string())))?;
        Self::from_object(object)
    }

    /// The SHA-256 thumbprint (RFC 7638) in base64url. The same key has the same one, however it is written.
    pub fn thumbprint(&self) -> Result<String, KeyError> {
        // Required members only, ordered by name, without white space (RFC 7638 §3.3).
        let canonical = match &self.material {
            KeyMaterial::Ec { crv, x, y } => serde_json::json!({"crv": crv, "kty": "EC", "x": x, "y": y}),
            KeyMaterial::Okp { crv, x } => serde_json::json!({"crv": crv, "kty": "OKP", "x": x}),
            KeyMaterial::Rsa { n, e } => serde_json::json!({"e": e, "kty": "RSA", "n": n}),
            KeyMaterial::Other { kty } => return Err(KeyError::of_type(kty)),
        };
        let hash = digest::digest(&digest::SHA256, canonical.to_string().as_bytes());
        Ok(base64url::encode(hash.as_ref()))
    }

    fn from_object(object: Object<RawJwk>) -> Result<Self, KeyError> {
        let raw = object.accept().map_err(|fault| KeyError::Malformed(fault.to_string()))?;
        let missing = |name: &str| KeyError::Malformed(format!("it has no `{name}`"));
        let material = match raw.kty.ok_or_else(|| missing("kty"))?.as_str() {
            "EC" => KeyMaterial::Ec {
                crv: raw.crv.ok_or_else(|| missing("crv"))?,
                x: raw.x.ok_or_else(|| missing("x"))?,
                y: raw.y.ok_or_else(|| missing("y"))?,
            },
            "OKP" => KeyMaterial::Okp {
                crv: raw.crv.ok_or_else(|| missing("crv"))?,
                x: raw.x.ok_or_else(|| missing("x"))?,
            },
            "RSA" => KeyMaterial::Rsa {
                n: raw.n.ok_or_else(|| missing("n"))?,
                e: raw.e.ok_or_else(|| missing("e"))?,
            },
            other => KeyMaterial::Other { kty: other.to_owned() },
        };
        Ok(Self { material, kid: raw.kid, alg: raw.alg, key_use: raw.key_use, key_ops: raw.key_ops })
    }
}

impl<'de> Deserialize<'de> for Jwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_object(Object::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let members: &[(&str, &str)] = match &self.material {
            KeyMaterial::Ec { crv, x, y } => &[("kty", "EC"), ("crv", crv), ("x", x), ("y", y)],
            KeyMaterial::Okp { crv, x } => &[("kty", "OKP"), ("crv", crv), ("x", x)],
            KeyMaterial::Rsa { n, e } => &[("kty", "RSA"), ("n", n), ("e", e)],
            KeyMaterial::Other { kty } => &[("kty", kty)],
        };
        for (name, value) in members {
            map.serialize_entry(name, value)?;
        }
        for (name, value) in [("kid", &self.kid), ("alg", &self.alg), ("use", &self.key_use)] {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(operations) = &self.key_ops {
            map.serialize_entry("key_ops", operations)?;
        }
        map.end()
    }
}

#[derive(Default)]
struct RawJwk {
    kty: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    key_use: Option<String>,
    key_ops: Option<Vec<String>>,
}

impl Members for RawJwk {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let text = match name {
            "kty" => &mut self.kty,
            "crv" => &mut self.crv,
            "x" => &mut self.x,
            "y" => &mut self.y,
            "n" => &mut self.n,
            "e" => &mut self.e,
            "kid" => &mut self.kid,
            "alg" => &mut self.alg,
            "use" => &mut self.key_use,
            "key_ops" => {
                self.key_ops = Some(map.next_value()?);
                return Ok(());
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
                return Ok(());
            }
        };
        *text = Some(map.next_value::<Text<'de>>()?.0.into_owned());
        Ok(())
    }
}

/// A set of keys as it is published (RFC 7517 §5).
///
/// To read a set that somebody else publishes use [`VerifyingKeys::parse`](crate::VerifyingKeys::parse),
/// which is bounded and skips what it does not know; deserializing one fails at its first malformed key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

impl<'de> Deserialize<'de> for JwkSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let set: RawSet<Jwk> = Object::deserialize(deserializer)?.accept().map_err(D::Error::custom)?;
        set.0.map(|keys| Self { keys }).ok_or_else(|| D::Error::missing_field("keys"))
    }
}

/// The `keys` of a set, if it has that member.
pub(crate) struct RawSet<K>(pub(crate) Option<Vec<K>>);

impl<K> Default for RawSet<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: serde::de::DeserializeOwned> Members for RawSet<K> {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name == "keys" {
            self.0 = Some(map.next_value()?);
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
