//! `ETag` and `If-Match` with the user's revision, for those who want to be strict (RFC 9110 §13.1.1).

use super::error::{ApiError, ApiResult};
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

/// The `If-Match` header: the revision that the record must have, or `None` where any will do (no header,
/// or `*`).
///
/// One tag is read, not a list. A tag that is weak, or that this authority never gives out, cannot match
/// anything (RFC 9110 §8.8.3.2): 412 at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(pub Option<u64>);

impl IfMatch {
    /// Refuses a record of another revision: 412.
    pub fn check(self, revision: u64) -> ApiResult<()> {
        match self.0 {
            Some(wanted) if wanted != revision => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let malformed = || ApiError::invalid_request("If-Match must be one entity tag, like \"7\", or *.");
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(malformed());
        }
        let value = value.to_str().map_err(|_| malformed())?.trim();
        if value == "*" {
            return Ok(Self(None));
        }
        let tag = entity_tag(value).ok_or_else(malformed)?;
        let revision = tag.parse::<u64>().ok().filter(|n| !value.starts_with('W') && n.to_string() == tag);
        revision.map(|n| Self(Some(n))).ok_or_else(precondition_failed)
    }
}

/// The inside of one entity tag, weak or not; `None` when the text is none.
fn entity_tag(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('"')).then_some(inside)
}

/// The `ETag` of a record of this revision.
pub fn etag(revision: u64) -> HeaderValue {
    // Only digits and quotes: always a header value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// 412: the record changed since the caller read it.
pub fn precondition_failed() -> ApiError {
    ApiError::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "The record has another revision than If-Match names. Read it again, then decide.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(values: &[&str]) -> Result<IfMatch, StatusCode> {
        let mut request = http::Request::patch("/");
        for value in values {
            request = request.header(header::IF_MATCH, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        IfMatch::from_request_parts(&mut parts, &()).await.map_err(|e| e.status())
    }

    #[tokio::test]
    async fn if_match_is_one_revision_or_none() {
        assert_eq!(read(&[]).await, Ok(IfMatch(None)));
        assert_eq!(read(&["*"]).await, Ok(IfMatch(None)));
        assert_eq!(read(&["\"7\""]).await, Ok(IfMatch(Some(7))));
        let tag = etag(7);
        assert_eq!(read(&[tag.to_str().unwrap()]).await, Ok(IfMatch(Some(7))));
    }

    #[tokio::test]
    async fn tags_that_cannot_match_fail_the_precondition() {
        for foreign in ["W/\"7\"", "\"abc\"", "\"07\"", "\"\"", "\"+7\"", "\"99999999999999999999999\""] {
            assert_eq!(read(&[foreign]).await, Err(StatusCode::PRECONDITION_FAILED), "{foreign}");
        }
    }

    #[tokio::test]
    async fn what_is_no_tag_is_malformed() {
        for bad in ["7", "\"7", "7\"", "\"7\", \"8\"", "", "W/7"] {
            assert_eq!(read(&[bad]).await, Err(StatusCode::BAD_REQUEST), "{bad}");
        }
        assert_eq!(read(&["\"7\"", "\"8\""]).await, Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn only_the_same_revision_passes() {
        assert!(IfMatch(Some(7)).check(7).is_ok() && IfMatch(None).check(9).is_ok());
        assert_eq!(IfMatch(Some(7)).check(8).unwrap_err().status(), StatusCode::PRECONDITION_FAILED);
    }
}
