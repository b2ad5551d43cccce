//! What a store must know to stand behind hot sessions.

use crate::{Store, StoreError, Swept};
use async_trait::async_trait;
use reseal_core::session::Rotation;
use reseal_core::{Session, SessionId, Timestamp, User, UserId};
use std::collections::HashMap;

/// What a hot row may not contradict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version of the row in the backing store. It is raised by what commits there, thus by every change
    /// of privilege, and by nothing else: a hot row that carries another one is out of date.
    pub version: u32,
    /// Whether the session has ended.
    pub ended: bool,
    /// Whose it is.
    pub user_id: UserId,
    /// Which record of that user is valid now.
    pub edition: Edition,
}

/// What tells a user's record from any other under the same id: an id may come again once its user is
/// forgotten, and begins with the first version again; and a server may forget its last commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    /// The record's version.
    pub version: u32,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// The part of a row that changes without a commit in the backing store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Which session.
    pub id: SessionId,
    /// The version that its row must have in the backing store, and keeps.
    pub version: u32,
    /// Refresh-token rotation.
    pub rotation: Rotation,
    /// The last use.
    pub renewed_at: Timestamp,
    /// When it runs out.
    pub idle_expires_at: Timestamp,
    /// When it runs out in any case.
    pub expires_at: Timestamp,
}

impl Renewed {
    /// What orders the uses of a session. Not time alone: two uses may fall into one millisecond, and a clock
    /// may be set back.
    pub(crate) const fn order(rotation: &Rotation, renewed_at: Timestamp) -> (u64, u32, i64) {
        (rotation.used, rotation.branch, renewed_at.millis())
    }
}

/// A store behind hot sessions: it has all sessions, with the rotation and the idle deadline of the last time
/// that they were written there, which is never later than they really are.
#[async_trait]
pub trait Backing: Store {
    /// The heads of those sessions that are there and whose user is, as committed when this is called: one
    /// round trip for all.
    async fn heads(&self, ids: &[SessionId]) -> Result<HashMap<SessionId, Head>, StoreError>;

    /// The rows of those that are there, in any order.
    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<Session>, StoreError>;

    /// The users that are there, in any order.
    async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// Writes rotation and deadlines over rows that have that version, have not ended and were used before
    /// that: by number, branch and time. No version changes by it.
    async fn write_back(&self, rows: &[Renewed]) -> Result<(), StoreError>;

    /// Sessions that a sweep would remove now: those whose end or deadline, as written here, lies before.
    async fn outdated(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, StoreError>;

    /// Removes sessions, with their timelines, that are still as they were read (version and idle deadline);
    /// how many.
    async fn remove(&self, sessions: &[Session]) -> Result<usize, StoreError>;

    /// [`Store::sweep`] of all but sessions.
    async fn sweep_but_sessions(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError>;
}
