//! A database as the source or the target of a migration.

mod journal;
mod read;
mod write;

use super::fail::{Fail, Result};
use super::known::Numbers;
use super::pool::{Client, Lease};
use super::rows::{Columns, sql_limit};
use super::{Inner, PostgresStore};
use crate::transfer::{
    Batch, Counts, Item, Kind, Noted, Page, Records, SOURCE_MARK, Source, SourceMark, TARGET_MARK, Target,
    TargetMark, TransferError, decode, encode,
};
use async_trait::async_trait;
use reseal_core::Session;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Longest wait for one transaction: counting ten million rows takes its time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a transaction that somebody else's stopped is done again.
const RETRIES: u32 = 30;

/// A database, opened as one end of a migration by [`PostgresStore::transfer`]. Shares the store's connections.
pub struct PostgresTransfer {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for PostgresTransfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTransfer").field("at", &self.inner.shown).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// The database as one end of a migration. The store must stay open for as long.
    pub fn transfer(&self) -> PostgresTransfer {
        PostgresTransfer { inner: Arc::clone(&self.inner) }
    }
}

/// Why a transaction came to nothing.
enum Failed {
    Store(Fail),
    Transfer(TransferError),
}

impl From<Fail> for Failed {
    fn from(fail: Fail) -> Self {
        Self::Store(fail)
    }
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

type Done<T> = std::result::Result<T, Failed>;

/// Statements of a transaction.
type Work<'c, T> = Pin<Box<dyn Future<Output = Done<T>> + Send + 'c>>;

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One snapshot for all statements.
    Read,
    Write,
}

impl PostgresTransfer {
    /// Runs the work in a transaction, again if somebody else's stopped it or the connection broke: whatever
    /// it writes may be written twice.
    async fn run<T>(
        &self,
        mode: Mode,
        work: impl for<'c> Fn(&'c Client) -> Work<'c, T>,
    ) -> std::result::Result<T, TransferError> {
        let mut attempt = 0;
        loop {
            match self.try_run(mode, &work).await {
                Err(Failed::Store(fail)) if may_repeat(&fail) && attempt < RETRIES => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(10)) * 50)).await;
                }
                Err(Failed::Store(fail)) => return Err(fail.into_store_error().into()),
                Err(Failed::Transfer(error)) => return Err(error),
                Ok(value) => return Ok(value),
            }
        }
    }

    async fn try_run<T>(&self, mode: Mode, work: &impl for<'c> Fn(&'c Client) -> Work<'c, T>) -> Done<T> {
        let mut lease = self.inner.pool.lease().await?;
        let done = match tokio::time::timeout(PATIENCE, in_transaction(&mut lease, mode, work)).await {
            Ok(done) => done,
            Err(_) => Err(Fail::Lost(format!("no answer of the database within {PATIENCE:?}")).into()),
        };
        match done {
            Err(Failed::Store(fail)) => Ok(lease.settle(Err(fail))?),
            done => done,
        }
    }
}

async fn in_transaction<T>(
    lease: &mut Lease,
    mode: Mode,
    work: &impl for<'c> Fn(&'c Client) -> Work<'c, T>,
) -> Done<T> {
    lease.begin().await?;
    if mode == Mode::Read {
        lease.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    }
    let millis = PATIENCE.as_millis();
    let settings = format!(
        "SET LOCAL statement_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}"
    );
    lease.batch(&settings).await?;
    match work(lease).await {
        Ok(value) => {
            lease.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // What went wrong first is what counts.
            let _ = lease.roll_back().await;
            Err(error)
        }
    }
}

/// A lock that was not to be had in time counts as somebody else's.
fn may_repeat(fail: &Fail) -> bool {
    let locked = |error: &tokio_postgres::Error| error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
    fail.may_read_again() || matches!(fail, Fail::Refused(error) if locked(error))
}

#[async_trait]
impl Records for PostgresTransfer {
    async fn read(&self, items: Vec<Item>) -> std::result::Result<Batch, TransferError> {
        let items = Arc::new(items);
        self.run(Mode::Read, |client| {
            let (inner, items) = (Arc::clone(&self.inner), Arc::clone(&items));
            Box::pin(async move { Ok(read::items(client, &inner.known, &items).await?) })
        })
        .await
    }

