//! The keys this node holds: signing keys and the ring, opened from the store under the master key.
//!
//! Readers take one snapshot ([`Keys::load`]); the rotation job and a reload replace it whole.

use crate::master::MasterKey;
use crate::random::Random;
use arc_swap::ArcSwap;
use reseal_core::Timestamp;
use reseal_core::credential::{KeyRing, RingKey};
use reseal_core::event::{Event, EventKind, withdrawal_until};
use reseal_core::keys::{self, KeyRecord, KeySchedule, KeyState, KeyStep, KeyUse};
use reseal_jose::{Algorithm, Jwk, JwkSet, SigningKey, VerifyingKey};
use reseal_store::{Commit, CommitError, Conflict, Store, StoreError, Write};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// All keys at one moment.
#[derive(Debug)]
pub struct KeySet {
    /// The mark that every change of keys renews, read before them.
    mark: Option<Vec<u8>>,
    records: Vec<KeyRecord>,
    signing: HashMap<String, SigningKey>,
    /// Makes and authenticates refresh tokens and cookies.
    pub ring: Arc<KeyRing>,
}

/// The keys, and how to change them.
#[derive(Debug)]
pub struct Keys {
    current: ArcSwap<KeySet>,
    master: MasterKey,
    schedule: KeySchedule,
    /// How long tokens of any node may live (milliseconds), whatever this node's configuration says.
    longest_life: AtomicU64,
    /// Held while this process changes keys.
    changing: tokio::sync::Mutex<()>,
    /// Held from reading the keys until they are in force: what was read first must not replace what was
    /// read last, or a withdrawn key came back.
    reading: tokio::sync::Mutex<()>,
    /// When the newest successful look for others' changes began.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be opened: the master key is another one.
    #[error(
        "the keys in the store were sealed with another master key. Put the right key, which is the same on every node, \
         into RESEAL_MASTER_KEY or the master key file; if it is lost, `reseal keys reset --end-all-sessions` makes new keys and signs everybody out"
    )]
    WrongMasterKey,
    /// A key in the store is damaged.
    #[error("a key in the store is damaged: {0}")]
    Damaged(String),
}

impl Keys {
    /// Opens the keys of the store, making the first ones where there are none.
    pub async fn open(
        store: &dyn Store,
        master: MasterKey,
        schedule: KeySchedule,
        random: &Random,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        check_master_key(store, &master).await?;
        let all = [Algorithm::Es256];
        rotate(store, (&master, random), &schedule, &all, (now, false)).await?;
        let set = read(store, &master, now).await?;
        Ok(Self {
            current: ArcSwap::from_pointee(set),
            master,
            schedule,
            longest_life: AtomicU64::new(0),
            changing: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        })
    }

    /// The keys of the moment.
    pub fn load(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// Whether nobody has changed the keys since this node read them.
    pub(crate) async fn is_current(&self, store: &dyn Store) -> Result<bool, StoreError> {
        Ok(store.meta(KEYS_CHANGED).await? == self.load().mark)
    }

    /// Reads the keys again if others changed them before this was called. Of many callers at once, few look.
    pub async fn catch_up(&self, store: &dyn Store, now: Timestamp) -> Result<(), KeysError> {
        let came = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|begun| begun >= came) {
            return Ok(());
        }
        let begun = Instant::now();
        if !self.is_current(store).await? {
            self.reload(store, now).await?;
        }
        *looked = Some(begun);
        Ok(())
    }

    /// Reads the store again.
    pub async fn reload(&self, store: &dyn Store, now: Timestamp) -> Result<(), KeysError> {
        let _reading = self.reading.lock().await;
        self.current.store(Arc::new(read(store, &self.master, now).await?));
        Ok(())
    }

    /// Does what the schedule asks for now, and reloads. `algorithms` are those that clients use.
    pub async fn rotate(
        &self,
        store: &dyn Store,
        random: &Random,
        algorithms: &[Algorithm],
        at: (Timestamp, bool),
    ) -> Result<(), KeysError> {
        let _changing = self.changing.lock().await;
        rotate(store, (&self.master, random), &self.schedule_now(), algorithms, at).await?;
        self.reload(store, at.0).await
    }

    /// Deletes the keys of which nothing can be alive under the schedule, and reloads. For the authority
    /// alone: a command may have been given another configuration, and a key that is gone is gone.
    pub async fn forget(&self, store: &dyn Store, now: Timestamp) -> Result<(), KeysError> {
        let _changing = self.changing.lock().await;
        let schedule = self.schedule_now();
        let forget = |records: &[KeyRecord]| {
            let dead = records.iter().filter(|k| k.forget_at(&schedule).is_some_and(|t| t <= now));
            Ok(dead.map(|k| Write::DeleteKey(k.key_use.clone())).collect())
        };
        if change(store, forget).await? { self.reload(store, now).await } else { Ok(()) }
    }

