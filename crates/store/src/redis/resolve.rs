//! What a session is now: the row in Redis, held against the backing store.

use super::backing::{Backing, Head};
use super::keys::Stored;
use super::link::Link;
use super::row::{self, Hot, Unreadable};
use super::{Inner, count};
use crate::StoreError;
use reseal_core::{Session, SessionId, Timestamp, User, UserId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How far clocks of nodes may be apart.
const MARGIN: Duration = Duration::from_secs(60);

/// A session as it is, and what lies in Redis of it.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) session: Session,
    pub(super) user: Arc<User>,
    /// The version of its row in the backing store.
    pub(super) base: u32,
    /// The idle deadline there, as far as is known.
    pub(super) saved: Timestamp,
    /// The head of the row in Redis; empty: there is none.
    pub(super) expected: Vec<u8>,
    /// Whether Redis should be told, even if nothing changes.
    pub(super) untold: bool,
    /// Whether the row in Redis has a version that the backing store does not know: it lost its last commits.
    pub(super) ahead: bool,
}

/// A session without its user.
pub(super) struct Merged {
    pub(super) session: Session,
    pub(super) base: u32,
    pub(super) saved: Timestamp,
    pub(super) untold: bool,
    pub(super) ahead: bool,
}

impl<B: Backing> Inner<B> {
    /// The sessions, in the order of the ids; `None` where there is none, or its user is gone.
    pub(super) async fn resolve(
        &self,
        link: &mut Link,
        ids: &[SessionId],
    ) -> Vec<Result<Option<Current>, StoreError>> {
        let (rows, heads) = tokio::join!(link.rows(ids), self.backing.heads(ids));
        let found = match heads {
            Ok(heads) => self.with_heads(ids, rows, heads).await,
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| ids.iter().map(|_| Err(error.clone())).collect())
    }

    async fn with_heads(
        &self,
        ids: &[SessionId],
        rows: Vec<Result<Option<Stored>, StoreError>>,
        heads: HashMap<SessionId, Head>,
    ) -> Result<Vec<Result<Option<Current>, StoreError>>, StoreError> {
        // Rows that agree with their head are all there is to know. The others need the whole row.
        let mut agreed = HashMap::new();
        let mut needed = Vec::new();
        for (id, row) in ids.iter().zip(&rows) {
            let Some(head) = heads.get(id) else { continue };
            match self.agreeing(*id, head, row) {
                Some(merged) => drop(agreed.insert(*id, merged)),
                None => needed.push(*id),
            }
        }
        let whole = self.whole_rows(&needed).await?;
        let mut merged = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(rows) {
            let expected = row.as_ref().ok().and_then(Option::as_ref).map(Stored::head).unwrap_or_default();
            let one = match (agreed.remove(id), whole.get(id)) {
                (Some(agreed), _) => Ok(Some(agreed)),
                (None, Some(whole)) => self.merge(whole, row).map(Some),
                // No head, or swept since.
                (None, None) => Ok(None),
            };
            merged.push((expected, one));
        }
        let users = self.users_of(&heads).await?;
        Ok(merged
            .into_iter()
            .map(|(expected, merged)| {
                let Some(Merged { session, base, saved, untold, ahead }) = merged? else { return Ok(None) };
                let Some(user) = users.get(&session.user_id).cloned() else { return Ok(None) };
                Ok(Some(Current { session, user, base, saved, expected, untold, ahead }))
            })
            .collect())
    }

    /// The row, if it is all there is to know.
    fn agreeing(
        &self,
        id: SessionId,
        head: &Head,
        row: &Result<Option<Stored>, StoreError>,
    ) -> Option<Merged> {
        let Ok(Some(stored)) = row else { return None };
        if head.ended {
            return None;
        }
        let (session, hot) = row::decode(id, &stored.0, |hash| self.known().find(hash)).ok()?;
        // Before a session is taken for run out, the backing store is asked for a touch that Redis lost.
        let has_time = session.idle_expires_at > super::wall_clock() + MARGIN;
        let agrees = hot.base == head.version && session.user_id == head.user_id;
        (agrees && has_time).then_some(Merged {
            session,
            base: hot.base,
            saved: hot.saved,
            untold: false,
            ahead: false,
        })
    }

