//! A data folder as the source or the target of a migration.

mod journal;
mod read;
mod write;

use super::cache::Caches;
use super::fail::Fail;
use super::rows::session;
use super::{OpenError, SqliteStore, open};
use crate::StoreError;
use crate::transfer::{
    Batch, Counts, Item, Kind, Noted, Page, Records, SOURCE_MARK, Source, SourceMark, TARGET_MARK, Target,
    TargetMark, TransferError, decode, encode,
};
use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that the reading connection keeps parsed.
const CACHE_BYTES: usize = 4 << 20;
/// KiB of pages that the connection which fills a database keeps: keys come in no order.
const FILL_CACHE_KIB: i64 = 64 * 1024;
/// Transactions between two checkpoints: that many pages of records are a log of a few megabytes.
const WRITES_PER_CHECKPOINT: u32 = 16;

/// A data folder, opened as one end of a migration by [`SqliteStore::transfer`].
pub struct SqliteTransfer {
    ends: Arc<Mutex<Ends>>,
}

impl std::fmt::Debug for SqliteTransfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteTransfer").finish_non_exhaustive()
    }
}

struct Ends {
    reader: Connection,
    writer: Connection,
    caches: Caches,
    writes: u32,
}

impl SqliteStore {
    /// The folder as one end of a migration, on connections of its own. The store must stay open for as long.
    pub fn transfer(&self) -> Result<SqliteTransfer, OpenError> {
        let path = self.folder.database();
        let failed = |error| OpenError::Sqlite { path: path.clone(), error };
        let reader = open::reader(&self.folder, self.timeout).map_err(failed)?;
        let mut writer = open::writer(&self.folder, self.timeout)?;
        writer.busy_handler(Some(wait_for_turn)).map_err(failed)?;
        writer.pragma_update(None, "cache_size", -FILL_CACHE_KIB).map_err(failed)?;
        let ends = Ends { reader, writer, caches: Caches::new(CACHE_BYTES), writes: 0 };
        Ok(SqliteTransfer { ends: Arc::new(Mutex::new(ends)) })
    }
}

/// A server under load leaves the database free for moments only: this looks often, for ten seconds.
fn wait_for_turn(tries: i32) -> bool {
    std::thread::park_timeout(Duration::from_micros(500));
    tries < 20_000
}

impl SqliteTransfer {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ends) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        let ends = Arc::clone(&self.ends);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut ends.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Internal("a transfer panicked".to_owned()).into()))
    }

    /// In one transaction that writes.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        self.run(|ends| {
            let tx = ends.writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?;
            tx.commit()?;
            ends.writes += 1;
            if ends.writes >= WRITES_PER_CHECKPOINT {
                ends.writes = 0;
                // Failing is no loss; see the store's writer.
                let _ = ends.writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
            Ok(result)
        })
        .await
    }

    /// In one snapshot.
    async fn snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Caches) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        self.run(|ends| {
            let tx = ends.reader.unchecked_transaction()?;
            work(&tx, &mut ends.caches)
        })
        .await
    }
}

