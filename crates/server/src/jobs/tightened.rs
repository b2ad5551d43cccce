//! Sessions whose policy was tightened: those that are over under the new policies though by their stored deadlines
//! they would live on, with tokens that verifiers accept, are ended, and the log tells (design §3).
//!
//! A node that starts under other policies than those of the last look goes through all sessions. While nodes of two
//! configurations serve at once, those of the old one go on making sessions and tokens under the old policies: so
//! each node says in the store now and then under which policies it serves, and when nobody has said so of some
//! policies for a while ([`GONE`]), one that serves under others looks again. Two that both go on do not fight.

use super::BATCH;
use crate::authority::{App, Authority};
use crate::keys::ATTEMPTS;
use aws_lc_rs::digest::{SHA256, digest};
use reseal_core::policy::{Policies, ended_by_change};
use reseal_core::{SessionId, Timestamp};
use reseal_store::{Commit, CommitError, Conflict, StoreError, Write};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::watch;

/// The name of the value that tells under which policies the sessions were last looked through.
const LOOKED: &str = "policies_fingerprint";
/// The name of the value that tells under which policies nodes serve.
const SERVED: &str = "policies_served";
/// Between two words of a node on what it serves under.
const EVERY: Duration = Duration::from_secs(60);
/// Nobody serves any more under policies of which nobody said so for this long.
const GONE: Duration = Duration::from_secs(300);
/// How soon to try again while the store is away.
const AGAIN: Duration = Duration::from_secs(10);
/// Most configurations at once.
const MAX: usize = 16;

