//! Counters that all nodes share, in cells of the store.

use aws_lc_rs::hmac;
use reseal_store::{CellKey, CellUpdate, Cells, Store, StoreError};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The cells of a store, and how they are named.
#[derive(Clone)]
pub struct Shared {
    store: Arc<dyn Store>,
    naming: Naming,
}

impl Shared {
    /// The cells of the store, named under a key that all nodes have; `None`: it has none, memory will do.
    pub fn of(store: &Arc<dyn Store>, key: hmac::Key) -> Option<Self> {
        store.cells()?;
        Some(Self { store: Arc::clone(store), naming: Naming(key) })
    }

    pub(super) const fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The values of these cells.
    pub(super) async fn read<const N: usize>(
        &self,
        keys: [CellKey; N],
    ) -> Result<[Option<i64>; N], StoreError> {
        self.cells()?.read(&keys).await?.try_into().map_err(|_| miscounted())
    }

    /// Runs the decision next to the cells and writes what it returns; its error writes nothing and comes back.
    pub(super) async fn update<const N: usize, E: Send + 'static>(
        &self,
        keys: [CellKey; N],
        decision: impl Fn(&[Option<i64>; N]) -> Result<[Option<i64>; N], E> + Send + 'static,
    ) -> Result<Result<(), E>, StoreError> {
        // It may run more than once: the last time counts.
        let refused = Arc::new(Mutex::new(None));
        let why = Arc::clone(&refused);
        let decide = move |values: &[Option<i64>]| {
            let decided = values.try_into().map(&decision);
            let (error, next) = match decided {
                Ok(Ok(next)) => (None, next.to_vec()),
                Ok(Err(error)) => (Some(Ok(error)), vec![None; N]),
                Err(_) => (Some(Err(miscounted())), vec![None; values.len()]),
            };
            *why.lock().unwrap_or_else(PoisonError::into_inner) = error;
            next
        };
        self.cells()?.update(CellUpdate { keys: keys.to_vec(), decide: Box::new(decide) }).await?;
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        refused.map_or(Ok(Ok(())), |error| error.map(Err))
    }

    fn cells(&self) -> Result<&dyn Cells, StoreError> {
        self.store.cells().ok_or_else(|| StoreError::Internal("the store has no cells any more".to_owned()))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

fn miscounted() -> StoreError {
    StoreError::Corrupt("the store returned another number of cells".to_owned())
}

/// Names cells by a keyed hash (HMAC-SHA256, cut).
#[derive(Clone)]
pub(super) struct Naming(hmac::Key);

impl Naming {
    /// Names that mean nothing elsewhere.
    pub(super) fn random() -> Self {
        let key = crate::random::Random::new().bytes::<32>();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The cell of these parts.
    pub(super) fn key(&self, parts: &[&[u8]]) -> CellKey {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            // Parts of any length: each says how long it is.
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut key = CellKey::default();
        key.copy_from_slice(&context.sign().as_ref()[..16]);
        key
    }
}
