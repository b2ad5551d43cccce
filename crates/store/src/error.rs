//! What can go wrong in a store.

use std::time::Duration;

/// The store cannot answer. Every one of these is a 503 on the wire; the details go to the log.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Too much is waiting already; come again.
    #[error("the store's queue is full")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// It did not answer in time, or is shutting down.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The disk is full; what was committed is safe.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What was read cannot be understood.
    #[error("the store holds something this version cannot read: {0}")]
    Corrupt(String),
    /// A decision panicked or broke the rules of its row; nothing of it was written.
    #[error("it was not done: {0}")]
    Internal(String),
}

/// A commit that was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A precondition failed; read again and decide again.
    #[error("conflict: {0}")]
    Conflict(Conflict),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which precondition failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The session id is taken.
    #[error("the session exists")]
    SessionExists,
    /// The session has another version, has ended, or is gone.
    #[error("the session has changed")]
    SessionChanged,
    /// The user's `auth_epoch` rose, or the user was disabled or deleted, since the login began.
    #[error("the user's credentials have changed")]
    EpochRaised,
    /// The user has another version or is gone.
    #[error("the user has changed")]
    UserChanged,
    /// The username or user id is taken.
    #[error("the user exists")]
    UserExists,
    /// The client has another version or is gone.
    #[error("the client has changed")]
    ClientChanged,
    /// The client id is taken.
    #[error("the client exists")]
    ClientExists,
    /// The challenge has another version, or was used.
    #[error("the challenge has changed")]
    ChallengeChanged,
    /// Another key has this name.
    #[error("the key exists")]
    KeyExists,
    /// The named value is another one.
    #[error("the named value has changed")]
    MetaChanged,
}
