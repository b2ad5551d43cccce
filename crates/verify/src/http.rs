//! What the parts that talk to the authority have in common: whom may be asked, and how much is read.

use crate::builder::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Response, Url};
use std::fmt::Write as _;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest wait for a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client without redirects (a credential must not follow one), whose requests have no time limit of their own.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(4)
        .user_agent(concat!("reseal-verify/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether credentials and keys may go over this URL: TLS, or this machine, or somebody accepted the danger.
pub(crate) fn may_ask(url: &Url, http_allowed: bool) -> bool {
    match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => http_allowed || is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    // The host of an `http` URL is in its one spelling: lower case, numbers in dotted form, IPv6 in brackets.
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The whole body, if it is not longer than `max`.
pub(crate) async fn body(response: &mut Response, max: usize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let declared = response.content_length().and_then(|length| usize::try_from(length).ok());
    if declared.is_some_and(|length| length > max) {
        return Err(BodyError::TooLong);
    }
    // Room for all of it, so that growing leaves no copy behind that is not wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(max.min(16 * 1024))));
    while let Some(chunk) = response.chunk().await.map_err(|error| BodyError::Broken(cause(&error)))? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("its answer is too long")]
    TooLong,
    #[error("its answer broke off: {0}")]
    Broken(String),
}

/// The last cause of an error, without the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // An error without a source may show the URL.
    if error.url().is_some() && std::ptr::eq(cause, std::ptr::from_ref::<dyn std::error::Error>(error)) {
        return if error.is_timeout() { "it took too long" } else { "the request failed" }.to_owned();
    }
    cause.to_string()
}

impl Credentials {
    /// `client_secret_basic`: id and secret are form-encoded before they are joined (RFC 6749 §2.3.1).
    pub(crate) fn basic(&self) -> http::HeaderValue {
        let mut pair =
            Zeroizing::new(String::with_capacity(3 * (self.client_id.len() + self.secret.len()) + 1));
        form_encode(&self.client_id, &mut pair);
        pair.push(':');
        form_encode(&self.secret, &mut pair);
        let encoded = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value =
            http::HeaderValue::from_str(&encoded).unwrap_or_else(|_| http::HeaderValue::from_static("Basic"));
        value.set_sensitive(true);
        value
    }
}

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
pub(crate) fn form_encode(text: &str, onto: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                onto.push(char::from(byte));
            }
            b' ' => onto.push('+'),
            _ => {
                let _ = write!(onto, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut onto = String::new();
        form_encode(text, &mut onto);
        onto
    }

    #[test]
    fn encodes_as_rfc_6749_appendix_b_has_it() {
        // U+0020, U+0025, U+0026, U+002B, U+00A3, U+20AC
        assert_eq!(encoded(" %&+£€"), "+%25%26%2B%C2%A3%E2%82%AC");
        assert_eq!(encoded("plain-._*09AZaz"), "plain-._*09AZaz");
        assert_eq!(encoded("a:b~/="), "a%3Ab%7E%2F%3D");
    }

    #[test]
    fn the_basic_header_is_sensitive_and_has_one_colon() {
        let credentials =
            Credentials { client_id: "a:b".to_owned(), secret: Zeroizing::new("p:w d".to_owned()) };
        let value = credentials.basic();
        assert!(value.is_sensitive());
        let pair = STANDARD.decode(value.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(pair, b"a%3Ab:p%3Aw+d");
        assert!(!format!("{credentials:?}{value:?}").contains("p:w"));
    }

    #[test]
    fn http_is_for_this_machine_only() {
        let ask = |url: &str, allowed| may_ask(&Url::parse(url).unwrap(), allowed);
        for url in [
            "http://localhost:4000",
            "http://127.0.0.1",
            "http://127.9.9.9:1/x",
            "http://[::1]:80",
            "https://auth.test",
        ] {
            assert!(ask(url, false), "{url}");
        }
        for url in [
            "http://auth.test",
            "http://localhost.evil.test",
            "http://127.0.0.1.evil.test",
            "http://[::2]",
            "http://10.0.0.1",
        ] {
            assert!(!ask(url, false), "{url}");
            assert!(ask(url, true), "{url}");
        }
        for url in ["ftp://localhost", "file:///etc/passwd", "data:x"] {
            assert!(!ask(url, true), "{url}");
        }
    }
}