/// Does all that, until `stop` turns true.
pub(super) async fn follow(app: App, mut stop: watch::Receiver<bool>) {
    let mut has_begun = false;
    loop {
        let work = async {
            let pause = match look(&app, has_begun).await {
                Ok(ended) => {
                    has_begun = true;
                    if ended > 0 {
                        tracing::info!(ended, "the policies changed: sessions that are over were ended");
                    }
                    EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "sessions under changed policies could not be ended; trying again");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = work => {}
            _ = stop.changed() => return,
        }
    }
}

async fn look(app: &Authority, has_begun: bool) -> Result<u64, StoreError> {
    // First, so that others know of this node from its beginning.
    let ended = end_tightened_since(app).await?;
    Ok(if has_begun { ended } else { ended + end_tightened_once(app).await? })
}

/// As [`end_tightened`], unless the policies are those of the last time; says how many sessions ended.
pub async fn end_tightened_once(app: &Authority) -> Result<u64, StoreError> {
    let fingerprint = fingerprint(&app.policies);
    if app.store.meta(LOOKED).await?.is_some_and(|known| known == fingerprint) {
        return Ok(0);
    }
    let ended = end_tightened(app).await?;
    // Only when all were seen: an interrupted round is done again.
    match app.store.commit(Commit::of([Write::PutMeta(LOOKED.to_owned(), fingerprint)])).await {
        Ok(()) => Ok(ended),
        Err(CommitError::Store(error)) => Err(error),
        Err(other) => Err(StoreError::Unavailable(other.to_string())),
    }
}

/// Says under which policies this node serves, and as [`end_tightened`] if the last node that served under others has
/// gone. Call it every minute.
pub async fn end_tightened_since(app: &Authority) -> Result<u64, StoreError> {
    if !app.shared {
        return Ok(0);
    }
    let mine = fingerprint(&app.policies).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let mut ended = None;
    for _ in 0..ATTEMPTS {
        let now = app.clock.now();
        let before = app.store.meta(SERVED).await?;
        let served = Served::parse(before.as_deref());
        if served.has_gone(&mine, now) && ended.is_none() {
            // First: if this is interrupted, another one does it again.
            ended = Some(end_tightened(app).await?);
            continue;
        }
        let Some(next) = served.with(&mine, now, ended.is_some()) else { break };
        let write = Write::SwapMeta { name: SERVED.to_owned(), before, value: next.text().into_bytes() };
        match app.store.commit(Commit::of([write])).await {
            Ok(()) => break,
            Err(CommitError::Conflict(Conflict::MetaChanged)) => {}
            Err(CommitError::Store(error)) => return Err(error),
            Err(other) => return Err(StoreError::Unavailable(other.to_string())),
        }
    }
    Ok(ended.unwrap_or(0))
}

/// By fingerprint, when somebody last said that it serves under such policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Served(BTreeMap<String, Timestamp>);

impl Served {
    /// Whether others were served under by nodes of which none is there any more.
    fn has_gone(&self, mine: &str, now: Timestamp) -> bool {
        self.0.iter().any(|(served, at)| served != mine && is_gone(*at, now))
    }

    /// With what this node serves under, and without what is gone if the sessions were `looked` through since.
    /// `None`: it is there already.
    fn with(&self, mine: &str, now: Timestamp, looked: bool) -> Option<Self> {
        let mut next = self.clone();
        if looked {
            next.0.retain(|served, at| served == mine || !is_gone(*at, now));
        }
        let is_recent = next.0.get(mine).is_some_and(|at| now.since(*at) < EVERY / 2 && *at <= now + GONE);
        if !is_recent {
            next.0.insert(mine.to_owned(), now);
        }
        while next.0.len() > MAX {
            let oldest = next.0.iter().min_by_key(|(_, at)| **at).map(|(served, _)| served.clone());
            oldest.and_then(|served| next.0.remove(&served));
        }
        (next != *self).then_some(next)
    }

    fn parse(text: Option<&[u8]>) -> Self {
        let text = text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let entry = |word: &str| {
            let (served, at) = word.split_once(':')?;
            Some((served.to_owned(), Timestamp::from_secs(at.parse().ok()?)))
        };
        Self(text.split_ascii_whitespace().filter_map(entry).take(MAX).collect())
    }

    fn text(&self) -> String {
        let words: Vec<String> =
            self.0.iter().map(|(served, at)| format!("{served}:{}", at.secs())).collect();
        words.join(" ")
    }
}

/// Also where a clock that was wrong said so from the future.
fn is_gone(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) > GONE || at.since(now) > GONE
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_nobody_serves_under_any_more_is_told_once() {
        let both = Served::default().with("old", NOW, false).unwrap().with("new", NOW, false).unwrap();
        assert_eq!(both.with("new", NOW + EVERY / 2 - SECOND, false), None, "not more often than it must");
        let later = NOW + GONE;
        let refreshed = both.with("new", later, false).unwrap();
        assert!(!refreshed.has_gone("new", later) && refreshed.has_gone("new", later + SECOND));
        assert!(!refreshed.has_gone("old", later + SECOND), "its own is no other");
        assert_eq!(refreshed.with("new", later + SECOND, false), None, "kept until somebody has looked");
        let looked = refreshed.with("new", later + SECOND, true).unwrap();
        assert!(looked.0.keys().eq(["new"]) && !looked.has_gone("new", later + SECOND));
    }

    #[test]
    fn it_is_read_as_it_was_written_and_bounded() {
        let mut served = Served::default();
        for n in 0..40 {
            served = served.with(&format!("{n:02}"), NOW + n * SECOND, false).unwrap();
        }
        assert_eq!(served.0.len(), MAX);
        assert!(served.0.contains_key("39") && !served.0.contains_key("23"));
        assert_eq!(Served::parse(Some(served.text().as_bytes())), served);
        assert_eq!(Served::parse(Some(b"rubbish a:b \xff")), Served::default());
        assert_eq!(Served::parse(None), Served::default());
    }

    #[test]
    fn a_clock_that_was_wrong_holds_nothing_up() {
        let wrong = Served::default().with("old", NOW + 2 * GONE, false).unwrap();
        assert!(wrong.has_gone("new", NOW));
        let mine = wrong.with("old", NOW, false).unwrap();
        assert_eq!(mine.0["old"], NOW);
    }
}
