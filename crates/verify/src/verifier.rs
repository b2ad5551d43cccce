//! The verifier: signature, claims, feed.

use crate::builder::{Builder, OnFeedLost};
use crate::cache::{self, TokenCache};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::error::{Unavailable, VerifyError};
use crate::feed::FeedTask;
use crate::freshness::{Judgement, SharedFreshness};
use crate::health::Health;
use crate::introspect::{Introspector, Question};
use crate::keys::Keys;
use crate::payload;
use crate::rules::Rules;
use crate::token::Token;
use reseal_jose::{Jws, JwsError, MAX_TOKEN_LEN};
use std::fmt;
use std::sync::Arc;

/// Verifies the access tokens of one issuer. Clones are cheap and share everything.
#[derive(Clone)]
#[must_use]
pub struct Verifier(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) rules: Rules,
    pub(crate) keys: Keys,
    pub(crate) cache: TokenCache,
    pub(crate) freshness: Arc<SharedFreshness>,
    /// `None`: there is no feed.
    pub(crate) when_lost: Option<OnFeedLost>,
    pub(crate) feed: Option<FeedTask>,
    /// Where there are credentials for it.
    pub(crate) introspector: Option<Arc<Introspector>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
}

/// A token that is good, and whether its claims are still those of the record.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The token.
    pub token: Arc<Token>,
    /// Whether the user or the client has changed since it was issued: a newer one would say something else.
    pub stale: bool,
}

