//! Migrations between real engines.

mod copying;
mod killed;
mod live;
mod rules;

use super::*;
use crate::conformance::*;
use crate::postgres::{PostgresOptions, PostgresStore};
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::{Access, Write};
use reseal_core::event::{Event, EventKind};
use reseal_core::{EndReason, TimelineEntry, TimelineKind};
use reseal_test_servers::{Database, Postgres};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Longest wait, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both ends of a migration.
trait Both: Source + Target {}
impl<T: Source + Target> Both for T {}

/// A store with its end of a migration.
struct Place {
    store: Arc<dyn Store>,
    end: Box<dyn Both>,
    folder: Option<TempDir>,
    /// Dropped last.
    _database: Option<Database<'static>>,
}

impl Place {
    fn sqlite() -> Self {
        Self::sqlite_in(tempfile::tempdir().unwrap())
    }

    fn sqlite_in(folder: TempDir) -> Self {
        let (store, end) = open_sqlite(folder.path(), Access::Serve);
        Self { store, end, folder: Some(folder), _database: None }
    }

    async fn postgres() -> Self {
        let database = Postgres::shared().database();
        let (store, end) = open_postgres(&database.url()).await;
        Self { store, end, folder: None, _database: Some(database) }
    }

    /// A connection behind everybody's back.
    fn raw(&self) -> rusqlite::Connection {
        let conn =
            rusqlite::Connection::open(self.folder.as_ref().unwrap().path().join("reseal.db")).unwrap();
        conn.busy_timeout(PATIENCE).unwrap();
        conn
    }
}

fn open_sqlite(folder: &Path, access: Access) -> (Arc<dyn Store>, Box<dyn Both>) {
    let timeout = PATIENCE;
    let options = SqliteOptions { access, timeout, ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder, options).unwrap());
    let end = Box::new(store.transfer().unwrap());
    (store, end)
}

async fn open_postgres(url: &str) -> (Arc<dyn Store>, Box<dyn Both>) {
    let options = PostgresOptions { timeout: PATIENCE, ..PostgresOptions::new(url.parse().unwrap()) };
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    let end = Box::new(store.transfer());
    (store, end)
}

/// Runs the case on every pair of engines.
fn each_pair(case: impl AsyncFn(&'static str, Place, Place)) {
    block_on(async {
        case("SQLite to SQLite", Place::sqlite(), Place::sqlite()).await;
        case("SQLite to PostgreSQL", Place::sqlite(), Place::postgres().await).await;
        case("PostgreSQL to SQLite", Place::postgres().await, Place::sqlite()).await;
        case("PostgreSQL to PostgreSQL", Place::postgres().await, Place::postgres().await).await;
    });
}

fn options(batch: usize) -> Options {
    Options {
        batch,
        rate: 0,
        stay_live: false,
        sample: 200,
        from: "here".to_owned(),
        to: "there".to_owned(),
        random: [7, 1],
    }
}

/// A run of that number.
fn nth_run(batch: usize, run: u64) -> Options {
    Options { random: [7, run], ..options(batch) }
}

/// Notes what it sees, and stops after so many steps.
struct Steps {
    left: usize,
    seen: Vec<Progress>,
    asked: std::cell::Cell<usize>,
}

impl Steps {
    fn all() -> Self {
        Self::up_to(usize::MAX)
    }

    fn up_to(left: usize) -> Self {
        Self { left, seen: Vec::new(), asked: std::cell::Cell::new(0) }
    }
}

impl Watch for Steps {
    fn progress(&mut self, progress: Progress) {
        self.seen.push(progress);
    }

    fn stop(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > self.left
    }
}

async fn run(from: &Place, to: &Place, options: Options, steps: &mut Steps) -> Result<Ended, TransferError> {
    Migration::run(&*from.end, &*to.end, options, steps).await
}

async fn complete(from: &Place, to: &Place, batch: usize) -> Report {
    match run(from, to, options(batch), &mut Steps::all()).await.unwrap() {
        Ended::Complete(report) => report,
        Ended::Following => panic!("it was to end"),
    }
}

/// Everything in the store, in order.
async fn everything(end: &dyn Both) -> Batch {
    let mut all = Batch::default();
    for kind in Kind::ALL {
        let mut after = None;
        loop {
            let Page { batch, next } = end.page(kind, after, 777).await.unwrap();
            all.meta.extend(batch.meta);
            all.clients.extend(batch.clients);
            all.keys.extend(batch.keys);
            all.users.extend(batch.users);
            all.sessions.extend(batch.sessions);
            all.challenges.extend(batch.challenges);
            all.events.extend(batch.events);
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    all.sort();
    all
}

async fn assert_same(from: &Place, to: &Place) -> Batch {
    let (ours, theirs) = (everything(&*from.end).await, everything(&*to.end).await);
    assert_eq!(ours.users, theirs.users);
    assert_eq!(ours.clients, theirs.clients);
    assert_eq!(ours.keys, theirs.keys);
    assert_eq!(ours.challenges, theirs.challenges);
    assert_eq!(ours.events, theirs.events);
    assert_eq!(ours.meta, theirs.meta);
    assert_eq!(ours.sessions.len(), theirs.sessions.len());
    for (ours, theirs) in ours.sessions.iter().zip(&theirs.sessions) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(from.store.last_event().await.unwrap(), to.store.last_event().await.unwrap());
    ours
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(future)
}

/// A little of everything.
async fn fill(store: &dyn Store, users: usize) {
    for i in 0..users {
        let (user, _) = with_session(store, i).await;
        let kind = EventKind::ClaimsChanged { sub: user.id, rev: 2 };
        let line =
            TimelineEntry { session_id: session_id(i), at: NOW, kind: TimelineKind::Started, ip: None };
        commit(store, [Write::Log(Event { kind, until: UNTIL }), Write::Timeline(line)]).await.unwrap();
    }
    let writes = [
        Write::CreateClient(Box::new(client("web"))),
        Write::CreateChallenge(Box::new(challenge(0))),
        Write::PutMeta("feed_epoch".to_owned(), vec![9; 16]),
        Write::PutMeta("mode".to_owned(), b"production".to_vec()),
    ];
    commit(store, writes).await.unwrap();
}
