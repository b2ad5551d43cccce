//! Errors inside the engine: whose fault it was decides how much is undone.

use crate::{CommitError, Conflict, StoreError};
use rusqlite::{Error, ErrorCode};

/// Why one item of a batch was not done.
#[derive(Debug)]
pub(super) enum Fail {
    /// A precondition failed: this item alone is undone.
    Conflict(Conflict),
    /// This item cannot be done (its row is unreadable, its decision panicked): it alone is undone.
    Item(StoreError),
    /// SQLite failed.
    Sqlite(Error),
}

pub(super) type Result<T> = std::result::Result<T, Fail>;

impl Fail {
    /// A row that cannot be understood.
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Item(StoreError::Corrupt(what.into()))
    }

    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
            Self::Item(error) => error,
            Self::Sqlite(error) => store_error(&error),
        }
    }

    pub(super) fn into_commit_error(self) -> CommitError {
        match self {
            Self::Conflict(conflict) => CommitError::Conflict(conflict),
            other => CommitError::Store(other.into_store_error()),
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        match error {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::corrupt(error.to_string()),
            // What a migration refuses concerns this item alone: others may only have read.
            other if is_frozen(&other) => Self::Item(StoreError::Unavailable(FROZEN.to_owned())),
            other => Self::Sqlite(other),
        }
    }
}

/// What is answered while the source of a migration is frozen, and after it was moved.
const FROZEN: &str =
    "it is being moved to another store (reseal migrate), and takes no writes until that is done";

/// Only the triggers of a migration raise errors.
fn is_frozen(error: &Error) -> bool {
    matches!(error, Error::SqliteFailure(e, _) if e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER)
}

/// Whether the file or the machine is at fault, so that no other item would fare better.
pub(super) fn concerns_all(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::OperationInterrupted
        )
    )
}

/// The error as callers see it.
pub(super) fn store_error(error: &Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt(format!("{error}. `reseal doctor` says how much is damaged"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable("another process is writing to the database".to_owned())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Turns the violation of a UNIQUE constraint into the conflict that it means.
pub(super) fn unless_taken<T>(result: rusqlite::Result<T>, conflict: Conflict) -> Result<T> {
    result.map_err(|error| match error {
        Error::SqliteFailure(e, _)
            if e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                || e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY =>
        {
            Fail::Conflict(conflict)
        }
        other => other.into(),
    })
}

/// The conflict when a compare-and-swap touched no row.
pub(super) fn unless_none(rows: usize, conflict: Conflict) -> Result<()> {
    if rows == 0 { Err(Fail::Conflict(conflict)) } else { Ok(()) }
}
