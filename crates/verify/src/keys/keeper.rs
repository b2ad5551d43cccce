//! The one task that fetches keys: whoever misses one waits for it, and nobody else asks the issuer.

use super::fetch::{FetchError, Fetcher, Metadata};
use super::unknown::Unknown;
use super::{KeySet, schedule};
use crate::freshness::SharedFreshness;
use crate::random;
use arc_swap::ArcSwapOption;
use reseal_jose::VerifyingKeys;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// What the task and those who wait for it share.
pub(super) struct Shared {
    pub(super) current: ArcSwapOption<KeySet>,
    pub(super) metadata: ArcSwapOption<Metadata>,
    state: Mutex<State>,
    wake: Notify,
    done: watch::Sender<Round>,
    started_at: Instant,
}

struct State {
    unknown: Unknown,
    /// The round that is under way or was the last.
    round: u64,
    /// The last round that somebody waits for.
    wanted: u64,
    fetched_at: Option<Instant>,
    failures: u32,
    /// Of the newest set. It only grows, or a token could be taken for one of a set that is gone.
    generation: u64,
    /// The names of keys that were withdrawn while they were in a set.
    withdrawn: HashSet<String>,
}

/// Most names of withdrawn keys that are remembered beside those of the set.
const MAX_WITHDRAWN: usize = 1024;

/// A fetch that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    number: u64,
    good: bool,
}

/// What became of a key that was not in the set.
pub(super) enum Asked {
    /// There may be a newer set.
    LookAgain,
    /// There is no such key.
    NoSuchKey,
    /// That cannot be known now.
    Unavailable,
}

impl Shared {
    pub(super) fn new(keys: Option<VerifyingKeys>, cooldown: Duration) -> Self {
        let keys = keys.map(|keys| Arc::new(KeySet::new(keys, 1)));
        let state = State {
            unknown: Unknown::new(cooldown),
            round: 0,
            wanted: 0,
            fetched_at: None,
            failures: 0,
            generation: 1,
            withdrawn: HashSet::new(),
        };
        Self {
            current: ArcSwapOption::new(keys),
            metadata: ArcSwapOption::empty(),
            state: Mutex::new(state),
            wake: Notify::new(),
            done: watch::Sender::new(Round::default()),
            started_at: Instant::now(),
        }
    }

    /// A token names a key that the set of this generation does not have: fetch it, or wait for who does.
    pub(super) async fn ask(&self, kid: Option<&str>, generation: u64, patience: Duration) -> Asked {
        let mut done = self.done.subscribe();
        let (target, is_later) = {
            let mut state = self.state();
            let newer = self.current.load();
            if newer.as_ref().is_some_and(|keys| keys.generation != generation && keys.has_name(kid)) {
                return Asked::LookAgain;
            }
            let last = *done.borrow_and_update();
            let awaited = state.wanted.max(state.round);
            if awaited > last.number {
                (awaited, awaited > state.round)
            } else if state.unknown.ask(kid, self.started_at.elapsed()) {
                state.wanted = state.round + 1;
                self.wake.notify_one();
                (state.wanted, true)
            } else {
                return if last.good { Asked::NoSuchKey } else { Asked::Unavailable };
            }
        };
        let ended = timeout(patience, done.wait_for(|round| round.number >= target)).await;
        match ended {
            Ok(Ok(round)) if round.good => {}
            _ => return Asked::Unavailable,
        }
        let has_it = self.current.load().as_ref().is_some_and(|keys| keys.has_name(kid));
        if has_it {
            return Asked::LookAgain;
        }
        // One that had begun before may have been answered before the key was published.
        if is_later {
            self.state().unknown.is_missing(kid, self.started_at.elapsed());
        }
        Asked::NoSuchKey
    }

    /// Waits until a first fetch has ended, well or not.
    pub(super) async fn first_round(&self, patience: Duration) {
        let mut done = self.done.subscribe();
        let _ = timeout(patience, done.wait_for(|round| round.number > 0)).await;
    }

