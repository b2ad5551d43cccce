//! Moving everything from one store to another while the first one is in use (`reseal migrate`).
//!
//! ```text
//! source: triggers note the key of whatever changes ──────────────────────────────┐ frozen
//! target: empty ─▶ copy page by page ─▶ read what was noted again, and again ──────┴▶ the rest ─▶ compare ─▶ complete
//! ```
//!
//! The authority on the source needs to know nothing of it: an engine installs triggers that write into a
//! journal in the transaction of the change itself, so a change and its note are there together or not at
//! all. A note says *which* record changed, not how: the record is read anew, so notes may be lost track of,
//! repeated or taken in any order, and what was copied too early is mended by its note.
//!
//! Safe at every moment against `kill -9`: a page and the place where it ended reach the target in one
//! transaction; notes are forgotten only after what they tell of is there. The freeze ends by itself after
//! [`FREEZE`] unless it is prolonged, and the step that makes it final ([`SourceState::Moved`]) is refused
//! if anything was noted meanwhile. A target that is not complete, and a source that was moved, are not
//! served ([`check_may_serve`]). Two runs at once cannot harm: each run puts its number into both stores,
//! and what a run of another number writes is refused.

mod records;
mod run;
#[cfg(test)]
mod tests;

pub use records::{Batch, Counts, DeletedUser, Item, Kind, SessionRecord, UserRecord};
pub(crate) use records::{key_name, key_use};
pub use run::{Ended, Migration, Options, Progress, Report, Watch};

use crate::{Store, StoreError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a freeze lasts unless it is prolonged: a run that dies costs the source no more.
pub const FREEZE: Duration = Duration::from_secs(60);

/// The names of the values that tell of a migration, in the source and in the target. They are not copied.
pub(crate) const SOURCE_MARK: &str = "migration_source";
pub(crate) const TARGET_MARK: &str = "migration_target";

/// Values that belong to a store and not to the authority: they stay where they are.
pub(crate) const STAYS: [&str; 3] = [SOURCE_MARK, TARGET_MARK, "check"];

/// Why a migration does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A store fails. Running the command again goes on where it was.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another run has taken over.
    #[error("another `reseal migrate` has taken this migration over")]
    Superseded,
    /// The source is on its way elsewhere.
    #[error(
        "the source is being moved to {to} already. Go on with that, or end it: `reseal migrate --from … --abort`"
    )]
    Elsewhere {
        /// Where, without secrets.
        to: String,
    },
    /// The source was moved.
    #[error("the source was moved to {to}, which is complete. Serve that one")]
    Moved {
        /// Where, without secrets.
        to: String,
    },
    /// The target holds something of its own.
    #[error("the target is not empty. Name an empty one; nothing there was touched")]
    InUse,
    /// The target is not what the source says.
    #[error(
        "the copy differs from its source: {0}. The source goes on as before, and the target is not served"
    )]
    Differs(String),
    /// Something was written although the source was frozen: the freeze had run out.
    #[error("the freeze ran out before everything was copied. The source goes on as before; run it again")]
    Thawed,
    /// The source changes faster than it is read.
    #[error(
        "the source changes faster than it can be copied. Try it again at a quieter hour, or with a larger --batch"
    )]
    CannotCatchUp,
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

/// What the source knows of its migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMark {
    /// The migration: random.
    pub id: String,
    /// The run that may work on it: random.
    pub run: u64,
    /// How far it is.
    pub state: SourceState,
    /// Where everything goes, without secrets.
    pub to: String,
}

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// Changes are noted.
    Noting,
    /// Changes are refused for [`FREEZE`].
    Frozen,
    /// Changes are refused for good.
    Moved,
}

/// What the target knows of the migration that fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetMark {
    /// The migration: random.
    pub id: String,
    /// The run that may work on it: random.
    pub run: u64,
    /// How far it is.
    pub state: TargetState,
    /// Where everything comes from, without secrets.
    pub from: String,
    /// Records copied in bulk.
    pub copied: u64,
}

/// How far a target is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// All kinds before this one are copied, and of this one what lies before the place.
    Copying {
        /// The kind.
        kind: Kind,
        /// Where the next page begins; the engine of the source knows what it means.
        after: Option<String>,
    },
    /// Everything was copied; changes follow.
    Following,
    /// Everything is there.
    Complete,
}

/// A page of one kind.
#[derive(Debug)]
pub struct Page {
    /// The records.
    pub batch: Batch,
    /// Where the next one begins; `None`: this was the last.
    pub next: Option<String>,
}

/// A change that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which record changed.
    pub item: Item,
    /// Tells this note from a later one of the same record; the engine knows what it means.
    pub stamp: i64,
}

