//! What a stream begins with: all live events, what came after, or a start over.

use crate::common::{Reading, Running, log, names, restart, token};
use crate::support::{START, TestAuthority};
use http::StatusCode;
use reseal_core::event::EventKind;
use reseal_core::feed::{FeedMessage, Position};
use reseal_core::{EndReason, Timestamp};
use reseal_server::jobs;
use serde_json::{Value, json};

fn numbered(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|i| format!("c{i}"))
}

#[tokio::test]
async fn every_change_that_verifiers_must_know_comes_as_the_design_has_it() {
    let authority = Running::start().await;
    let alice = authority.user("alice").await;
    let admin = token(&authority, "reseal:admin").await;
    let mut reading = Reading::open(&authority, None).await;
    assert_eq!(reading.caught_up().await, (vec![], 0));

    let session = authority.login("sliding", "alice").await;
    authority.delete("/v1/session", &session.credential()).await.expect(StatusCode::NO_CONTENT);
    let ended = |sid, reason| EventKind::SessionEnded { sid, reason };
    assert_eq!(*reading.event().await.kind(), ended(session.sid(), EndReason::SignedOut));

    let session = authority.login("refresh", "alice").await;
    let path = format!("/v1/admin/sessions/{}", session.sid());
    authority.delete(&path, &admin).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(*reading.event().await.kind(), ended(session.sid(), EndReason::Revoked));

    let path = format!("/v1/admin/users/{alice}");
    authority.patch(&path, &admin, json!({ "roles": [] })).await.expect(StatusCode::OK);
    assert_eq!(*reading.event().await.kind(), EventKind::ClaimsChanged { sub: alice, rev: 2 });

    let session = authority.login("cookie", "alice").await;
    authority.patch(&path, &admin, json!({ "disabled": true })).await.expect(StatusCode::OK);
    assert_eq!(*reading.event().await.kind(), EventKind::ClaimsChanged { sub: alice, rev: 3 });
    assert_eq!(*reading.event().await.kind(), ended(session.sid(), EndReason::UserDisabled));

    authority
        .patch("/v1/admin/clients/refresh", &admin, json!({ "scope": "read" }))
        .await
        .expect(StatusCode::OK);
    let before = authority.app.clock.now().secs() + 1;
    let changed = EventKind::ClientChanged { client_id: "refresh".parse().unwrap(), before };
    assert_eq!(*reading.event().await.kind(), changed);

    // It ends the stream that was opened with a token of that key: the next one tells.
    let keys = authority.get("/v1/admin/keys", &admin).await;
    let signing = keys.body["items"].as_array().unwrap().iter().find(|key| key["use"] == "signing").unwrap();
    let kid = signing["kid"].as_str().unwrap().to_owned();
    authority
        .post(&format!("/v1/admin/keys/{kid}/withdraw"), &admin, Value::Null)
        .await
        .expect(StatusCode::OK);
    let last_id = reading.last_id.clone();
    reading.end().await;
    let mut reading = Reading::open(&authority, last_id.as_deref()).await;
    let last = reading.event().await;
    assert_eq!(*last.kind(), EventKind::KeysChanged { withdrawn: vec![kid] });
    assert_eq!((last.seq(), reading.caught_up().await), (7, (vec![], 7)));
    let FeedMessage::Event(logged) = last.is else { panic!() };
    assert_eq!(logged.event.until, authority.app.event_until(START));
}

#[tokio::test]
async fn a_new_reader_gets_all_that_lives_and_one_who_comes_back_what_came_after() {
    let authority = Running::start().await;
    // Several pages of the store, and of the ring.
    log(&authority.app, numbered(0..1200)).await;
    let mut reading = Reading::open(&authority, None).await;
    let (all, seq) = reading.caught_up().await;
    assert_eq!((names(&all), seq), (numbered(0..1200).collect(), 1200));
    log(&authority.app, numbered(1200..1210)).await;
    for i in 1200..1210 {
        assert_eq!(names(&[reading.event().await]), [format!("c{i}")]);
    }
    for (from, id) in [(1209, &reading.last_id), (700, &all[699].id), (1, &all[0].id)] {
        let mut again = Reading::open(&authority, id.as_deref()).await;
        let (missed, seq) = again.caught_up().await;
        let expected: Vec<String> = if from == 1209 { vec![] } else { numbered(from..1210).collect() };
        assert_eq!((names(&missed), seq), (expected, 1210));
    }
    let at = Position { epoch: authority.app.feed.epoch, seq: 0 };
    let (all, _) = Reading::open(&authority, Some(&at.to_string())).await.caught_up().await;
    assert_eq!(all.len(), 1210, "nothing was skipped by one who came before the first");
}

