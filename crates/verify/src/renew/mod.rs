//! Renewal at the authority: one call however many requests with the same token are in flight.
//!
//! A call runs in a task of its own, so a request that is given up takes nobody's answer with it. Its answer is
//! kept for a while, so that requests that come late with the old token get the same new one; a refusal and an
//! authority that is away are kept as well, for less.

mod call;

pub(crate) use call::{Endpoint, Outcome, TokenText};

use aws_lc_rs::digest::{SHA256, digest};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Answers and calls in flight that are remembered at most.
const MAX_FLIGHTS: usize = 8192;
/// Calls at the same time at most; others wait for their turn, no longer than a call may take.
const MAX_CALLS: usize = 64;
/// How long a newer token is handed to those who come late with the old one.
const KEEP_RENEWED: Duration = Duration::from_secs(30);
/// How long nobody asks again after a refusal: nothing revives a session.
const KEEP_REFUSED: Duration = Duration::from_secs(10);
/// How long a "not yet" is kept for a token whose claims have changed, and at most for one that may wait.
const KEEP_NOT_YET_STALE: Duration = Duration::from_secs(2);
const KEEP_NOT_YET: Duration = Duration::from_secs(300);
/// How long the authority counts as away after a call that failed.
const KEEP_AWAY: Duration = Duration::from_secs(1);

/// Why a newer token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// Half its life has passed; it is good for a while yet.
    Due,
    /// Its claims have changed.
    Stale,
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    /// The number of the call.
    pub(crate) flight: u64,
    /// Whether the call began after this request asked.
    pub(crate) asked_for_me: bool,
}

/// Asks the authority, once for all who ask at the same time.
#[derive(Debug)]
pub(crate) struct Renewer {
    endpoint: Arc<Endpoint>,
    turns: Arc<Semaphore>,
    flights: Arc<Mutex<Flights>>,
}

/// Of which token, and why. The hash, so that no map holds tokens.
type Key = ([u8; 32], Why);

#[derive(Debug, Default)]
struct Flights {
    by_key: HashMap<Key, Flight>,
    /// In the order they began, to drop the oldest when there are too many.
    order: VecDeque<(Key, u64)>,
    last: u64,
    /// Until then the authority counts as away.
    away_until: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    answer: watch::Receiver<Option<Outcome>>,
    /// Set when the answer is there.
    keep_until: Option<Instant>,
}

impl Renewer {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            turns: Arc::new(Semaphore::new(MAX_CALLS)),
            flights: Arc::default(),
        }
    }

    /// A newer token for this one. `now` is Unix seconds, to know when a "not yet" is over. With `newer_than` the
    /// answer of a later call than that.
    pub(crate) async fn renew(&self, token: &str, why: Why, now: i64, newer_than: Option<u64>) -> Answered {
        let (flight, mut answer, asked_for_me) = match self.join(token, (why, now), newer_than) {
            Ok(joined) => joined,
            Err(away) => return Answered { outcome: away, flight: 0, asked_for_me: false },
        };
        // The task sets a bound to the wait: for its turn, and for the call. If it dies, that ends it.
        let outcome = match answer.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        Answered { outcome: outcome.unwrap_or(Outcome::Away { retry_after: 1 }), flight, asked_for_me }
    }

    /// The call in flight or its answer, or a new call.
    fn join(
        &self,
        token: &str,
        (why, now): (Why, i64),
        newer_than: Option<u64>,
    ) -> Result<(u64, watch::Receiver<Option<Outcome>>, bool), Outcome> {
        let key = (hash(token), why);
        let time = Instant::now();
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.by_key.get(&key)
            && flight.keep_until.is_none_or(|until| time < until)
            && newer_than.is_none_or(|number| flight.number > number)
        {
            return Ok((flight.number, flight.answer.clone(), false));
        }
        // Those who can wait do not all find out by themselves that the authority is away.
        if why == Why::Due && flights.away_until.is_some_and(|until| time < until) {
            return Err(Outcome::Away { retry_after: 1 });
        }
        let (number, sender) = flights.begin(key, time).ok_or(Outcome::Away { retry_after: 1 })?;
        let answer = sender.subscribe();
        drop(flights);
        self.call((key, number, now), TokenText::new(token.to_owned()), sender);
        Ok((number, answer, true))
    }

    fn call(
        &self,
        (key, number, now): (Key, u64, i64),
        token: TokenText,
        answer: watch::Sender<Option<Outcome>>,
    ) {
        let (endpoint, turns) = (Arc::clone(&self.endpoint), Arc::clone(&self.turns));
        let landing = Landing { flights: Arc::clone(&self.flights), key, number, now, answer };
        tokio::spawn(async move {
            let outcome = match tokio::time::timeout(endpoint.timeout, turns.acquire()).await {
                Ok(Ok(_turn)) => endpoint.renew(&token).await,
                _ => Outcome::Away { retry_after: 1 },
            };
            landing.land(outcome);
        });
    }
}

