//! The cells that all nodes share: small numbers, locked in the order of their keys.

use super::fail::{Fail, RETRY_AFTER, Result};
use super::pool::{Client, Lease};
use super::rows::{Columns, sql_limit, uuid};
use super::{Inner, PostgresStore, tx};
use crate::{CellKey, CellUpdate, Cells, StoreError};
use async_trait::async_trait;
use reseal_core::Timestamp;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Most cells at once.
const MOST: usize = 1024;

#[async_trait]
impl Cells for PostgresStore {
    async fn read(&self, keys: &[CellKey]) -> std::result::Result<Vec<Option<i64>>, StoreError> {
        check_count(keys)?;
        let ids: Vec<Uuid> = keys.iter().copied().map(uuid).collect();
        self.read_with(move |client| {
            let ids = ids.clone();
            Box::pin(async move { values(client, &ids).await })
        })
        .await
    }

    async fn update(&self, update: CellUpdate) -> std::result::Result<(), StoreError> {
        check_count(&update.keys)?;
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.update_cells(update).await }).await
    }
}

fn check_count(keys: &[CellKey]) -> std::result::Result<(), StoreError> {
    if keys.len() > MOST {
        return Err(StoreError::Internal(format!("more than {MOST} cells at once")));
    }
    Ok(())
}

impl Inner {
    async fn update_cells(&self, mut update: CellUpdate) -> Result<()> {
        let ids: Vec<Uuid> = update.keys.iter().copied().map(uuid).collect();
        let mut tries = self.tries();
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(update_once(&mut lease, &ids, &mut update)).await;
                lease.settle(done)
            };
            match done.await {
                Err(fail) if self.again(&fail, &mut tries).await => {}
                done => return done,
            }
        }
    }
}

const READ: &str = "SELECT key, value FROM cells WHERE key = ANY ($1)";
const LOCK: &str = "SELECT key, value FROM cells WHERE key = ANY ($1) ORDER BY key FOR UPDATE";
/// How often to begin anew.
const TRIES: usize = 5;
/// A cell that was made only to be locked.
const NOTHING: i64 = i64::MIN;

async fn values(client: &Client, ids: &[Uuid]) -> Result<Vec<Option<i64>>> {
    in_order(&client.query(READ, &[&ids]).await?, ids)
}

fn in_order(rows: &[Row], ids: &[Uuid]) -> Result<Vec<Option<i64>>> {
    let read = |row| {
        let mut c = Columns::of(row);
        Ok((c.take::<Uuid>()?, c.take::<i64>()?))
    };
    let found: HashMap<Uuid, i64> = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(ids.iter().map(|id| found.get(id).copied().filter(|value| *value != NOTHING)).collect())
}

async fn update_once(lease: &mut Lease, ids: &[Uuid], update: &mut CellUpdate) -> Result<()> {
    // Most of the time there is nothing to write: then this was all.
    let before = values(lease, ids).await?;
    if decided(update, &before)?.iter().all(Option::is_none) {
        return Ok(());
    }
    lease.begin().await?;
    let done = update_locked(lease, ids, update).await;
    tx::finish(lease, done).await
}

async fn update_locked(client: &Client, ids: &[Uuid], update: &mut CellUpdate) -> Result<()> {
    // A row that is not there cannot be locked.
    const MAKE: &str = "INSERT INTO cells (key, value, sweep_hour)
        SELECT key, $2, 0 FROM unnest($1::uuid[]) AS k (key) ORDER BY key ON CONFLICT (key) DO NOTHING";
    let mut locked = None;
    for _ in 0..TRIES {
        client.execute(MAKE, &[&ids, &NOTHING]).await?;
        let rows = client.query(LOCK, &[&ids]).await?;
        // A sweep may have taken one between the two.
        if rows.len() == ids.len() {
            locked = Some(in_order(&rows, ids)?);
            break;
        }
    }
    let before = locked.ok_or(Fail::Away(StoreError::Busy { retry_after: RETRY_AFTER }))?;
    let after = decided(update, &before)?;
    let (mut keys, mut new, mut hours, mut made) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((id, before), after) in ids.iter().zip(before).zip(after) {
        match (before, after) {
            (_, Some(value)) => {
                keys.push(*id);
                new.push(value);
                hours.push(hour(value).saturating_add(1));
            }
            (None, None) => made.push(*id),
            (Some(_), None) => {}
        }
    }
    const WRITE: &str = "UPDATE cells c SET value = n.value, sweep_hour = n.sweep_hour
        FROM unnest($1::uuid[], $2::bigint[], $3::integer[]) AS n (key, value, sweep_hour) WHERE c.key = n.key";
    client.execute(WRITE, &[&keys, &new, &hours]).await?;
    if !made.is_empty() {
        client.execute("DELETE FROM cells WHERE key = ANY ($1)", &[&made]).await?;
    }
    Ok(())
}

fn decided(update: &mut CellUpdate, before: &[Option<i64>]) -> Result<Vec<Option<i64>>> {
    let internal = |why: &str| Fail::Item(StoreError::Internal(why.to_owned()));
    let after = catch_unwind(AssertUnwindSafe(|| (update.decide)(before)))
        .map_err(|_| internal("the decision panicked"))?;
    if after.len() == before.len() { Ok(after) } else { Err(internal("not a value for each cell")) }
}

/// Hours since the Unix epoch.
fn hour(millis: i64) -> i32 {
    let hour = millis.div_euclid(3_600_000);
    i32::try_from(hour).unwrap_or(if hour < 0 { i32::MIN } else { i32::MAX - 1 })
}

/// Deletes cells that say nothing any more.
pub(super) async fn sweep(client: &Client, now: Timestamp, limit: usize) -> Result<u64> {
    const SWEEP: &str = "DELETE FROM cells WHERE key IN (SELECT key FROM cells WHERE sweep_hour < $1
        ORDER BY sweep_hour LIMIT $2 FOR UPDATE SKIP LOCKED)";
    client.execute(SWEEP, &[&hour(now.millis()), &sql_limit(limit)]).await
}
