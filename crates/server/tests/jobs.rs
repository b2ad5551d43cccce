//! What runs beside the requests.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use http::StatusCode;
use reseal_core::policy::PolicyConfig;
use reseal_core::{EndReason, EventKind, PolicyKind, Timestamp};
use reseal_server::authority::App;
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::manage::Manage;
use reseal_server::manage::clients::ClientPatch;
use reseal_server::random::Random;
use reseal_server::{jobs, start};
use reseal_store::Access;
use std::sync::Arc;
use support::{START, TestAuthority};
use tokio::sync::watch;

/// Another run over the folder, with the refresh policy as given.
async fn reopen(config: &Config, max_ttl: &str, now: Timestamp) -> App {
    let mut config = config.clone();
    let app = PolicyConfig {
        kind: PolicyKind::Refresh,
        access_ttl: "5m".parse().ok(),
        renew_after: None,
        idle_ttl: max_ttl.parse().ok(),
        max_ttl: max_ttl.parse().ok(),
        grace: None,
        lost_response: None,
    };
    config.policies.insert("app".parse().unwrap(), app);
    let store = start::open_store(&config, &Random::new(), Access::Tool).await.unwrap().shared();
    start::open(config, store, Clock::manual(now), None).await.unwrap()
}

#[tokio::test]
async fn a_tightened_policy_ends_what_has_outlived_it_once() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    assert_eq!(jobs::end_tightened_once(&authority.app).await.unwrap(), 0);
    let old = authority.login("refresh", "alice").await;
    let other = authority.login("cookie", "alice").await;
    authority.advance(2 * 3600);
    let young = authority.login("refresh", "alice").await;
    let now = authority.app.clock.now();

    let tightened = reopen(&authority.app.config, "1h", now).await;
    assert_eq!(jobs::end_tightened_once(&tightened).await.unwrap(), 1);
    let session = async |sid| authority.app.store.session(sid).await.unwrap().unwrap().session;
    assert!(session(old.sid()).await.ended.is_some());
    assert!(session(young.sid()).await.ended.is_none());
    assert!(session(other.sid()).await.ended.is_none());
    let logged = authority.app.store.events_after(0, 10).await.unwrap();
    let EventKind::SessionEnded { sid, reason } = &logged[0].event.kind else { panic!("{logged:?}") };
    assert_eq!(*sid, old.sid());
    assert!(matches!(reason, EndReason::IdleTimeout | EndReason::MaxLifetime), "{reason}");

    // The same policies at the next start: no look through the sessions, though more have outlived them.
    let later = reopen(&authority.app.config, "1h", now + std::time::Duration::from_secs(7200)).await;
    assert_eq!(jobs::end_tightened_once(&later).await.unwrap(), 0);
    assert!(session(young.sid()).await.ended.is_none());
    // Looser ones end nothing and bring nothing back.
    let loosened = reopen(&authority.app.config, "300d", now).await;
    assert_eq!(jobs::end_tightened_once(&loosened).await.unwrap(), 0);
    assert!(session(old.sid()).await.ended.is_some());
}

#[tokio::test]
async fn changes_by_a_command_on_the_live_folder_are_seen() {
    let authority = TestAuthority::start().await;
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(jobs::run(Arc::clone(&authority.app), stopped));
    authority.user("alice").await;
    authority.login("sliding", "alice").await;

    let config = &authority.app.config;
    let command = start::open_store(config, &Random::new(), Access::Tool).await.unwrap().shared();
    let (random, policies) = (Random::new(), config.policies().unwrap());
    let manage =
        Manage { store: &*command, random: &random, now: START, event_until: START, policies: &policies };
    let patch = ClientPatch {
        origins: Some(vec!["https://new.test".to_owned()]),
        disabled: Some(true),
        ..ClientPatch::default()
    };
    manage.patch_client(&"sliding".parse().unwrap(), &patch).await.unwrap();
    let patch = ClientPatch { disabled: Some(false), ..ClientPatch::default() };
    manage.patch_client(&"sliding".parse().unwrap(), &patch).await.unwrap();
    let seen = async {
        while !authority.app.knows_origin("https://new.test") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen).await.expect("the origin is seen");
    authority.try_login("sliding", "alice").await.expect(StatusCode::CREATED);

    stop.send(true).unwrap();
    running.await.unwrap();
}
