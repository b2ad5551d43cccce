//! This engine behind hot sessions: for the tests of those, which then need no database server.

use super::rows::session;
use super::rows::user;
use super::writer::{Answer, Work};
use super::{SqliteStore, sessions, unexpected};
use crate::redis::{Backing, Head, Renewed};
use crate::{Store as _, StoreError, Swept};
use async_trait::async_trait;
use reseal_core::{Session, SessionId, Timestamp, User, UserId};
use std::collections::HashMap;

#[async_trait]
impl Backing for SqliteStore {
    async fn heads(&self, ids: &[SessionId]) -> Result<HashMap<SessionId, Head>, StoreError> {
        let ids = ids.to_vec();
        self.readers
            .list(move |r| {
                let mut heads = HashMap::new();
                for id in ids {
                    if let Some(head) = session::head(&r.conn, id)? {
                        heads.insert(id, head);
                    }
                }
                Ok(heads)
            })
            .await
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<Session>, StoreError> {
        let ids = ids.to_vec();
        self.readers
            .list(move |r| {
                let mut found = Vec::new();
                for id in ids {
                    found.extend(session::by_id(&r.conn, &mut r.caches, id)?);
                }
                Ok(sessions(found))
            })
            .await
    }

    async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let ids = ids.to_vec();
        self.readers
            .list(move |r| {
                let mut found = Vec::new();
                for id in ids {
                    found.extend(user::by_id(&r.conn, id)?);
                }
                Ok(found)
            })
            .await
    }

    async fn write_back(&self, rows: &[Renewed]) -> Result<(), StoreError> {
        self.write_plain(Work::WriteBack(rows.to_vec())).await.map(drop)
    }

    async fn outdated(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, StoreError> {
        self.readers
            .list(move |r| session::outdated(&r.conn, &mut r.caches, (before, limit)).map(sessions))
            .await
    }

    async fn remove(&self, sessions: &[Session]) -> Result<usize, StoreError> {
        if sessions.is_empty() {
            return Ok(0);
        }
        match self.write_plain(Work::Remove(sessions.to_vec())).await? {
            Answer::Ended(count) => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    async fn sweep_but_sessions(
        &self,
        now: Timestamp,
        _: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        // Before any session's end.
        let long_ago = Timestamp::from_secs(-100_000_000_000);
        self.sweep(now, long_ago, limit).await
    }
}
