//! This engine behind hot sessions.

use super::fail::Result;
use super::rows::{hot, timeline, user, uuid};
use super::{Inner, PostgresStore, sessions, tx};
use crate::redis::{Backing, Head, Renewed};
use crate::{StoreError, Swept};
use async_trait::async_trait;
use reseal_core::{Session, SessionId, Timestamp, User, UserId};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Rows looked at in the day that is only partly outdated.
const LOOK_AT: usize = 1000;

#[async_trait]
impl Backing for PostgresStore {
    async fn heads(&self, ids: &[SessionId]) -> std::result::Result<HashMap<SessionId, Head>, StoreError> {
        let ids = uuids(ids);
        self.read_with(|c| {
            let ids = ids.clone();
            Box::pin(async move { hot::heads(c, &ids).await })
        })
        .await
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> std::result::Result<Vec<Session>, StoreError> {
        let (ids, inner) = (uuids(ids), &self.inner);
        self.read_with(|c| {
            let (ids, inner) = (ids.clone(), Arc::clone(inner));
            Box::pin(async move { hot::by_ids(c, &inner.known, &ids).await.map(sessions) })
        })
        .await
    }

    async fn users_by_id(&self, ids: &[UserId]) -> std::result::Result<Vec<User>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| uuid(*id.as_bytes())).collect();
        self.read_with(|c| {
            let ids = ids.clone();
            Box::pin(async move { user::by_ids(c, &ids).await })
        })
        .await
    }

    async fn write_back(&self, rows: &[Renewed]) -> std::result::Result<(), StoreError> {
        let (inner, rows) = (Arc::clone(&self.inner), rows.to_vec());
        self.detached(async move { inner.write_back(&rows).await }).await
    }

    async fn outdated(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> std::result::Result<Vec<Session>, StoreError> {
        let inner = &self.inner;
        self.list_with(|c| {
            let inner = Arc::clone(inner);
            Box::pin(
                async move { hot::outdated(c, &inner.known, (before, limit, LOOK_AT)).await.map(sessions) },
            )
        })
        .await
    }

    async fn remove(&self, sessions: &[Session]) -> std::result::Result<usize, StoreError> {
        if sessions.is_empty() {
            return Ok(0);
        }
        let (inner, sessions) = (Arc::clone(&self.inner), sessions.to_vec());
        self.detached(async move { inner.remove(&sessions).await }).await
    }

    async fn sweep_but_sessions(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> std::result::Result<Swept, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.sweep_but_sessions((now, sessions_before), limit).await }).await
    }
}

impl Inner {
    async fn write_back(&self, rows: &[Renewed]) -> Result<()> {
        let mut tries = self.tries();
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(hot::write_back(&lease, rows)).await;
                lease.settle(done)
            };
            match done.await {
                // To be done twice does no harm.
                Err(fail) if fail.may_read_again() && tries.back_off().await => {}
                done => return done,
            }
        }
    }

    async fn remove(&self, read: &[Session]) -> Result<usize> {
        let mut lease = self.pool.lease().await?;
        let done = self.pool.within(async {
            lease.begin().await?;
            let done = async {
                let removed = hot::delete_unchanged(&lease, read).await?;
                timeline::delete(&lease, &removed).await?;
                Ok(removed.len())
            };
            let done = done.await;
            tx::finish(&mut lease, done).await
        });
        let done = done.await;
        lease.settle(done)
    }

    async fn sweep_but_sessions(&self, (now, before): (Timestamp, Timestamp), limit: usize) -> Result<Swept> {
        let mut lease = self.pool.lease().await?;
        let done = self.pool.within(async {
            lease.begin().await?;
            let done = tx::sweep_but_sessions(&lease, (now, before), limit).await;
            tx::finish(&mut lease, done).await
        });
        let done = done.await;
        lease.settle(done)
    }
}

fn uuids(ids: &[SessionId]) -> Vec<Uuid> {
    ids.iter().map(|id| uuid(*id.as_bytes())).collect()
}
