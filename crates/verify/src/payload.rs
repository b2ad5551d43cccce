//! Reading the claims set (RFC 7519 §4): one pass, strict about what is checked, silent about the rest.

use crate::error::VerifyError;
use crate::token::Registered;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// More claims than any honest token has; bounds the search for duplicates.
pub(crate) const MAX_CLAIMS: usize = 256;
/// More entries than any honest `aud`, `scope` or `amr` has.
const MAX_LIST: usize = 256;

/// Reads the payload of a token. Its length is bounded by that of the token (`reseal_jose::MAX_TOKEN_LEN`).
pub(crate) fn parse(payload: &str) -> Result<Registered, VerifyError> {
    let claims: Claims = serde_json::from_str(payload).map_err(|error| {
        // The text of serde's errors may quote the payload; what may be said is the kind and the place.
        let what = match error.classify() {
            serde_json::error::Category::Data => "a claim is missing, twice there, or not what it should be",
            _ => "this is not a JSON object",
        };
        VerifyError::Claims(format!("{what} (at byte {})", error.column()))
    })?;
    Ok(claims.0)
}

struct Claims(Registered);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Registered::default();
        let (mut iss, mut sub, mut aud, mut exp) = (None, None, None, None);
        let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(24);
        while let Some(Text(name)) = map.next_key()? {
            // Which of two values counts would depend on who reads (RFC 7519 §4).
            if seen.contains(&name) {
                return Err(A::Error::custom("a claim is there twice"));
            }
            if seen.len() == MAX_CLAIMS {
                return Err(A::Error::custom("too many claims"));
            }
            match &*name {
                "iss" => iss = map.next_value::<Option<String>>()?,
                "sub" => sub = map.next_value::<Option<String>>()?,
                "aud" => aud = map.next_value::<Option<TextOrList>>()?,
                "exp" => exp = map.next_value::<Option<NumericDate>>()?,
                // Rounded up: no earlier than it says.
                "nbf" => claims.nbf = map.next_value::<Option<NumericDate>>()?.map(|date| date.up),
                "iat" => claims.iat = map.next_value::<Option<NumericDate>>()?.map(|date| date.down),
                "jti" => claims.jti = map.next_value()?,
                "client_id" => claims.client_id = map.next_value()?,
                "scope" => claims.scope = map.next_value::<Option<Words>>()?.unwrap_or_default().0,
                "sid" => claims.sid = map.next_value()?,
                "auth_time" => {
                    claims.auth_time = map.next_value::<Option<NumericDate>>()?.map(|date| date.down);
                }
                "acr" => claims.acr = map.next_value()?,
                "amr" => claims.amr = map.next_value::<Option<TextOrList>>()?.unwrap_or_default().0,
                // These two names are ours; with other issuers they may mean anything.
                "rev" => claims.rev = map.next_value::<&RawValue>()?.get().parse().ok(),
                "renew_at" => {
                    let renew_at = map.next_value::<&RawValue>()?.get().parse::<u64>();
                    claims.renew_at = renew_at.ok().and_then(|at| i64::try_from(at).ok());
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            seen.push(name);
        }
        claims.iss = iss.ok_or_else(|| A::Error::missing_field("iss"))?;
        claims.sub = sub.ok_or_else(|| A::Error::missing_field("sub"))?;
        claims.aud = aud.ok_or_else(|| A::Error::missing_field("aud"))?.0;
        // Rounded down: no later than it says.
        claims.exp = exp.ok_or_else(|| A::Error::missing_field("exp"))?.down;
        Ok(Claims(claims))
    }
}

/// A string that stays where it is unless it has escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Seconds since 1970, perhaps with a fraction (RFC 7519 §2): the whole second before and after. What no
/// `i64` holds becomes the end of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NumericDate {
    down: i64,
    up: i64,
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_i64<E>(self, value: i64) -> Result<NumericDate, E> {
                Ok(NumericDate { down: value, up: value })
            }

            fn visit_u64<E>(self, value: u64) -> Result<NumericDate, E> {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                Ok(NumericDate { down: value, up: value })
            }

            #[expect(clippy::cast_possible_truncation, reason = "a cast of a float stops at the ends")]
            fn visit_f64<E>(self, value: f64) -> Result<NumericDate, E> {
                Ok(NumericDate { down: value.floor() as i64, up: value.ceil() as i64 })
            }
        }
        // Not `any`: whoever turns on serde_json's `arbitrary_precision` gets numbers as maps from that.
        deserializer.deserialize_f64(Seconds)
    }
}

/// One text, or an array of them.
#[derive(Default)]
struct TextOrList(Vec<String>);

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_any(ListVisitor { split: false })?))
    }
}

/// Words with a space between them (RFC 8693 §4.2), or an array as some issuers write it.
#[derive(Default)]
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_any(ListVisitor { split: true })?))
    }
}

struct ListVisitor {
    split: bool,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an array of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        if !self.split {
            return Ok(vec![text.to_owned()]);
        }
        let words: Vec<String> =
            text.split(' ').filter(|word| !word.is_empty()).take(MAX_LIST + 1).map(str::to_owned).collect();
        if words.len() > MAX_LIST { Err(E::custom("too many entries")) } else { Ok(words) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        while let Some(text) = seq.next_element()? {
            if list.len() == MAX_LIST {
                return Err(A::Error::custom("too many entries"));
            }
            list.push(text);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