/// A node that starts knows the events of before from the store alone.
#[tokio::test]
async fn what_was_logged_before_the_start_is_there_after_it() {
    let authority = Running::start().await;
    log(&authority.app, numbered(0..1200)).await;
    let mut old = Reading::open(&authority, None).await;
    let (all, _) = old.caught_up().await;
    drop(old);
    let next = restart(authority.finish().await, None).await;
    let mut reading = Reading::open(&next, all[9].id.as_deref()).await;
    let (missed, seq) = reading.caught_up().await;
    assert_eq!((names(&missed), seq), (numbered(10..1200).collect(), 1200));
    log(&next.app, numbered(1200..1201)).await;
    assert_eq!(reading.event().await.seq(), 1201);
}

#[tokio::test]
async fn a_reader_of_another_log_or_of_more_than_there_is_starts_over() {
    let authority = Running::start().await;
    log(&authority.app, numbered(0..3)).await;
    let mut reading = Reading::open(&authority, None).await;
    let (all, _) = reading.caught_up().await;
    let id = all[1].id.clone().unwrap();
    drop(reading);

    let over = async |authority: &TestAuthority, id: &str, more: u64| {
        let mut reading = Reading::open(authority, Some(id)).await;
        let first = reading.next().await.unwrap();
        assert_eq!((first.id, first.is), (None, FeedMessage::StartOver));
        let (all, seq) = reading.caught_up().await;
        assert_eq!((names(&all[..3]), seq), (numbered(0..3).collect(), more - 1));
        log(&authority.app, ["more".to_owned()]).await;
        assert_eq!(reading.event().await.seq(), more, "the tail follows on the same stream");
    };
    for (more, ahead) in [(4, 4), (5, u64::MAX)] {
        let ahead = Position { epoch: authority.app.feed.epoch, seq: ahead };
        over(&authority, &ahead.to_string(), more).await;
    }
    // As after a restore.
    let restored = restart(authority.finish().await, Some([9; 16])).await;
    over(&restored, &id, 6).await;
}

#[tokio::test]
async fn what_is_past_its_time_is_never_sent_and_swept() {
    let authority = Running::start().await;
    log(&authority.app, numbered(0..2)).await;
    let mut early = Reading::open(&authority, None).await;
    let (all, _) = early.caught_up().await;
    let until: Timestamp = authority.app.event_until(authority.app.clock.now());
    let life = until.since(authority.app.clock.now());
    authority.app.clock.advance(life - std::time::Duration::from_secs(1));
    log(&authority.app, numbered(2..3)).await;
    assert_eq!(Reading::open(&authority, None).await.caught_up().await.0.len(), 3, "they live a second more");
    authority.advance(1);
    let (live, seq) = Reading::open(&authority, None).await.caught_up().await;
    assert_eq!((names(&live), seq), (numbered(2..3).collect(), 3));
    // Whoever comes back finds nothing of it either, and need not start over.
    let (missed, _) = Reading::open(&authority, all[0].id.as_deref()).await.caught_up().await;
    assert_eq!(names(&missed), ["c2"]);

    // With no changes for one access token's life the feed is empty, and so is the log.
    authority.app.clock.advance(life);
    assert_eq!(Reading::open(&authority, None).await.caught_up().await, (vec![], 3));
    jobs::sweep(&authority.app).await.unwrap();
    assert_eq!(authority.app.store.events_after(0, 10).await.unwrap(), []);
    assert_eq!(Reading::open(&authority, all[0].id.as_deref()).await.caught_up().await, (vec![], 3));
    log(&authority.app, numbered(3..4)).await;
    assert_eq!(Reading::open(&authority, all[0].id.as_deref()).await.event().await.seq(), 4);
}