    /// Whole rows of the backing store, whose texts are then known.
    pub(super) async fn whole_rows(
        &self,
        ids: &[SessionId],
    ) -> Result<HashMap<SessionId, Session>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.backing.sessions_by_id(ids).await?;
        let mut known = self.known();
        rows.iter().for_each(|session| known.learn(session));
        drop(known);
        Ok(rows.into_iter().map(|session| (session.id, session)).collect())
    }

    /// What follows from the row of the backing store and the one in Redis.
    pub(super) fn merge(
        &self,
        whole: &Session,
        row: Result<Option<Stored>, StoreError>,
    ) -> Result<Merged, StoreError> {
        let plain = |untold| Merged {
            session: whole.clone(),
            base: whole.version,
            saved: whole.idle_expires_at,
            untold,
            ahead: false,
        };
        if whole.ended.is_some() {
            // Whatever Redis says, and whether it says anything.
            return Ok(plain(false));
        }
        let Some(stored) = row? else {
            count(&self.counters.missed, 1);
            return Ok(plain(true));
        };
        let hot = match Hot::decode(&stored.0) {
            Ok(hot) => hot,
            Err(error @ Unreadable::Newer(_)) => return Err(error.into()),
            // As if it were lost.
            Err(Unreadable::Damaged | Unreadable::Text) => return Ok(plain(true)),
        };
        let behind = hot.base != whole.version;
        // What no replica had is written there, too, and may be all that is left of a touch.
        let use_of_whole = Hot::of(whole, whole.version, whole.idle_expires_at);
        let kept = use_of_whole.is_later_than(&hot);
        let untold = behind || kept;
        let used = Hot {
            // Another state, so another version.
            version: hot.version.wrapping_add(u32::from(untold)),
            ..if kept { use_of_whole } else { hot }
        };
        if behind {
            count(&self.counters.behind, 1);
        }
        let ahead = hot.base.wrapping_sub(whole.version).cast_signed() > 0;
        Ok(Merged {
            session: used.on(whole),
            base: whole.version,
            saved: whole.idle_expires_at,
            untold,
            ahead,
        })
    }

    async fn users_of(
        &self,
        heads: &HashMap<SessionId, Head>,
    ) -> Result<HashMap<UserId, Arc<User>>, StoreError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        {
            let mut kept = self.users();
            for head in heads.values() {
                match kept.find(head.user_id, head.edition) {
                    Some(user) => drop(found.insert(head.user_id, user)),
                    None => missing.push(head.user_id),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        missing.sort_unstable();
        missing.dedup();
        let users = self.backing.users_by_id(&missing).await?;
        let mut kept = self.users();
        for user in users.into_iter().map(Arc::new) {
            kept.insert(&user);
            found.insert(user.id, user);
        }
        Ok(found)
    }

    /// A list from the backing store, with what Redis knows better.
    pub(super) async fn brought_up_to_date(
        &self,
        mut sessions: Vec<Session>,
    ) -> Result<Vec<Session>, StoreError> {
        let open: Vec<SessionId> = sessions.iter().filter(|s| s.ended.is_none()).map(|s| s.id).collect();
        if open.is_empty() {
            return Ok(sessions);
        }
        let rows = self.with_link(async |link| link.rows(&open).await).await?;
        let mut rows: HashMap<_, _> = open.into_iter().zip(rows).collect();
        for session in &mut sessions {
            let Some(row) = rows.remove(&session.id) else { continue };
            if let Some(row) = row? {
                *session = self.merge(session, Ok(Some(row)))?.session;
            }
        }
        Ok(sessions)
    }
}