/// The end of a call, which comes in any case: a task that dies, with its runtime or by a panic, must not leave a
/// flight behind that never lands.
struct Landing {
    flights: Arc<Mutex<Flights>>,
    key: Key,
    number: u64,
    now: i64,
    answer: watch::Sender<Option<Outcome>>,
}

impl Landing {
    fn land(&self, outcome: Outcome) {
        lock(&self.flights).end((self.key, self.number), &outcome, (Instant::now(), self.now));
        self.answer.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.answer.borrow().is_none() {
            self.land(Outcome::Away { retry_after: 1 });
        }
    }
}

impl Flights {
    /// Notes a new call; `None` when there are too many.
    fn begin(&mut self, key: Key, time: Instant) -> Option<(u64, watch::Sender<Option<Outcome>>)> {
        self.make_room(time)?;
        self.last += 1;
        let (sender, answer) = watch::channel(None);
        self.by_key.insert(key, Flight { number: self.last, answer, keep_until: None });
        self.order.push_back((key, self.last));
        Some((self.last, sender))
    }

    /// Drops what is over from the front, and, when there is too much, the oldest answer.
    fn make_room(&mut self, time: Instant) -> Option<()> {
        while let Some(&(key, number)) = self.order.front() {
            let flight = self.by_key.get(&key).filter(|flight| flight.number == number);
            let full = self.order.len() >= MAX_FLIGHTS;
            match flight.map(|flight| flight.keep_until) {
                // Replaced by a later one of the same key.
                None => {}
                Some(Some(until)) if time >= until || full => {
                    self.by_key.remove(&key);
                }
                // In flight: it knows its end. All that are behind it wait for it.
                Some(None) if full => return None,
                Some(_) => return Some(()),
            }
            self.order.pop_front();
        }
        Some(())
    }

    fn end(&mut self, (key, number): (Key, u64), outcome: &Outcome, (time, now): (Instant, i64)) {
        let away = matches!(outcome, Outcome::Away { .. });
        self.away_until = away.then(|| time + KEEP_AWAY);
        if let Some(flight) = self.by_key.get_mut(&key).filter(|flight| flight.number == number) {
            flight.keep_until = Some(time + keep(outcome, key.1, now));
        }
    }
}

/// How long an answer is kept.
fn keep(outcome: &Outcome, why: Why, now: i64) -> Duration {
    match outcome {
        Outcome::Renewed(_) => KEEP_RENEWED,
        Outcome::Refused { .. } => KEEP_REFUSED,
        Outcome::Away { .. } => KEEP_AWAY,
        Outcome::NotYet { .. } if why == Why::Stale => KEEP_NOT_YET_STALE,
        Outcome::NotYet { renew_at: None } => KEEP_NOT_YET,
        Outcome::NotYet { renew_at: Some(at) } => {
            let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
            Duration::from_secs(wait.max(1)).min(KEEP_NOT_YET)
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

// Every change of the map is whole before the lock is given back.
fn lock(flights: &Mutex<Flights>) -> MutexGuard<'_, Flights> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
