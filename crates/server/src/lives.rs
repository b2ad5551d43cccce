//! The longest lives under which access tokens may be out: how long an event must stay in the feed (design §7).
//!
//! A policy counts from the moment a client uses it until every session that began under it is over, whatever
//! any node's configuration says by then. The store keeps a mark of that; a node signs no token of a longer
//! life than the mark says, so whatever is signed is covered, during a rolling restart with two configurations
//! as well. Policies that no client uses do not count.

use crate::keys::ATTEMPTS;
use crate::knowledge::LEASE;
use arc_swap::ArcSwap;
use reseal_core::policy::Policies;
use reseal_core::{PolicyName, Timestamp};
use reseal_store::{Commit, CommitError, Conflict, Store, StoreError, Write};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name of the mark.
const MARK: &str = "access_ttl_high_water";
/// The tokens of clients themselves live so long under any policy.
pub const CLIENT_TOKEN_TTL: Duration = Duration::from_secs(300);
/// The mark is renewed when less than half of this is left of it beyond what it must cover.
const AHEAD: Duration = Duration::from_secs(3600);
/// Most entries: each configured life makes one.
const MAX: usize = 256;

/// What this node knows of the mark.
#[derive(Debug)]
pub struct Lives {
    /// Whether other nodes have to learn of a longer life before tokens have it.
    shared: bool,
    known: ArcSwap<Known>,
    /// Held while the mark is read: what was read first must not replace what was read last.
    reading: tokio::sync::Mutex<()>,
    /// The longest life that a token was refused for (milliseconds).
    wanted: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    text: Option<Vec<u8>>,
    mark: Mark,
    /// The longest life that tokens may have until `learned_at`, and from then on what the mark says.
    before: Duration,
    learned_at: Timestamp,
}

impl Lives {
    /// Nothing but clients' own tokens.
    pub fn new(shared: bool) -> Self {
        let known = Known { before: CLIENT_TOKEN_TTL, ..Known::default() };
        let known = ArcSwap::from_pointee(known);
        Self { shared, known, reading: tokio::sync::Mutex::default(), wanted: AtomicU64::new(0) }
    }

    /// The longest life that counts at `now`.
    pub fn longest(&self, now: Timestamp) -> Duration {
        self.known.load().mark.longest(now)
    }

    /// Whether a token of that life may be signed: not before every node knows that it may be out. If not, the
    /// next `cover` makes it so.
    pub fn allows(&self, life: Duration, now: Timestamp) -> bool {
        let known = self.known.load();
        if now >= known.learned_at && life <= known.mark.longest(now) || life <= known.before {
            return true;
        }
        if life > known.mark.longest(now) {
            self.wanted.fetch_max(u64::try_from(life.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        false
    }

    /// Whether a token was refused for its life since the last `cover`.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Reads the mark again.
    pub(crate) async fn read(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let _reading = self.reading.lock().await;
        let text = store.meta(MARK).await?;
        let known = self.known.load();
        if known.text != text {
            let mark = Mark::parse(text.as_deref());
            let was = known.mark.longest(now);
            let (before, learned_at) = match (self.shared && mark.longest(now) > was, now < known.learned_at)
            {
                (true, true) => (known.before, now + LEASE),
                (true, false) => (was, now + LEASE),
                (false, _) => (known.before, known.learned_at),
            };
            self.known.store(Arc::new(Known { text, mark, before, learned_at }));
        }
        Ok(())
    }

    /// The same at the start of a node, as [`cover`](Self::cover): when it returns, every node knows.
    pub(crate) async fn begin<'a>(
        &self,
        store: &dyn Store,
        policies: &Policies,
        used: impl IntoIterator<Item = &'a PolicyName>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let was = Mark::parse(store.meta(MARK).await?.as_deref()).longest(now);
        self.cover(store, policies, used, now).await?;
        if self.shared && self.longest(now) > was {
            tokio::time::sleep(LEASE).await;
        }
        self.known.rcu(|known| Known { learned_at: now, ..(**known).clone() });
        Ok(())
    }

    /// Makes the mark cover these policies, which clients use, and what was refused for want of it.
    pub(crate) async fn cover<'a>(
        &self,
        store: &dyn Store,
        policies: &Policies,
        used: impl IntoIterator<Item = &'a PolicyName>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let wanted = self.wanted.swap(0, Ordering::Relaxed);
        let mut lives: Vec<(Duration, Duration)> = used
            .into_iter()
            .filter_map(|name| policies.find(name))
            .map(|policy| (policy.access_ttl, policy.max_ttl.max(policy.access_ttl)))
            .collect();
        if wanted > 0 {
            let life = Duration::from_millis(wanted);
            lives.push((life, policies.longest_max_ttl().max(life)));
        }
        let raised = raise(store, &lives, now).await;
        if raised.is_err() {
            self.wanted.fetch_max(wanted, Ordering::Relaxed);
        }
        raised?;
        self.read(store, now).await
    }
}

/// As far as the store knows, without regard to time: for commands, which sign nothing.
pub async fn longest_access_ttl(store: &dyn Store) -> Result<Duration, StoreError> {
    let mark = Mark::parse(store.meta(MARK).await?.as_deref());
    Ok(mark.0.last_key_value().map_or(Duration::ZERO, |(life, _)| *life).max(CLIENT_TOKEN_TTL))
}

/// Writes the lives into the mark where it does not cover them.
async fn raise(store: &dyn Store, lives: &[(Duration, Duration)], now: Timestamp) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let before = store.meta(MARK).await?;
        let mark = Mark::parse(before.as_deref());
        let Some(next) = mark.raised(lives, now) else { return Ok(()) };
        let write = Write::SwapMeta { name: MARK.to_owned(), before, value: next.text().into_bytes() };
        match store.commit(Commit::of([write])).await {
            Ok(()) => return Ok(()),
            Err(CommitError::Conflict(Conflict::MetaChanged)) => {}
            Err(CommitError::Store(error)) => return Err(error),
            Err(other) => return Err(StoreError::Unavailable(other.to_string())),
        }
    }
    Err(StoreError::Unavailable("others keep changing the mark of the longest access_ttl".to_owned()))
}

