//! The authority: everything a handler needs, in one place.

use crate::clock::Clock;
use crate::config::Config;
use crate::http::origin::{any_port, origin_of};
use crate::keys::Keys;
use crate::knowledge::KNOWN_WITHIN;
use crate::limits::{Budget, LoginLimiter};
use crate::manage::CLIENTS_CHANGED;
use crate::password::{Hasher, PasswordPolicy};
use crate::random::Random;
use crate::sms::TextMessages;
use arc_swap::{ArcSwap, ArcSwapOption};
use reseal_core::policy::Policies;
use reseal_core::refresh::OnRollback;
use reseal_core::{Client, ClientId, Policy, PolicyName, Session, Timestamp};
use reseal_store::{Store, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::time::Instant;

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
    /// The longest lives under which access tokens may be out.
    pub lives: crate::lives::Lives,
    /// How old this node's knowledge of others' changes is.
    pub knowledge: crate::knowledge::Knowledge,
    /// Whether other nodes may serve the same store.
    pub shared: bool,
    /// Whether the node is about to stop, and load balancers should look elsewhere.
    pub draining: std::sync::atomic::AtomicBool,
    /// Gateway mode.
    pub gateway: crate::gateway::Gateway,
    /// What readers of the feed are given.
    pub feed: crate::feed::Hub,
    /// Development mode, if it is on.
    pub dev: Option<Arc<crate::dev::Dev>>,
    /// The newest event of the log that this node has read; `u64::MAX` before the first.
    pub log_seq: AtomicU64,
    /// When the keys were last read again on demand.
    pub keys_read_at: Mutex<Option<Instant>>,
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
        reseal_core::event::event_until(now, self.lives.longest(now))
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
        let due = {
            let mut last = self.keys_read_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let due = last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
            if due {
                *last = Some(Instant::now());
            }
            due
        };
        if due { self.keys.reload(&*self.store, self.clock.now()).await } else { Ok(()) }
    }

    /// What the store may do to acknowledged writes.
    pub const fn on_rollback(&self) -> OnRollback {
        self.config.store.on_rollback()
    }

    /// The client, if it is registered and enabled, as it is on every node: what is decided right after may be
    /// signed. Where another node changed it a moment ago, this waits until the change takes effect, since tokens
    /// of the time before count as older than the change.
    pub async fn client(&self, id: &ClientId) -> Result<Option<Arc<Client>>, StoreError> {
        let begun = Instant::now();
        loop {
            self.be_current().await?;
            let found = self.client_as_known(id).await?;
            let Some(client) = &found else { return Ok(found) };
            let early = until_in_effect(client, self.clock.now()).filter(|_| self.shared);
            let Some(early) = early.filter(|_| begun.elapsed() <= MOST_AHEAD) else { return Ok(found) };
            tokio::time::sleep(early.min(Duration::from_millis(100))).await;
        }
    }

    /// The time of a request after [`client`](Self::client): `now`, unless it had to wait for a change of its client to
    /// take effect.
    pub(crate) fn after_waiting(&self, client: &Client, now: Timestamp) -> Timestamp {
        if self.shared && client.updated_at > now { self.clock.now() } else { now }
    }

    /// The same as far as this node knows, for whoever signs nothing by it.
    pub async fn client_as_known(&self, id: &ClientId) -> Result<Option<Arc<Client>>, StoreError> {
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

    /// Has the store note how long tokens may live under the policies that clients use.
    pub(crate) async fn cover_lives(&self) -> Result<(), StoreError> {
        let used = self.clients.policies();
        self.lives.cover(&*self.store, &self.policies, &*used, self.clock.now()).await
    }

    /// Tells load balancers that this node is about to stop, and gives them `server.drain_time` to look elsewhere;
    /// meanwhile it answers on.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let time = self.config.server.drain_time.0;
        if !time.is_zero() {
            tracing::info!(
                seconds = time.as_secs(),
                "stopping; requests are answered for server.drain_time yet"
            );
            tokio::time::sleep(time).await;
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
        let (origins, policies) = read_clients(&*self.store).await?;
        self.lives.cover(&*self.store, &self.policies, &policies, self.clock.now()).await?;
        self.clients.origins.store(Arc::new(origins));
        self.clients.policies.store(Arc::new(policies));
        // What changed while they were read has raised `changes`, and the next look reads them again.
        self.clients.mark.store(Some(Arc::new(mark)));
        self.clients.origins_of.store(changes, Ordering::Release);
        Ok(())
    }
}

/// No change of a client takes effect later than this after it was made.
const MOST_AHEAD: Duration = Duration::from_secs(2 * KNOWN_WITHIN.as_secs());

/// How long until the change of the client takes effect. One that lies further ahead than any does was made by a
/// clock that was wrong, and waiting for it would make every request slow.
fn until_in_effect(client: &Client, now: Timestamp) -> Option<Duration> {
    let early = client.updated_at.since(now);
    (!early.is_zero() && early <= MOST_AHEAD).then_some(early)
}

