//! What the app behind the proxy is told in headers: the access token, and in plain words who it is.
//!
//! Names and roles may hold anything. In a header value every byte stands for itself if it is visible ASCII
//! other than `%`, or a space between others; all else, byte by byte of its UTF-8, is `%` and two
//! hexadecimal digits. So no line can be ended, nothing is trimmed away, and `decodeURIComponent` gives back
//! exactly what the record says. Roles are joined by commas; a comma inside of one is encoded too, so split
//! first, then decode.

use super::cache::Signed;
use crate::tokens::{Minted, SessionToken};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reseal_core::{Client, User};
use std::fmt::Write as _;

/// `sub`.
const SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
/// `sid`.
const SESSION: HeaderName = HeaderName::from_static("x-auth-session");
/// `acr`.
const ACR: HeaderName = HeaderName::from_static("x-auth-acr");
const NAME: HeaderName = HeaderName::from_static("x-auth-name");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-email");
const ROLES: HeaderName = HeaderName::from_static("x-auth-roles");

/// Longest value of one header. Proxies have buffers of some kilobytes for all headers together; whoever has
/// more roles than fit is in the token with all of them, and here with none.
const MAX: usize = 4096;

/// The headers of an answer that lets a request through. Cloned for each: every value is shared.
#[derive(Clone)]
pub(super) struct Identity {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Identity {
    /// Of a token and of what it was made of. `None` when the token is no header value, which no token is.
    pub(super) fn new(minted: &Minted, of: &SessionToken<'_>) -> Option<Self> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", minted.token)).ok()?;
        bearer.set_sensitive(true);
        let mut headers = vec![
            (header::AUTHORIZATION, bearer),
            (SUBJECT, HeaderValue::try_from(of.user.id.to_string()).ok()?),
            (SESSION, HeaderValue::try_from(of.session.id.to_string()).ok()?),
            (ACR, HeaderValue::from_static(of.strength.acr.as_str())),
        ];
        headers.extend(projected(of.client, of.user));
        Some(Self { headers })
    }

    /// Adds them to an answer.
    pub(super) fn write(&self, to: &mut HeaderMap) {
        for (name, value) in &self.headers {
            to.insert(name.clone(), value.clone());
        }
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(HeaderName, HeaderValue)>();
        self.headers.iter().map(|(_, value)| value.len() + entry).sum::<usize>() + size_of::<Signed>()
    }
}

/// What the client's projection allows to be shown, where the record has it.
fn projected(client: &Client, user: &User) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let shows = |claim: &str| client.claims.shows(claim);
    let name = user.name.as_deref().filter(|_| shows("name")).map(|name| (NAME, encoded(name)));
    let email = user.email.as_deref().filter(|_| shows("email")).map(|email| (EMAIL, encoded(email)));
    let roles = (shows("roles") && !user.roles.is_empty()).then(|| {
        let roles: Vec<String> = user.roles.iter().map(|role| encoded(role).replace(',', "%2C")).collect();
        (ROLES, roles.join(","))
    });
    let fits = |(name, value): (HeaderName, String)| {
        let value = HeaderValue::try_from(value).ok().filter(|v| v.len() <= MAX)?;
        Some((name, value))
    };
    [name, email, roles].into_iter().flatten().filter_map(fits)
}

fn encoded(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len() + 8);
    for (at, byte) in text.bytes().enumerate() {
        let inner_space = byte == b' ' && at != 0 && at != last;
        if (byte.is_ascii_graphic() && byte != b'%') || inner_space {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `decodeURIComponent`.
    fn decoded(text: &str) -> String {
        percent_decode(text.as_bytes())
    }

    fn percent_decode(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            if *byte == b'%' {
                let pair = [*rest.next().unwrap(), *rest.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
            } else {
                out.push(*byte);
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(encoded("Alice Example"), "Alice Example");
        assert_eq!(encoded("alice@example.com"), "alice@example.com");
        assert_eq!(encoded("Zoë 100%"), "Zo%C3%AB 100%25");
        assert_eq!(encoded(" x "), "%20x%20");
        assert_eq!(encoded("a\r\nX-Auth-Roles: admin"), "a%0D%0AX-Auth-Roles: admin");
        assert_eq!(encoded(""), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_text_is_one_header_value_and_comes_back(text in any::<String>()) {
            let value = encoded(&text);
            prop_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            prop_assert_eq!(value.trim(), value.as_str());
            prop_assert_eq!(decoded(&value), text);
        }

        #[test]
        fn roles_come_back_one_by_one(roles in proptest::collection::vec("[ -~äß,%]{1,12}", 1..6)) {
            let joined: Vec<String> = roles.iter().map(|r| encoded(r).replace(',', "%2C")).collect();
            let joined = joined.join(",");
            let back: Vec<String> = joined.split(',').map(decoded).collect();
            prop_assert_eq!(back, roles);
        }
    }
}
