//! The claims of a JWT (RFC 7519) and what is wrong with them, in words.

use crate::output::shown;
use crate::words;
use reseal_core::Timestamp;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// A claims set.
pub(super) struct Claims(pub(super) Map<String, Value>);

/// What a token is checked against.
pub(super) struct Expected<'a> {
    pub(super) now: Timestamp,
    /// In seconds.
    pub(super) leeway: u32,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
}

impl Claims {
    /// Reads a payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(payload).map_err(|e| format!("the payload is not a claims set: {e}"))
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A claim that is a time: whole seconds, rounded down. `None`: it is not there.
    pub(super) fn time(&self, name: &str) -> Option<Result<Timestamp, String>> {
        let value = self.0.get(name)?;
        let secs = value.as_i64().or_else(|| {
            // RFC 7519 §2 allows fractions of a second.
            let secs = value.as_f64()?.floor();
            format!("{secs:.0}").parse().ok()
        });
        Some(
            secs.map(Timestamp::from_secs)
                .ok_or_else(|| format!("`{name}` is not a time: {}", shown_value(value))),
        )
    }

    /// All that is wrong, the gravest first. Empty: the claims are good.
    pub(super) fn faults(&self, typ: Option<&str>, expected: &Expected<'_>) -> Vec<String> {
        let checks = [
            self.check_expiry(typ, expected),
            self.check_not_before(expected),
            self.check_issuer(expected),
            self.check_audience(expected),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn check_expiry(&self, typ: Option<&str>, expected: &Expected<'_>) -> Result<(), String> {
        let leeway = Duration::from_secs(expected.leeway.into());
        match self.time("exp").transpose()? {
            Some(exp) if expected.now >= exp + leeway => {
                Err(format!("the token expired {}", words::both(exp, expected.now)))
            }
            None if check_type(typ, "at+jwt").is_ok() => {
                Err("the access token has no `exp`, which RFC 9068 requires".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_not_before(&self, expected: &Expected<'_>) -> Result<(), String> {
        let leeway = Duration::from_secs(expected.leeway.into());
        match self.time("nbf").transpose()? {
            Some(nbf) if expected.now + leeway < nbf => {
                Err(format!("the token is not valid yet: it will be {}", words::both(nbf, expected.now)))
            }
            _ => Ok(()),
        }
    }

    fn check_issuer(&self, expected: &Expected<'_>) -> Result<(), String> {
        match (expected.issuer, self.0.get("iss")) {
            (Some(wanted), Some(Value::String(iss))) if iss == wanted => Ok(()),
            (Some(wanted), Some(iss)) => {
                Err(format!("the token is from another issuer: {}, not {wanted}", shown_value(iss)))
            }
            (Some(_), None) => Err("the token names no issuer (`iss`)".to_owned()),
            (None, _) => Ok(()),
        }
    }

    fn check_audience(&self, expected: &Expected<'_>) -> Result<(), String> {
        let Some(wanted) = expected.audience else { return Ok(()) };
        let is_wanted = |value: &Value| value.as_str() == Some(wanted);
        match self.0.get("aud") {
            Some(Value::Array(all)) if all.iter().any(is_wanted) => Ok(()),
            Some(one) if is_wanted(one) => Ok(()),
            Some(other) => Err(format!("the token is for others: {}, not {wanted}", shown_value(other))),
            None => Err("the token names no audience (`aud`)".to_owned()),
        }
    }
}

/// Checks the header's `typ`: case does not matter, nor does a leading `application/` (RFC 7515 §4.1.9).
pub(super) fn check_type(typ: Option<&str>, wanted: &str) -> Result<(), String> {
    fn name(typ: &str) -> String {
        let typ = typ.to_ascii_lowercase();
        match typ.strip_prefix("application/") {
            // The prefix may only be left out where no other slash follows.
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => typ,
        }
    }
    match typ {
        Some(typ) if name(typ) == name(wanted) => Ok(()),
        Some(typ) => Err(format!("the token is of type {}, not {wanted}", shown(typ))),
        None => Err(format!("the token has no type (`typ`); {wanted} is required")),
    }
}

fn shown_value(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = shown(&value.to_string());
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl<'de> serde::Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

/// Refuses what two readers could read in two ways (RFC 7519 §4 allows to refuse it, and we do).
struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if claims.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the claim `{}` is there twice", shown(&name))));
            }
            let value = map.next_value()?;
            claims.insert(name, value);
        }
        Ok(Claims(claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn faults(payload: &str, change: impl FnOnce(&mut Expected<'_>)) -> Vec<String> {
        let mut expected =
            Expected { now: Timestamp::from_secs(NOW), leeway: 0, issuer: None, audience: None };
        change(&mut expected);
        Claims::parse(payload.as_bytes()).unwrap().faults(None, &expected)
    }

    #[test]
    fn a_token_is_good_until_the_second_it_expires_in() {
        assert!(faults(&format!(r#"{{"exp":{}}}"#, NOW + 1), |_| {}).is_empty());
        assert!(faults(&format!(r#"{{"exp":{NOW}}}"#), |_| {})[0].starts_with("the token expired now"));
        assert!(faults(&format!(r#"{{"exp":{NOW}}}"#), |e| e.leeway = 1).is_empty());
        assert!(faults(&format!(r#"{{"exp":{NOW}.9}}"#), |_| {}).len() == 1);
        assert!(faults(r#"{"exp":"never"}"#, |_| {})[0].contains("`exp` is not a time"));
        assert!(faults(r#"{"exp":null}"#, |_| {})[0].contains("`exp` is not a time"));
        assert!(faults(r#"{"exp":1e300}"#, |_| {})[0].contains("`exp` is not a time"));
        assert!(faults("{}", |_| {}).is_empty());
    }

    #[test]
    fn an_access_token_must_expire() {
        let expected = Expected { now: Timestamp::from_secs(NOW), leeway: 0, issuer: None, audience: None };
        let claims = Claims::parse(b"{}").unwrap();
        assert!(claims.faults(Some("at+jwt"), &expected)[0].contains("RFC 9068"));
        assert!(claims.faults(Some("JWT"), &expected).is_empty());
    }

    #[test]
    fn a_token_is_not_good_before_its_time() {
        assert!(faults(&format!(r#"{{"nbf":{NOW}}}"#), |_| {}).is_empty());
        assert!(faults(&format!(r#"{{"nbf":{}}}"#, NOW + 60), |_| {})[0].contains("in 1 min"));
        assert!(faults(&format!(r#"{{"nbf":{}}}"#, NOW + 60), |e| e.leeway = 60).is_empty());
    }

    #[test]
    fn issuer_and_audience_must_be_there_when_asked_for() {
        assert!(faults(r#"{"iss":"https://a"}"#, |e| e.issuer = Some("https://a")).is_empty());
        assert_eq!(faults(r#"{"iss":["https://a"]}"#, |e| e.issuer = Some("https://a")).len(), 1);
        assert_eq!(faults("{}", |e| e.issuer = Some("https://a")).len(), 1);
        assert!(faults(r#"{"aud":"api"}"#, |e| e.audience = Some("api")).is_empty());
        assert!(faults(r#"{"aud":["x","api"]}"#, |e| e.audience = Some("api")).is_empty());
        assert_eq!(faults(r#"{"aud":["x"]}"#, |e| e.audience = Some("api")).len(), 1);
        assert_eq!(faults("{}", |e| e.audience = Some("api")).len(), 1);
    }

    #[test]
    fn a_claim_that_is_there_twice_is_refused() {
        assert!(Claims::parse(br#"{"sub":"a","sub":"b"}"#).err().unwrap().contains("twice"));
        for payload in ["[]", "\"x\"", "", "{} {}"] {
            assert!(Claims::parse(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    #[test]
    fn types_are_compared_as_media_types() {
        assert!(check_type(Some("AT+JWT"), "at+jwt").is_ok());
        assert!(check_type(Some("application/at+jwt"), "at+jwt").is_ok());
        assert!(check_type(Some("JWT"), "at+jwt").is_err());
        assert!(check_type(None, "at+jwt").is_err());
    }
}
