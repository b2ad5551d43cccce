//! Small numbers that all nodes on a store share: the counters behind limits.

use crate::StoreError;
use async_trait::async_trait;

/// The name of a cell: a keyed hash, so that a store's table tells nobody who tried to log in.
pub type CellKey = [u8; 16];

/// A change of cells, decided next to their values.
pub struct CellUpdate {
    /// Which, each once.
    pub keys: Vec<CellKey>,
    /// From the values (in the order of the keys; `None`: there is none) to the new ones: `None` leaves a
    /// cell as it is. A value is the time (milliseconds) from which on it says nothing. May be run more than
    /// once.
    pub decide: CellDecision,
}

/// From the values of cells to the new ones.
pub type CellDecision = Box<dyn FnMut(&[Option<i64>]) -> Vec<Option<i64>> + Send>;

/// Cells of a store that several nodes use.
#[async_trait]
pub trait Cells: Send + Sync {
    /// The values, in the order of the keys.
    async fn read(&self, keys: &[CellKey]) -> Result<Vec<Option<i64>>, StoreError>;

    /// Runs the decision on the values as they are and writes what it returns, as if no other update ran.
    async fn update(&self, update: CellUpdate) -> Result<(), StoreError>;
}
