//! Where a proxy may send who is not signed in: neither nginx nor Caddy can put a URL into a query by itself,
//! so the refusal carries the finished link to the sign-in page.

use super::demand::Demand;
use super::{ReturnTargets, ReturnTo};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The path and query of the original request: from nginx as its configuration says, from Caddy and Traefik
/// by themselves.
static URIS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-uri"), HeaderName::from_static("x-forwarded-uri")];

/// For `Location`: the sign-in page that leads back to the original request. `None` when the proxy did not
/// say, or said twice, what that was; the sign-in page alone when it is nowhere to lead back to.
pub(super) fn location(headers: &HeaderMap, targets: &ReturnTargets, demand: Demand) -> Option<HeaderValue> {
    let mut said = URIS.iter().flat_map(|name| headers.get_all(name));
    let uri = said.next()?;
    if said.any(|other| other != uri) {
        return None;
    }
    // Only a path: on which host the sign-in page is, the proxy knows.
    let path = uri.to_str().ok().filter(|text| text.starts_with('/'));
    let back = path.and_then(|path| targets.find(path).ok());
    let back = back.filter(|back| *back != ReturnTo::home());
    HeaderValue::try_from(link(back.as_ref(), demand)).ok()
}

/// The link to the sign-in page that leads back there and asks for as much as that.
pub(super) fn link(back: Option<&ReturnTo>, demand: Demand) -> String {
    let asks = [
        demand.acr.map(|acr| format!("acr={acr}")),
        demand.max_age.map(|age| format!("max_age={}", age.as_secs())),
        back.map(|back| format!("return_to={}", escaped(back.as_str()))),
    ];
    let asks: Vec<String> = asks.into_iter().flatten().collect();
    if asks.is_empty() { "/login".to_owned() } else { format!("/login?{}", asks.join("&")) }
}

/// As `encodeURIComponent`, with slashes left as they are: a query may hold them, and a person may read it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        location(&headers, &ReturnTargets::default().and_loopback(), Demand::default())
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_way_back_is_one_parameter_whatever_is_in_it() {
        let wild = "/a%20b/c+d?x=1&y=%26#?return_to=//evil.example";
        let link = said(&[("x-original-uri", wild)]).unwrap();
        let (page, query) = link.split_once('?').unwrap();
        assert_eq!(page, "/login");
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(pairs, [("return_to".to_owned(), wild.to_owned())]);
    }

    #[test]
    fn caddys_header_says_the_same() {
        for name in ["x-original-uri", "x-forwarded-uri"] {
            assert_eq!(said(&[(name, "/x?y")]).as_deref(), Some("/login?return_to=/x%3Fy"));
        }
        let both = [("x-original-uri", "/x"), ("x-forwarded-uri", "/x")];
        assert_eq!(said(&both).as_deref(), Some("/login?return_to=/x"));
    }

    #[test]
    fn what_leads_away_is_left_out() {
        for away in
            ["/", "//evil.example/", "/\\evil.example", "/.//evil.example", "https://evil.example/", "x", ""]
        {
            assert_eq!(said(&[("x-original-uri", away)]).as_deref(), Some("/login"), "{away}");
        }
    }

    #[test]
    fn without_a_clear_word_of_the_proxy_there_is_no_link() {
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[("x-original-uri", "/a"), ("x-forwarded-uri", "/b")]), None);
        assert_eq!(said(&[("x-original-uri", "/a"), ("x-original-uri", "/b")]), None);
    }
}
