//! What the feed asks of the authority before it can be read: where tokens are issued (RFC 8414), and a token
//! (RFC 6749 §4.4).

use super::FeedConfig;
use crate::builder::Credentials;
use crate::http::{body, cause, may_ask};
use crate::keys::metadata_urls;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest life of a token that is believed, in seconds.
const MAX_LIFE: u64 = 24 * 3600;
/// The scope that opens the feed.
const SCOPE: &str = "reseal:feed";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    /// It may be better in a moment.
    #[error("{0}")]
    Away(String),
    /// Only a person can mend it.
    #[error("{0}")]
    Refused(&'static str),
}

/// The authority, as a client of it sees it.
pub(crate) struct Authority {
    issuer: String,
    http: Client,
    credentials: Credentials,
    http_allowed: bool,
    answer_within: Duration,
    token_endpoint: Option<Url>,
    held: Option<Held>,
}

struct Held {
    bearer: HeaderValue,
    /// When half of its life is over: a new connection should last.
    until: Instant,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Zeroizing<String>,
    #[serde(default)]
    expires_in: u64,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Authority {
    pub(crate) fn new(config: &FeedConfig) -> Self {
        Self {
            issuer: config.issuer.clone(),
            http: config.http.clone(),
            credentials: config.credentials.clone(),
            http_allowed: config.http_allowed,
            answer_within: config.timing.answer,
            token_endpoint: None,
            held: None,
        }
    }

    /// A request for the feed, with a token.
    pub(crate) async fn feed(&mut self) -> Result<RequestBuilder, NoToken> {
        let bearer = self.bearer().await?;
        let url = format!("{}/v1/feed", self.issuer.trim_end_matches('/'));
        Ok(self.http.get(url).header(AUTHORIZATION, bearer))
    }

    /// The token is not good any more, whatever it said.
    pub(crate) fn forget_token(&mut self) {
        self.held = None;
    }

    async fn bearer(&mut self) -> Result<HeaderValue, NoToken> {
        if let Some(held) = &self.held
            && Instant::now() < held.until
        {
            return Ok(held.bearer.clone());
        }
        let asked_at = Instant::now();
        let granted = self.ask_for_token().await?;
        let text = Zeroizing::new(format!("Bearer {}", granted.access_token.as_str()));
        let mut bearer =
            HeaderValue::from_str(&text).map_err(|_| away("the token endpoint answered no token"))?;
        bearer.set_sensitive(true);
        let until = asked_at + Duration::from_secs(granted.expires_in.min(MAX_LIFE)) / 2;
        self.held = Some(Held { bearer: bearer.clone(), until });
        Ok(bearer)
    }

    async fn ask_for_token(&mut self) -> Result<Granted, NoToken> {
        let endpoint = self.token_endpoint().await?;
        let request = self
            .http
            .post(endpoint)
            .header(AUTHORIZATION, self.credentials.basic())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials&scope=reseal%3Afeed");
        let mut answer = self.send(request).await?;
        let status = answer.status();
        if status == StatusCode::OK {
            let granted: Granted = self.read(&mut answer).await?;
            let lacks = |scope: &String| !scope.split(' ').any(|scope| scope == SCOPE);
            if granted.scope.as_ref().is_some_and(lacks) {
                return Err(NoToken::Refused(
                    "the client may not read the feed: it lacks the scope reseal:feed",
                ));
            }
            return Ok(granted);
        }
        // It may have moved; it is asked for again then.
        self.token_endpoint = None;
        if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(away(&format!("the token endpoint answered {status}")));
        }
        let error = self.read::<Refusal>(&mut answer).await.map(|refusal| refusal.error);
        Err(match error.as_deref() {
            Ok("invalid_client") => NoToken::Refused("the authority does not know the client or its secret"),
            Ok("invalid_scope") => {
                NoToken::Refused("the client may not read the feed: it lacks the scope reseal:feed")
            }
            Ok("unauthorized_client" | "unsupported_grant_type") => {
                NoToken::Refused("the client may not have tokens of its own (client_credentials)")
            }
            _ => away(&format!("the token endpoint answered {status}")),
        })
    }

    async fn token_endpoint(&mut self) -> Result<Url, NoToken> {
        if let Some(endpoint) = &self.token_endpoint {
            return Ok(endpoint.clone());
        }
        let metadata = self.metadata().await?;
        let endpoint = Url::parse(&metadata.token_endpoint)
            .ok()
            .filter(|endpoint| may_ask(endpoint, self.http_allowed))
            .ok_or(NoToken::Refused("the authority's token endpoint is no https URL"))?;
        Ok(self.token_endpoint.insert(endpoint).clone())
    }

    /// Of the first place that has it, as for the keys.
    async fn metadata(&self) -> Result<Metadata, NoToken> {
        let mut first_error = None;
        for url in metadata_urls(&self.issuer) {
            let mut answer = self.send(self.http.get(url)).await?;
            let found = if answer.status() == StatusCode::OK {
                self.read::<Metadata>(&mut answer).await
            } else {
                Err(away(&format!("the authority's metadata answered {}", answer.status())))
            };
            match found {
                Ok(metadata) if metadata.issuer == self.issuer => return Ok(metadata),
                Ok(_) => {
                    let other = "the authority's metadata names another issuer (RFC 8414 §3.3)";
                    first_error = first_error.or(Some(NoToken::Refused(other)));
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(NoToken::Refused("the issuer is no URL")))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, NoToken> {
        match timeout(self.answer_within, request.send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(away(&cause(&error))),
            Err(_) => Err(away("the authority did not answer in time")),
        }
    }

    async fn read<T: DeserializeOwned>(&self, answer: &mut Response) -> Result<T, NoToken> {
        let body = match timeout(self.answer_within, body(answer, MAX_ANSWER)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(away(&format!("the authority was asked: {error}"))),
            Err(_) => return Err(away("an answer of the authority did not end")),
        };
        serde_json::from_slice(&body).map_err(|_| away("an answer of the authority is not what it should be"))
    }
}

fn away(what: &str) -> NoToken {
    NoToken::Away(what.to_owned())
}
