//! The authority: everything a handler needs, in one place.

use crate::clock::Clock;
use crate::config::Config;
use crate::http::origin::{any_port, origin_of};
use crate::keys::Keys;
use crate::limits::{Budget, LoginLimiter};
use crate::manage::CLIENTS_CHANGED;
use crate::password::{Hasher, PasswordPolicy};
use crate::random::Random;
use crate::sms::TextMessages;
use arc_swap::{ArcSwap, ArcSwapOption};
use reseal_core::policy::Policies;
use reseal_core::refresh::OnRollback;
use reseal_core::{Client, ClientId, Policy, Session, Timestamp};
use reseal_store::{Store, StoreError};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
    /// Rules for new passwords.
    pub password_policy: PasswordPolicy,
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
    /// Gateway mode.
    pub gateway: crate::gateway::Gateway,
    /// What readers of the feed are given.
    pub feed: crate::feed::Hub,
    /// Development mode, if it is on.
    pub dev: Option<Arc<crate::dev::Dev>>,
    /// The newest event of the log that this node has read; `u64::MAX` before the first.
    pub log_seq: AtomicU64,
    /// When the keys were last read again on demand (milliseconds).
    pub keys_read_at: AtomicI64,
    /// When the log was last read successfully (milliseconds).
    pub log_read_at: AtomicI64,
    /// Metrics.
    pub metrics: crate::ops::Metrics,
    /// What the last readiness probe found.
    pub readiness: crate::ops::health::Readiness,
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

    /// Reads the keys again because a credential named one that is not here; at most once a second,
    /// whoever asks.
    pub async fn reload_keys_soon(&self) -> Result<(), crate::keys::KeysError> {
        let now = self.clock.now();
        let last = self.keys_read_at.load(Ordering::Acquire);
        let due = now.millis().saturating_sub(last) >= 1000;
        let mine = due
            && self
                .keys_read_at
                .compare_exchange(last, now.millis(), Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if mine { self.keys.reload(&*self.store, now).await } else { Ok(()) }
    }

    /// What the store may do to acknowledged writes.
    pub const fn on_rollback(&self) -> OnRollback {
        self.config.store.on_rollback()
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

    /// Whether browsers may call from this origin: the authority's own, or one that an enabled client
    /// lists. Answered from memory, because every preflight asks.
    pub fn knows_origin(&self, origin: &str) -> bool {
        let listed = self.clients.origins.load();
        origin == origin_of(&self.issuer)
            || listed.contains(origin)
            || any_port(origin).is_some_and(|entry| listed.contains(entry))
    }

    /// Drops what is remembered of clients, after a change made on this node.
    pub async fn clients_changed(&self) {
        self.clients.clear();
        // The change is done whether or not it can be read back now; the next look tries again.
        if let Err(error) = self.look_for_client_changes().await {
            tracing::warn!(%error, "the clients' origins could not be read again");
        }
    }

    /// Drops what is remembered of clients if any process on the folder changed one since the last look,
    /// and reads their origins again. Runs at start and every second.
    pub async fn look_for_client_changes(&self) -> Result<(), StoreError> {
        let mark = self.store.meta(CLIENTS_CHANGED).await?;
        if self.clients.mark.load().as_deref() != Some(&mark) {
            self.clients.clear();
        }
        let changes = self.clients.changes.load(Ordering::Acquire);
        if self.clients.origins_of.load(Ordering::Acquire) == changes {
            return Ok(());
        }
        let origins = read_origins(&*self.store).await?;
        self.clients.origins.store(Arc::new(origins));
        // What changed while they were read has raised `changes`, and the next look reads them again.
        self.clients.mark.store(Some(Arc::new(mark)));
        self.clients.origins_of.store(changes, Ordering::Release);
        Ok(())
    }
}

/// The origins of all enabled clients.
async fn read_origins(store: &dyn Store) -> Result<HashSet<String>, StoreError> {
    let mut origins = HashSet::new();
    let mut after = None;
    loop {
        let page = store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { return Ok(origins) };
        after = Some(last.id.clone());
        origins.extend(page.into_iter().filter(|c| !c.disabled).flat_map(|c| c.origins));
    }
}

/// Clients that were read lately, and the origins of all. A change made on this node empties it at once;
/// one made elsewhere (another process on the folder) is seen within a second.
#[derive(Debug, Default)]
pub struct ClientCache {
    clients: RwLock<HashMap<ClientId, Arc<Client>>>,
    /// Raised whenever what is remembered may be old.
    changes: AtomicI64,
    /// The origins that enabled clients list.
    origins: ArcSwap<HashSet<String>>,
    /// `changes` when the origins were read.
    origins_of: AtomicI64,
    /// The stored mark of the last change ([`CLIENTS_CHANGED`]) as of that reading; `None` before the first.
    mark: ArcSwapOption<Option<Vec<u8>>>,
}

impl ClientCache {
    const MAX: usize = 10_000;

    /// Forgets everything.
    pub fn clear(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.clients.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// Another one whenever something that was looked up before may have changed.
    pub fn generation(&self) -> i64 {
        self.changes.load(Ordering::Acquire)
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
