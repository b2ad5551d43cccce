//! The users of hot sessions: each record is parsed once as long as it is kept, and used only while the backing
//! store says that it is the valid one.

use super::backing::Edition;
use crate::cache::Cache;
use reseal_core::{User, UserId};
use std::sync::Arc;

/// The records that this process keeps, in a bounded number of bytes.
pub(super) struct Users(Cache<UserId, Arc<User>>);

impl Users {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Cache::new(bytes))
    }

    /// The record of that edition.
    pub(super) fn find(&mut self, id: UserId, edition: Edition) -> Option<Arc<User>> {
        self.0.find(id).filter(|user| Edition::of(user) == edition)
    }

    pub(super) fn insert(&mut self, user: &Arc<User>) {
        self.0.insert(user.id, Arc::clone(user), weight(user));
    }
}

impl Edition {
    /// That of a record.
    pub fn of(user: &User) -> Self {
        Self { version: user.version, created_at: user.created_at, updated_at: user.updated_at }
    }
}

/// About as many bytes as the record takes.
fn weight(user: &User) -> usize {
    let texts =
        [&user.name, &user.email, &user.phone_number].into_iter().flatten().map(String::len).sum::<usize>();
    let roles = user.roles.iter().map(|role| role.len() + 24).sum::<usize>();
    // Values of attributes are JSON of any shape; their size in memory is some multiple of their text.
    let attributes = user
        .attributes
        .iter()
        .map(|(name, value)| name.len() + 3 * value.to_string().len() + 96)
        .sum::<usize>();
    512 + user.username.len() + texts + roles + attributes
}