    async fn counts(&self) -> std::result::Result<Counts, TransferError> {
        self.run(Mode::Read, |client| Box::pin(async move { Ok(read::counts(client).await?) })).await
    }
}

#[async_trait]
impl Source for PostgresTransfer {
    async fn mark(&self) -> std::result::Result<Option<SourceMark>, TransferError> {
        self.run(Mode::Read, |client| Box::pin(source_mark(client))).await
    }

    async fn put(
        &self,
        expected: Option<u64>,
        mark: Option<SourceMark>,
    ) -> std::result::Result<(), TransferError> {
        let attempts = std::sync::atomic::AtomicBool::new(false);
        self.run(Mode::Write, |client| {
            let mark = mark.clone();
            // A commit of which nobody knew whether it was done: then the mark is there.
            let again = attempts.swap(true, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move {
                let found = source_mark(client).await?;
                if again && found == mark {
                    return Ok(());
                }
                if found.map(|found| found.run) != expected {
                    return Err(TransferError::Superseded.into());
                }
                match &mark {
                    Some(mark) => journal::put(client, mark).await,
                    None => journal::remove(client).await,
                }
            })
        })
        .await
    }

    async fn page(
        &self,
        kind: Kind,
        after: Option<String>,
        limit: usize,
    ) -> std::result::Result<Page, TransferError> {
        self.run(Mode::Read, |client| {
            let (inner, after) = (Arc::clone(&self.inner), after.clone());
            Box::pin(
                async move { Ok(read::page(client, &inner.known, (kind, after.as_deref()), limit).await?) },
            )
        })
        .await
    }

    async fn noted(&self, limit: usize) -> std::result::Result<Vec<Noted>, TransferError> {
        self.run(Mode::Read, |client| {
            Box::pin(async move {
                const NOTED: &str = "SELECT kind, key, seq FROM migration_journal ORDER BY seq LIMIT $1";
                let rows = client.query(NOTED, &[&sql_limit(limit)]).await?;
                let read = |row| {
                    let mut c = Columns::of(row);
                    let (kind, key): (i16, &[u8]) = (c.take()?, c.take()?);
                    let item = Item::from_journal(kind, key).ok_or_else(|| Fail::corrupt("a note"))?;
                    Ok(Noted { item, stamp: c.take()? })
                };
                Ok(rows.iter().map(read).collect::<Result<Vec<Noted>>>()?)
            })
        })
        .await
    }

    async fn noted_count(&self) -> std::result::Result<u64, TransferError> {
        self.run(Mode::Read, |client| {
            Box::pin(async move { Ok(read::count(client, "SELECT count(*) FROM migration_journal").await?) })
        })
        .await
    }

    async fn forget(&self, run: u64, noted: Vec<Noted>) -> std::result::Result<(), TransferError> {
        let stamps: Arc<Vec<i64>> = Arc::new(noted.iter().map(|note| note.stamp).collect());
        self.run(Mode::Write, |client| {
            let stamps = Arc::clone(&stamps);
            Box::pin(async move {
                check_source_run(client, run).await?;
                const FORGET: &str = "DELETE FROM migration_journal WHERE seq = ANY ($1)";
                client.execute(FORGET, &[&&**stamps]).await?;
                Ok(())
            })
        })
        .await
    }

    async fn sample(
        &self,
        kind: Kind,
        place: u64,
        limit: usize,
    ) -> std::result::Result<Vec<Item>, TransferError> {
        self.run(Mode::Read, |client| {
            Box::pin(async move { Ok(read::sample(client, (kind, place), limit).await?) })
        })
        .await
    }
}

#[async_trait]
impl Target for PostgresTransfer {
    async fn mark(&self) -> std::result::Result<Option<TargetMark>, TransferError> {
        self.run(Mode::Read, |client| Box::pin(target_mark(client))).await
    }

    async fn begin(&self, expected: Option<u64>, mark: TargetMark) -> std::result::Result<(), TransferError> {
        self.run(Mode::Write, |client| {
            let mark = mark.clone();
            Box::pin(async move {
                client.batch("LOCK TABLE meta IN SHARE ROW EXCLUSIVE MODE").await?;
                let found = target_mark(client).await?;
                if found.as_ref() == Some(&mark) {
                    return Ok(());
                }
                if found.map(|found| found.run) != expected {
                    return Err(TransferError::Superseded.into());
                }
                let counts = read::counts(client).await?;
                let empty = counts.total() == counts.meta && counts.last_event == 0;
                if expected.is_none() && !empty {
                    return Err(TransferError::InUse.into());
                }
                client.batch(write::CLEAR).await?;
                Ok(journal::put_mark(client, TARGET_MARK, encode(&mark)).await?)
            })
        })
        .await
    }