/// What both ends can do.
#[async_trait]
pub trait Records: Send + Sync {
    /// These records as they are at one moment, in any order; those that are not there in `gone`.
    async fn read(&self, items: Vec<Item>) -> Result<Batch, TransferError>;

    /// How many records there are.
    async fn counts(&self) -> Result<Counts, TransferError>;
}

/// A store that is copied. What it does to the store is undone by a mark of `None`.
#[async_trait]
pub trait Source: Records {
    /// What it knows of a migration.
    async fn mark(&self) -> Result<Option<SourceMark>, TransferError>;

    /// Sets the mark and what it stands for (triggers, journal, freeze), in one transaction, if the mark that
    /// is there is of the run `expected` (`None`: there must be none; else [`TransferError::Superseded`]).
    /// When it returns, every later change is noted, or refused, and no earlier one is still under way.
    /// [`SourceState::Moved`] is refused with [`TransferError::Thawed`] if anything is noted.
    async fn put(&self, expected: Option<u64>, mark: Option<SourceMark>) -> Result<(), TransferError>;

    /// The records of the kind after that place, `limit` at most: at least those that were there when the
    /// first page was read and have not changed since.
    async fn page(&self, kind: Kind, after: Option<String>, limit: usize) -> Result<Page, TransferError>;

    /// What was noted, `limit` entries at most, each record once.
    async fn noted(&self, limit: usize) -> Result<Vec<Noted>, TransferError>;

    /// How much was noted, roughly.
    async fn noted_count(&self) -> Result<u64, TransferError>;

    /// Forgets these notes, but none that came later for the same records; only for that run.
    async fn forget(&self, run: u64, noted: Vec<Noted>) -> Result<(), TransferError>;

    /// The first records of the kind at or behind a place that the number picks, `limit` at most: for samples.
    async fn sample(&self, kind: Kind, place: u64, limit: usize) -> Result<Vec<Item>, TransferError>;
}

/// A store that is filled.
#[async_trait]
pub trait Target: Records {
    /// What it knows of a migration.
    async fn mark(&self) -> Result<Option<TargetMark>, TransferError>;

    /// Makes it the target of a migration. Without an earlier mark it must be empty
    /// ([`TransferError::InUse`]); what an earlier migration of the run `expected` left is removed.
    async fn begin(&self, expected: Option<u64>, mark: TargetMark) -> Result<(), TransferError>;

    /// Writes the batch and the mark in one transaction, if the mark that is there is of the run `expected`
    /// (else [`TransferError::Superseded`]).
    async fn write(&self, expected: u64, batch: Batch, mark: TargetMark) -> Result<(), TransferError>;

    /// After the bulk: whatever makes the store quick.
    async fn settle(&self) -> Result<(), TransferError>;

    /// Sets the number of the newest event ever logged.
    async fn set_last_event(&self, expected: u64, seq: u64) -> Result<(), TransferError>;
}

/// Why a store may not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotServed {
    /// It is being filled.
    #[error(
        "this store is being filled from {from} and is not complete. Run `reseal migrate` again, which goes on \
         where it was, or use another store"
    )]
    Incomplete {
        /// From where.
        from: String,
    },
    /// Everything in it was moved.
    #[error(
        "everything in this store was moved to {to}, which is to be served instead. `reseal migrate --abort` would \
         take this one back into use, without anything that happened since"
    )]
    Moved {
        /// To where.
        to: String,
    },
    /// The mark does not read.
    #[error("what this store says of its migration cannot be read; a newer version may have written it")]
    Unreadable,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the store may be served or changed: not one that a migration has not completed, nor one whose
/// contents were moved.
pub async fn check_may_serve(store: &dyn Store) -> Result<(), NotServed> {
    if let Some(json) = store.meta(TARGET_MARK).await? {
        let mark: TargetMark = serde_json::from_slice(&json).map_err(|_| NotServed::Unreadable)?;
        if mark.state != TargetState::Complete {
            return Err(NotServed::Incomplete { from: mark.from });
        }
    }
    if let Some(json) = store.meta(SOURCE_MARK).await? {
        let mark: SourceMark = serde_json::from_slice(&json).map_err(|_| NotServed::Unreadable)?;
        if mark.state == SourceState::Moved {
            return Err(NotServed::Moved { to: mark.to });
        }
    }
    Ok(())
}

/// A mark as it is stored.
pub(crate) fn encode(mark: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(mark).expect("a mark is JSON")
}

/// A mark as it was stored.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, TransferError> {
    serde_json::from_slice(json)
        .map_err(|_| StoreError::Corrupt("what it says of its migration".to_owned()).into())
}