/// By life, until when tokens of that life may be out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mark(BTreeMap<Duration, Timestamp>);

impl Mark {
    fn longest(&self, now: Timestamp) -> Duration {
        let living = self.0.iter().rev().find(|(_, until)| **until > now);
        living.map_or(Duration::ZERO, |(life, _)| *life).max(CLIENT_TOKEN_TTL)
    }

    /// With the lives, each for as long as a session may last that begins now; `None`: it covers them already.
    fn raised(&self, lives: &[(Duration, Duration)], now: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        let mut changed = false;
        for (life, session) in lives {
            let covered = next.0.get(life).is_some_and(|until| *until >= now + *session + AHEAD / 2);
            if !covered {
                changed = true;
                let until = next.0.entry(*life).or_insert(now);
                *until = (*until).max(now + *session + AHEAD);
            }
        }
        if !changed {
            return None;
        }
        next.0.retain(|_, until| *until > now);
        while next.0.len() > MAX {
            // A longer life stands for a shorter one.
            let Some((_, until)) = next.0.pop_first() else { break };
            if let Some(mut shortest) = next.0.first_entry() {
                let longer = (*shortest.get()).max(until);
                shortest.insert(longer);
            }
        }
        Some(next)
    }

    fn parse(text: Option<&[u8]>) -> Self {
        let numbers = text.and_then(|t| std::str::from_utf8(t).ok()).unwrap_or_default();
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        // How an earlier version wrote it: life, until when, and the life that goes on.
        let numbers = match numbers[..] {
            [life, until, current] => vec![life, until, current, until.saturating_add(current)],
            _ => numbers,
        };
        let entry = |pair: &[u64]| {
            let until = i64::try_from(pair[1]).unwrap_or(i64::MAX);
            (Duration::from_millis(pair[0]), Timestamp::from_millis(until))
        };
        Self(numbers.chunks_exact(2).take(MAX).map(entry).collect())
    }

    fn text(&self) -> String {
        let pair =
            |(life, until): (&Duration, &Timestamp)| format!("{} {}", life.as_millis(), until.millis());
        self.0.iter().map(pair).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_1: Timestamp = Timestamp::from_secs(86_400);

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn a_life_counts_until_every_session_under_it_is_over() {
        let long = Mark::default().raised(&[(minutes(60), minutes(600))], DAY_1).unwrap();
        let shorter = long.raised(&[(minutes(10), minutes(100))], DAY_1 + minutes(10)).unwrap();
        assert_eq!(shorter.longest(DAY_1 + minutes(600)), minutes(60));
        assert_eq!(
            shorter.longest(DAY_1 + minutes(661)),
            CLIENT_TOKEN_TTL,
            "and nobody uses the shorter one"
        );
        let kept = shorter.raised(&[(minutes(10), minutes(100))], DAY_1 + minutes(661)).unwrap();
        assert_eq!(kept.longest(DAY_1 + minutes(661)), minutes(10));
        assert_eq!(kept.0.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn two_configurations_at_once_both_count() {
        let old = Mark::default().raised(&[(minutes(60), minutes(60))], DAY_1).unwrap();
        // The new node takes the old one's mark along, and the old one goes on renewing its own.
        let new = old.raised(&[(minutes(5), minutes(60))], DAY_1 + minutes(30)).unwrap();
        let both = new.raised(&[(minutes(60), minutes(60))], DAY_1 + minutes(60)).unwrap();
        assert_eq!(both.longest(DAY_1 + minutes(179)), minutes(60));
    }

    #[test]
    fn a_mark_is_not_written_more_often_than_it_must() {
        let lives = [(minutes(5), minutes(60))];
        let mark = Mark::default().raised(&lives, DAY_1).unwrap();
        assert_eq!(mark.raised(&lives, DAY_1 + minutes(29)), None);
        assert!(mark.raised(&lives, DAY_1 + minutes(31)).is_some());
    }

    #[test]
    fn it_is_read_as_it_was_written_and_as_an_earlier_version_wrote_it() {
        let mark =
            Mark::default().raised(&[(minutes(5), minutes(9)), (minutes(60), minutes(60))], DAY_1).unwrap();
        assert_eq!(Mark::parse(Some(mark.text().as_bytes())), mark);
        let earlier = Mark::parse(Some(b"3600000 86400000 300000"));
        assert_eq!(earlier.longest(Timestamp::from_millis(86_399_999)), minutes(60));
        assert_eq!(Mark::parse(None), Mark::default());
        assert_eq!(Mark::parse(Some(b"rubbish")), Mark::default());
    }

    #[test]
    fn many_lives_are_bounded_and_none_counts_for_less() {
        let lives: Vec<_> = (1..600).map(|n| (minutes(n), minutes(700))).collect();
        let mark = Mark::default().raised(&lives, DAY_1).unwrap();
        assert_eq!(mark.0.len(), MAX);
        assert_eq!(mark.longest(DAY_1 + minutes(700)), minutes(599));
    }
}
