//! What runs beside the requests: reading the event log, rotating keys, sweeping, ending sessions whose
//! policy was tightened.

use crate::authority::{App, Authority};
pub use crate::feed::log::read_log;
use crate::keys::KeysError;
use reseal_jose::Algorithm;
use reseal_store::{Store, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;

mod tightened;

pub use tightened::{end_tightened, end_tightened_once, end_tightened_since};

/// Rows looked at or removed in one transaction.
const BATCH: usize = 500;
/// How often to look at the store's clock. Between two looks a machine's clock drifts by less than a millisecond.
const CLOCK_LOOK: Duration = Duration::from_secs(3);

/// Runs all jobs until `stop` turns true.
pub async fn run(app: App, stop: watch::Receiver<bool>) {
    // Beside the ticks: a day's worth of outdated rows must not keep the log waiting.
    tokio::join!(
        tick(app.clone(), stop.clone()),
        sweep_again_and_again(app.clone(), stop.clone()),
        follow_the_clock(app.clone(), stop.clone()),
        // With many sessions a look through them takes longer than a tick.
        tightened::follow(app.clone(), stop.clone()),
        crate::feed::log::follow(app, stop),
    );
}

/// Rows of each kind that the sweep removes in one transaction: few, for renewals wait for it.
const SWEPT_AT_ONCE: usize = 50;
/// After each of them the store is left to others for so many times as long as it took.
const LEFT_ALONE: u32 = 3;
/// Between two looks for what is outdated.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

async fn sweep_again_and_again(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        let work = async {
            let begun = tokio::time::Instant::now();
            let swept = sweep_once(&app, SWEPT_AT_ONCE).await;
            let pause = match &swept {
                Ok(0) | Err(_) => SWEEP_EVERY,
                Ok(_) => (begun.elapsed() * LEFT_ALONE).clamp(Duration::from_millis(1), SWEEP_EVERY),
            };
            report("the sweep failed; it will try again", swept);
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = work => {}
            _ = stop.changed() => return,
        }
    }
}

/// Keeps this node's clock with the store's.
async fn follow_the_clock(app: App, mut stop: watch::Receiver<bool>) {
    let mut look = tokio::time::interval(CLOCK_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let work = async {
            look.tick().await;
            app.clock.follow(&*app.store).await
        };
        let done = tokio::select! {
            done = work => done,
            _ = stop.changed() => return,
        };
        match done {
            Err(error) if !failed => {
                tracing::warn!(%error, "the store's clock could not be read; this node's goes on by itself");
                failed = true;
            }
            Err(_) => {}
            Ok(()) => failed = false,
        }
    }
}

/// What is short and often.
async fn tick(app: App, mut stop: watch::Receiver<bool>) {
    let mut ticks: u64 = 0;
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every_second.tick() => {}
            _ = stop.changed() => return,
        }
        let work = async {
            report("the clients could not be read", app.look_for_client_changes().await);
            if ticks.is_multiple_of(60) || app.lives.is_wanted() {
                report("the longest lives of tokens could not be noted", app.cover_lives().await);
            }
            if ticks.is_multiple_of(5) {
                app.metrics.upkeep();
            }
            if ticks.is_multiple_of(30) {
                app.gateway.sweep(app.clock.now());
            }
            if ticks.is_multiple_of(60) {
                report("keys could not be rotated", ensure_keys(&app).await);
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.changed() => return,
        }
        ticks += 1;
    }
}

fn report<T, E: std::fmt::Display>(what: &'static str, done: Result<T, E>) {
    if let Err(error) = done {
        tracing::warn!(%error, "{what}");
    }
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Does at once what is due, after the clock moved.
pub async fn catch_up(app: &Authority) -> Result<(), JobError> {
    ensure_keys(app).await?;
    read_log(app).await?;
    app.look_for_client_changes().await?;
    app.cover_lives().await?;
    sweep(app).await?;
    Ok(())
}

/// Makes, rotates and forgets the keys that are due: for ES256 and every algorithm that a client uses.
pub async fn ensure_keys(app: &Authority) -> Result<(), KeysError> {
    app.keys.forget(&*app.store, app.clock.now()).await?;
    let algorithms = algorithms(&*app.store).await?;
    app.keys.rotate(&*app.store, &app.random, &algorithms, (app.clock.now(), false)).await
}

/// The algorithms in use.
pub async fn algorithms(store: &dyn Store) -> Result<Vec<Algorithm>, StoreError> {
    let mut all = BTreeSet::from([Algorithm::Es256.as_str().to_owned()]);
    let mut after = None;
    loop {
        let page = store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        all.extend(page.into_iter().map(|c| c.algorithm));
    }
    Ok(all.iter().filter_map(|a| a.parse().ok()).collect())
}

/// Removes what is outdated now, a good deal of it at most.
pub async fn sweep(app: &Authority) -> Result<(), StoreError> {
    for _ in 0..100 {
        if sweep_once(app, BATCH).await? == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Removes so many outdated rows of each kind; how many it were in all.
async fn sweep_once(app: &Authority, limit: usize) -> Result<usize, StoreError> {
    let now = app.clock.now();
    Ok(app.store.sweep(now, now - app.config.store.keep_ended.0, limit).await?.total())
}
