//! A node says that it is alive only while it reads the log, and tells of nothing that it has not made true.
//!
//! Once everything is set up, time is tokio's own and moves by itself: nothing here waits.

use crate::common::{Reading, Running, log, names, restart, token};
use http::StatusCode;
use reseal_core::event::{Event, EventKind};
use reseal_core::feed::FeedMessage;
use reseal_server::manage::Manage;
use reseal_server::manage::clients::ClientPatch;
use reseal_server::random::Random;
use reseal_server::start::open_store;
use reseal_store::Access;
use reseal_store::{Commit, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_heartbeat_comes_every_five_seconds_and_stops_with_the_reading_of_the_log() {
    let authority = Running::start().await;
    log(&authority.app, ["a".to_owned()]).await;
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;
    tokio::time::pause();
    let heartbeat = FeedMessage::Heartbeat { seq: 1, now: authority.app.clock.now().secs() };
    let mut last = Instant::now();
    for round in 0..4 {
        let beat = reading.next_of_any_kind().await.unwrap();
        assert_eq!((beat.id, beat.is), (None, heartbeat.clone()));
        let took = last.elapsed().as_millis();
        assert!(took <= 5100 && (round == 0 || took >= 4900), "{took} ms of tokio's time");
        last = Instant::now();
    }
    authority.gate.break_log(true);
    let silence = timeout(Duration::from_secs(120), reading.next_of_any_kind()).await;
    assert!(silence.is_err(), "{silence:?}");
    authority.gate.break_log(false);
    let beat = timeout(Duration::from_secs(2), reading.next_of_any_kind()).await.expect("it is alive again");
    assert_eq!(beat.unwrap().is, heartbeat);
}

#[tokio::test]
async fn a_reader_that_comes_while_the_log_cannot_be_read_is_told_nothing_until_it_can() {
    let authority = Running::start().await;
    log(&authority.app, ["a".to_owned()]).await;
    // A node that starts has it in the store only.
    let authority = restart(authority.finish().await, None).await;
    let mut reading = Reading::open(&authority, None).await;
    authority.gate.break_log(true);
    tokio::time::pause();
    let silence = timeout(Duration::from_secs(60), reading.next_of_any_kind()).await;
    assert!(silence.is_err(), "{silence:?}");
    tokio::time::resume();
    authority.gate.break_log(false);
    let (all, seq) = reading.caught_up().await;
    assert_eq!((names(&all), seq), (vec!["a".to_owned()], 1));
    authority.gate.break_log(true);
    let refused = authority.get("/v1/feed", &token(&authority, "reseal:feed").await).await;
    refused.expect_error(503, "temporarily_unavailable");
}

#[tokio::test]
async fn events_wait_until_what_they_make_stale_was_dropped() {
    let authority = Running::start().await;
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;
    let until = authority.app.event_until(authority.app.clock.now());
    let changed =
        |name: &str| EventKind::ClientChanged { client_id: name.parse().unwrap(), before: i64::MAX };
    let kinds = [changed("a"), EventKind::KeysChanged { withdrawn: vec!["k".into()] }, changed("b")];
    let writes = kinds.iter().map(|kind| Write::Log(Event { kind: kind.clone(), until }));
    authority.gate.break_keys(true);
    authority.app.store.commit(Commit::of(writes)).await.unwrap();
    assert_eq!(*reading.event().await.kind(), kinds[0]);
    tokio::time::pause();
    let silence = timeout(Duration::from_secs(60), reading.next_of_any_kind()).await;
    assert!(silence.is_err(), "neither an event nor a heartbeat: {silence:?}");
    assert_eq!(authority.app.log_seq.load(Ordering::Acquire), 1);
    authority.gate.break_keys(false);
    assert_eq!(*reading.event().await.kind(), kinds[1]);
    assert_eq!(*reading.event().await.kind(), kinds[2]);
}

#[tokio::test]
async fn what_a_command_changed_holds_here_when_a_reader_learns_of_it() {
    let authority = Running::start().await;
    authority.user("alice").await;
    let config = &authority.app.config;
    let command = open_store(config, &Random::new(), Access::Tool).await.unwrap().shared();
    let (random, policies) = (Random::new(), config.policies().unwrap());
    let now = authority.app.clock.now();
    let event_until = authority.app.event_until(now);
    let manage = Manage { store: &*command, random: &random, now, event_until, policies: &policies };
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;
    for scope in ["read", "write", "read write", "read"] {
        authority.login("refresh", "alice").await.expect(StatusCode::CREATED);
        let patch = ClientPatch { scope: Some(scope.parse().unwrap()), ..ClientPatch::default() };
        manage.patch_client(&"refresh".parse().unwrap(), &patch).await.unwrap();
        if scope == "read write" {
            continue;
        }
        assert_eq!(names(&[reading.event().await]), ["refresh"]);
        let known = authority.app.client(&"refresh".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(known.scope, scope.parse().unwrap());
    }
}
