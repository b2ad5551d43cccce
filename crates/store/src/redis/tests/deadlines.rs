//! Deadlines that the backing store does not have yet.

use super::*;
use crate::conformance::{commit, session, start, with_session, with_user};
use crate::{StartSession, Write};

const DAY: u64 = 86_400;

async fn behind(store: &RedisStore<SqliteStore>, id: SessionId) -> Session {
    store.backing().session(id).await.unwrap().unwrap().session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_written_to_redis_alone_and_its_deadline_comes_after_half_an_idle_time() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let token = renew(&*store, ring().successor(&session).unwrap(), DAY, 3).await;
    assert_eq!(behind(&store, session.id).await, session);
    let token = renew(&*store, token, 6 * DAY, 1).await;
    assert_eq!(behind(&store, session.id).await, session, "six days of fourteen are less than half");
    let token = renew(&*store, token, 8 * DAY, 1).await;
    // It is written after the answer.
    while behind(&store, session.id).await == session {
        tokio::task::yield_now().await;
    }
    let current = store.session(session.id).await.unwrap().unwrap().session;
    let found = behind(&store, session.id).await;
    assert_eq!(found, Session { version: session.version, ..current });
    // So a loss of all of Redis costs nobody his session, long after the first idle time.
    place.redis.ask(&["FLUSHALL"]);
    assert!(present(&*store, token, 21 * DAY).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_sessions_counts_by_the_deadlines_in_redis() {
    let place = Place::new();
    let store = place.node().await;
    let user = with_user(&*store, 1).await;
    let old: Vec<Session> = (1..=3).map(|i| session(i, &user)).collect();
    commit(&*store, old.iter().map(start)).await.unwrap();
    // The first of them is in use; all would have run out without that.
    renew(&*store, ring().successor(&old[0]).unwrap(), 6 * DAY, 1).await;
    let now = NOW + Duration::from_secs(15 * DAY);
    let login = |i, max_sessions| {
        let mut session = session(i, &user);
        (session.started_at, session.renewed_at) = (now, now);
        session.idle_expires_at = now + Duration::from_secs(14 * DAY);
        let start = StartSession { session, auth_epoch: 3, max_sessions, event_until: UNTIL };
        [Write::StartSession(Box::new(start))]
    };
    commit(&*store, login(4, 2)).await.unwrap();
    let is_open = async |i: usize| {
        let id = crate::conformance::session_id(i);
        store.session(id).await.unwrap().unwrap().session.ended.is_none()
    };
    assert!(is_open(1).await && is_open(2).await && is_open(3).await, "one is in use, two take no room");
    commit(&*store, login(5, 2)).await.unwrap();
    assert!(!is_open(1).await && is_open(4).await && is_open(5).await, "the oldest in use makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_the_rows_of_sessions_that_are_in_use() {
    let place = Place::new();
    let store = place.node().await;
    let (_, used) = with_session(&*store, 1).await;
    let (_, unused) = with_session(&*store, 2).await;
    renew(&*store, ring().successor(&used).unwrap(), 6 * DAY, 1).await;
    let before = store.bytes(used.id).await.unwrap();
    let later = used.idle_expires_at + Duration::from_secs(3 * DAY);
    assert_eq!(store.sweep(later, later, 100).await.unwrap().sessions, 1);
    assert_eq!(store.bytes(used.id).await, Some(before));
    assert_eq!(store.bytes(unused.id).await, None);
    assert!(store.session(used.id).await.unwrap().is_some());
}

/// Without a replica a touch might be lost for good, and the session with it: nothing in a sliding token
/// mends its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_touch_that_no_replica_has_is_in_the_backing_store() {
    let place = Place::new();
    let store = place.node_with(|options| options.wait_replicas = 1).await;
    let user = with_user(&*store, 1).await;
    // In the past: by the clock of this machine it has run out, which is when one looks twice.
    let past = Timestamp::from_secs(1_600_000_000);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut session = session(1, &user);
    (session.started_at, session.renewed_at) = (past, past);
    session.idle_expires_at = past + minutes(20);
    session.expires_at = past + minutes(720);
    commit(&*store, [start(&session)]).await.unwrap();
    let before = store.bytes(session.id).await.unwrap();
    let touched = decide(&*store, session.id, UNTIL, move |s: &Snapshot| {
        let mut next = s.session.clone();
        next.version += 1;
        next.renewed_at = past + minutes(11);
        next.idle_expires_at = past + minutes(31);
        ((), Change { session: Some(next), ..Change::default() })
    });
    touched.await.unwrap().unwrap();
    assert_eq!(store.figures().unconfirmed, 1);
    assert_eq!(behind(&store, session.id).await.idle_expires_at, past + minutes(31));
    store.put_bytes(session.id, &before).await;
    let found = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(found.idle_expires_at, past + minutes(31), "the failover lost it, and it is there");
    assert_ne!(found.version, session.version, "another state is another version");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_expire_by_themselves_after_their_session() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let (_, key) = keys::session_key(session.id);
    let left = |answer| match answer {
        servers::Answer::Number(left) => u64::try_from(left).unwrap(),
        other => panic!("{other:?}"),
    };
    let life = 14 * DAY + keys::SLACK.as_secs();
    let first = left(place.redis.ask(&["TTL", &key]));
    assert!((life - 3600..=life).contains(&first), "{first}");
    renew(&*store, ring().successor(&session).unwrap(), 10 * DAY, 1).await;
    let second = left(place.redis.ask(&["TTL", &key]));
    assert!((life - 3600..=life).contains(&second), "by the time of the renewal: {second}");
    let (_, key) = keys::user_key(session.user_id);
    assert!(left(place.redis.ask(&["TTL", &key])) > 89 * DAY);
}

/// Two uses in one millisecond, and one by a clock that was set back.
pub(super) async fn the_later_use_is_the_one_with_the_higher_number<B: Backing>(store: &RedisStore<B>) {
    let (_, session) = with_session(store, 1).await;
    let at = |used: u64, secs: i64| {
        let renewed_at = Timestamp::from_millis(session.renewed_at.millis() + 1000 * secs);
        let rotation = reseal_core::session::Rotation { used, ..session.rotation };
        let Session { id, version, expires_at, idle_expires_at, .. } = session;
        Renewed { id, version, rotation, renewed_at, idle_expires_at, expires_at }
    };
    let backing = store.backing();
    for (row, used) in [(at(3, 5), 3), (at(4, 5), 4), (at(3, 9), 4), (at(5, 1), 5), (at(5, 2), 5)] {
        backing.write_back(&[row]).await.unwrap();
        let found = backing.session(session.id).await.unwrap().unwrap().session;
        assert_eq!(found.rotation.used, used, "{row:?}");
    }
    let found = backing.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(found.renewed_at, at(5, 2).renewed_at);
    // So says Redis, too: what it has is written back even if by its time it is earlier.
    let hot = Session { renewed_at: session.renewed_at, rotation: at(7, 0).rotation, ..found };
    store.put_bytes(hot.id, &row::encode(&hot, hot.version, hot.idle_expires_at)).await;
    assert_eq!(store.write_back_all().await.unwrap(), 1);
    assert_eq!(backing.session(session.id).await.unwrap().unwrap().session.rotation.used, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_back_is_the_later_use() {
    the_later_use_is_the_one_with_the_higher_number(&*Place::new().node().await).await;
}

/// Whoever gives Redis up must not take every client for a thief.
#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_written_back() {
    let place = Place::new();
    let store = place.node().await;
    let user = with_user(&*store, 1).await;
    let all: Vec<Session> = (0..1500).map(|i| session(i, &user)).collect();
    commit(&*store, all.iter().map(start)).await.unwrap();
    for session in all.iter().step_by(100) {
        renew(&*store, ring().successor(session).unwrap(), 30, 3).await;
    }
    store.stand_before().await.unwrap();
    assert!(is_before(&*store).await.unwrap());
    assert_eq!(store.write_back_all().await.unwrap(), 15);
    assert!(!is_before(&*store).await.unwrap());
    assert_eq!(store.write_back_all().await.unwrap(), 0);
    for (i, session) in all.iter().enumerate() {
        let used = if i % 100 == 0 { 3 } else { 0 };
        assert_eq!(behind(&store, session.id).await.rotation.used, used, "session {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_few_bytes_of_memory() {
    const SESSIONS: i64 = 2000;
    let place = Place::new();
    let store = place.node().await;
    let memory = || {
        let info = place.redis.ask(&["INFO", "memory"]);
        let used = info.text().lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
        used.unwrap().parse::<i64>().unwrap()
    };
    let before = memory();
    let mut writes = Vec::new();
    for i in 0..usize::try_from(SESSIONS).unwrap() {
        let user = crate::conformance::user(i);
        let agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
            Chrome/131.0.0.0 Safari/537.36";
        let session = Session { user_agent: Some(agent.to_owned()), ..session(i, &user) };
        writes.extend([
            Write::CreateUser(Box::new(user), crate::conformance::secrets("first")),
            start(&session),
        ]);
    }
    commit(&*store, writes).await.unwrap();
    let each = (memory() - before) / SESSIONS;
    // The row and its user's list of sessions, keys and tables included.
    assert!((200..800).contains(&each), "{each} bytes");
}
