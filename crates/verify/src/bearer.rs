//! The access token of a request: from `Authorization: Bearer` (RFC 6750 §2.1), and from nowhere else. A token in
//! a URL ends up in logs and histories (RFC 6750 §5.3); one in a body would need the body to be read first.

use crate::refusal::MalformedAuthorization;
use http::{HeaderMap, header};

/// The token of the `Authorization` header. `None` when there is no such header, or when it is of another scheme
/// (RFC 6750 §3.1: the client "attempted using an unsupported authentication method").
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, MalformedAuthorization> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(MalformedAuthorization::default());
    }
    let value = value.to_str().map_err(|_| MalformedAuthorization::default())?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim_matches(' ');
    if is_b64token(token) { Ok(Some(token)) } else { Err(MalformedAuthorization::default()) }
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, MalformedAuthorization> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        bearer(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn one_token_of_the_scheme_in_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            assert_eq!(read(&[value.as_bytes()]), Ok(Some("a.b.c".to_owned())), "{value}");
        }
        assert_eq!(read(&[b"Bearer AZaz09-._~+/=="]), Ok(Some("AZaz09-._~+/==".to_owned())));
    }

    #[test]
    fn another_scheme_is_no_token() {
        for value in ["Basic YTpi", "DPoP a.b.c", "Bearers a", "a.b.c", ""] {
            assert_eq!(read(&[value.as_bytes()]), Ok(None), "{value}");
        }
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        for value in
            ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer =", "Bearer a=b", "Bearer a\tb"]
        {
            assert_eq!(read(&[value.as_bytes()]), Err(MalformedAuthorization::default()), "{value}");
        }
        assert!(read(&[b"Bearer \xff"]).is_err());
        assert!(read(&[b"Bearer a.b.c", b"Bearer a.b.c"]).is_err(), "two headers, even equal ones");
        assert!(read(&[b"Basic YTpi", b"Bearer a.b.c"]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_but_a_b64token_comes_out(value in proptest::collection::vec(32_u8..=255, 0..80)) {
            prop_assume!(HeaderValue::from_bytes(&value).is_ok());
            if let Ok(Some(token)) = read(&[&value]) {
                prop_assert!(is_b64token(&token));
            }
        }
    }
}
