//! Entities to test with: plain ones, and arbitrary ones that fill every field.

use crate::{Commit, CommitError, StartSession, Store, Write};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reseal_core::auth::Strength;
use reseal_core::challenge::{Challenge, Purpose};
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_core::credential::{KeyRing, RingKey};
use reseal_core::keys::{KeyRecord, KeyUse};
use reseal_core::policy::Policies;
use reseal_core::session::{CookieState, Ended, NewSession, Rotation};
use reseal_core::user::UserSecrets;
use reseal_core::{
    Acr, Amr, Client, ClientId, EndReason, KeyId, Policy, PolicyName, Scope, Session, SessionId, Timestamp,
    User, UserId,
};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The time at which the tests play.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// `until` of their events.
pub const UNTIL: Timestamp = Timestamp::from_secs(1_800_000_420);

/// The preset for refresh tokens, with its grace of ten seconds.
pub fn policy() -> &'static Policy {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| {
        let policies = Policies::new([]).unwrap();
        policies.find(&"app".parse().unwrap()).unwrap().clone()
    });
    &POLICY
}

/// A key ring with key 1.
pub fn ring() -> &'static KeyRing {
    static RING: LazyLock<KeyRing> =
        LazyLock::new(|| KeyRing::new([(KeyId(1), RingKey::new(&[7; 32]))], KeyId(1)).unwrap());
    &RING
}

/// Session number `i`.
pub fn session_id(i: usize) -> SessionId {
    SessionId::from_bytes(spread(i, 0x5e))
}

/// User number `i`.
pub fn user_id(i: usize) -> UserId {
    UserId::from_bytes(spread(i, 0xa5))
}

/// A challenge's id, number `i`.
pub fn challenge_id(i: usize) -> SecretHash {
    SecretHash::of(&i.to_string())
}

/// Sixteen bytes that look random, so that ids do not come in the order in which they are made.
fn spread(i: usize, salt: u8) -> [u8; 16] {
    let hash = SecretHash::of(&format!("{salt}/{i}")).0;
    std::array::from_fn(|k| hash[k])
}

