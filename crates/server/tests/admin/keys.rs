//! Keys: listed, rotated and withdrawn.

use crate::common::{admin, events, show_session};
use crate::support::{Answer, Credential, TestAuthority};
use http::StatusCode;
use reseal_core::KeyId;
use reseal_core::event::{Event, EventKind};
use reseal_core::keys::{KeyRecord, KeySchedule, KeyUse};
use reseal_jose::Algorithm;
use reseal_server::jobs;
use reseal_server::keys::{Keys, reset};
use reseal_server::master::MasterKey;
use reseal_server::start::master_key_file;
use reseal_store::{Commit, Write};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

async fn published(authority: &TestAuthority) -> Vec<String> {
    let jwks = authority.get("/jwks.json", &Credential::None).await;
    let keys = jwks.body["keys"].as_array().unwrap().iter();
    keys.map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

/// The `kid` of an answer's access token.
fn kid(answer: &Answer) -> String {
    use base64::Engine as _;
    let token = answer.body["access_token"].as_str().unwrap();
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn states(answer: &Answer) -> Vec<(String, String)> {
    let keys = answer.body["items"].as_array().unwrap().iter().filter(|k| k["use"] == "signing");
    keys.map(|k| (k["kid"].as_str().unwrap().to_owned(), k["state"].as_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn keys_are_listed_without_their_secrets() {
    let authority = TestAuthority::start().await;
    let listed = authority.get("/v1/admin/keys", &admin(&authority).await).await;
    listed.expect(StatusCode::OK);
    let items = listed.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{}", listed.body);
    for key in items {
        assert_eq!(key["state"], "active");
        assert!(key.get("sealed").is_none() && key.get("d").is_none() && key.get("k").is_none());
    }
}

#[tokio::test]
async fn a_rotation_publishes_before_it_signs_and_refuses_no_valid_token() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let old = kid(&held);
    let rotated = authority.post("/v1/admin/keys/rotate", &admin(&authority).await, Value::Null).await;
    rotated.expect(StatusCode::OK);
    let next = states(&rotated).into_iter().find(|(_, state)| state == "next").unwrap().0;
    assert_eq!(published(&authority).await.len(), 2, "the next one is published at once");
    let again = authority.post("/v1/admin/keys/rotate", &admin(&authority).await, Value::Null).await;
    assert_eq!(states(&again).len(), 2, "one is waiting already");

    // A login every five minutes for three hours; each token is good for its whole life of twenty.
    let (mut tokens, mut signers) = (Vec::new(), Vec::new());
    for step in 0..36 {
        let session = authority.login("sliding", "alice").await;
        signers.push(kid(&session));
        assert!(published(&authority).await.contains(&kid(&session)), "a signer is published");
        tokens.push((step, session));
        tokens.retain(|(since, _)| step - since < 4);
        for (_, session) in &tokens {
            show_session(&authority, &session.credential()).await.expect(StatusCode::OK);
            assert!(published(&authority).await.contains(&kid(session)), "verifiers find its key");
        }
        authority.advance(300);
        jobs::ensure_keys(&authority.app).await.unwrap();
    }
    let handover = signers.iter().position(|kid| *kid == next).unwrap();
    assert_eq!(handover, 13, "it signs once every process knows it and the key sets of an hour ago are gone");
    assert!(signers[..handover].iter().all(|kid| *kid == old));
    assert!(signers[handover..].iter().all(|kid| *kid == next));
    authority.refresh("refresh", &held).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_withdrawn_key_is_trusted_by_nobody_and_another_signs_at_once() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let leaked = kid(&held);
    let token = admin(&authority).await;
    let path = format!("/v1/admin/keys/{leaked}/withdraw");
    let withdrawn = authority.post(&path, &token, Value::Null).await;
    withdrawn.expect(StatusCode::OK);
    assert!(states(&withdrawn).contains(&(leaked.clone(), "withdrawn".to_owned())));
    assert!(!published(&authority).await.contains(&leaked));
    show_session(&authority, &held.credential()).await.expect_error(401, "invalid_token");
    authority.get("/v1/admin/keys", &token).await.expect_error(401, "invalid_token");
    let logged = events(&authority, |kind| match kind {
        EventKind::KeysChanged { withdrawn } => Some(withdrawn),
        _ => None,
    })
    .await;
    assert_eq!(logged, [vec![leaked.clone()]]);

    // The session lives: its refresh token is not made with that key.
    let renewed = authority.refresh("refresh", &held).await;
    renewed.expect(StatusCode::OK);
    assert_ne!(kid(&renewed), leaked);
    assert!(published(&authority).await.contains(&kid(&renewed)));
    show_session(&authority, &renewed.credential()).await.expect(StatusCode::OK);

    let again = authority.post(&path, &admin(&authority).await, Value::Null).await;
    again.expect(StatusCode::OK);
    assert_eq!(authority.events().await.iter().filter(|e| **e == "keys-changed").count(), 1);
    jobs::ensure_keys(&authority.app).await.unwrap();
    assert!(!published(&authority).await.contains(&leaked), "the rotation job does not bring it back");
}

#[tokio::test]
async fn a_withdrawal_is_told_for_as_long_as_a_kept_key_set_may_have_the_key() {
    let authority = TestAuthority::start().await;
    let (app, now) = (&authority.app, authority.app.clock.now());
    let (_, kid) = only_signing_key(&authority).await;
    // Where tokens are short a key set outlives them, and with a leaked key one signs tokens of any life.
    let short = now + Duration::from_secs(121);
    assert!(app.keys.withdraw(&*app.store, &app.random, &kid, (now, short)).await.unwrap());
    let logged = app.store.events_after(0, 10).await.unwrap();
    assert_eq!(logged[0].event.until, now + Duration::from_secs(300 + 120));
}

fn master(authority: &TestAuthority) -> MasterKey {
    MasterKey::load(&master_key_file(&authority.app.config)).unwrap()
}

/// The keys as another process on the folder has them, a command say.
async fn another_process(authority: &TestAuthority, schedule: KeySchedule) -> Keys {
    let app = &authority.app;
    Keys::open(&*app.store, master(authority), schedule, &app.random, app.clock.now()).await.unwrap()
}

#[tokio::test]
async fn a_rotation_brings_nothing_back_that_another_process_withdrew() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let (app, leaked, token) = (&authority.app, kid(&held), admin(&authority).await);
    let other = another_process(&authority, *app.keys.schedule()).await;

    let mut rotation = authority.gate.hold_next_commit();
    let path = "/v1/admin/keys/rotate";
    let rotated = authority.spawn(crate::support::request(http::Method::POST, path, &token, &Value::Null));
    rotation.reached().await;
    let now = app.clock.now();
    assert!(other.withdraw(&*app.store, &app.random, &leaked, (now, app.event_until(now))).await.unwrap());
    rotation.release();
    assert!(states(&rotated.await.unwrap()).contains(&(leaked.clone(), "withdrawn".to_owned())));
    assert!(!published(&authority).await.contains(&leaked));
    show_session(&authority, &held.credential()).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn rotations_of_two_processes_at_once_make_one_ring() {
    let authority = TestAuthority::start().await;
    let (app, token) = (&authority.app, admin(&authority).await);
    let other = another_process(&authority, *app.keys.schedule()).await;
    let mut rotation = authority.gate.hold_next_commit();
    let path = "/v1/admin/keys/rotate";
    let rotated = authority.spawn(crate::support::request(http::Method::POST, path, &token, &Value::Null));
    rotation.reached().await;
    let at = (app.clock.now(), true);
    other.rotate(&*app.store, &app.random, &[Algorithm::Es256], at).await.unwrap();
    rotation.release();
    rotated.await.unwrap().expect(StatusCode::OK);
    let hash = |keys: &Keys| keys.load().ring.code_hash(KeyId(2), &[0; 32], "123456").unwrap();
    assert_eq!(hash(&app.keys), hash(&other), "what one makes with key 2 the other can read");
}

#[tokio::test]
async fn a_command_under_another_configuration_deletes_no_key() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let (app, algorithms) = (&authority.app, [Algorithm::Es256]);
    app.keys.rotate(&*app.store, &app.random, &algorithms, (app.clock.now(), true)).await.unwrap();
    authority.advance(3 * 3600);
    let minute = Duration::from_secs(60);
    let short = KeySchedule { longest_max_ttl: minute, longest_access_ttl: minute, ..*app.keys.schedule() };
    let command = another_process(&authority, short).await;
    command.rotate(&*app.store, &app.random, &algorithms, (app.clock.now(), true)).await.unwrap();
    jobs::ensure_keys(app).await.unwrap();
    authority.refresh("refresh", &held).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_key_is_forgotten_when_nothing_made_with_it_can_be_alive() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let cookie = authority.login("cookie", "alice").await;
    let app = &authority.app;
    app.keys.rotate(&*app.store, &app.random, &[Algorithm::Es256], (app.clock.now(), true)).await.unwrap();
    authority.advance(3 * 3600);
    jobs::ensure_keys(app).await.unwrap();
    assert!(app.keys.load().ring.contains(KeyId(1)));
    authority.advance(400 * 86_400);
    jobs::ensure_keys(app).await.unwrap();
    assert!(!app.keys.load().ring.contains(KeyId(1)));
    // Whoever comes with it now is not told to come again and again.
    authority.refresh("refresh", &held).await.expect_error(400, "invalid_grant");
    show_session(&authority, &cookie.credential()).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn after_a_reset_of_the_keys_old_credentials_are_invalid() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let cookie = authority.login("cookie", "alice").await;
    let (app, now) = (&authority.app, authority.app.clock.now());
    let makers = (&master(&authority), &app.random);
    reset(&*app.store, makers, app.keys.schedule(), (now, app.event_until(now))).await.unwrap();
    app.keys.reload(&*app.store, now).await.unwrap();
    authority.refresh("refresh", &held).await.expect_error(400, "invalid_grant");
    show_session(&authority, &cookie.credential()).await.expect_error(401, "invalid_token");
}

/// What a command commits that withdraws the key, in so far as the log tells of it.
fn withdrawal(key: &KeyRecord, kid: &str, authority: &TestAuthority) -> [Write; 2] {
    let now = authority.app.clock.now();
    let event = EventKind::KeysChanged { withdrawn: vec![kid.to_owned()] };
    [
        Write::PutKey(Box::new(KeyRecord { withdrawn_at: Some(now), ..key.clone() })),
        Write::Log(Event { kind: event, until: authority.app.event_until(now) }),
    ]
}

/// The only signing key, and its `kid`.
async fn only_signing_key(authority: &TestAuthority) -> (KeyRecord, String) {
    let keys = authority.app.store.keys().await.unwrap();
    let kid = |key: &KeyRecord| match &key.key_use {
        KeyUse::Signing { kid, .. } => Some(kid.clone()),
        KeyUse::Ring { .. } => None,
    };
    keys.into_iter().find_map(|key| kid(&key).map(|kid| (key, kid))).unwrap()
}

#[tokio::test]
async fn a_withdrawal_that_could_not_be_read_is_read_again() {
    let authority = TestAuthority::start().await;
    let app = &authority.app;
    let (key, kid) = only_signing_key(&authority).await;
    let unreadable = KeyUse::Ring { id: KeyId(99) };
    let mut commit = Commit::of(withdrawal(&key, &kid, &authority));
    commit.push(Write::PutKey(Box::new(KeyRecord {
        key_use: unreadable.clone(),
        sealed: vec![1, 2, 3],
        ..key.clone()
    })));
    app.store.commit(commit).await.unwrap();
    let read = jobs::read_log(app).await;
    assert!(read.is_err(), "{read:?}");

    app.store.commit(Commit::of([Write::DeleteKey(unreadable)])).await.unwrap();
    jobs::read_log(app).await.unwrap();
    assert!(app.keys.load().verifying(&kid, app.clock.now()).is_none(), "it is withdrawn here too");
}

#[tokio::test]
async fn keys_that_were_read_earlier_never_replace_those_read_later() {
    let authority = TestAuthority::start().await;
    let (key, kid) = only_signing_key(&authority).await;
    let mut early = authority.gate.hold_next_keys();
    let reload = |app: reseal_server::authority::App| {
        tokio::spawn(async move { app.keys.reload(&*app.store, app.clock.now()).await.unwrap() })
    };
    let first = reload(Arc::clone(&authority.app));
    early.reached().await;
    authority.app.store.commit(Commit::of(withdrawal(&key, &kid, &authority))).await.unwrap();
    let second = reload(Arc::clone(&authority.app));
    // As far as it gets while the first is held.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    early.release();
    let (first, second) = tokio::join!(first, second);
    first.and(second).unwrap();
    assert!(authority.app.keys.load().verifying(&kid, authority.app.clock.now()).is_none());
}