/// The origins of all enabled clients, and the policies of all.
async fn read_clients(store: &dyn Store) -> Result<(HashSet<String>, BTreeSet<PolicyName>), StoreError> {
    let (mut origins, mut policies) = (HashSet::new(), BTreeSet::new());
    let mut after = None;
    loop {
        let page = store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { return Ok((origins, policies)) };
        after = Some(last.id.clone());
        policies.extend(page.iter().map(|c| c.policy.clone()));
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
    /// The policies that clients use, as of the last reading of the origins.
    policies: ArcSwap<BTreeSet<PolicyName>>,
    /// Clients that were changed lately, with what they are now: whoever still holds one as it was before signs
    /// nothing more.
    changed: RwLock<HashMap<ClientId, Changed>>,
}

/// What a client that was changed is now.
#[derive(Debug)]
struct Changed {
    /// When the record was made and its version: an earlier one is superseded.
    now: (Timestamp, u32),
    /// What it is, if it is there.
    is: Option<Client>,
    /// Whether this node has seen to it that the change reaches all tokens of before.
    settled: bool,
    learned: Instant,
}

impl Changed {
    /// Whether the client is the same, however often that was written.
    fn is_still(&self, client: Option<&Client>) -> bool {
        match (&self.is, client) {
            (Some(is), Some(client)) => {
                *is == Client { version: is.version, updated_at: is.updated_at, ..client.clone() }
            }
            (is, client) => is.is_none() && client.is_none(),
        }
    }
}

/// No request holds a client for longer.
const IN_FLIGHT: Duration = Duration::from_secs(60);

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

    /// The policies that clients use.
    pub fn policies(&self) -> Arc<BTreeSet<PolicyName>> {
        self.policies.load_full()
    }

    /// The client of that id is what it is now (`None`: it is gone, as of `at`). Whether that is news: not if the
    /// change was [settled](Self::settle) and is only told again.
    pub(crate) fn has_become(&self, id: &ClientId, client: Option<&Client>, at: Timestamp) -> bool {
        let now = client.map_or((at, 0), |client| (client.created_at, client.version));
        let mut changed = self.changed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let settled = changed.get(id).is_some_and(|c| c.settled && c.is_still(client));
        if changed.len() >= Self::MAX {
            changed.retain(|_, c| c.learned.elapsed() < IN_FLIGHT);
        }
        if changed.len() < Self::MAX {
            let is = client.cloned();
            changed.insert(id.clone(), Changed { now, is, settled, learned: Instant::now() });
        }
        !settled
    }

    /// This node has seen to it that the change of the client reaches all tokens of before.
    pub(crate) fn settle(&self, id: &ClientId) {
        let mut changed = self.changed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(changed) = changed.get_mut(id) {
            changed.settled = true;
        }
    }

    /// Whether this is a client as it was before a change that this node has learned of.
    pub fn is_superseded(&self, client: &Client) -> bool {
        let changed = self.changed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        changed.get(&client.id).is_some_and(|c| (client.created_at, client.version) < c.now)
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
        drop(clients);
        // It became something else since, without a word to verifiers: the next change is news again.
        let mut changed = self.changed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(last) = changed.get_mut(&client.id)
            && !last.is_still(Some(client))
        {
            last.settled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::Scope;
    use reseal_core::claims::Projection;

    fn client(updated_at: Timestamp) -> Client {
        Client {
            id: "web".parse().unwrap(),
            name: "Web".into(),
            secret_hash: None,
            policy: "web".parse().unwrap(),
            audience: vec![],
            scope: Scope::default(),
            claims: Projection::parse(["name"]).unwrap(),
            origins: vec![],
            algorithm: "ES256".into(),
            introspect: false,
            disabled: false,
            version: 1,
            created_at: Timestamp::EPOCH,
            updated_at,
        }
    }

    #[test]
    fn a_change_that_is_told_again_is_news_once() {
        let (cache, now) = (ClientCache::default(), Timestamp::from_secs(1_000_000));
        let changed = Client { version: 2, ..client(now) };
        let told_again = Client { version: 3, updated_at: now + KNOWN_WITHIN, ..changed.clone() };
        assert!(cache.has_become(&changed.id, Some(&changed), now));
        assert!(cache.has_become(&changed.id, Some(&changed), now), "until it is settled");
        cache.settle(&changed.id);
        assert!(!cache.has_become(&changed.id, Some(&told_again), now));
        assert!(cache.is_superseded(&changed) && !cache.is_superseded(&told_again));
        let another = Client { version: 4, name: "New".into(), ..told_again };
        assert!(cache.has_become(&changed.id, Some(&another), now));
        cache.settle(&changed.id);
        assert!(cache.has_become(&changed.id, None, now), "it was deleted");
    }

    #[test]
    fn a_change_is_waited_for_unless_no_change_lies_so_far_ahead() {
        let (now, ms) = (Timestamp::from_secs(1_000_000), Duration::from_millis(1));
        assert_eq!(until_in_effect(&client(now), now), None);
        assert_eq!(until_in_effect(&client(now + ms), now), Some(ms));
        // Decided on by a node that is ahead, at the beginning of a second.
        let furthest = KNOWN_WITHIN + Duration::from_secs(1) + crate::knowledge::CLOCKS;
        assert_eq!(until_in_effect(&client(now + furthest), now), Some(furthest));
        let wrong = now + Duration::from_secs(3600);
        assert_eq!(until_in_effect(&client(wrong), now), None);
    }
}
