//! Settings of a verifier, checked whole before it starts.

use crate::cache::TokenCache;
use crate::clock::{Clock, SystemClock};
use crate::counters::Counters;
use crate::feed::{self, FeedConfig};
use crate::freshness::{DEFAULT_MAX_ENTRIES, SharedFreshness};
use crate::introspect::Introspector;
use crate::keys::{DEFAULT_KEY_COOLDOWN, Keys, PATIENCE, Source};
use crate::rules::{Rules, media_type};
use crate::verifier::{Inner, Verifier};
use reseal_jose::{Algorithm, VerifyingKeys};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Most leeway that is allowed: the authority keeps events in the feed for so much longer (design §7).
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// The leeway if none is set.
pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);
/// Entries of the cache if none is set.
pub const DEFAULT_CACHE: usize = 10_000;

/// What to do while the feed is lost: before its first `caught-up`, or when nothing was heard for 15 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFeedLost {
    /// Go on by what is known, until each token's `exp`.
    Accept,
    /// Ask the authority about every token.
    Introspect,
    /// Answer that the token cannot be judged: 503, never 401.
    Refuse,
}

/// A client's credentials at the authority. `Debug` hides the secret.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) secret: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Makes a [`Verifier`]. What is left out has the default that the method names.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<Algorithm>,
    types: Option<Vec<String>>,
    leeway: Duration,
    cache: usize,
    keys: Option<VerifyingKeys>,
    client: Option<Credentials>,
    feed: Option<OnFeedLost>,
    feed_entries: usize,
    clock: Arc<dyn Clock>,
    http_allowed: bool,
    key_cooldown: Duration,
}

