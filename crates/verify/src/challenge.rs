//! What a refusal looks like on the wire: status, `WWW-Authenticate` (RFC 6750 §3, RFC 9470 §3), body.
//!
//! Pure, and in the same words as the authority's own errors. Whatever goes into a header is reduced to what
//! its grammar allows, so that no name, scope or message can add a parameter or a header.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// An answer to a request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    retry_after: Option<u64>,
    body: Map<String, Value>,
}

impl Answer {
    /// An answer of this status whose body says `error` and `error_description`.
    pub(crate) fn new(status: StatusCode, error: &str, description: &str) -> Self {
        let mut body = Map::new();
        body.insert("error".to_owned(), error.into());
        body.insert("error_description".to_owned(), description.into());
        Self { status, challenge: None, retry_after: None, body }
    }

    pub(crate) fn challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge.text);
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.body.insert(member.to_owned(), value.into());
        self
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// `WWW-Authenticate`.
    pub fn www_authenticate(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// `Retry-After`, in seconds.
    pub const fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
    }

    /// The members of the body: `error`, `error_description`, and by code `reason`, `max_age`, `acr_values`.
    pub const fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    /// As a response with a body of any type that bytes can become.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let body = Bytes::from(Value::Object(self.body).to_string());
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A challenge of the `Bearer` scheme under construction.
pub(crate) struct Challenge {
    text: String,
    first: bool,
}

impl Challenge {
    pub(crate) fn bearer(realm: Option<&str>) -> Self {
        let mut challenge = Self { text: "Bearer".to_owned(), first: true };
        if let Some(realm) = realm {
            challenge.parameter("realm", &quoted_pairs(realm));
        }
        challenge
    }

    pub(crate) fn error(self, code: &str) -> Self {
        self.with("error", code)
    }

    pub(crate) fn description(self, text: &str) -> Self {
        self.with("error_description", text)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameter(name, &plain(value));
        self
    }

    fn parameter(&mut self, name: &str, value: &str) {
        let before = if std::mem::take(&mut self.first) { " " } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{before}{name}=\"{value}\"");
    }
}

/// Longest value of a parameter, in characters.
const VALUE_MAX: usize = 512;

/// `%x20-21 / %x23-5B / %x5D-7E`: all that RFC 6750 §3 allows in a value. A quote becomes an apostrophe,
/// anything else a question mark.
fn plain(text: &str) -> String {
    let allowed = |c| match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().take(VALUE_MAX).map(allowed).collect()
}

/// The same for a `realm`, where a quoted pair may stand (RFC 9110 §5.6.4).
fn quoted_pairs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(VALUE_MAX) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_follow_each_other() {
        assert_eq!(Challenge::bearer(None).text, "Bearer");
        assert_eq!(Challenge::bearer(Some("notes")).text, "Bearer realm=\"notes\"");
        let text = Challenge::bearer(Some("a \"b\" \\")).error("invalid_token").description("gone").text;
        assert_eq!(text, r#"Bearer realm="a \"b\" \\", error="invalid_token", error_description="gone""#);
    }

    #[test]
    fn nothing_can_be_injected() {
        let text = Challenge::bearer(None).with("scope", "a\", error=\"x\r\nSet-Cookie: b").text;
        assert_eq!(text, "Bearer scope=\"a', error='x??Set-Cookie: b\"");
    }

    proptest! {
        #[test]
        fn any_text_is_one_parameter(realm in any::<String>(), value in any::<String>()) {
            let text = Challenge::bearer(Some(&realm)).with("scope", &value).text;
            prop_assert!(HeaderValue::from_str(&text).is_ok());
            let scope = text.rsplit_once(", scope=\"").and_then(|(_, v)| v.strip_suffix('"'));
            prop_assert!(scope.is_some_and(|v| !v.contains('"')), "{}", text);
        }
    }
}