    /// How long ago the keys were fetched, and how many times it has failed since.
    pub(super) fn freshness(&self) -> (Option<Duration>, u32) {
        let state = self.state();
        (state.fetched_at.map(|at| at.elapsed()), state.failures)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, mut fetcher: Option<Fetcher>, freshness: Arc<SharedFreshness>) {
    let mut keys_changed = freshness.keys_changed();
    let mut raw = Vec::new();
    loop {
        let pause = match &mut fetcher {
            Some(fetcher) => Some(round(&shared, fetcher, &freshness, &mut raw).await),
            None => None,
        };
        let pause = async {
            match pause {
                Some(pause) => freshness.pause(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            () = wanted(&shared) => {}
            changed = keys_changed.changed() => {
                if changed.is_err() {
                    return;
                }
                shared.withdraw(&freshness);
            }
        }
    }
}

async fn wanted(shared: &Shared) {
    loop {
        shared.wake.notified().await;
        let state = shared.state();
        if state.wanted > state.round {
            return;
        }
    }
}

/// Fetches once; how long to wait before the next time.
async fn round(
    shared: &Shared,
    fetcher: &mut Fetcher,
    freshness: &SharedFreshness,
    raw: &mut Vec<u8>,
) -> Duration {
    let number = shared.begin_round();
    let fetched = fetcher.fetch().await;
    shared.metadata.store(fetcher.metadata().cloned().map(Arc::new));
    let good = fetched.is_ok();
    metrics::counter!("reseal_verify_key_fetches_total", "result" => if good { "ok" } else { "failed" })
        .increment(1);
    let pause = match fetched {
        Ok(fetched) => {
            if *raw != fetched.raw || shared.current.load().is_none() {
                shared.replace(fetched.keys, freshness);
                *raw = fetched.raw;
            }
            let mut state = shared.state();
            (state.fetched_at, state.failures) = (Some(Instant::now()), 0);
            schedule::after_success(fetched.max_age, random::chance())
        }
        Err(error) => shared.failed(&error),
    };
    shared.end_round(number, good);
    pause
}

impl Shared {
    pub(super) fn begin_round(&self) -> u64 {
        let mut state = self.state();
        state.round += 1;
        state.round
    }

    pub(super) fn end_round(&self, number: u64, good: bool) {
        self.done.send_replace(Round { number, good });
    }

    /// How many wait for a round.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.done.receiver_count()
    }

    pub(super) fn replace(&self, keys: VerifyingKeys, freshness: &SharedFreshness) {
        let set = self.renew(keys, freshness);
        tracing::info!(keys = set.len(), "the issuer's keys");
        self.current.store(Some(Arc::new(set)));
    }

    /// Keys that the feed has withdrawn are not used from now on.
    pub(super) fn withdraw(&self, freshness: &SharedFreshness) {
        let Some(old) = self.current.load_full() else { return };
        self.current.store(Some(Arc::new(self.renew(old.keys.clone(), freshness))));
    }

    /// The next set. What was withdrawn stays so, should the issuer (or a cache on the way) still show it, or
    /// show it again.
    fn renew(&self, keys: VerifyingKeys, freshness: &SharedFreshness) -> KeySet {
        let mut state = self.state();
        state.generation += 1;
        let mut set = KeySet::new(keys, state.generation);
        set.withdraw(|kid| freshness.is_withdrawn(kid) || state.withdrawn.contains(kid));
        if state.withdrawn.len() > MAX_WITHDRAWN {
            state.withdrawn.clear();
        }
        state.withdrawn.extend(set.withdrawn.iter().cloned());
        set
    }

    pub(super) fn failed(&self, error: &FetchError) -> Duration {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let pause = schedule::after_failure(state.failures, random::chance());
        let too_old = state.fetched_at.is_none_or(|at| at.elapsed() > schedule::MAX_STALE);
        if too_old {
            self.current.store(None);
        }
        let seconds = pause.as_secs_f32();
        tracing::warn!(%error, failures = state.failures, seconds, "the issuer's keys could not be fetched");
        pause
    }
}
