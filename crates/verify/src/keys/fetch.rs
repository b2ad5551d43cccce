//! Fetching the issuer's metadata (RFC 8414) and key set (RFC 7517 §5).

use super::schedule;
use crate::http::{self, BodyError, cause};
use ::http::header;
use reqwest::{Client, StatusCode, Url};
use reseal_jose::{KeySetError, MAX_KEY_SET_LEN, VerifyingKeys};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longest wait for one answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest metadata that is read, in bytes.
const MAX_METADATA_LEN: usize = 64 * 1024;
/// Metadata is read again after so long.
const METADATA_LIFE: Duration = Duration::from_secs(3600);

/// What of the metadata matters here (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    jwks_uri: String,
    #[serde(default)]
    pub(crate) introspection_endpoint: Option<String>,
}

/// Fetches; remembers the metadata.
pub(super) struct Fetcher {
    pub(super) http: Client,
    pub(super) issuer: String,
    pub(super) http_allowed: bool,
    metadata: Option<Metadata>,
    /// When it is read again.
    due_at: Option<Instant>,
}

/// A key set as it came.
pub(super) struct FetchedKeys {
    pub(super) keys: VerifyingKeys,
    pub(super) raw: Vec<u8>,
    pub(super) max_age: Option<Duration>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{what} could not be reached: {cause}")]
    Away { what: &'static str, cause: String },
    #[error("{0} did not answer in time")]
    Slow(&'static str),
    #[error("{what} was answered with {status}")]
    Status { what: &'static str, status: StatusCode },
    #[error("{what} cannot be read: {fault}")]
    Body { what: &'static str, fault: BodyError },
    #[error("the metadata is not what RFC 8414 has")]
    Metadata,
    #[error("the metadata is of another issuer")]
    OtherIssuer,
    #[error("the metadata names a URL that may not be asked: without TLS, or none")]
    ForbiddenUrl,
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    #[error("no key of the key set can be used")]
    NoUsableKey,
}

impl Fetcher {
    pub(super) const fn new(http: Client, issuer: String, http_allowed: bool) -> Self {
        Self { http, issuer, http_allowed, metadata: None, due_at: None }
    }

    /// The key set as it is published now. Each answer has [`ANSWER_TIMEOUT`].
    pub(super) async fn fetch(&mut self) -> Result<FetchedKeys, FetchError> {
        self.refresh_metadata().await?;
        let fetched = self.key_set().await;
        if fetched.is_err() {
            // Perhaps the keys have moved: ask where they are before the next try.
            self.due_at = None;
        }
        fetched
    }

    /// The metadata, if any was read.
    pub(super) const fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    async fn refresh_metadata(&mut self) -> Result<(), FetchError> {
        if self.due_at.is_some_and(|due| Instant::now() < due) {
            return Ok(());
        }
        match self.read_metadata().await {
            Ok(metadata) => {
                self.metadata = Some(metadata);
                self.due_at = Some(Instant::now() + METADATA_LIFE);
            }
            // What was true an hour ago is likely true now.
            Err(error) if self.metadata.is_some() => tracing::warn!(%error, "the issuer's metadata"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The first place that has metadata of this very issuer.
    async fn read_metadata(&self) -> Result<Metadata, FetchError> {
        let mut first_error = None;
        for url in metadata_urls(&self.issuer) {
            match self.metadata_at(url).await {
                Ok(metadata) => return Ok(metadata),
                Err(error @ (FetchError::Away { .. } | FetchError::Slow(_))) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(FetchError::ForbiddenUrl))
    }

    async fn metadata_at(&self, url: Url) -> Result<Metadata, FetchError> {
        let (body, _) = self.get(url, "the metadata", MAX_METADATA_LEN).await?;
        let metadata: Metadata = serde_json::from_slice(&body).map_err(|_| FetchError::Metadata)?;
        // RFC 8414 §3.3: or anybody could speak for this issuer.
        if metadata.issuer == self.issuer { Ok(metadata) } else { Err(FetchError::OtherIssuer) }
    }

    async fn key_set(&self) -> Result<FetchedKeys, FetchError> {
        let metadata = self.metadata().ok_or(FetchError::Metadata)?;
        let url = Url::parse(&metadata.jwks_uri).map_err(|_| FetchError::ForbiddenUrl)?;
        let (raw, max_age) = self.get(url, "the key set", MAX_KEY_SET_LEN).await?;
        let keys = VerifyingKeys::parse(&raw)?;
        for skipped in keys.skipped() {
            tracing::debug!(kid = skipped.kid, reason = %skipped.reason, "a key of the set is not used");
        }
        // To trust nobody from now on is nothing that an issuer says in this way.
        if keys.keys().is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        Ok(FetchedKeys { keys, raw, max_age })
    }

    async fn get(
        &self,
        url: Url,
        what: &'static str,
        max: usize,
    ) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
        let of_this_machine = Url::parse(&self.issuer).is_ok_and(|issuer| issuer.scheme() == "http");
        // An issuer with TLS has no business to send us to plain HTTP, this machine included.
        if !http::may_ask(&url, self.http_allowed) || (url.scheme() == "http" && !of_this_machine) {
            return Err(FetchError::ForbiddenUrl);
        }
        let asked = async {
            let accepted = "application/json, application/jwk-set+json";
            let request = self.http.get(url).header(header::ACCEPT, accepted);
            let mut response =
                request.send().await.map_err(|error| FetchError::Away { what, cause: cause(&error) })?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status { what, status: response.status() });
            }
            let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let max_age =
                text(header::CACHE_CONTROL).and_then(|control| schedule::max_age(control, text(header::AGE)));
            let mut body =
                http::body(&mut response, max).await.map_err(|fault| FetchError::Body { what, fault })?;
            Ok((std::mem::take(&mut *body), max_age))
        };
        timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| FetchError::Slow(what))?
    }
}

/// Where an issuer's metadata may be: RFC 8414 §3.1, then OpenID Connect Discovery §4; last the place where
/// an issuer with a path serves it that has only that path to itself.
pub(crate) fn metadata_urls(issuer: &str) -> Vec<Url> {
    let Ok(base) = Url::parse(issuer) else { return Vec::new() };
    let path = base.path().trim_end_matches('/').to_owned();
    let at = |path: &str| {
        let mut url = base.clone();
        url.set_path(path);
        url
    };
    let mut urls = vec![
        at(&format!("/.well-known/oauth-authorization-server{path}")),
        at(&format!("{path}/.well-known/openid-configuration")),
    ];
    if !path.is_empty() {
        urls.push(at(&format!("{path}/.well-known/oauth-authorization-server")));
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(issuer: &str) -> Vec<String> {
        metadata_urls(issuer).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_issuers_path_is_inserted() {
        assert_eq!(
            urls("https://auth.test"),
            [
                "https://auth.test/.well-known/oauth-authorization-server",
                "https://auth.test/.well-known/openid-configuration",
            ]
        );
        for issuer in ["https://auth.test:8443/one/two", "https://auth.test:8443/one/two/"] {
            assert_eq!(
                urls(issuer),
                [
                    "https://auth.test:8443/.well-known/oauth-authorization-server/one/two",
                    "https://auth.test:8443/one/two/.well-known/openid-configuration",
                    "https://auth.test:8443/one/two/.well-known/oauth-authorization-server",
                ]
            );
        }
        assert!(urls("no url").is_empty());
    }
}