#[async_trait]
impl Records for SqliteTransfer {
    async fn read(&self, items: Vec<Item>) -> Result<Batch, TransferError> {
        self.snapshot(|conn, caches| {
            let mut batch = Batch::default();
            items.into_iter().try_for_each(|item| read::read(conn, caches, item, &mut batch))?;
            Ok(batch)
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, TransferError> {
        self.snapshot(|conn, _| read::counts(conn)).await
    }
}

#[async_trait]
impl Source for SqliteTransfer {
    async fn mark(&self) -> Result<Option<SourceMark>, TransferError> {
        self.snapshot(|conn, _| journal::read_mark(conn, SOURCE_MARK)?.map(|json| decode(&json)).transpose())
            .await
    }

    async fn put(&self, expected: Option<u64>, mark: Option<SourceMark>) -> Result<(), TransferError> {
        self.change(move |tx| {
            check_source_run(tx, expected)?;
            match &mark {
                Some(mark) => journal::put(tx, mark),
                None => journal::remove(tx),
            }
        })
        .await
    }

    async fn page(&self, kind: Kind, after: Option<String>, limit: usize) -> Result<Page, TransferError> {
        self.snapshot(move |conn, caches| read::page(conn, caches, (kind, after.as_deref()), limit)).await
    }

    async fn noted(&self, limit: usize) -> Result<Vec<Noted>, TransferError> {
        self.snapshot(move |conn, _| {
            let mut statement =
                conn.prepare_cached("SELECT kind, key, stamp FROM migration_journal LIMIT ?1")?;
            let mut rows = statement.query([session::sql_limit(limit)])?;
            let mut noted = Vec::new();
            while let Some(row) = rows.next()? {
                let key = row.get_ref(1)?.as_blob().map_err(|_| Fail::corrupt("a note without a key"))?;
                let item = Item::from_journal(row.get(0)?, key).ok_or_else(|| Fail::corrupt("a note"))?;
                noted.push(Noted { item, stamp: row.get(2)? });
            }
            Ok(noted)
        })
        .await
    }

    async fn noted_count(&self) -> Result<u64, TransferError> {
        self.snapshot(|conn, _| read::count(conn, "SELECT count(*) FROM migration_journal")).await
    }

    async fn forget(&self, run: u64, noted: Vec<Noted>) -> Result<(), TransferError> {
        self.change(move |tx| {
            check_source_run(tx, Some(run))?;
            let mut statement = tx.prepare_cached(
                "DELETE FROM migration_journal WHERE kind = ?1 AND key = ?2 AND stamp = ?3",
            )?;
            for note in noted {
                statement.execute(params![note.item.kind().code(), note.item.journal_key(), note.stamp])?;
            }
            Ok(())
        })
        .await
    }

    async fn sample(&self, kind: Kind, place: u64, limit: usize) -> Result<Vec<Item>, TransferError> {
        self.snapshot(move |conn, _| read::sample(conn, (kind, place), limit)).await
    }
}

#[async_trait]
impl Target for SqliteTransfer {
    async fn mark(&self) -> Result<Option<TargetMark>, TransferError> {
        self.snapshot(|conn, _| journal::read_mark(conn, TARGET_MARK)?.map(|json| decode(&json)).transpose())
            .await
    }

    async fn begin(&self, expected: Option<u64>, mark: TargetMark) -> Result<(), TransferError> {
        self.change(move |tx| {
            check_target_run(tx, expected)?;
            let found = read::counts(tx)?;
            let empty = found.total() == found.meta && found.last_event == 0;
            if expected.is_none() && !empty {
                return Err(TransferError::InUse);
            }
            tx.execute_batch(write::CLEAR)?;
            put_mark(tx, &mark)
        })
        .await
    }

    async fn write(&self, expected: u64, batch: Batch, mark: TargetMark) -> Result<(), TransferError> {
        self.change(move |tx| {
            check_target_run(tx, Some(expected))?;
            write::write(tx, &batch)?;
            put_mark(tx, &mark)
        })
        .await
    }

    async fn settle(&self) -> Result<(), TransferError> {
        self.run(|ends| {
            ends.writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        })
        .await
    }

    async fn set_last_event(&self, expected: u64, seq: u64) -> Result<(), TransferError> {
        self.change(move |tx| {
            check_target_run(tx, Some(expected))?;
            tx.execute("DELETE FROM sqlite_sequence WHERE name = 'events'", [])?;
            tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?1)", [seq.cast_signed()])?;
            Ok(())
        })
        .await
    }
}

fn check_source_run(conn: &Connection, expected: Option<u64>) -> Result<(), TransferError> {
    let mark = journal::read_mark(conn, SOURCE_MARK)?;
    let found = mark.map(|json| decode::<SourceMark>(&json)).transpose()?;
    if found.map(|mark| mark.run) == expected { Ok(()) } else { Err(TransferError::Superseded) }
}

fn check_target_run(conn: &Connection, expected: Option<u64>) -> Result<(), TransferError> {
    let mark = journal::read_mark(conn, TARGET_MARK)?;
    let found = mark.map(|json| decode::<TargetMark>(&json)).transpose()?;
    if found.map(|mark| mark.run) == expected { Ok(()) } else { Err(TransferError::Superseded) }
}

fn put_mark(conn: &Connection, mark: &TargetMark) -> Result<(), TransferError> {
    write::put_meta(conn, TARGET_MARK, &encode(mark))
}

impl From<Fail> for TransferError {
    fn from(fail: Fail) -> Self {
        Self::Store(fail.into_store_error())
    }
}

impl From<rusqlite::Error> for TransferError {
    fn from(error: rusqlite::Error) -> Self {
        Fail::from(error).into()
    }
}