/// A user as after sign-up.
pub fn user(i: usize) -> User {
    User {
        id: user_id(i),
        username: format!("user{i}"),
        name: Some(format!("User {i}")),
        email: None,
        phone_number: None,
        phone_number_verified: false,
        roles: vec!["member".to_owned()],
        attributes: [].into(),
        disabled: false,
        revision: 1,
        auth_epoch: 3,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// Secrets with that text as password hash.
pub fn secrets(password: &str) -> UserSecrets {
    UserSecrets { password: Some(password.to_owned()), recovery_codes: vec![[1; 32], [2; 32]] }
}

/// A session as after login through the client `web`.
pub fn session(i: usize, user: &User) -> Session {
    let new = NewSession {
        id: session_id(i),
        nonce: spread(i, 0x11),
        user_id: user.id,
        client_id: "web".parse().unwrap(),
        scope: "profile read".parse().unwrap(),
        key_id: KeyId(1),
        strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: NOW },
        user_agent: Some("Mozilla/5.0".to_owned()),
        ip: Some("192.0.2.1".parse().unwrap()),
    };
    Session::start(new, policy(), NOW).0
}

/// The write that starts the session, of a user at the epoch of [`user`].
pub fn start(session: &Session) -> Write {
    Write::StartSession(Box::new(StartSession {
        session: session.clone(),
        auth_epoch: 3,
        max_sessions: 0,
        event_until: UNTIL,
    }))
}

/// A client of all defaults.
pub fn client(id: &str) -> Client {
    Client {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        secret_hash: None,
        policy: "app".parse().unwrap(),
        audience: vec![],
        scope: Scope::empty(),
        claims: Projection::default(),
        origins: vec![],
        algorithm: "ES256".to_owned(),
        introspect: false,
        disabled: false,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// A challenge for the user's phone.
pub fn challenge(i: usize) -> Challenge {
    Challenge {
        id: challenge_id(i),
        purpose: Purpose::Phone { session_id: session_id(i) },
        user_id: user_id(i),
        phone_number: "+4915112345678".to_owned(),
        auth_epoch: 3,
        key_id: KeyId(1),
        code_hash: SecretHash::of("123456"),
        tries_left: 5,
        sends: 1,
        sent_at: NOW,
        expires_at: NOW + Duration::from_secs(300),
        version: 1,
    }
}

/// Commits these writes.
pub async fn commit(store: &dyn Store, writes: impl IntoIterator<Item = Write>) -> Result<(), CommitError> {
    store.commit(Commit::of(writes)).await
}

/// Makes user number `i`.
pub async fn with_user(store: &dyn Store, i: usize) -> User {
    let user = user(i);
    commit(store, [Write::CreateUser(Box::new(user.clone()), secrets("first"))]).await.unwrap();
    user
}

/// Makes user number `i` with session number `i`.
pub async fn with_session(store: &dyn Store, i: usize) -> (User, Session) {
    let user = with_user(store, i).await;
    let session = session(i, &user);
    commit(store, [start(&session)]).await.unwrap();
    (user, session)
}

/// So many values, the same ones at every run.
pub fn sample<T: std::fmt::Debug>(of: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| of.new_tree(&mut runner).unwrap().current()).collect()
}

/// Any instant.
pub fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

/// Any session of the user.
pub fn any_session(user_id: UserId) -> impl Strategy<Value = Session> {
    let identity = (any::<[u8; 16]>(), any_name(), any_name(), any_scope(), any::<u32>(), any::<u32>());
    let rotation =
        (any::<u64>(), any::<[u8; 16]>(), any::<u32>(), any_time(), any::<u64>(), any_time(), any::<u64>());
    let times = (any_time(), any_time(), any_time(), any_time());
    let cookie = option::of((any::<u32>(), any_time(), any::<bool>(), any_strength()));
    let rest = (
        any_strength(),
        cookie,
        option::of(any::<[u8; 32]>()),
        option::of("\\PC{0,200}"),
        option::of(any::<IpAddr>()),
        option::of(any_end()),
    );
    (identity, rotation, times, rest).prop_map(move |(identity, rotation, times, rest)| Session {
        id: SessionId::from_bytes(identity.0),
        user_id,
        client_id: identity.1.parse::<ClientId>().unwrap(),
        policy: identity.2.parse::<PolicyName>().unwrap(),
        scope: identity.3,
        version: identity.4,
        key_id: KeyId(identity.5),
        rotation: Rotation {
            used: rotation.0,
            used_nonce: rotation.1,
            branch: rotation.2,
            window_at: rotation.3,
            window_from: rotation.4,
            prev_window_at: rotation.5,
            prev_window_from: rotation.6,
        },
        renewed_at: times.0,
        started_at: times.1,
        idle_expires_at: times.2,
        expires_at: times.3,
        strength: rest.0,
        cookie: rest.1.map(|(generation, raised_at, confirmed, previous)| CookieState {
            generation,
            raised_at,
            confirmed,
            previous,
        }),
        binding: rest.2,
        user_agent: rest.3,
        ip: rest.4,
        ended: rest.5,
    })
}

/// Any end.
pub fn any_end() -> impl Strategy<Value = Ended> {
    (any_time(), prop::sample::select(&EndReason::ALL[..])).prop_map(|(at, reason)| Ended { at, reason })
}

/// Any user of that id and name.
pub fn any_user(id: UserId, username: String) -> impl Strategy<Value = User> {
    let texts =
        (option::of("\\PC{1,64}"), option::of("[a-z]{1,8}@[a-z]{1,8}"), option::of("\\+[1-9][0-9]{1,14}"));
    let lists = (vec("\\PC{1,64}", 0..5), btree_map("[a-zA-Z0-9_-]{1,64}", any_json(), 0..5));
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>());
    let rest = (any::<bool>(), any::<bool>(), any_time(), any_time());
    (texts, lists, numbers, rest).prop_map(move |(texts, lists, numbers, rest)| User {
        id,
        username: username.clone(),
        name: texts.0,
        email: texts.1,
        phone_number: texts.2,
        roles: lists.0,
        attributes: lists.1,
        revision: numbers.0,
        auth_epoch: numbers.1,
        version: numbers.2,
        phone_number_verified: rest.0,
        disabled: rest.1,
        created_at: rest.2,
        updated_at: rest.3,
    })
}

/// Any secrets.
pub fn any_secrets() -> impl Strategy<Value = UserSecrets> {
    (option::of("\\PC{0,120}"), vec(any::<[u8; 32]>(), 0..12))
        .prop_map(|(password, recovery_codes)| UserSecrets { password, recovery_codes })
}

/// Any client.
pub fn any_client() -> impl Strategy<Value = Client> {
    let texts = (any_name(), "\\PC{0,64}", any_name(), "[A-Za-z0-9]{1,8}");
    let claims = prop::sample::subsequence(
        vec!["preferred_username", "name", "email", "phone_number", "roles", "attributes.plan"],
        0..=6,
    );
    let lists = (vec("\\PC{1,40}", 0..4), any_scope(), claims, vec("https://[a-z]{1,9}", 0..4));
    let rest =
        (option::of(any::<[u8; 32]>()), any::<bool>(), any::<bool>(), any::<u32>(), any_time(), any_time());
    (texts, lists, rest).prop_map(|(texts, lists, rest)| Client {
        id: texts.0.parse().unwrap(),
        name: texts.1,
        policy: texts.2.parse().unwrap(),
        algorithm: texts.3,
        audience: lists.0,
        scope: lists.1,
        claims: Projection::parse(lists.2).unwrap(),
        origins: lists.3,
        secret_hash: rest.0.map(SecretHash),
        introspect: rest.1,
        disabled: rest.2,
        version: rest.3,
        created_at: rest.4,
        updated_at: rest.5,
    })
}

/// Any challenge.
pub fn any_challenge() -> impl Strategy<Value = Challenge> {
    let login = (any_name(), any_time()).prop_map(|(client_id, password_at)| Purpose::Login {
        client_id: client_id.parse().unwrap(),
        password_at,
    });
    let phone = any::<[u8; 16]>().prop_map(|id| Purpose::Phone { session_id: SessionId::from_bytes(id) });
    let hashes = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 16]>());
    let numbers = (any::<u64>(), any::<u32>(), any::<u8>(), any::<u8>(), any::<u32>());
    (prop_oneof![login, phone], hashes, "\\+[0-9]{2,15}", numbers, any_time(), any_time()).prop_map(
        |(purpose, hashes, phone_number, numbers, sent_at, expires_at)| Challenge {
            id: SecretHash(hashes.0),
            code_hash: SecretHash(hashes.1),
            user_id: UserId::from_bytes(hashes.2),
            purpose,
            phone_number,
            auth_epoch: numbers.0,
            key_id: KeyId(numbers.1),
            tries_left: numbers.2,
            sends: numbers.3,
            version: numbers.4,
            sent_at,
            expires_at,
        },
    )
}

