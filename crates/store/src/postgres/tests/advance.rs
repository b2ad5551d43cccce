//! What the statement of the hot path writes is exactly what the rule foresees.

use super::*;
use crate::conformance::{
    UNTIL, at_once, commit, policy, ring, sample, session, start, with_session, with_user,
};
use crate::decide_foreseen;
use crate::postgres::rows::advance::{Foreseen, is_plausible, read, write};
use proptest::prelude::*;
use reseal_core::credential::RefreshToken;
use reseal_core::policy::{LostResponse, Policy};
use reseal_core::refresh::{Advance, OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::{Change, Ended};
use reseal_core::{EndReason, KeyId, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: i64 = 1_800_000_000_000;

/// Times around the ones that matter, in milliseconds, and wild ones.
fn around(at: i64) -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        6 => (-3_i64..=3).prop_map(move |d| at + d),
        4 => (-30_000_i64..=30_000).prop_map(move |d| at + d),
        2 => (-200_000_000_i64..=200_000_000).prop_map(move |d| at + d),
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN)],
    ]
    .prop_map(Timestamp::from_millis)
}

prop_compose! {
    fn any_row_and_prediction()(
        used in prop_oneof![8 => 0_u64..4, 1 => any::<u64>()],
        gap in prop_oneof![5 => Just(1_u64), 1 => 0_u64..5],
        branch in 0_u32..2,
        windows in (around(NOW - 10_000), 0_u64..4, around(NOW - 20_000), any::<u64>()),
        times in (around(NOW), around(NOW + 1000), around(NOW + 1000), around(NOW - 60_000)),
        ttls in (0_u64..30, prop::option::of(prop_oneof![1_u64..5, 5_u64..120]), prop_oneof![1_u64..70, 90_u64..200]),
        odd in (0_u8..10, 0_u8..10, 0_u8..10, 0_u8..10),
        version in prop_oneof![3 => Just(1), 1 => Just(u32::MAX), 1 => Just(i32::MAX.unsigned_abs()), 1 => any::<u32>()],
    ) -> (Session, Advance) {
        let number = used.saturating_add(gap).clamp(1, 1 << 62);
        let user = crate::conformance::user(1);
        let mut session = session(1, &user);
        session.version = version;
        session.rotation.used = used;
        session.rotation.branch = branch;
        session.rotation.window_at = windows.0;
        session.rotation.window_from = windows.1;
        session.rotation.prev_window_at = windows.2;
        session.rotation.prev_window_from = windows.3;
        session.renewed_at = times.0;
        session.idle_expires_at = times.1;
        session.expires_at = times.2;
        session.started_at = times.3;
        if odd.0 == 0 {
            session.ended = Some(Ended { at: times.1, reason: EndReason::SignedOut });
        }
        let mut policy = policy().clone();
        policy.grace = Duration::from_secs(ttls.0);
        policy.idle_ttl = ttls.1.map(Duration::from_secs);
        policy.max_ttl = Duration::from_secs(ttls.2);
        let token = RefreshToken { session_id: session.id, key_id: KeyId(1), number, nonce: [9; 16] };
        let mut advance =
            Advance::of(&token, &session.client_id, &policy, Timestamp::from_millis(NOW)).unwrap();
        if odd.1 == 0 { advance.client_id = "other".parse().unwrap(); }
        if odd.2 == 0 { session.policy = "other".parse().unwrap(); }
        if odd.3 == 0 { session.key_id = KeyId(2); }
        (session, advance)
    }
}

