//! Servers that die, hang and change places: nothing acknowledged is lost, nobody is logged out, and all goes on
//! by itself.

use super::advance::try_refresh;
use super::*;
use crate::conformance::{NOW, UNTIL, at_once, commit, ring, session, start, with_session, with_user};
use crate::{EndFilter, EndSessions};
use reseal_core::EndReason;
use reseal_core::credential::RefreshToken;
use reseal_test_servers::{Link, PgOptions};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Longest wait for a condition of a test.
const PATIENCE: Duration = Duration::from_secs(120);

fn options(url: &str, timeout: Duration) -> PostgresOptions {
    PostgresOptions { timeout, epoch: [7; 16], ..PostgresOptions::new(url.parse().unwrap()) }
}

/// What a client of the load holds.
struct Holder {
    row: Session,
    /// Its clock: each attempt comes long after the last, so that a token that comes again is no mere repeat.
    now: Timestamp,
    refused: usize,
}

impl Holder {
    async fn attempt(&mut self, store: &PostgresStore) {
        self.now = self.now + Duration::from_secs(30);
        let token: RefreshToken = ring().successor(&self.row).unwrap();
        match try_refresh(store, token, self.now).await {
            Ok(row) => self.row = row.expect("nobody is logged out"),
            Err(StoreError::Unavailable(_) | StoreError::Busy { .. }) => self.refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Clients that refresh, and beside them logins that end again, until `fault` is through; then everything that was
/// acknowledged is there.
async fn under_load(store: &Arc<PostgresStore>, fault: impl Future<Output = ()>) {
    const CLIENTS: usize = 12;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for i in 0..CLIENTS {
        let (_, row) = with_session(&**store, i).await;
        let (store, stop, answered) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&answered));
        clients.push(tokio::spawn(async move {
            let mut holder = Holder { row, now: NOW, refused: 0 };
            while !stop.load(Ordering::Relaxed) {
                holder.attempt(&store).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            holder
        }));
    }
    let user = with_user(&**store, 900).await;
    let ends = {
        let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut ended = Vec::new();
            for i in 10_000.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let session = session(i, &user);
                if commit(&*store, [start(&session)]).await.is_err() {
                    continue;
                }
                let filter = EndFilter::One(session.id);
                let end = EndSessions {
                    filter,
                    reason: EndReason::Revoked,
                    now: NOW,
                    ip: None,
                    event_until: UNTIL,
                };
                if store.end_sessions(end).await.is_ok() {
                    ended.push(session.id);
                }
            }
            ended
        })
    };
    let some_more = async || {
        let before = answered.load(Ordering::Relaxed);
        let more = async {
            while answered.load(Ordering::Relaxed) < before + 5 * CLIENTS {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.expect("the load goes on");
    };
    some_more().await;
    fault.await;
    until_well(store).await;
    some_more().await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let mut holder = client.await.unwrap();
        let stored = store.session(holder.row.id).await.unwrap().unwrap().session;
        assert!(stored.rotation.used >= holder.row.rotation.used, "an acknowledged rotation was lost");
        let refused = holder.refused;
        holder.attempt(store).await;
        assert_eq!(holder.refused, refused, "all is well again");
        let stored = store.session(holder.row.id).await.unwrap().unwrap().session;
        assert_eq!(stored, holder.row);
    }
    let told = store.events_after(0, 100_000).await.unwrap();
    assert!(told.iter().zip(1..).all(|(logged, seq)| logged.seq == seq), "a gap in the log");
    for id in ends.await.unwrap() {
        let stored = store.session(id).await.unwrap().expect("an acknowledged start was lost").session;
        assert!(stored.ended.is_some(), "an acknowledged end was lost");
    }
}

