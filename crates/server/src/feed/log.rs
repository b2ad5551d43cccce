//! The one reader of the event log on this node: what an event makes stale here is dropped first, then the
//! readers of the feed learn of it.

use crate::authority::{App, Authority};
use crate::jobs::JobError;
use crate::knowledge::{CLOCKS, LEASE};
use crate::manage::ManageError;
use reseal_core::event::{EventKind, LoggedEvent};
use reseal_core::{ClientId, Timestamp};
use reseal_store::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often to look for what other processes logged. This process tells of its own.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after a wake-up, so that what comes in quick succession goes out together.
const PAUSE: Duration = Duration::from_millis(1);
/// Events read at a time.
const PAGE: usize = 64;
/// Looks that fail between two lines in the log.
const QUIET: u32 = 25;

/// Reads the log whenever there is more, until `stop` turns true.
pub async fn follow(app: App, mut stop: watch::Receiver<bool>) {
    let mut logged = app.store.log_changed();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures: u32 = 0;
    loop {
        let work = async {
            tokio::select! {
                Ok(()) = logged.changed() => {}
                _ = look.tick() => {}
            }
            let done = read_log(&app).await;
            sleep(PAUSE).await;
            done
        };
        let done = tokio::select! {
            done = work => done,
            _ = stop.changed() => return,
        };
        match done {
            Ok(()) if failures > 0 => {
                tracing::info!(failures, "the event log is read again");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if failures.is_multiple_of(QUIET) {
                    tracing::warn!(%error, "the event log could not be read; the feed's heartbeats pause");
                }
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Reads what was logged since the last time, by this process and others (other nodes, the command line on a
/// live folder), drops what it makes stale, and hands it to the readers of the feed.
pub async fn read_log(app: &Authority) -> Result<(), JobError> {
    let _reading = app.feed.reading.lock().await;
    read(app, false).await
}

/// The same, marks included, unless somebody else just did, or tried to: of many who wait for a store that hangs, each
/// waits for one reading that began after it came, not for those of all before it.
pub(crate) async fn read_log_unless_current(app: &Authority) -> Result<(), JobError> {
    let came = Instant::now();
    let _reading = app.feed.reading.lock().await;
    if !app.wants_reading() {
        return Ok(());
    }
    if app.feed.has_failed_since(came) {
        return Err(StoreError::Unavailable("the event log could not be read a moment ago".to_owned()).into());
    }
    read(app, true).await
}

async fn read(app: &Authority, marks: bool) -> Result<(), JobError> {
    let begun = Instant::now();
    let done = read_on(app, marks, begun).await;
    if done.is_err() {
        app.feed.was_not_read(begun);
    }
    done
}

async fn read_on(app: &Authority, marks: bool, begun: Instant) -> Result<(), JobError> {
    let as_of = app.clock.now();
    let mut seq = match app.log_seq.load(Ordering::Acquire) {
        u64::MAX => {
            let last = app.store.last_event().await?;
            app.feed.begin_after(last);
            app.log_seq.store(last, Ordering::Release);
            last
        }
        seq => seq,
    };
    loop {
        let newest = app.store.last_event().await?;
        if newest <= seq {
            break;
        }
        let events = app.store.events_after(seq, PAGE).await?;
        let dropped = drop_stale(app, &events, as_of).await;
        let known = match &dropped {
            Ok(_) => &events[..],
            Err((known, ..)) => &events[..*known],
        };
        let (Ok(news) | Err((_, news, _))) = &dropped;
        tell_again(app, known, news).await?;
        let last = known.last().map_or(seq, |logged| logged.seq);
        // After a page that is not full nothing else lives, whatever numbers were swept.
        seq = if dropped.is_ok() && events.len() < PAGE { newest.max(last) } else { last };
        app.feed.publish(known, seq);
        app.log_seq.store(seq, Ordering::Release);
        // The rest counts as unread until it is done: the next look tries again.
        dropped.map_err(|(.., error)| error)?;
    }
    app.read_marks(marks).await?;
    app.knowledge.was_read(as_of);
    app.feed.was_read(begun);
    Ok(())
}

/// A change of a client says which tokens are older than it by their `iat`. Until a node learned of the change
/// it may have made tokens of the client as it was before. If one may be later than the change says (it was
/// decided on by a clock that was behind; the commit took long), the change is told once more, as of now.
///
/// Where nodes share the store, a change reaches ahead by more than any node's lease (`KNOWN_WITHIN`), so this is
/// rare. Every node that sees the need tells, for the one that signed may have died; and each looks once at one
/// change, when it learns of it (`news`): after that it makes no token of before, and no other node does for
/// longer than a lease. So what is told again is not answered, and the telling comes to rest.
async fn tell_again(
    app: &Authority,
    events: &[LoggedEvent],
    news: &BTreeSet<ClientId>,
) -> Result<(), JobError> {
    let now = app.clock.now();
    let latest_token = if app.shared { now + LEASE + CLOCKS } else { now };
    for client_id in learned_late(events, latest_token).into_iter().filter(|id| news.contains(id)) {
        tracing::debug!(%client_id, "learned late of a change of a client; it is told again");
        app.manage(now).client_changed_until_now(&client_id).await.map_err(|error| match error {
            ManageError::Store(error) => error,
            other => StoreError::Unavailable(other.to_string()),
        })?;
    }
    news.iter().for_each(|id| app.clients.settle(id));
    Ok(())
}

/// The clients of whom a token may have been made, by `latest_token`, that the latest change does not reach.
fn learned_late(events: &[LoggedEvent], latest_token: Timestamp) -> Vec<ClientId> {
    let mut latest: BTreeMap<&ClientId, i64> = BTreeMap::new();
    for logged in events {
        let EventKind::ClientChanged { client_id, before } = &logged.event.kind else { continue };
        let known = latest.entry(client_id).or_insert(*before);
        *known = (*known).max(*before);
    }
    latest
        .into_iter()
        .filter(|(_, before)| *before <= latest_token.secs())
        .map(|(client_id, _)| client_id.clone())
        .collect()
}

/// Drops what the events make stale on this node. Of which clients they are news; on failure also how many of
/// them may be known all the same.
async fn drop_stale(
    app: &Authority,
    events: &[LoggedEvent],
    as_of: Timestamp,
) -> Result<BTreeSet<ClientId>, (usize, BTreeSet<ClientId>, JobError)> {
    let changed: BTreeSet<&ClientId> = events
        .iter()
        .filter_map(|logged| match &logged.event.kind {
            EventKind::ClientChanged { client_id, .. } => Some(client_id),
            _ => None,
        })
        .collect();
    if !changed.is_empty() {
        app.clients.clear();
    }
    let mut news = BTreeSet::new();
    for id in changed {
        let client = app.store.client(id).await.map_err(|error| (0, BTreeSet::new(), error.into()))?;
        if app.clients.has_become(id, client.as_ref(), as_of) {
            news.insert(id.clone());
        }
    }
    let keys = events.iter().position(|logged| matches!(logged.event.kind, EventKind::KeysChanged { .. }));
    let Some(first) = keys else { return Ok(news) };
    match app.keys.reload(&*app.store, app.clock.now()).await {
        Ok(()) => Ok(news),
        Err(error) => {
            // Those behind it are looked at again.
            let known = &events[..first];
            news.retain(|id| known.iter().any(|e| matches!(&e.event.kind, EventKind::ClientChanged { client_id, .. } if client_id == id)));
            Err((first, news, error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::KNOWN_WITHIN;
    use proptest::prelude::*;
    use reseal_core::Event;

    const NOW: Timestamp = Timestamp::from_millis(101_003);

    fn changed(client_id: &str, before: i64) -> LoggedEvent {
        let kind = EventKind::ClientChanged { client_id: client_id.parse().unwrap(), before };
        LoggedEvent { seq: 1, event: Event { kind, until: Timestamp::from_secs(1000) } }
    }

    #[test]
    fn a_change_is_late_if_tokens_may_have_been_made_since() {
        let late = learned_late(&[changed("a", 101), changed("b", 102), changed("c", 90)], NOW);
        assert_eq!(late, ["a".parse().unwrap(), "c".parse().unwrap()]);
        assert_eq!(learned_late(&[changed("a", 101), changed("a", 102)], NOW), []);
    }

    proptest! {
        /// Nodes that share a store, one of which may never read: every token that any of them may have made of the
        /// client as it was before is older than the change as it was told at last, and the telling comes to rest.
        #[test]
        fn every_token_of_before_is_reached_and_nodes_do_not_answer_each_other_for_ever(
            first_commit in 0i64..20_000,
            steps in proptest::collection::vec((0usize..3, 1i64..700, 0i64..400), 200),
            dies in proptest::option::of(0usize..3),
        ) {
            let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap();
            let before = |decided: i64| (decided + millis(KNOWN_WITHIN)).div_euclid(1000) + 1;
            let start = 1_000_000;
            // When each event was committed, and what it says.
            let mut log = vec![(start + first_commit, before(start))];
            let mut seen = [0; 3];
            let mut now = start;
            let mut last_read_before = [start; 3];
            for (n, step, commit) in steps {
                now += step;
                if dies == Some(n) {
                    continue;
                }
                let visible = log.iter().filter(|(at, _)| *at <= now).count();
                if visible == 0 {
                    last_read_before[n] = now;
                }
                // News once; after that it is the same change, told again.
                if std::mem::replace(&mut seen[n], visible) > 0 {
                    continue;
                }
                let new: Vec<LoggedEvent> = log[..visible].iter().map(|(_, b)| changed("a", *b)).collect();
                let latest = Timestamp::from_millis(now) + LEASE + CLOCKS;
                if !learned_late(&new, latest).is_empty() {
                    log.push((now + commit, before(now)));
                    log.sort_unstable();
                }
            }
            let reached = log.iter().map(|(_, before)| *before).max().unwrap();
            for (n, read) in last_read_before.into_iter().enumerate() {
                // One that died may have signed for a lease after the last reading that it can have made.
                let read = if dies == Some(n) { start + first_commit } else { read };
                prop_assert!((read + millis(LEASE)).div_euclid(1000) < reached, "{read} {log:?}");
            }
            prop_assert!(log.len() <= 1 + seen.len(), "{log:?}");
        }
    }
}
