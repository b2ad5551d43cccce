//! Who may call from a browser: the CSRF rule for cookies (design §5) and CORS by allow-list.

use crate::authority::Authority;
use crate::http::error::ApiError;
use http::{HeaderMap, HeaderValue, Method, header};

/// Refuses a state-changing request with the cookie unless it is same-origin by `Sec-Fetch-Site`, or its
/// `Origin` is exactly the authority's or one of the client's. With neither header it is refused.
///
/// A request that only reads may come without either, but not from a page of another origin: CORS lets in
/// the origins of all clients, and those of one must not read the sessions of another.
pub fn check_cookie_request(
    method: &Method,
    headers: &HeaderMap,
    (issuer, origins): (&str, &[String]),
) -> Result<(), ApiError> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let allowed = match (fetch_site(headers), origin(headers)) {
        (Some("same-origin"), _) => true,
        (_, Some(origin)) => origin == origin_of(issuer) || origins.iter().any(|o| covers(o, origin)),
        _ => false,
    };
    if allowed {
        Ok(())
    } else {
        Err(ApiError::forbidden(
            "cross_site_request",
            "A request with the session cookie must come from the authority's own pages or from an origin that the \
             client lists. Add the page's origin to the client's `origins`.",
        ))
    }
}

/// Refuses a login from a page of a foreign origin; a caller that is no browser sends neither header.
pub fn check_login_request(headers: &HeaderMap, issuer: &str, origins: &[String]) -> Result<(), ApiError> {
    let browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    if browser { check_cookie_request(&Method::POST, headers, (issuer, origins)) } else { Ok(()) }
}

fn fetch_site(headers: &HeaderMap) -> Option<&str> {
    single(headers, "sec-fetch-site")
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    single(headers, "origin")
}

/// The header's value if it is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Scheme, host and port of a URL.
pub(crate) fn origin_of(url: &str) -> &str {
    let rest = url.find("://").map_or(0, |i| i + 3);
    url[rest..].find('/').map_or(url, |i| &url[..rest + i])
}

/// Origins that stand for any port of this machine, where a page under development may run on any. Browsers
/// let nobody else use these names.
const ANY_LOOPBACK_PORT: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// Whether an entry of a client's list means this origin: exactly, or as any port of this machine.
fn covers(listed: &str, origin: &str) -> bool {
    if ANY_LOOPBACK_PORT.contains(&listed) { any_port(origin) == Some(listed) } else { listed == origin }
}

/// The entry that stands for all ports of the origin's host, if it is this machine.
pub(crate) fn any_port(origin: &str) -> Option<&'static str> {
    let is_port = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix(':').is_some_and(|p| !p.starts_with('+') && p.parse::<u16>().is_ok())
    };
    let means = |entry: &str| {
        entry.strip_suffix(":*").and_then(|host| origin.strip_prefix(host)).is_some_and(is_port)
    };
    ANY_LOOPBACK_PORT.into_iter().find(|entry| means(entry))
}

/// Whether a host, as a URL names it, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the text is an origin as browsers send it: scheme, host, port, nothing more. On loopback the
/// port may be `*`.
pub fn is_origin(text: &str) -> bool {
    ANY_LOOPBACK_PORT.contains(&text) || is_exact_origin(text)
}

fn is_exact_origin(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http"))
            && uri.host().is_some_and(|h| !h.is_empty())
            && text.len() <= 255
            && origin_of(text) == text
            && !text.contains(['@', '*', '?', '#'])
            && !text.bytes().any(|b| b.is_ascii_uppercase())
    })
}

impl Authority {
    /// The CORS headers for a browser at `origin`: only origins that some client lists get any, and
    /// which client calls is checked again by the call itself (ASVS 3.4.2).
    pub fn cors_headers(&self, origin: &HeaderValue, preflight: bool) -> Option<HeaderMap> {
        let text = origin.to_str().ok()?;
        if !self.knows_origin(text) {
            return None;
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if preflight {
            let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let allowed = HeaderValue::from_static("authorization, content-type, if-match, traceparent");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        } else {
            let exposed =
                HeaderValue::from_static("date, etag, renewed-access-token, retry-after, www-authenticate");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    fn allowed(method: &Method, pairs: &[(&'static str, &'static str)]) -> bool {
        let origins = ["https://app.example".to_owned()];
        check_cookie_request(method, &request(pairs), ("https://auth.example/base", &origins)).is_ok()
    }

    #[test]
    fn state_changes_need_the_right_origin() {
        assert!(allowed(&Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(allowed(
            &Method::POST,
            &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")]
        ));
        assert!(allowed(&Method::POST, &[("origin", "https://auth.example")]));
        assert!(allowed(&Method::GET, &[("sec-fetch-site", "cross-site")]));
        assert!(allowed(&Method::GET, &[("origin", "https://app.example")]));
        assert!(!allowed(&Method::GET, &[("origin", "https://other.example")]));
        for refused in [
            &[][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null")],
            &[("origin", "https://app.example.evil")],
            &[("origin", "http://app.example")],
            &[("origin", "https://app.example"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        ] {
            assert!(!allowed(&Method::POST, refused), "{refused:?}");
        }
    }

    #[test]
    fn only_ports_of_this_machine_may_be_any() {
        let origins = ["http://localhost:*".to_owned(), "http://[::1]:*".to_owned()];
        let allowed = |origin: &'static str| {
            let headers = request(&[("origin", origin)]);
            check_cookie_request(&Method::POST, &headers, ("https://auth.example", &origins)).is_ok()
        };
        for good in ["http://localhost:3000", "http://localhost", "http://[::1]:8080", "http://[::1]"] {
            assert!(allowed(good), "{good}");
        }
        let bad = [
            "http://127.0.0.1:3000",
            "https://localhost:3000",
            "http://localhost.evil.example:3000",
            "http://localhost:3000.evil.example",
            "http://localhost:",
            "http://localhost:*",
            "null",
        ];
        for bad in bad {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(is_origin("http://localhost:*") && !is_origin("http://app.example:*"));
    }

    #[test]
    fn origins_have_no_path_or_wildcard() {
        assert!(is_origin("https://app.example") && is_origin("http://127.0.0.1:3000"));
        for bad in [
            "https://app.example/",
            "https://*.example",
            "app.example",
            "https://u@a.example",
            "ftp://a",
            "HTTPS://A",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
