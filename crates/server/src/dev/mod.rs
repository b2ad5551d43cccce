//! Development mode (`reseal serve --dev`): a user, a client per kind of policy, an outbox for text
//! messages, a clock that can be moved, and a page that shows it all. Nothing in here exists otherwise.

mod file;
mod host;
mod outbox;
mod page;
mod routes;
mod seed;
mod text;

pub use file::{Clients, DevFile, Public, Service, UserLogin};
pub use host::check_host;
pub use outbox::{Outbox, SentText};
pub use routes::routes;
pub use text::start_up_text;

use crate::clock::Clock;
use crate::config::Config;
use crate::random::Random;
use crate::start::{self, StartError};
use reseal_store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The name of the value that keeps how far the clock was moved.
const CLOCK_OFFSET: &str = "dev_clock_offset";

/// The state of development mode.
#[derive(Debug)]
pub struct Dev {
    /// Text messages that were "sent".
    pub outbox: Arc<Outbox>,
    /// What `dev.json` says.
    pub file: DevFile,
    /// Held while the clock moves.
    clock_moves: Mutex<()>,
}

/// What development mode is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The configuration, with the issuer that follows the port.
    pub config: &'a Config,
    /// The store.
    pub store: &'a dyn Store,
    /// The clock, which goes on from where an earlier run had moved it.
    pub clock: &'a Clock,
    /// Randomness.
    pub random: &'a Random,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl Dev {
    /// Marks the store, moves the clock to where it was, makes the user and the clients that are missing,
    /// and writes `dev.json`. A store of the other mode is refused before anything is written.
    pub async fn prepare(parts: Parts<'_>) -> Result<Arc<Self>, StartError> {
        let Parts { config, store, clock, .. } = parts;
        start::check_mode(store, config, true).await?;
        if let Some(offset) = clock_offset(store).await? {
            clock.advance(offset);
        }
        let issuer = config.issuer.as_deref().ok_or(StartError::NoIssuer)?;
        // With a database server, nothing else has made it.
        start::make_folder(&config.store.data)?;
        let known = DevFile::read(&config.store.data)?;
        let file = seed::seed(parts, known, issuer).await?;
        file.write(&config.store.data)?;
        let outbox = Arc::new(Outbox::new(clock.clone()));
        Ok(Arc::new(Self { outbox, file, clock_moves: Mutex::default() }))
    }
}

/// How far an earlier run moved the clock: without it, that run's tokens would come from the future.
pub async fn clock_offset(store: &dyn Store) -> Result<Option<Duration>, StoreError> {
    let value = store.meta(CLOCK_OFFSET).await?;
    let secs = value.and_then(|v| std::str::from_utf8(&v).ok()?.parse().ok());
    Ok(secs.map(Duration::from_secs))
}