/// Rows that the statement leaves to the compare-and-swap although the rule would allow them: their numbers are
/// beyond all sense.
fn is_left_alone(session: &Session) -> bool {
    session.started_at.millis() >= 1 << 61
        || session.version == i32::MAX.unsigned_abs()
        || session.renewed_at.millis() == i64::MIN
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_ahead_is_what_the_rule_foresees() {
    const BATCHES: usize = 40;
    const BATCH: usize = 60;
    let engine = OnPostgres::create();
    let store = engine.open().await;
    let known = &store.inner.known;
    let user = with_user(&store, 1).await;
    // All texts have numbers.
    let other = Session {
        client_id: "other".parse().unwrap(),
        policy: "other".parse().unwrap(),
        ..session(0, &user)
    };
    commit(&store, [start(&other)]).await.unwrap();
    let mut cases = sample(any_row_and_prediction(), BATCHES * BATCH);
    let (mut written, mut kept) = (0, 0);
    for batch in 0..BATCHES {
        let mut batch: Vec<(Session, Advance)> = cases
            .drain(..BATCH)
            .enumerate()
            .map(|(i, (row, advance))| {
                (Session { id: crate::conformance::session_id(1000 + batch * BATCH + i), ..row }, advance)
            })
            .collect();
        batch.sort_by_key(|(row, _)| row.id);
        commit(&store, batch.iter().map(|(row, _)| start(row))).await.unwrap();
        let foreseen: Vec<Foreseen<'_>> = batch
            .iter()
            .map(|(row, advance)| {
                assert!(is_plausible(advance));
                let number = |text: &str| known.number(text).unwrap();
                let (client, policy) = (number(advance.client_id.as_str()), number(advance.policy.as_str()));
                Foreseen { id: row.id, advance, client, policy }
            })
            .collect();
        let lease = store.inner.pool.lease().await.unwrap();
        let rows = write(&lease, &foreseen).await.unwrap();
        let found = read(&lease, known, &rows).await.unwrap();
        assert_eq!(found.len(), BATCH);
        for (id, found) in found {
            let found = found.unwrap();
            assert_eq!(id, found.snapshot.session.id);
            let (row, advance) = batch.iter().find(|(row, _)| row.id == id).unwrap();
            assert_eq!((&found.snapshot.session, &*found.snapshot.user), (row, &user), "the row as it was");
            let foretold = advance.apply(row).filter(|_| !is_left_alone(row));
            assert_eq!(found.written, foretold.is_some(), "{row:?} {advance:?}");
            let after = store.session(id).await.unwrap().unwrap().session;
            assert_eq!(&after, foretold.as_ref().unwrap_or(row), "{row:?} {advance:?}");
            written += usize::from(found.written);
            kept += usize::from(!found.written);
            // And the sweep goes by the deadline that was written.
            let day = engine_day(&engine, id);
            assert_eq!(day, session::sweep_day(&after));
        }
    }
    assert!(written > 100 && kept > 100, "{written} written, {kept} kept: both happen");
}

fn engine_day(engine: &OnPostgres, id: SessionId) -> i32 {
    let id = uuid::Uuid::from_bytes(*id.as_bytes());
    engine.sql(&format!("SELECT sweep_day FROM sessions WHERE id = '{id}'")).trim().parse().unwrap()
}

/// From where the session was started: a repeat from elsewhere leaves a line.
fn its_owner(session: &Session) -> Presenter<'_> {
    Presenter { ip: session.ip, user_agent: session.user_agent.as_deref() }
}

fn presented(
    token: RefreshToken,
    now: Timestamp,
    policy: Policy,
) -> impl FnMut(&Snapshot) -> (Option<Session>, Change) + Send + 'static {
    move |s: &Snapshot| match rotate(
        &s.session,
        &policy,
        &token,
        OnRollback::Theft,
        (now, its_owner(&s.session)),
    ) {
        Outcome::Issue { session, change, .. } => (Some(session), change),
        Outcome::Superseded { change } | Outcome::Reuse { change } => (None, change),
        Outcome::Over(_) => (None, Change::default()),
    }
}

/// The row after the token was presented; none when it was refused.
pub(super) async fn try_refresh(
    store: &PostgresStore,
    token: RefreshToken,
    now: Timestamp,
) -> std::result::Result<Option<Session>, StoreError> {
    refresh_under(policy(), store, token, now).await
}

async fn refresh_under(
    policy: &Policy,
    store: &PostgresStore,
    token: RefreshToken,
    now: Timestamp,
) -> std::result::Result<Option<Session>, StoreError> {
    let foreseen = Advance::of(&token, &"web".parse().unwrap(), policy, now);
    let decide = presented(token, now, policy.clone());
    let decided = decide_foreseen(store, (token.session_id, UNTIL), foreseen, decide);
    Ok(decided.await?.expect("the session is there"))
}