async fn until_well(store: &PostgresStore) {
    let well = async {
        while store.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, well).await.expect("it recovers by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_loses_nothing() {
    let postgres = Postgres::start(PgOptions { fsync: false, ..PgOptions::default() });
    let database = postgres.database();
    let store = PostgresStore::open(options(&database.url(), Duration::from_secs(20))).await.unwrap();
    under_load(&Arc::new(store), async {
        for _ in 0..2 {
            postgres.kill();
            postgres.restart();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_are_ended_under_load_lose_nothing() {
    let engine = OnPostgres::create();
    let store = Arc::new(engine.open().await);
    under_load(&store, async {
        for _ in 0..20 {
            engine.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()",
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_that_takes_over_has_everything() {
    let postgres =
        Postgres::start(PgOptions { synchronous_standby: true, fsync: false, ..PgOptions::default() });
    let database = postgres.database();
    let store =
        PostgresStore::open(options(&database.multi_host_url(), Duration::from_secs(20))).await.unwrap();
    under_load(&Arc::new(store), async {
        postgres.kill();
        postgres.promote_standby();
    })
    .await;
}

/// No packet comes and none is refused: every wait ends by itself, and afterwards all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_that_hangs_is_given_up_and_found_again() {
    let engine = OnPostgres::create();
    let server = format!("127.0.0.1:{}", engine.database.server().port()).parse().unwrap();
    let link = Link::to(server);
    let url = engine.database.url().replace(&format!("{server}"), &link.addr().to_string());
    assert!(url.contains(&link.addr().to_string()));
    let patient = PostgresStore::open(engine.options()).await.unwrap();
    let (_, session) = with_session(&patient, 1).await;
    let store = Arc::new(PostgresStore::open(options(&url, Duration::from_secs(2))).await.unwrap());
    for broken in [true, false] {
        if broken {
            link.cut();
        } else {
            link.hang();
        }
        let refused = at_once(8, |i| {
            let (store, session) = (Arc::clone(&store), session.clone());
            async move {
                match i % 4 {
                    0 => store.session(session.id).await.map(drop),
                    1 => store.check().await,
                    2 => store.last_event().await.map(drop),
                    _ => try_refresh(&store, ring().successor(&session).unwrap(), NOW).await.map(drop),
                }
            }
        });
        for answer in tokio::time::timeout(PATIENCE, refused).await.expect("every wait is bounded") {
            let away = matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Busy { .. }));
            assert!(away, "{answer:?}");
        }
        link.mend();
        tokio::time::timeout(PATIENCE, until_well(&store)).await.unwrap();
        let row = store.session(session.id).await.unwrap().unwrap().session;
        assert!(row.ended.is_none());
    }
}

/// Somebody holds a row: whoever wants it waits no longer than he may, the others not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_that_is_held_stops_nobody_else_for_ever() {
    let engine = OnPostgres::create();
    let patient = engine.open().await;
    let (_, held) = with_session(&patient, 1).await;
    let (_, other) = with_session(&patient, 2).await;
    let store = PostgresStore::open(PostgresOptions { timeout: Duration::from_secs(3), ..engine.options() });
    let store = Arc::new(store.await.unwrap());
    let mut holder = patient.inner.pool.lease().await.unwrap();
    holder.begin().await.unwrap();
    session::lock(&holder, &[uuid::Uuid::from_bytes(*held.id.as_bytes())]).await.unwrap();
    let refused = try_refresh(&store, ring().successor(&held).unwrap(), NOW).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    try_refresh(&store, ring().successor(&other).unwrap(), NOW).await.unwrap().unwrap();
    holder.roll_back().await.unwrap();
    drop(holder);
    let row = try_refresh(&store, ring().successor(&held).unwrap(), NOW).await.unwrap().unwrap();
    assert_eq!(row.rotation.used, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_is_told_at_once() {
    const QUEUE: usize = 4;
    let engine = OnPostgres::create();
    let patient = engine.open().await;
    let sessions = at_once(40, |i| {
        let store = engine.options();
        async move {
            let store = PostgresStore::open(PostgresOptions { connections: 3, ..store }).await.unwrap();
            with_session(&store, i).await.1
        }
    });
    let sessions = Arc::new(sessions.await);
    let options = PostgresOptions { queue: QUEUE, connections: 3, ..engine.options() };
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    let mut holder = patient.inner.pool.lease().await.unwrap();
    holder.begin().await.unwrap();
    let ids: Vec<_> = sessions.iter().map(|s| uuid::Uuid::from_bytes(*s.id.as_bytes())).collect();
    session::lock(&holder, &ids).await.unwrap();
    let answers: Vec<_> = (0..sessions.len())
        .map(|i| {
            let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
            tokio::spawn(
                async move { try_refresh(&store, ring().successor(&sessions[i]).unwrap(), NOW).await },
            )
        })
        .collect();
    // Those that find no place have their answer while the rows are held still.
    let busy = async {
        while answers.iter().filter(|answer| answer.is_finished()).count() < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.expect("they are told at once");
    holder.roll_back().await.unwrap();
    drop(holder);
    let (mut done, mut refused) = (0, 0);
    for answer in answers {
        match answer.await.unwrap() {
            Ok(row) => done += usize::from(row.is_some()),
            Err(StoreError::Busy { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused >= 20 && done >= QUEUE, "{done} done, {refused} refused");
    assert_eq!(store.queued(), 0);
}

/// A statement that fails for one of a batch fails for that one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_row_that_cannot_be_written_spoils_no_other() {
    let engine = OnPostgres::create();
    let store = Arc::new(engine.open().await);
    let mut sessions = Vec::new();
    for i in 0..16 {
        sessions.push(with_session(&*store, i).await.1);
    }
    let bad = uuid::Uuid::from_bytes(*sessions[5].id.as_bytes());
    engine.sql(&format!(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '23514'; END $$;
        CREATE TRIGGER spoil BEFORE UPDATE ON sessions FOR EACH ROW WHEN (NEW.id = '{bad}') EXECUTE FUNCTION spoil()"
    ));
    let sessions = Arc::new(sessions);
    let answers = at_once(16, |i| {
        let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
        async move { try_refresh(&store, ring().successor(&sessions[i]).unwrap(), NOW).await }
    });
    for (i, answer) in answers.await.into_iter().enumerate() {
        assert_eq!(answer.is_ok(), i != 5, "{i}: {answer:?}");
    }
}