impl Builder {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audience: Vec::new(),
            algorithms: Algorithm::ALL.to_vec(),
            types: Some(vec!["at+jwt".to_owned()]),
            leeway: DEFAULT_LEEWAY,
            cache: DEFAULT_CACHE,
            keys: None,
            client: None,
            feed: None,
            feed_entries: DEFAULT_MAX_ENTRIES,
            clock: Arc::new(SystemClock),
            http_allowed: false,
            key_cooldown: DEFAULT_KEY_COOLDOWN,
        }
    }

    /// A name of this resource server: a token is accepted if its `aud` has one of them. Required.
    pub fn audience(mut self, name: impl Into<String>) -> Self {
        self.audience.push(name.into());
        self
    }

    /// The signature algorithms that are accepted. Default: all that `reseal-jose` has.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The types of tokens that are accepted (the header's `typ`), with or without `application/`, in any case.
    /// Default: `at+jwt` (RFC 9068 §4).
    pub fn types<S: AsRef<str>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
        self.types = Some(types.into_iter().map(|typ| media_type(typ.as_ref())).collect());
        self
    }

    /// Any `typ`, or none. For issuers older than RFC 9068; take care that their ID tokens and whatever else they sign
    /// with the same keys have another audience (RFC 8725 §3.12).
    pub fn any_type(mut self) -> Self {
        self.types = None;
        self
    }

    /// How much the clocks may differ: a token is dead from `exp` + leeway on, and valid from `nbf` - leeway on.
    /// Whole seconds, [`MAX_LEEWAY`] at most. Default: [`DEFAULT_LEEWAY`].
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How many verified tokens are kept, so that their signature is not checked again; 0 keeps none.
    /// About 1.5 KB each. Default: [`DEFAULT_CACHE`].
    pub const fn cache(mut self, entries: usize) -> Self {
        self.cache = entries;
        self
    }

    /// These keys and no others: none are fetched. Default: the issuer's, by its metadata.
    pub fn keys(mut self, keys: VerifyingKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Tokens of unknown keys cause at most one fetch of the key set in this time, however many come. Default:
    /// [`DEFAULT_KEY_COOLDOWN`].
    pub const fn key_cooldown(mut self, cooldown: Duration) -> Self {
        self.key_cooldown = cooldown;
        self
    }

    /// The credentials of this resource server at the authority, for the feed and for introspection.
    pub fn client(mut self, client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client =
            Some(Credentials { client_id: client_id.into(), secret: Zeroizing::new(secret.into()) });
        self
    }

    /// Follow the authority's feed, so that an ending or a change is seen within a second. Needs
    /// [`Builder::client`], of the scope `reseal:feed`. Default: no feed; tokens are good until `exp`.
    pub const fn feed(mut self, when_lost: OnFeedLost) -> Self {
        self.feed = Some(when_lost);
        self
    }

    /// How many changes the feed may keep in memory at once, 54 to 75 bytes each and twice that for the seconds
    /// of starting over. Beyond it the feed counts as lost, until enough of them are past their time.
    /// Default: [`DEFAULT_MAX_ENTRIES`](crate::freshness::DEFAULT_MAX_ENTRIES).
    pub const fn feed_entries(mut self, entries: usize) -> Self {
        self.feed_entries = entries;
        self
    }

    /// Another clock, for tests. Default: the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Talk to the issuer without TLS although it is not on this machine. Whoever is on the way can then
    /// replace its keys, and forge any token.
    pub const fn dangerous_allow_http(mut self) -> Self {
        self.http_allowed = true;
        self
    }

    /// Starts it. Does not fail because the authority is away: then tokens are
    /// [`Unavailable`](crate::VerifyError::Unavailable) until it is back.
    ///
    /// Waits for the first keys and until the feed has caught up, so that a verifier that starts knows what ended
    /// before it came; ten seconds at most, and not for an authority that is away. Must run within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// When settings are missing or contradict each other.
    pub async fn build(self) -> Result<Verifier, BuildError> {
        let rules = self.rules()?;
        if self.keys.as_ref().is_some_and(|keys| keys.keys().is_empty()) {
            return Err(BuildError::NoKeys);
        }
        if self.feed.is_some() && self.client.is_none() {
            return Err(BuildError::FeedWithoutClient);
        }
        if self.keys.is_none() || self.client.is_some() {
            self.check_issuer_url()?;
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BuildError::NoRuntime);
        }
        let counters = Counters::new(&self.issuer);
        let freshness = Arc::new(SharedFreshness::new(self.feed_entries));
        let http = crate::http::client().map_err(|error| BuildError::Http(error.to_string()))?;
        let began = Instant::now();
        let feed = match (self.feed, &self.client) {
            (Some(_), Some(credentials)) => Some(feed::start(
                FeedConfig {
                    issuer: self.issuer.clone(),
                    http: http.clone(),
                    credentials: credentials.clone(),
                    http_allowed: self.http_allowed,
                    clock: Arc::clone(&self.clock),
                    timing: feed::Timing::default(),
                },
                Arc::clone(&freshness),
            )),
            _ => None,
        };
        let introspector =
            self.client.map(|credentials| Introspector::new(http.clone(), credentials, self.http_allowed));
        let keys = match self.keys {
            Some(keys) => Keys::given(keys, self.feed.map(|_| Arc::clone(&freshness))),
            None => {
                let source = Source { http, issuer: self.issuer, http_allowed: self.http_allowed };
                Keys::fetched(source, self.key_cooldown, Arc::clone(&freshness)).await
            }
        };
        if let Some(feed) = &feed {
            feed.began(PATIENCE.saturating_sub(began.elapsed())).await;
        }
        Ok(Verifier(Arc::new(Inner {
            rules,
            keys,
            cache: TokenCache::new(self.cache),
            freshness,
            when_lost: self.feed,
            feed,
            introspector,
            clock: self.clock,
            counters,
        })))
    }

    /// RFC 8414 §2: `https`, no query, no fragment. `http` on this machine only, or in spite of the danger.
    fn check_issuer_url(&self) -> Result<(), BuildError> {
        let url = reqwest::Url::parse(&self.issuer).map_err(|_| BuildError::Issuer("it is not a URL"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BuildError::Issuer("it has a query or a fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BuildError::Issuer("it has a user name or a password"));
        }
        if crate::http::may_ask(&url, self.http_allowed) {
            Ok(())
        } else {
            Err(BuildError::Issuer("it must be https; http is for this machine only"))
        }
    }

    fn rules(&self) -> Result<Rules, BuildError> {
        if self.issuer.is_empty() {
            return Err(BuildError::Issuer("it is empty"));
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Err(BuildError::Audience);
        }
        if self.algorithms.is_empty() {
            return Err(BuildError::Algorithms);
        }
        if self.types.as_ref().is_some_and(|types| types.iter().any(String::is_empty) || types.is_empty()) {
            return Err(BuildError::Types);
        }
        if self.leeway > MAX_LEEWAY || self.leeway.subsec_nanos() != 0 {
            return Err(BuildError::Leeway(self.leeway));
        }
        Ok(Rules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            algorithms: self.algorithms.clone(),
            types: self.types.clone(),
            leeway: i64::try_from(self.leeway.as_secs()).unwrap_or(0),
        })
    }
}

/// Why a verifier cannot be made of its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is no URL that keys could be had from.
    #[error("the issuer cannot be used: {0}")]
    Issuer(&'static str),
    /// No audience, or an empty one.
    #[error("name the audience: a token must be for this resource server (RFC 9068 §4)")]
    Audience,
    /// An empty list of algorithms.
    #[error("the list of algorithms is empty: no token could be accepted")]
    Algorithms,
    /// An empty list of types, or an empty type.
    #[error("the list of types is empty or has an empty one: no token could be accepted")]
    Types,
    /// More than [`MAX_LEEWAY`], or parts of a second.
    #[error("a leeway of {0:?} is not allowed: whole seconds, 60 at most")]
    Leeway(Duration),
    /// A feed needs credentials.
    #[error("the feed needs the credentials of a client: call `client` too")]
    FeedWithoutClient,
    /// Not within a Tokio runtime.
    #[error("a verifier needs a Tokio runtime to fetch keys and to follow the feed")]
    NoRuntime,
    /// TLS cannot be used.
    #[error("the HTTP client does not start: {0}")]
    Http(String),
    /// The given key set has no key that could verify a token.
    #[error("there is no usable key in the given set")]
    NoKeys,
}