impl Verifier {
    /// For the tokens of this issuer: the exact text of their `iss`.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Signature, claims, feed. A stale token (claims or client changed) is not refused: [`Checked::stale`]
    /// says so.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn check(&self, token: &str) -> Result<Checked, VerifyError> {
        let outcome = self.check_locally(token).await;
        self.0.counters.checked(&outcome);
        outcome
    }

    async fn check_locally(&self, text: &str) -> Result<Checked, VerifyError> {
        let token = self.local(text, self.now()).await?;
        let inner = &*self.0;
        // Asked first: if the feed catches up in between, the maps are judged by as they are after it.
        let may_go_on = |when_lost: &OnFeedLost| *when_lost == OnFeedLost::Accept;
        let lost = inner.when_lost.filter(|when| !may_go_on(when) && inner.freshness.feed_is_lost());
        let stale = self.judge(&token)?;
        match lost {
            None | Some(OnFeedLost::Accept) => Ok(Checked { token, stale }),
            Some(OnFeedLost::Refuse) => Err(VerifyError::Unavailable(Unavailable::Feed)),
            // Boxed: the hot path shall not carry its state about.
            Some(OnFeedLost::Introspect) => Box::pin(self.introspect(text, token, stale, false)).await,
        }
    }

    /// As [`Verifier::check`], and asks the authority about this very moment (RFC 7662), whatever the feed
    /// says: for the few calls where a second matters. Needs [`Builder::client`], of a client that may
    /// introspect.
    ///
    /// # Errors
    /// See [`VerifyError`]; without the authority's answer [`Unavailable::Introspection`].
    pub async fn check_with_authority(&self, token: &str) -> Result<Checked, VerifyError> {
        let outcome = self.ask_authority(token).await;
        self.0.counters.checked(&outcome);
        outcome
    }

    async fn ask_authority(&self, text: &str) -> Result<Checked, VerifyError> {
        let token = self.local(text, self.now()).await?;
        let stale = self.judge(&token)?;
        self.introspect(text, token, stale, true).await
    }

    /// As [`Verifier::check`], but a stale token is [`VerifyError::ClaimsChanged`].
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Token>, VerifyError> {
        let checked = self.check(token).await?;
        if checked.stale { Err(VerifyError::ClaimsChanged) } else { Ok(checked.token) }
    }

    /// The issuer whose tokens are accepted.
    pub fn issuer(&self) -> &str {
        &self.0.rules.issuer
    }

    /// What time it is by the verifier's clock, Unix seconds.
    pub fn now(&self) -> i64 {
        self.0.clock.now()
    }

    /// How it is doing, for a service's own health page.
    #[must_use]
    pub fn health(&self) -> Health {
        let Inner { feed, when_lost, keys, rules, .. } = &*self.0;
        let feed = feed.as_ref().zip(*when_lost).map(|(feed, when_lost)| (feed.health(), when_lost));
        Health::new(rules.issuer.clone(), keys.health(), feed)
    }

    /// What the feed told. The feed keeps it up to date; for tests, and for those who bring the events in some
    /// other way.
    pub fn freshness(&self) -> &SharedFreshness {
        &self.0.freshness
    }

    /// By what the feed told: whether it is stale.
    fn judge(&self, token: &Token) -> Result<bool, VerifyError> {
        match self.0.freshness.judge(token) {
            Judgement::Current => Ok(false),
            Judgement::Stale => Ok(true),
            Judgement::SessionEnded(reason) => Err(VerifyError::SessionEnded(reason)),
            Judgement::KeyWithdrawn => Err(VerifyError::KeyWithdrawn),
        }
    }

    /// By what the authority says.
    async fn introspect(
        &self,
        text: &str,
        token: Arc<Token>,
        stale: bool,
        fresh: bool,
    ) -> Result<Checked, VerifyError> {
        let Inner { introspector, keys, rules, .. } = &*self.0;
        let introspector =
            introspector.as_ref().ok_or(VerifyError::Unavailable(Unavailable::Introspection))?;
        let endpoint = keys
            .introspection_endpoint()
            .unwrap_or_else(|| format!("{}/oauth/introspect", rules.issuer.trim_end_matches('/')));
        let question = Question {
            endpoint,
            token: text.to_owned().into(),
            issuer: rules.issuer.clone(),
            subject: token.subject().to_owned(),
        };
        let stale = introspector.ask(question, fresh).await.judge(&token)? || stale;
        Ok(Checked { token, stale })
    }

    /// Everything but the feed.
    async fn local(&self, text: &str, now: i64) -> Result<Arc<Token>, VerifyError> {
        let Inner { rules, keys, cache, counters, .. } = &*self.0;
        // Before anything is made of it: a long text costs nothing.
        if text.len() > MAX_TOKEN_LEN {
            return Err(JwsError::TooLong { length: text.len() }.into());
        }
        if cache.is_off() {
            return Ok(Arc::new(self.first(text, now).await?.0));
        }
        let hash = cache::hash(text);
        if let Some((token, generation)) = cache.get(&hash) {
            let keys = keys.current()?;
            if generation == keys.generation {
                counters.hit();
                return rules.check_again(token, now);
            }
            if keys.has(&token.key) {
                cache.put(hash, Arc::clone(&token), keys.generation);
                counters.hit();
                return rules.check_again(token, now);
            }
            cache.remove(&hash);
        }
        let (token, generation) = self.first(text, now).await?;
        let token = Arc::new(token);
        cache.put(hash, Arc::clone(&token), generation);
        Ok(token)
    }

    /// A token that was not seen before; and the generation of the keys that it is good under.
    async fn first(&self, text: &str, now: i64) -> Result<(Token, u64), VerifyError> {
        let Inner { rules, keys, .. } = &*self.0;
        let jws = Jws::parse(text)?;
        rules.check_header(jws.header())?;
        let mut set = keys.current()?;
        if !set.may_have_signed(jws.header()) {
            let kid = jws.header().kid.as_deref();
            if let Some(newer) = keys.newer(kid, set.generation).await? {
                set = newer;
            }
        }
        let (payload, key) = set.verify(&jws)?;
        // Only now is it worth reading: somebody we trust wrote it.
        let payload = std::str::from_utf8(payload)
            .map_err(|_| VerifyError::Claims("the payload is not UTF-8".to_owned()))?;
        let claims = payload::parse(payload)?;
        rules.check_parties(&claims)?;
        rules.check_time(&claims, now)?;
        Ok((Token::new(claims, payload, key), set.generation))
    }
}

impl Rules {
    /// What is checked at every use of a token that was verified before.
    fn check_again(&self, token: Arc<Token>, now: i64) -> Result<Arc<Token>, VerifyError> {
        self.check_parties(&token.registered)?;
        self.check_time(&token.registered, now)?;
        Ok(token)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}
