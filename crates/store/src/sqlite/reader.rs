//! Connections that only read. A point read takes microseconds and runs where it is asked for; lists go
//! to the blocking threads, and leave the others some connections.

use super::cache::Caches;
use super::fail::{self, Fail};
use crate::StoreError;
use rusqlite::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one connection keeps parsed.
const CACHE_BYTES: usize = 1 << 20;
/// When to come again if all are in use for too long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One connection with what it has parsed.
pub(super) struct Reader {
    pub(super) conn: Connection,
    pub(super) caches: Caches,
}

/// A bounded number of them.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Reader>>>,
    all: Arc<Semaphore>,
    /// How many of them lists may have at once.
    lists: Arc<Semaphore>,
    timeout: Duration,
}

/// A connection in use, which goes back when it is dropped, be it by a panic.
struct Lease {
    reader: Option<Reader>,
    idle: Arc<Mutex<Vec<Reader>>>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    /// Hands out these connections; lists may have half of them.
    pub(super) fn new(conns: Vec<Connection>, timeout: Duration) -> Self {
        let (all, lists) = (conns.len(), conns.len().div_ceil(2));
        let idle = conns.into_iter().map(|conn| Reader { conn, caches: Caches::new(CACHE_BYTES) }).collect();
        Self {
            idle: Arc::new(Mutex::new(idle)),
            all: Arc::new(Semaphore::new(all)),
            lists: Arc::new(Semaphore::new(lists)),
            timeout,
        }
    }

    /// Reads here and now.
    pub(super) async fn point<T>(
        &self,
        read: impl FnOnce(&mut Reader) -> fail::Result<T>,
    ) -> Result<T, StoreError> {
        self.lease().await?.run(read)
    }

    /// Reads on a blocking thread.
    pub(super) async fn list<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> fail::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.permit(&self.lists).await?;
        let mut lease = self.lease().await?;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            lease.run(read)
        });
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Internal("a read panicked".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn lease(&self) -> Result<Lease, StoreError> {
        let permit = self.permit(&self.all).await?;
        let reader = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Lease { reader, idle: Arc::clone(&self.idle), _permit: permit })
    }

    async fn permit(&self, permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        match tokio::time::timeout(self.timeout, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Busy { retry_after: RETRY_AFTER }),
        }
    }
}

impl Lease {
    fn run<T>(&mut self, read: impl FnOnce(&mut Reader) -> fail::Result<T>) -> Result<T, StoreError> {
        let reader = self.reader.as_mut().ok_or_else(|| StoreError::Internal("no connection".to_owned()))?;
        read(reader).map_err(Fail::into_store_error)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the permit goes, so that whoever gets it finds the connection.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.reader.take());
    }
}
