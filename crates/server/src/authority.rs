//! The authority: everything a handler needs, in one place.

use crate::clock::Clock;
use crate::config::Config;
use crate::keys::Keys;
use crate::limits::{Budget, LoginLimiter};
use crate::password::Hasher;
use crate::random::Random;
use crate::sms::TextMessages;
use reseal_core::policy::Policies;
use reseal_core::refresh::OnRollback;
use reseal_core::{Client, ClientId, Policy, Session, Timestamp};
use reseal_store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// The state that all handlers share.
pub struct Authority {
    /// `iss`, without a slash at the end.
    pub issuer: Arc<str>,
    /// The configuration.
    pub config: Config,
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Keys.
    pub keys: Keys,
    /// Password hashing, bounded.
    pub hasher: Hasher,
    /// Failed logins.
    pub login_limits: LoginLimiter,
    /// Text messages per user and number.
    pub message_budget: Budget,
    /// Text messages.
    pub texts: Arc<dyn TextMessages>,
    /// Clients, remembered for a while.
    pub clients: ClientCache,
    /// The longest life under which a living access token may have been issued.
    pub longest_access_ttl: Duration,
    /// Development mode, if it is on.
    pub dev: Option<Arc<crate::dev::Dev>>,
    /// When the log was last read successfully (milliseconds).
    pub log_read_at: AtomicI64,
    /// Metrics.
    pub metrics: crate::ops::Metrics,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The state as axum hands it to handlers.
pub type App = Arc<Authority>;

impl Authority {
    /// `until` of events that are logged at `now`.
    pub fn event_until(&self, now: Timestamp) -> Timestamp {
        reseal_core::event::event_until(now, self.longest_access_ttl)
    }

    /// The policy of a session; `None` when the configuration no longer has it.
    pub fn policy_of(&self, session: &Session) -> Option<&Policy> {
        let policy = self.policies.find(&session.policy)?;
        // A policy that changed its kind does not fit the session's credentials any more.
        let fits = (policy.kind == reseal_core::PolicyKind::Cookie) == session.cookie.is_some();
        fits.then_some(policy)
    }

    /// What the store may do to acknowledged writes.
    pub const fn on_rollback(&self) -> OnRollback {
        OnRollback::Theft
    }

    /// The client, if it is registered and enabled.
    pub async fn client(&self, id: &ClientId) -> Result<Option<Arc<Client>>, StoreError> {
        if let Some(client) = self.clients.find(id) {
            return Ok(Some(client));
        }
        let seen = self.clients.changes.load(Ordering::Acquire);
        let found = self.store.client(id).await?.filter(|c| !c.disabled).map(Arc::new);
        if let Some(client) = &found {
            self.clients.remember(client, seen);
        }
        Ok(found)
    }
}

/// Clients that were read lately. A change made on this node empties it at once; changes made elsewhere
/// (another process) are seen in the event log within a second.
#[derive(Debug, Default)]
pub struct ClientCache {
    clients: RwLock<HashMap<ClientId, Arc<Client>>>,
    changes: AtomicI64,
}

impl ClientCache {
    const MAX: usize = 10_000;

    /// Forgets everything.
    pub fn clear(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.clients.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    fn find(&self, id: &ClientId) -> Option<Arc<Client>> {
        self.clients.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }

    /// Keeps what was read, unless something changed since the reading began.
    fn remember(&self, client: &Arc<Client>, seen: i64) {
        let mut clients = self.clients.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.changes.load(Ordering::Acquire) != seen {
            return;
        }
        if clients.len() >= Self::MAX {
            clients.clear();
        }
        clients.insert(client.id.clone(), Arc::clone(client));
    }
}
