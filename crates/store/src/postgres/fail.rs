//! Errors inside the engine: whether anything may have been done decides who may try again.

use crate::{CommitError, Conflict, StoreError};
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Fail {
    /// A precondition failed; the transaction is undone.
    Conflict(Conflict),
    /// It cannot be done (a row is unreadable, a decision panicked); nothing is written.
    Item(StoreError),
    /// The server refused, and undid what there was: nothing is written.
    Refused(Error),
    /// The connection broke or the answer did not come: whether anything is written nobody knows.
    Lost(String),
    /// The connection broke before a `COMMIT` was sent: nothing is written.
    Broken(String),
    /// There is no connection to be had.
    Away(StoreError),
}

pub(super) type Result<T> = std::result::Result<T, Fail>;

/// When to come again if the database is away or busy.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Fail {
    /// A row that cannot be understood.
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Item(StoreError::Corrupt(what.into()))
    }

    pub(super) fn into_store_error(self) -> StoreError {
        self.store_error()
    }

    /// The error as callers see it.
    pub(super) fn store_error(&self) -> StoreError {
        match self {
            Self::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
            Self::Item(error) | Self::Away(error) => error.clone(),
            Self::Lost(why) | Self::Broken(why) => StoreError::Unavailable(why.clone()),
            Self::Refused(error) => refused(error),
        }
    }

    pub(super) fn into_commit_error(self) -> CommitError {
        match self {
            Self::Conflict(conflict) => CommitError::Conflict(conflict),
            other => CommitError::Store(other.into_store_error()),
        }
    }

    /// Whether nothing was done and trying again may help.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            Self::Refused(error) => is_passing(error),
            Self::Away(error) => matches!(error, StoreError::Unavailable(_)),
            Self::Broken(_) => true,
            Self::Conflict(_) | Self::Item(_) | Self::Lost(_) => false,
        }
    }

    /// The same, for what only reads.
    pub(super) fn may_read_again(&self) -> bool {
        matches!(self, Self::Lost(_)) || self.may_retry()
    }

    /// Whether a value may be at fault, so that others fare better without it.
    pub(super) fn may_concern_one(&self) -> bool {
        match self {
            Self::Item(_) => true,
            Self::Refused(error) => error
                .code()
                .is_some_and(|code| ["22", "23", "XX"].iter().any(|class| code.code().starts_with(class))),
            _ => false,
        }
    }

    /// Whether this server does not write (any more).
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
    }

    /// Whether the connection is of no more use.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Broken(_) => true,
            Self::Refused(error) => spoils(error),
            Self::Conflict(_) | Self::Item(_) | Self::Away(_) => false,
        }
    }

    /// Whether the server itself changed its part: then no other connection is to be trusted either.
    pub(super) fn spoils_all(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Broken(_)) || self.is_read_only()
    }

    /// The error of a statement inside a transaction: without `COMMIT` nothing of it is ever written.
    pub(super) fn before_commit(self) -> Self {
        match self {
            Self::Lost(why) => Self::Broken(why),
            other => other,
        }
    }

    /// The error of a statement that committed by itself, or of `COMMIT`: a server that goes away meanwhile
    /// may have done it.
    pub(super) fn at_commit(self) -> Self {
        match self {
            Self::Refused(error) if goes_away(&error) => {
                Self::Lost(format!("the database went away at a commit: {error}"))
            }
            other => other,
        }
    }

    /// The error of what follows a statement that committed by itself, and without which its answer says nothing.
    pub(super) fn after_commit(self) -> Self {
        match self {
            Self::Lost(why) => Self::Lost(why),
            other => Self::Lost(format!("what was written is not known: {}", other.store_error())),
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        if error.as_db_error().is_some() {
            return Self::Refused(error);
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        // A value of another type than expected is told of in the same way as a broken connection.
        if text.contains("deserializing column") || text.contains("serializing parameter") {
            return Self::corrupt(text);
        }
        Self::Lost(format!("the connection to the database broke: {text}"))
    }
}

/// Whether somebody else's transaction was in the way, or a server is about to be replaced.
fn is_passing(error: &Error) -> bool {
    const PASSING: [SqlState; 6] = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        // A plan or a statement from before a migration, or another connection behind a pooler.
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    error.code().is_some_and(|code| PASSING.contains(code)) || goes_away(error)
}

fn spoils(error: &Error) -> bool {
    const SPOILING: [SqlState; 4] = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    error.code().is_some_and(|code| SPOILING.contains(code)) || goes_away(error)
}

fn goes_away(error: &Error) -> bool {
    const GOING: [SqlState; 3] =
        [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    error.code().is_some_and(|code| GOING.contains(code) || code.code().starts_with("08"))
}

/// What the server said, as callers see it. Values are left out: they are in `DETAIL`, which is not shown.
fn refused(error: &Error) -> StoreError {
    let said = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    };
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full(said),
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
            StoreError::Busy { retry_after: RETRY_AFTER }
        }
        Some(code) if code.code().starts_with("XX") => StoreError::Corrupt(said),
        _ => StoreError::Unavailable(said),
    }
}

/// Turns the violation of a uniqueness into the conflict that it means.
pub(super) fn unless_taken<T>(result: Result<T>, conflict: Conflict) -> Result<T> {
    result.map_err(|fail| match fail {
        Fail::Refused(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Fail::Conflict(conflict),
        other => other,
    })
}

/// The conflict when a compare-and-swap touched no row.
pub(super) fn unless_none(rows: u64, conflict: Conflict) -> Result<()> {
    if rows == 0 { Err(Fail::Conflict(conflict)) } else { Ok(()) }
}
