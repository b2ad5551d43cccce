//! The request behind the proxy's question: which method it had, and whether §5's origin rule takes it as
//! one that changes something.
//!
//! The proxy asks with a GET whatever the user sent, so it says the original method in a header that it
//! overwrites: `X-Original-Method` (nginx) or `X-Forwarded-Method` (Caddy, Traefik). Anything unclear counts
//! as a change: then the request must prove that it comes from a page of the app.

use http::{HeaderMap, HeaderName, Method};

const METHODS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];
/// A WebSocket's handshake is a GET that no same-origin policy guards (RFC 6455 §10.2).
const UPGRADES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-upgrade"), HeaderName::from_static("upgrade")];

/// The method to apply the origin rule to: GET for what only reads, else POST.
pub(super) fn counts_as(headers: &HeaderMap) -> &'static Method {
    if reads(headers) && !upgrades(headers) { &Method::GET } else { &Method::POST }
}

fn reads(headers: &HeaderMap) -> bool {
    let mut said: Option<&[u8]> = None;
    for name in &METHODS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        let differs = said.is_some_and(|other| other != value.as_bytes());
        if differs || values.next().is_some() {
            return false;
        }
        said = Some(value.as_bytes());
    }
    matches!(said, Some(b"GET" | b"HEAD" | b"OPTIONS"))
}

fn upgrades(headers: &HeaderMap) -> bool {
    UPGRADES.iter().any(|name| headers.get_all(name).iter().any(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |v: &str| HeaderValue::from_str(v).unwrap();
        pairs.iter().map(|(name, v)| (HeaderName::from_static(name), value(v))).collect()
    }

    fn only_reads(pairs: &[(&'static str, &str)]) -> bool {
        counts_as(&of(pairs)) == Method::GET
    }

    #[test]
    fn one_clear_reading_method_reads() {
        for name in ["x-original-method", "x-forwarded-method"] {
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(only_reads(&[(name, method)]), "{name} {method}");
            }
        }
        assert!(only_reads(&[("x-original-method", "GET"), ("x-forwarded-method", "GET")]));
        assert!(only_reads(&[("x-original-method", "GET"), ("x-original-upgrade", "")]));
    }

    #[test]
    fn everything_unclear_changes() {
        for unclear in [
            &[][..],
            &[("x-original-method", "POST")],
            &[("x-original-method", "PUT")],
            &[("x-original-method", "DELETE")],
            &[("x-original-method", "CONNECT")],
            &[("x-original-method", "TRACE")],
            &[("x-original-method", "PROPFIND")],
            &[("x-original-method", "get")],
            &[("x-original-method", " GET")],
            &[("x-original-method", "GET,POST")],
            &[("x-original-method", "")],
            &[("x-original-method", "GET"), ("x-original-method", "GET")],
            &[("x-forwarded-method", "GET"), ("x-forwarded-method", "GET")],
            &[("x-original-method", "GET"), ("x-original-method", "POST")],
            &[("x-original-method", "GET"), ("x-forwarded-method", "POST")],
            &[("x-original-method", "GET"), ("x-forwarded-method", "HEAD")],
            &[("x-original-method", ""), ("x-forwarded-method", "GET")],
            &[("x-http-method-override", "GET")],
        ] {
            assert!(!only_reads(unclear), "{unclear:?}");
        }
    }

    #[test]
    fn an_upgrade_changes_whatever_its_method() {
        for name in ["x-original-upgrade", "upgrade"] {
            for value in ["websocket", "WebSocket", "h2c", "x"] {
                assert!(!only_reads(&[("x-original-method", "GET"), (name, value)]), "{name}: {value}");
            }
        }
        assert!(!only_reads(&[
            ("x-original-method", "GET"),
            ("x-original-upgrade", ""),
            ("x-original-upgrade", "websocket"),
        ]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn only_three_words_read(method in "[ -~]{0,8}", second in proptest::option::of("[A-Z]{3,7}")) {
            let mut pairs = vec![("x-original-method", method.as_str())];
            pairs.extend(second.as_deref().map(|s| ("x-forwarded-method", s)));
            let clear = ["GET", "HEAD", "OPTIONS"].contains(&method.as_str());
            let same = second.as_deref().is_none_or(|s| s == method);
            prop_assert_eq!(only_reads(&pairs), clear && same);
        }
    }
}
