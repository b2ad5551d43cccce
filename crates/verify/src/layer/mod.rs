//! The tower layer: verifies the token of every request, renews it where its holder may, and answers for those
//! that are refused.

mod admit;
mod require;
mod service;

pub use require::{RequireLayer, RequireService};
pub use service::{RENEWED_ACCESS_TOKEN, VerifyService};

use crate::renew::{Endpoint, Renewer};
use crate::requirements::Requirements;
use crate::verifier::Verifier;
use admit::Admission;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tower_layer::Layer;

/// What to do with a token whose claims have changed since it was issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStale {
    /// Renew it at the authority, let the request through with the new claims and send the new token back. If
    /// the authority does not answer: 503, never the old claims. What the authority gives no newer token for
    /// is refused as by [`OnStale::Refuse`].
    #[default]
    Renew,
    /// 401 `invalid_token`, reason `claims_changed`: the client renews and tries again.
    Refuse,
}

/// How long a renewal may take unless told otherwise.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Verifies the access token of every request; works around any service that speaks `http`'s types.
///
/// The token comes from `Authorization: Bearer`, and from nowhere else. A request that is let through has a
/// [`Verified`](crate::Verified) in its extensions. One that is not is answered as RFC 6750 and RFC 9470 say; its
/// body is made from [`Bytes`](bytes::Bytes).
///
/// Half-way through its life a token that may slide (it has `renew_at`) is renewed, in one call to the authority
/// however many requests are in flight. The new one goes back in the response header
/// [`Renewed-Access-Token`](crate::RENEWED_ACCESS_TOKEN), whatever the service answered; the service sees the new claims, and
/// the new token in `Authorization`. If the authority is away, a token that is still good goes on.
///
/// Make one and clone it: clones share their calls to the authority. A layer that answers CORS preflight
/// requests belongs outside, since those carry no token.
///
/// ```no_run
/// use reseal_verify::{OnFeedLost, OnStale, Verifier, VerifyLayer};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("https://notes.example.com")
///     .client("notes-api", std::env::var("NOTES_API_SECRET")?)
///     .feed(OnFeedLost::Accept)
///     .build()
///     .await?;
/// let layer = VerifyLayer::new(verifier).scope("notes:read").on_stale(OnStale::Renew).realm("notes");
/// # let _ = layer;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct VerifyLayer {
    verifier: Verifier,
    renewer: Arc<Renewer>,
    required: bool,
    requirements: Requirements,
    on_stale: OnStale,
    sliding: bool,
    realm: Option<Arc<str>>,
}

impl VerifyLayer {
    /// A token is required, of no particular scope; tokens slide; stale ones are renewed.
    pub fn new(verifier: Verifier) -> Self {
        let renewer = renewer(&verifier, RENEWAL_TIMEOUT);
        Self {
            verifier,
            renewer,
            required: true,
            requirements: Requirements::new(),
            on_stale: OnStale::default(),
            sliding: true,
            realm: None,
        }
    }

    /// A request without a token is refused. This is the default.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// A request without a token goes through, with nothing in its extensions. One with a bad token is
    /// refused all the same: its sender believes to be signed in.
    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// A token must grant this scope; see [`Requirements::scope`].
    pub fn scope(mut self, scope: &str) -> Self {
        self.requirements = self.requirements.scope(scope);
        self
    }

    /// The user must have authenticated like this; see [`Requirements::acr`].
    pub fn acr(mut self, acr: &str) -> Self {
        self.requirements = self.requirements.acr(acr);
        self
    }

    /// The user must have authenticated within this many seconds.
    pub fn max_age(mut self, seconds: u64) -> Self {
        self.requirements = self.requirements.max_age(seconds);
        self
    }

    /// What to do with stale tokens. Default: [`OnStale::Renew`].
    pub const fn on_stale(mut self, on_stale: OnStale) -> Self {
        self.on_stale = on_stale;
        self
    }

    /// Whether tokens past their `renew_at` are renewed on the way. Default: yes.
    pub const fn sliding(mut self, sliding: bool) -> Self {
        self.sliding = sliding;
        self
    }

    /// The `realm` of the challenges. Default: none.
    pub fn realm(mut self, realm: &str) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// How long a request waits for a renewal at most: once for its turn, once for the answer. Default: 2 s.
    pub fn renewal_timeout(mut self, timeout: Duration) -> Self {
        self.renewer = renewer(&self.verifier, timeout);
        self
    }
}

fn renewer(verifier: &Verifier, timeout: Duration) -> Arc<Renewer> {
    // Where it is asked for keys, the feed or introspection, the builder has made sure that it may be.
    let checked = verifier.0.introspector.is_some() || !verifier.0.keys.health().given;
    Arc::new(Renewer::new(Endpoint::of(verifier.issuer(), checked, timeout)))
}

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> VerifyService<S> {
        VerifyService::new(inner, Admission(self.clone()))
    }
}

impl fmt::Debug for VerifyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyLayer")
            .field("verifier", &self.verifier)
            .field("required", &self.required)
            .field("requirements", &self.requirements)
            .field("on_stale", &self.on_stale)
            .field("sliding", &self.sliding)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}
