//! One call of `POST /v1/session/renew`, and what its answer means.

use crate::http::{body, cause, may_ask};
use http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Url};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest `Retry-After` that is passed on, in seconds.
const MAX_RETRY_AFTER: u64 = 60;

/// An access token as text. `Debug` hides it, and it is wiped when nobody needs it any more.
#[derive(Clone)]
pub(crate) struct TokenText(Arc<Zeroizing<String>>);

impl TokenText {
    pub(crate) fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

/// What the authority answered.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A newer token, not verified yet.
    Renewed(TokenText),
    /// None now; from `renew_at` on, or never.
    NotYet {
        /// Unix seconds.
        renew_at: Option<i64>,
    },
    /// The token is not good (any more).
    Refused {
        /// What its owner may know.
        reason: Option<String>,
    },
    /// No answer, or one that means nothing.
    Away {
        /// When to try again, in seconds.
        retry_after: u64,
    },
}

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// `None`: it cannot be asked.
    target: Option<(Client, Url)>,
    pub(crate) timeout: Duration,
}

impl Endpoint {
    /// Of this issuer. A call takes no longer than `timeout`. Without `http_allowed` no token goes in the clear
    /// to another machine.
    pub(crate) fn of(issuer: &str, http_allowed: bool, timeout: Duration) -> Self {
        let url = Url::parse(&format!("{}/v1/session/renew", issuer.trim_end_matches('/'))).ok();
        let url = url.filter(|url| may_ask(url, http_allowed));
        let target = crate::http::client().ok().zip(url);
        if target.is_none() {
            tracing::warn!("the issuer cannot be asked for newer tokens: none will be renewed");
        }
        Self { target, timeout }
    }

    /// Asks for a newer token than this one.
    pub(crate) async fn renew(&self, token: &TokenText) -> Outcome {
        // No waiting helps: its holder has to renew it himself.
        let Some((http, url)) = &self.target else { return Outcome::NotYet { renew_at: None } };
        let asked = tokio::time::timeout(self.timeout, ask(http, url.clone(), token));
        asked.await.unwrap_or_else(|_| Err("it took too long".to_owned())).unwrap_or_else(|error| {
            tracing::warn!(error, "the authority could not be asked for a newer token");
            Outcome::Away { retry_after: 1 }
        })
    }
}

async fn ask(http: &Client, url: Url, token: &TokenText) -> Result<Outcome, String> {
    let request = http.post(url).bearer_auth(token.reveal()).header(header::CONTENT_LENGTH, "0");
    let mut response = request.send().await.map_err(|error| cause(&error))?;
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = body(&mut response, MAX_ANSWER).await.map_err(|error| error.to_string())?;
    Ok(read(status, &body, retry_after))
}

/// The members that matter, of any answer.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    renewed: Option<bool>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    renew_at: Option<i64>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

fn read(status: StatusCode, body: &[u8], retry_after: u64) -> Outcome {
    let members = serde_json::from_slice::<Members>(body);
    match (status, members) {
        (StatusCode::OK, Ok(Members { renewed: Some(true), access_token: Some(token), .. })) => {
            Outcome::Renewed(TokenText::new(token))
        }
        (StatusCode::OK, Ok(Members { renewed: Some(false), renew_at, .. })) => Outcome::NotYet { renew_at },
        // In the authority's own words: a 401 of something in between must sign nobody out.
        (StatusCode::UNAUTHORIZED, Ok(Members { error: Some(error), reason, .. }))
            if error == "invalid_token" =>
        {
            Outcome::Refused { reason: reason.filter(|r| is_reason(r)) }
        }
        // A client's own token: it has no session to renew.
        (StatusCode::FORBIDDEN, Ok(_)) => Outcome::NotYet { renew_at: None },
        (status, _) => {
            tracing::warn!(%status, "the authority's answer to a renewal means nothing");
            Outcome::Away { retry_after }
        }
    }
}

/// A word like `signed_out`: it goes into our own answers.
fn is_reason(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn retry_after(headers: &HeaderMap) -> u64 {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    seconds.unwrap_or(1).clamp(1, MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(status: u16, body: &str) -> String {
        match read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), 7) {
            Outcome::Renewed(token) => format!("renewed {}", token.reveal()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_answer_has_a_meaning() {
        assert_eq!(seen(200, r#"{"renewed":true,"access_token":"a.b.c","session":{}}"#), "renewed a.b.c");
        assert_eq!(seen(200, r#"{"renewed":false,"renew_at":9}"#), "NotYet { renew_at: Some(9) }");
        assert_eq!(seen(200, r#"{"renewed":false,"renew_at":null}"#), "NotYet { renew_at: None }");
        assert_eq!(
            seen(401, r#"{"error":"invalid_token","reason":"signed_out"}"#),
            "Refused { reason: Some(\"signed_out\") }"
        );
        assert_eq!(seen(401, r#"{"error":"invalid_token"}"#), "Refused { reason: None }");
        assert_eq!(seen(403, r#"{"error":"no_session"}"#), "NotYet { renew_at: None }");
    }

    #[test]
    fn what_means_nothing_is_an_authority_that_is_away() {
        for (status, body) in [
            (200, "{}"),
            (200, "<html>"),
            (200, r#"{"renewed":true}"#),
            (200, r#"{"renewed":true,"access_token":7}"#),
            (302, ""),
            // Of a proxy in between, or one that took the token away.
            (401, "<html>"),
            (401, r#"{"message":"Unauthorized"}"#),
            (401, r#"{"error":"unauthorized"}"#),
            (403, "<html>blocked</html>"),
            (404, "{}"),
            (429, "{}"),
            (503, r#"{"error":"temporarily_unavailable"}"#),
        ] {
            assert_eq!(seen(status, body), "Away { retry_after: 7 }", "{status} {body}");
        }
    }

    #[test]
    fn a_reason_is_a_word() {
        assert_eq!(
            seen(401, r#"{"error":"invalid_token","reason":"\" onload="}"#),
            "Refused { reason: None }"
        );
    }

    #[test]
    fn a_token_is_not_shown() {
        let outcome = read(StatusCode::OK, br#"{"renewed":true,"access_token":"secret"}"#, 1);
        assert!(!format!("{outcome:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in 100_u16..1000, body in any::<Vec<u8>>()) {
            let _ = read(StatusCode::from_u16(status).unwrap(), &body, 1);
        }
    }
}