    /// Withdraws the signing key of that `kid`, which may have leaked: from now on nothing trusts it, the
    /// log tells verifiers, and another key signs at once. `false`: there is no such key.
    pub async fn withdraw(
        &self,
        store: &dyn Store,
        random: &Random,
        kid: &str,
        (now, event_until): (Timestamp, Timestamp),
    ) -> Result<bool, KeysError> {
        let _changing = self.changing.lock().await;
        let mut is_there = true;
        change(store, |records| {
            let Some(withdrawal) = keys::withdraw(records, kid, now) else {
                is_there = false;
                return Ok(Vec::new());
            };
            let Some(withdrawn) = withdrawal.changed.first() else { return Ok(Vec::new()) };
            let mut writes: Vec<Write> = Vec::new();
            if let (true, KeyUse::Signing { algorithm, .. }) = (withdrawal.create, &withdrawn.key_use) {
                let algorithm: Algorithm =
                    algorithm.parse().map_err(|_| KeysError::Damaged(kid.to_owned()))?;
                let key = new_signing_key(algorithm, random)?;
                writes.extend(handover(&[], key, (&self.master, &self.schedule), (now, now))?);
            }
            writes.extend(withdrawal.changed.into_iter().map(|k| Write::PutKey(Box::new(k))));
            let kind = EventKind::KeysChanged { withdrawn: vec![kid.to_owned()] };
            writes.push(Write::Log(Event { kind, until: withdrawal_until(now, event_until) }));
            Ok(writes)
        })
        .await?;
        self.reload(store, now).await?;
        Ok(is_there)
    }

    /// Tokens of some node may live so long: keys that retire are published accordingly.
    pub(crate) fn tokens_live(&self, longest: Duration) {
        self.longest_life.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn schedule_now(&self) -> KeySchedule {
        let longest = Duration::from_millis(self.longest_life.load(Ordering::Relaxed));
        KeySchedule { longest_access_ttl: self.schedule.longest_access_ttl.max(longest), ..self.schedule }
    }

    /// The schedule of this node's configuration.
    pub const fn schedule(&self) -> &KeySchedule {
        &self.schedule
    }
}

impl KeySet {
    /// Reads all keys of the store, without making any: for whoever only looks.
    pub async fn read(store: &dyn Store, master: &MasterKey, now: Timestamp) -> Result<Self, KeysError> {
        read(store, master, now).await
    }

    /// The key that signs for `algorithm` at `now`.
    pub fn signing(&self, algorithm: Algorithm, now: Timestamp) -> Option<&SigningKey> {
        let of: Vec<&KeyRecord> = self.records.iter().filter(|k| is_signing(k, algorithm)).collect();
        let active = of
            .into_iter()
            .filter(|k| k.state(now) == KeyState::Active)
            .max_by_key(|k| (k.active_from, k.created_at))?;
        match &active.key_use {
            KeyUse::Signing { kid, .. } => self.signing.get(kid),
            KeyUse::Ring { .. } => None,
        }
    }

    /// The key of that `kid`, if the authority still trusts it for its own tokens, published or not.
    pub fn verifying(&self, kid: &str, now: Timestamp) -> Option<&VerifyingKey> {
        let record = self
            .records
            .iter()
            .find(|k| matches!(&k.key_use, KeyUse::Signing { kid: id, .. } if id == kid))?;
        if record.state(now) == KeyState::Withdrawn {
            return None;
        }
        self.signing.get(kid).map(SigningKey::verifying_key)
    }

    /// The published key set (RFC 7517).
    pub fn published(&self, now: Timestamp) -> JwkSet {
        let mut keys: Vec<(&KeyRecord, &Jwk)> = self
            .records
            .iter()
            .filter(|k| k.is_published(now))
            .filter_map(|k| match &k.key_use {
                KeyUse::Signing { kid, .. } => self.signing.get(kid).map(|s| (k, s.public_jwk())),
                KeyUse::Ring { .. } => None,
            })
            .collect();
        keys.sort_by_key(|(k, _)| std::cmp::Reverse(k.active_from));
        JwkSet { keys: keys.into_iter().map(|(_, jwk)| jwk.clone()).collect() }
    }