/// Any key.
pub fn any_key() -> impl Strategy<Value = KeyRecord> {
    let signing = ("[A-Za-z0-9]{1,8}", "[A-Za-z0-9_-]{43}")
        .prop_map(|(algorithm, kid)| KeyUse::Signing { algorithm, kid });
    let ring = any::<u32>().prop_map(|id| KeyUse::Ring { id: KeyId(id) });
    let ends = (option::of(any_time()), option::of(any_time()), option::of(any_time()));
    (prop_oneof![signing, ring], any_time(), any_time(), ends, vec(any::<u8>(), 0..200)).prop_map(
        |(key_use, created_at, active_from, ends, sealed)| KeyRecord {
            key_use,
            created_at,
            active_from,
            retired_at: ends.0,
            unpublished_at: ends.1,
            withdrawn_at: ends.2,
            sealed,
        },
    )
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._-]{1,64}"
}

fn any_scope() -> impl Strategy<Value = Scope> {
    vec("[!#-\\[\\]-~]{1,20}", 0..6).prop_map(|words| words.join(" ").parse().unwrap())
}

fn any_strength() -> impl Strategy<Value = Strength> {
    let acr = prop_oneof![Just(Acr::Aal1), Just(Acr::Aal2)];
    (acr, any::<u32>(), any_time()).prop_map(|(acr, amr, authenticated_at)| Strength {
        acr,
        amr: Amr::from_bits(amr),
        authenticated_at,
    })
}

/// JSON without fractions: those are rounded by whoever parses them first, not by the store.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            btree_map("\\PC{0,12}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Runs so many tasks at once and collects what they return.
pub async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    task: impl Fn(usize) -> F,
) -> Vec<T> {
    let barrier = Arc::new(tokio::sync::Barrier::new(count));
    let tasks: Vec<_> = (0..count)
        .map(|i| {
            let (barrier, task) = (Arc::clone(&barrier), task(i));
            tokio::spawn(async move {
                barrier.wait().await;
                task.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