async fn refresh(store: &PostgresStore, token: RefreshToken, now: Timestamp) -> Option<Session> {
    try_refresh(store, token, now).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_common_case_takes_one_statement() {
    let engine = OnPostgres::create();
    let store = engine.open().await;
    let (_, session) = with_session(&store, 1).await;
    let mut now = crate::conformance::NOW;
    let token = ring().successor(&session).unwrap();
    let mut row = refresh(&store, token, now).await.unwrap();
    let sent = |store: &PostgresStore| store.inner.pool.statements();
    for round in 2..20 {
        now = now + Duration::from_secs(60);
        let before = sent(&store);
        row = refresh(&store, ring().successor(&row).unwrap(), now).await.unwrap();
        assert_eq!(row.rotation.used, round);
        assert_eq!(sent(&store) - before, 1, "round {round}");
    }
    // A repeat is decided on the row that came with the same statement.
    let before = sent(&store);
    let token = RefreshToken {
        session_id: row.id,
        key_id: KeyId(1),
        number: row.rotation.used,
        nonce: row.rotation.used_nonce,
    };
    assert_eq!(refresh(&store, token, now).await.unwrap(), row);
    assert_eq!(sent(&store) - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_that_the_decision_does_not_want_is_taken_back() {
    let engine = OnPostgres::create();
    let store = engine.open().await;
    let (_, session) = with_session(&store, 1).await;
    let now = crate::conformance::NOW + Duration::from_secs(60);
    let token = ring().successor(&session).unwrap();
    let foreseen = || Advance::of(&token, &"web".parse().unwrap(), policy(), now);
    let kept = decide_foreseen(&store, (session.id, UNTIL), foreseen(), |_| ((), Change::default()));
    kept.await.unwrap().unwrap();
    let row = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(row, Session { version: row.version, ..session.clone() });
    let ended = decide_foreseen(&store, (session.id, UNTIL), foreseen(), move |s: &Snapshot| {
        ((), s.session.end(EndReason::SignedOut, now, None).unwrap())
    });
    ended.await.unwrap().unwrap();
    let row = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(row.ended.unwrap().reason, EndReason::SignedOut);
    assert_eq!(row.rotation, session.rotation);
    assert_eq!(store.last_event().await.unwrap(), 1);
    assert_eq!(store.timeline(session.id).await.unwrap().len(), 1);
}

/// What is written ahead stays written, whatever comes of the row beside it: whoever has the rest decided anew
/// would take the first use of a token for its second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_that_cannot_be_read_ends_no_session_that_was_renewed_beside_it() {
    const SESSIONS: usize = 12;
    const UNREADABLE: usize = 6;
    let strict = Policy { grace: Duration::ZERO, lost_response: LostResponse::GraceOnly, ..policy().clone() };
    let engine = OnPostgres::create();
    let patient = engine.open().await;
    let mut tokens = Vec::new();
    for i in 0..=SESSIONS {
        let (_, session) = with_session(&patient, i).await;
        tokens.push(ring().successor(&session).unwrap());
    }
    let id = |i: usize| uuid::Uuid::from_bytes(*tokens[i].session_id.as_bytes());
    engine.sql(&format!("UPDATE sessions SET scope = 999999 WHERE id = '{}'", id(UNREADABLE)));
    // One lane, which knows the numbers of client and policy, is kept waiting until all others are in the queue.
    let store = PostgresStore::open(PostgresOptions { connections: 3, ..engine.options() }).await.unwrap();
    let store = Arc::new(store);
    store.session(tokens[0].session_id).await.unwrap().unwrap();
    let mut holder = patient.inner.pool.lease().await.unwrap();
    holder.begin().await.unwrap();
    session::lock(&holder, &[id(SESSIONS)]).await.unwrap();
    let refresh = |i: usize| {
        let (store, token, strict) = (Arc::clone(&store), tokens[i], strict.clone());
        tokio::spawn(async move { refresh_under(&strict, &store, token, crate::conformance::NOW).await })
    };
    let until_queued = async |count: usize| {
        let queued = async {
            while store.queued() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), queued).await.unwrap();
    };
    let mut answers = vec![refresh(SESSIONS)];
    until_queued(1).await;
    answers.extend((0..SESSIONS).map(refresh));
    until_queued(1 + SESSIONS).await;
    holder.roll_back().await.unwrap();
    drop(holder);
    for (answer, i) in answers.into_iter().zip([SESSIONS].into_iter().chain(0..)) {
        let answer = answer.await.unwrap();
        if i == UNREADABLE {
            assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
        } else {
            assert_eq!(answer.expect("it is told").expect("it is renewed").rotation.used, 1, "{i}");
        }
    }
}

/// Two nodes, one browser with two tabs: whichever node they ask, they hold the same token afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_tabs_at_two_nodes_make_one_lineage() {
    const BROWSERS: usize = 8;
    const ROUNDS: u32 = 40;
    let engine = OnPostgres::create();
    let nodes = [Arc::new(engine.open().await), Arc::new(engine.open().await)];
    let advances = Arc::new(AtomicUsize::new(0));
    let browsers = at_once(BROWSERS, |browser| {
        let (nodes, advances) = (nodes.clone(), Arc::clone(&advances));
        async move {
            let (_, mut row) = with_session(&*nodes[0], browser).await;
            for round in 1..=ROUNDS {
                let now = crate::conformance::NOW + Duration::from_secs(30) * round;
                let token = ring().successor(&row).unwrap();
                let tabs = at_once(4, |tab| {
                    let node = Arc::clone(&nodes[tab % 2]);
                    async move { refresh(&node, token, now).await.expect("no tab is logged out") }
                });
                let answers = tabs.await;
                let successors: Vec<_> = answers.iter().map(|row| ring().successor(row).unwrap()).collect();
                assert!(successors.iter().all(|s| *s == successors[0]), "all tabs hold the same token");
                row = answers.into_iter().next().unwrap();
                advances.fetch_add(1, Ordering::Relaxed);
            }
            (row, browser)
        }
    });
    for (row, browser) in browsers.await {
        let stored = nodes[1].session(row.id).await.unwrap().unwrap().session;
        assert_eq!(stored.rotation.used, u64::from(ROUNDS), "browser {browser}");
        assert_eq!(stored.version, 1 + ROUNDS, "one write for each round");
    }
}
