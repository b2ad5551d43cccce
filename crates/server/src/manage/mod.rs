//! What an operator does to users, clients and sessions, by whatever way he came: the admin HTTP API and
//! the command line call the same operations.
//!
//! Nothing in here knows HTTP. Each operation reads, decides and commits with its preconditions, and tries
//! again when somebody else was faster, a bounded number of times.

pub mod clients;
pub mod restored;
pub mod sessions;
pub mod users;

use crate::random::Random;
use reseal_core::Timestamp;
use reseal_core::policy::Policies;
use reseal_core::user::InvalidUser;
use reseal_store::{CommitError, Conflict, Store, StoreError, Write};

/// The operations, at one instant.
///
/// `now` and `event_until` are those of every write, so an operation of many batches ([`Manage::end_batch`],
/// [`Manage::delete_client`]) does only so many, and is called again with a new instant.
#[derive(Clone, Copy)]
pub struct Manage<'a> {
    /// Where everything is kept.
    pub store: &'a dyn Store,
    /// Randomness.
    pub random: &'a Random,
    /// The time.
    pub now: Timestamp,
    /// `until` of the events that are logged.
    pub event_until: Timestamp,
    /// The policies in force.
    pub policies: &'a Policies,
}

impl std::fmt::Debug for Manage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manage").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The name is taken.
    #[error("this {0} is taken")]
    Taken(&'static str),
    /// The record does not have the revision that the caller knows.
    #[error("the record has revision {0} now")]
    OtherRevision(u64),
    /// What was asked for is not valid: the member at fault and the reason.
    #[error("{member}: {reason}")]
    Invalid {
        /// The member.
        member: String,
        /// The reason.
        reason: String,
    },
    /// It does not fit what is there.
    #[error("{0}")]
    Unfit(&'static str),
    /// Others changed the same thing over and over.
    #[error("others keep changing the same thing; try again")]
    Contended,
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ManageError {
    fn invalid(member: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { member: member.to_owned(), reason: reason.into() }
    }
}

impl From<InvalidUser> for ManageError {
    fn from(error: InvalidUser) -> Self {
        Self::invalid(&error.member, error.reason)
    }
}

impl From<CommitError> for ManageError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict(Conflict::UserExists) => Self::Taken("username"),
            CommitError::Conflict(Conflict::ClientExists) => Self::Taken("client id"),
            CommitError::Conflict(_) => Self::Contended,
            CommitError::Store(error) => error.into(),
            other => StoreError::Unavailable(other.to_string()).into(),
        }
    }
}

/// How often an operation tries against others. Each try that fails means that another's change was done,
/// so this many callers at once change one record without a refusal.
const ATTEMPTS: usize = 64;

/// The name of the value that every change of a client renews, so that each process on the folder sees
/// that what it remembers of clients is old.
pub const CLIENTS_CHANGED: &str = "clients_changed";

impl Manage<'_> {
    /// The write that belongs to every change of a client.
    fn clients_changed(&self) -> Write {
        Write::PutMeta(CLIENTS_CHANGED.to_owned(), self.random.bytes::<16>().to_vec())
    }
}
