//! What runs beside the requests: reading the event log, rotating keys, sweeping, ending sessions whose
//! policy was tightened.

use crate::authority::{App, Authority};
pub use crate::feed::log::read_log;
use crate::keys::KeysError;
use aws_lc_rs::digest::{SHA256, digest};
use reseal_core::SessionId;
use reseal_core::policy::{Policies, ended_by_change};
use reseal_jose::Algorithm;
use reseal_store::{Commit, CommitError, Store, StoreError, Write};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;

/// Rows looked at or removed in one transaction.
const BATCH: usize = 500;
/// The name of the value that tells under which policies the sessions were last looked through.
const POLICIES: &str = "policies_fingerprint";
/// How often to look at the store's clock. Between two looks a machine's clock drifts by less than a millisecond.
const CLOCK_LOOK: Duration = Duration::from_secs(3);

/// Runs all jobs until `stop` turns true.
pub async fn run(app: App, stop: watch::Receiver<bool>) {
    // Beside the ticks: a day's worth of outdated rows must not keep the log waiting.
    tokio::join!(
        tick(app.clone(), stop.clone()),
        sweep_again_and_again(app.clone(), stop.clone()),
        follow_the_clock(app.clone(), stop.clone()),
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
    let mut tightened = false;
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
        // In a task of its own: with many sessions it takes longer than a tick.
        if !std::mem::replace(&mut tightened, true) {
            tokio::spawn(end_tightened_until(app.clone(), stop.clone()));
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

/// Goes through the sessions once after the policies changed, and tries again while the store is away.
async fn end_tightened_until(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        let done = tokio::select! {
            done = end_tightened_once(&app) => done,
            _ = stop.changed() => return,
        };
        match done {
            Ok(0) => return,
            Ok(ended) => {
                return tracing::info!(ended, "the policies changed: sessions that are over were ended");
            }
            Err(error) => {
                tracing::warn!(%error, "sessions under changed policies could not be ended; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
            _ = stop.changed() => return,
        }
    }
}

/// As [`end_tightened`], unless the policies are those of the last time; says how many sessions ended.
pub async fn end_tightened_once(app: &Authority) -> Result<u64, StoreError> {
    let fingerprint = fingerprint(&app.policies);
    if app.store.meta(POLICIES).await?.is_some_and(|known| known == fingerprint) {
        return Ok(0);
    }
    let ended = end_tightened(app).await?;
    // Only when all were seen: an interrupted round is done again.
    match app.store.commit(Commit::of([Write::PutMeta(POLICIES.to_owned(), fingerprint)])).await {
        Ok(()) => Ok(ended),
        Err(CommitError::Store(error)) => Err(error),
        Err(other) => Err(StoreError::Unavailable(other.to_string())),
    }
}

/// Equal for equal policies. Another version of the binary may have another one for the same; that costs
/// one look through the sessions.
fn fingerprint(policies: &Policies) -> Vec<u8> {
    digest(&SHA256, format!("{policies:?}").as_bytes()).as_ref().to_vec()
}

/// After the policies changed: ends the sessions that are over under the new ones though by their stored
/// deadlines they would live on, with tokens that verifiers accept, and tells the log (design §3).
pub async fn end_tightened(app: &Authority) -> Result<u64, StoreError> {
    let mut ended = 0;
    let mut after: Option<SessionId> = None;
    loop {
        let page = app.store.open_sessions(after, BATCH).await?;
        let Some(last) = page.last() else { return Ok(ended) };
        after = Some(last.id);
        let now = app.clock.now();
        for session in page {
            // No token outlives the stored deadlines: a session past them needs no event.
            let lives_on = now < session.idle_expires_at.min(session.expires_at);
            let Some(end) = ended_by_change(&session, &app.policies, now).filter(|_| lives_on) else {
                continue;
            };
            let Some(change) = session.end(end.reason, now, None) else { continue };
            let mut commit = Commit::default();
            commit.push_change(change, app.event_until(now));
            match app.store.commit(commit).await {
                Ok(()) => ended += 1,
                // It was used or ended meanwhile: whoever did that saw the new policies.
                Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Store(error)) => return Err(error),
                Err(other) => return Err(StoreError::Unavailable(other.to_string())),
            }
        }
        tokio::task::yield_now().await;
    }
}