    /// All records, for administration.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }
}

fn is_signing(key: &KeyRecord, algorithm: Algorithm) -> bool {
    matches!(&key.key_use, KeyUse::Signing { algorithm: a, .. } if a == algorithm.as_str())
}

/// The name under which the master key's fingerprint is kept.
const FINGERPRINT: &str = "master_key_fingerprint";

async fn check_master_key(store: &dyn Store, master: &MasterKey) -> Result<(), KeysError> {
    match store.meta(FINGERPRINT).await? {
        Some(known) if known == master.fingerprint() => Ok(()),
        Some(_) => Err(KeysError::WrongMasterKey),
        None => {
            let write = Write::SwapMeta {
                name: FINGERPRINT.to_owned(),
                before: None,
                value: master.fingerprint().to_vec(),
            };
            match store.commit(Commit::of([write])).await {
                // Another node was first; with the same key, if all is well.
                Err(CommitError::Conflict(Conflict::MetaChanged)) => {
                    let is_same = store.meta(FINGERPRINT).await?.is_some_and(|f| f == master.fingerprint());
                    if is_same { Ok(()) } else { Err(KeysError::WrongMasterKey) }
                }
                done => done.map_err(not_committed),
            }
        }
    }
}

async fn read(store: &dyn Store, master: &MasterKey, now: Timestamp) -> Result<KeySet, KeysError> {
    // First: what is changed from here on shows in another mark.
    let mark = store.meta(KEYS_CHANGED).await?;
    let records = store.keys().await?;
    let mut signing = HashMap::new();
    let mut ring = Vec::new();
    for record in &records {
        let secret = Zeroizing::new(
            master.open(&context(&record.key_use), &record.sealed).map_err(|_| KeysError::WrongMasterKey)?,
        );
        match &record.key_use {
            KeyUse::Signing { algorithm, kid } => {
                let damaged = || KeysError::Damaged(kid.clone());
                let algorithm: Algorithm = algorithm.parse().map_err(|_| damaged())?;
                let key = SigningKey::from_pkcs8(algorithm, &secret).map_err(|_| damaged())?;
                signing.insert(kid.clone(), key);
            }
            KeyUse::Ring { id } => {
                let bytes: &[u8; 32] = secret
                    .as_slice()
                    .try_into()
                    .map_err(|_| KeysError::Damaged(format!("ring key {}", id.0)))?;
                ring.push((*id, RingKey::new(bytes)));
            }
        }
    }
    let ring_records: Vec<KeyRecord> =
        records.iter().filter(|k| matches!(k.key_use, KeyUse::Ring { .. })).cloned().collect();
    // The very first key was made at the time of another node, of which ours may be a moment short.
    let first =
        || ring_records.iter().filter(|k| k.state(now) == KeyState::Next).min_by_key(|k| k.active_from);
    // All have retired when a backup was put in place: the next start makes one, and until then only commands look.
    let newest = || ring_records.iter().max_by_key(|k| (k.active_from, k.created_at));
    let active = keys::active_key(&ring_records, now);
    let current = match active.or_else(first).or_else(newest).map(|k| &k.key_use) {
        Some(KeyUse::Ring { id }) => *id,
        _ => return Err(KeysError::Damaged("no ring key is active".to_owned())),
    };
    let ring = KeyRing::new(ring, current).ok_or_else(|| KeysError::Damaged("no ring key".to_owned()))?;
    Ok(KeySet { mark, records, signing, ring: Arc::new(ring) })
}

/// How often a change is decided again because another process on the store was faster.
pub(crate) const ATTEMPTS: usize = 16;
/// The name of the mark that every change of keys renews: of several who decide on the same keys one is right,
/// and each node sees that what it knows is old.
const KEYS_CHANGED: &str = "keys_changed";

/// Decides on the keys as they are and commits what comes of it, as if nobody else did; whether anything was
/// due.
async fn change(
    store: &dyn Store,
    mut decide: impl FnMut(&[KeyRecord]) -> Result<Vec<Write>, KeysError> + Send,
) -> Result<bool, KeysError> {
    for _ in 0..ATTEMPTS {
        let before = store.meta(KEYS_CHANGED).await?;
        let mut writes = decide(&store.keys().await?)?;
        if writes.is_empty() {
            return Ok(false);
        }
        let number: u64 =
            before.as_deref().and_then(|b| std::str::from_utf8(b).ok()?.parse().ok()).unwrap_or(0);
        let value = number.wrapping_add(1).to_string().into_bytes();
        writes.push(Write::SwapMeta { name: KEYS_CHANGED.to_owned(), before, value });
        match store.commit(Commit::of(writes)).await {
            Err(CommitError::Conflict(Conflict::KeyExists | Conflict::MetaChanged)) => {}
            done => return done.map(|()| true).map_err(not_committed),
        }
    }
    Err(StoreError::Unavailable("others keep changing the keys".to_owned()).into())
}

async fn rotate(
    store: &dyn Store,
    makers: (&MasterKey, &Random),
    schedule: &KeySchedule,
    algorithms: &[Algorithm],
    at: (Timestamp, bool),
) -> Result<(), KeysError> {
    change(store, |records| rotation(records, makers, schedule, algorithms, at)).await.map(drop)
}

/// The writes that are due.
fn rotation(
    records: &[KeyRecord],
    (master, random): (&MasterKey, &Random),
    schedule: &KeySchedule,
    algorithms: &[Algorithm],
    (now, wanted): (Timestamp, bool),
) -> Result<Vec<Write>, KeysError> {
    let mut writes = Vec::new();
    for algorithm in algorithms {
        let of: Vec<KeyRecord> = records.iter().filter(|k| is_signing(k, *algorithm)).cloned().collect();
        for step in keys::plan(&of, schedule, now, wanted) {
            let KeyStep::Create { active_from } = step else { continue };
            let (key_use, secret) = new_signing_key(*algorithm, random)?;
            writes.extend(handover(&of, (key_use, secret), (master, schedule), (now, active_from))?);
        }
    }
    let of: Vec<KeyRecord> =
        records.iter().filter(|k| matches!(k.key_use, KeyUse::Ring { .. })).cloned().collect();
    for step in keys::plan(&of, schedule, now, wanted) {
        let KeyStep::Create { active_from } = step else { continue };
        writes.extend(handover(&of, new_ring_key(&of, random, now), (master, schedule), (now, active_from))?);
    }
    Ok(writes)
}

fn new_signing_key(algorithm: Algorithm, random: &Random) -> Result<(KeyUse, Zeroizing<Vec<u8>>), KeysError> {
    let damaged = |e: reseal_jose::KeyError| KeysError::Damaged(e.to_string());
    let key = SigningKey::generate(algorithm, random.source()).map_err(damaged)?;
    let secret = key.to_pkcs8().map_err(damaged)?;
    let key_use = KeyUse::Signing { algorithm: algorithm.as_str().to_owned(), kid: key.kid().to_owned() };
    Ok((key_use, secret))
}

fn new_ring_key(records: &[KeyRecord], random: &Random, now: Timestamp) -> (KeyUse, Zeroizing<Vec<u8>>) {
    (KeyUse::Ring { id: keys::next_ring_id(records, now) }, Zeroizing::new(random.bytes::<32>().to_vec()))
}

/// Throws all keys away and makes new ones under `master`, because the key that they lie under is lost. No
/// token and no credential made before opens anything any more; end all sessions first.
pub async fn reset(
    store: &dyn Store,
    (master, random): (&MasterKey, &Random),
    schedule: &KeySchedule,
    (now, event_until): (Timestamp, Timestamp),
) -> Result<(), KeysError> {
    let reset = |records: &[KeyRecord]| {
        let mut writes: Vec<Write> = records.iter().map(|k| Write::DeleteKey(k.key_use.clone())).collect();
        for key in [new_signing_key(Algorithm::Es256, random)?, new_ring_key(records, random, now)] {
            writes.extend(handover(&[], key, (master, schedule), (now, now))?);
        }
        writes.push(Write::PutMeta(FINGERPRINT.to_owned(), master.fingerprint().to_vec()));
        let withdrawn = records.iter().filter_map(|k| match &k.key_use {
            KeyUse::Signing { kid, .. } => Some(kid.clone()),
            KeyUse::Ring { .. } => None,
        });
        let kind = EventKind::KeysChanged { withdrawn: withdrawn.collect() };
        writes.push(Write::Log(Event { kind, until: withdrawal_until(now, event_until) }));
        Ok(writes)
    };
    change(store, reset).await.map(drop)
}

/// The new key, and the retirement of the one it takes over from.
fn handover(
    of: &[KeyRecord],
    (key_use, secret): (KeyUse, Zeroizing<Vec<u8>>),
    (master, schedule): (&MasterKey, &KeySchedule),
    (now, active_from): (Timestamp, Timestamp),
) -> Result<Vec<Write>, KeysError> {
    let sealed = master
        .seal(&context(&key_use), &secret)
        .map_err(|_| KeysError::Damaged("a key cannot be sealed".into()))?;
    let record = KeyRecord {
        key_use,
        created_at: now,
        active_from,
        retired_at: None,
        unpublished_at: None,
        withdrawn_at: None,
        sealed,
    };
    let mut writes = vec![Write::PutKey(Box::new(record))];
    for old in of.iter().filter(|k| k.retired_at.is_none()) {
        writes.push(Write::PutKey(Box::new(keys::retire(old, active_from, schedule))));
    }
    Ok(writes)
}

/// What a sealed key is bound to: it cannot be put in another's place.
fn context(key_use: &KeyUse) -> Vec<u8> {
    match key_use {
        KeyUse::Signing { algorithm, kid } => format!("reseal signing key {algorithm} {kid}").into_bytes(),
        KeyUse::Ring { id } => format!("reseal ring key {}", id.0).into_bytes(),
    }
}

fn not_committed(error: CommitError) -> KeysError {
    match error {
        CommitError::Store(error) => error.into(),
        other => StoreError::Unavailable(other.to_string()).into(),
    }
}
