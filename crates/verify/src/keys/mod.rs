//! The issuer's public keys: given once, or fetched and kept fresh.

mod fetch;
mod keeper;
mod schedule;
mod unknown;

pub use schedule::{DEFAULT_REFRESH, MAX_REFRESH, MAX_STALE, MIN_REFRESH};

use crate::error::{Unavailable, VerifyError};
use crate::freshness::SharedFreshness;
use fetch::Fetcher;
pub(crate) use fetch::metadata_urls;
use keeper::{Asked, Shared};
use reseal_jose::{Header, Jws, JwsError, MAX_CANDIDATES, VerifyingKey, VerifyingKeys};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// The keys that are good now.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    keys: VerifyingKeys,
    /// Those of them that were withdrawn.
    withdrawn: HashSet<String>,
    /// Another number with every set.
    pub(crate) generation: u64,
}

impl KeySet {
    /// A set of that generation.
    pub(crate) fn new(keys: VerifyingKeys, generation: u64) -> Self {
        Self { keys, withdrawn: HashSet::new(), generation }
    }

    /// Whether the key of this thumbprint is in the set and was not withdrawn.
    pub(crate) fn has(&self, thumbprint: &str) -> bool {
        self.keys.keys().iter().any(|key| key.thumbprint() == thumbprint && !self.is_dead(key))
    }

    /// Whether there is a key that a token with this header may be of.
    pub(crate) fn may_have_signed(&self, header: &Header) -> bool {
        self.keys.candidates(header).next().is_some()
    }

    /// Whether a key of this name is in the set; without a name, whether any is.
    fn has_name(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.keys.keys().iter().any(|key| key.kid() == kid)
    }

    /// How many can be used.
    fn len(&self) -> usize {
        self.keys.keys().iter().filter(|key| !self.is_dead(key)).count()
    }

    /// Marks those keys of the set that are withdrawn.
    fn withdraw(&mut self, is_withdrawn: impl Fn(&str) -> bool) {
        let names = self.keys.keys().iter().filter_map(VerifyingKey::kid);
        self.withdrawn = names.filter(|kid| is_withdrawn(kid)).map(str::to_owned).collect();
    }

    fn is_withdrawn(&self, kid: &str) -> bool {
        !self.withdrawn.is_empty() && self.withdrawn.contains(kid)
    }

    fn is_dead(&self, key: &VerifyingKey) -> bool {
        key.kid().is_some_and(|kid| self.is_withdrawn(kid))
    }

    /// Checks the signature; the payload, and the key that made it.
    pub(crate) fn verify<'k, 'j>(
        &'k self,
        jws: &'j Jws<'_>,
    ) -> Result<(&'j [u8], &'k VerifyingKey), VerifyError> {
        let (payload, key) = self.find_and_verify(jws)?;
        if self.is_dead(key) { Err(VerifyError::KeyWithdrawn) } else { Ok((payload, key)) }
    }

    fn find_and_verify<'k, 'j>(&'k self, jws: &'j Jws<'_>) -> Result<(&'j [u8], &'k VerifyingKey), JwsError> {
        let header = jws.header();
        let key = match header.kid.as_deref() {
            // The right algorithm first, so that a key of another one with the same name is not in the way.
            Some(kid) => self.keys.find(kid, header.alg).or_else(|| self.keys.candidates(header).next()),
            None if (1..=MAX_CANDIDATES).contains(&self.keys.candidates(header).count()) => {
                return self
                    .keys
                    .candidates(header)
                    .find_map(|key| jws.verify(key).ok().map(|payload| (payload, key)))
                    .ok_or(JwsError::BadSignature);
            }
            None => None,
        };
        match key {
            Some(key) => jws.verify(key).map(|payload| (payload, key)),
            None => Err(self.keys.verify(jws).err().unwrap_or(JwsError::BadSignature)),
        }
    }
}

/// Where the keys are had from.
pub(crate) struct Keys {
    shared: Arc<Shared>,
    fetched: bool,
    /// Stops the task when the last verifier goes.
    task: Option<AbortHandle>,
}

/// How to fetch them.
pub(crate) struct Source {
    pub(crate) http: reqwest::Client,
    pub(crate) issuer: String,
    pub(crate) http_allowed: bool,
}

/// Longest wait for a key that is being fetched: two places of metadata and the set itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Fetches for unknown keys are so far apart, unless told otherwise.
pub const DEFAULT_KEY_COOLDOWN: Duration = Duration::from_secs(10);

impl Keys {
    /// These and no others, until the feed withdraws them.
    pub(crate) fn given(keys: VerifyingKeys, freshness: Option<Arc<SharedFreshness>>) -> Self {
        let shared = Arc::new(Shared::new(Some(keys), Duration::ZERO));
        let task = freshness
            .map(|freshness| tokio::spawn(keeper::run(Arc::clone(&shared), None, freshness)).abort_handle());
        Self { shared, fetched: false, task }
    }

    /// The issuer's. Waits a little for the first fetch.
    pub(crate) async fn fetched(source: Source, cooldown: Duration, freshness: Arc<SharedFreshness>) -> Self {
        let shared = Arc::new(Shared::new(None, cooldown));
        let fetcher = Fetcher::new(source.http, source.issuer, source.http_allowed);
        let task = tokio::spawn(keeper::run(Arc::clone(&shared), Some(fetcher), freshness));
        shared.first_round(PATIENCE).await;
        Self { shared, fetched: true, task: Some(task.abort_handle()) }
    }

    /// The keys that are good now.
    pub(crate) fn current(&self) -> Result<Arc<KeySet>, VerifyError> {
        self.shared.current.load_full().ok_or(VerifyError::Unavailable(Unavailable::Keys))
    }

    /// A newer set than that one, for a token whose key it does not have; `None` if there is no such key.
    pub(crate) async fn newer(
        &self,
        kid: Option<&str>,
        generation: u64,
    ) -> Result<Option<Arc<KeySet>>, VerifyError> {
        if !self.fetched {
            return Ok(None);
        }
        match self.shared.ask(kid, generation, PATIENCE).await {
            Asked::LookAgain => self.current().map(Some),
            Asked::NoSuchKey => Ok(None),
            Asked::Unavailable => Err(VerifyError::Unavailable(Unavailable::Keys)),
        }
    }

    /// The endpoint that the metadata names for introspection.
    pub(crate) fn introspection_endpoint(&self) -> Option<String> {
        self.shared.metadata.load().as_ref()?.introspection_endpoint.clone()
    }

    /// How they are.
    pub(crate) fn health(&self) -> KeysHealth {
        let (fetched_ago, failures) = self.shared.freshness();
        let usable = self.shared.current.load().as_ref().map_or(0, |keys| keys.len());
        KeysHealth { given: !self.fetched, usable, fetched_ago, failures }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The state of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysHealth {
    /// Whether they were given, and none are fetched.
    pub given: bool,
    /// How many tokens can be verified with. None: every token is
    /// [`Unavailable`](crate::VerifyError::Unavailable).
    pub usable: usize,
    /// How long ago they were fetched.
    pub fetched_ago: Option<Duration>,
    /// How many times fetching has failed since.
    pub failures: u32,
}

#[cfg(test)]
mod tests;