    async fn write(
        &self,
        expected: u64,
        batch: Batch,
        mark: TargetMark,
    ) -> std::result::Result<(), TransferError> {
        let sessions: Vec<&Session> = batch.sessions.iter().map(|record| &record.session).collect();
        // Before the transaction, which may be undone: the numbers of texts are remembered.
        let numbers = self.hold(&sessions).await?;
        let work = Arc::new((batch, numbers, mark));
        self.run(Mode::Write, |client| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (batch, numbers, mark) = &*work;
                let found = target_mark_locked(client).await?;
                // Either it is of the run before, or it was written and nobody knew.
                if found.as_ref() != Some(mark) && found.map(|found| found.run) != Some(expected) {
                    return Err(TransferError::Superseded.into());
                }
                write::batch(client, batch, numbers).await?;
                Ok(journal::put_mark(client, TARGET_MARK, encode(mark)).await?)
            })
        })
        .await
    }

    async fn settle(&self) -> std::result::Result<(), TransferError> {
        self.run(Mode::Write, |client| {
            Box::pin(async move {
                const ANALYZE: &str = "ANALYZE users; ANALYZE sessions; ANALYZE timeline; ANALYZE texts;
                    ANALYZE clients; ANALYZE challenges; ANALYZE keys; ANALYZE meta; ANALYZE events";
                Ok(client.batch(ANALYZE).await?)
            })
        })
        .await
    }

    async fn set_last_event(&self, expected: u64, seq: u64) -> std::result::Result<(), TransferError> {
        self.run(Mode::Write, |client| {
            Box::pin(async move {
                if target_mark_locked(client).await?.map(|found| found.run) != Some(expected) {
                    return Err(TransferError::Superseded.into());
                }
                const SET: &str = "UPDATE log_head SET seq = $1 WHERE one = 1";
                client.execute(SET, &[&seq.cast_signed()]).await?;
                Ok(())
            })
        })
        .await
    }
}

impl PostgresTransfer {
    async fn hold(&self, sessions: &[&Session]) -> std::result::Result<Vec<Numbers>, TransferError> {
        let mut attempt = 0;
        loop {
            let held = async {
                let mut lease = self.inner.pool.lease().await?;
                let held = self.inner.known.hold(&lease, sessions).await;
                lease.settle(held)
            };
            match held.await {
                Err(fail) if may_repeat(&fail) && attempt < RETRIES => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(10)) * 50)).await;
                }
                held => return held.map_err(|fail| fail.into_store_error().into()),
            }
        }
    }
}

async fn source_mark(client: &Client) -> Done<Option<SourceMark>> {
    let json = journal::read_mark(client, SOURCE_MARK).await?;
    Ok(json.map(|json| decode(&json)).transpose()?)
}

async fn target_mark(client: &Client) -> Done<Option<TargetMark>> {
    let json = journal::read_mark(client, TARGET_MARK).await?;
    Ok(json.map(|json| decode(&json)).transpose()?)
}

/// The mark, which nobody changes until the end of the transaction.
async fn target_mark_locked(client: &Client) -> Done<Option<TargetMark>> {
    const LOCK: &str = "SELECT value FROM meta WHERE name = $1 FOR UPDATE";
    let row = client.query_opt(LOCK, &[&TARGET_MARK]).await?;
    let json: Option<Vec<u8>> = row.map(|row| Columns::of(&row).take()).transpose()?;
    Ok(json.map(|json| decode(&json)).transpose()?)
}

async fn check_source_run(client: &Client, run: u64) -> Done<()> {
    const LOCK: &str = "SELECT value FROM meta WHERE name = $1 FOR SHARE";
    let row = client.query_opt(LOCK, &[&SOURCE_MARK]).await?;
    let json: Option<Vec<u8>> = row.map(|row| Columns::of(&row).take()).transpose()?;
    let found: Option<SourceMark> = json.map(|json| decode(&json)).transpose()?;
    if found.map(|found| found.run) == Some(run) { Ok(()) } else { Err(TransferError::Superseded.into()) }
}
