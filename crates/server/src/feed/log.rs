//! The one reader of the event log on this node: what an event makes stale here is dropped first, then the
//! readers of the feed learn of it.

use crate::authority::{App, Authority};
use crate::jobs::JobError;
use crate::manage::ManageError;
use reseal_core::event::{EventKind, LoggedEvent};
use reseal_core::{ClientId, Timestamp};
use reseal_store::StoreError;
use std::collections::{BTreeMap, HashMap};
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

/// Reads what was logged since the last time, by this process and others (the command line on a live
/// folder), drops what it makes stale, and hands it to the readers of the feed.
pub async fn read_log(app: &Authority) -> Result<(), JobError> {
    let mut told = app.feed.reading.lock().await;
    let begun = Instant::now();
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
        let dropped = drop_stale(app, &events).await;
        let known = match &dropped {
            Ok(()) => &events[..],
            Err((known, _)) => &events[..*known],
        };
        tell_again(app, known, &mut told).await?;
        let last = known.last().map_or(seq, |logged| logged.seq);
        // After a page that is not full nothing else lives, whatever numbers were swept.
        seq = if dropped.is_ok() && events.len() < PAGE { newest.max(last) } else { last };
        app.feed.publish(known, seq);
        app.log_seq.store(seq, Ordering::Release);
        // The rest counts as unread until it is done: the next look tries again.
        dropped.map_err(|(_, error)| error)?;
    }
    app.log_read_at.store(app.clock.now().millis(), Ordering::Release);
    app.feed.was_read(begun);
    Ok(())
}

/// A change of a client says which tokens are older than it by their `iat`. This node made tokens of the client
/// as it was until it learned of the change: just now. If that is later than the change says (another process
/// made it; the commit took long; a clock is ahead), it is told once more, so that it reaches those as well.
///
/// `told`: what this node told so itself. That changed nothing that it could have missed.
async fn tell_again(
    app: &Authority,
    events: &[LoggedEvent],
    told: &mut HashMap<ClientId, i64>,
) -> Result<(), JobError> {
    let now = app.clock.now();
    for client_id in learned_late(events, told, now) {
        tracing::debug!(%client_id, "learned late of a change of a client; it is told again");
        app.manage(now).client_changed_until_now(&client_id).await.map_err(|error| match error {
            ManageError::Store(error) => error,
            other => StoreError::Unavailable(other.to_string()),
        })?;
        told.insert(client_id, now.secs().saturating_add(1));
    }
    Ok(())
}

/// The clients whose latest change says less than this node must tell. What it told itself is no change that
/// it could have missed; but only that one event, since another process may have made one of the same second.
fn learned_late(events: &[LoggedEvent], told: &mut HashMap<ClientId, i64>, now: Timestamp) -> Vec<ClientId> {
    let mut latest: BTreeMap<&ClientId, i64> = BTreeMap::new();
    for logged in events {
        let EventKind::ClientChanged { client_id, before } = &logged.event.kind else { continue };
        if told.get(client_id) == Some(before) {
            told.remove(client_id);
            continue;
        }
        let known = latest.entry(client_id).or_insert(*before);
        *known = (*known).max(*before);
    }
    latest
        .into_iter()
        .filter(|(_, before)| *before <= now.secs())
        .map(|(client_id, _)| client_id.clone())
        .collect()
}

/// Drops what the events make stale on this node. On failure also how many of them may be known all the same.
async fn drop_stale(app: &Authority, events: &[LoggedEvent]) -> Result<(), (usize, JobError)> {
    if events.iter().any(|logged| matches!(logged.event.kind, EventKind::ClientChanged { .. })) {
        app.clients.clear();
    }
    let keys = events.iter().position(|logged| matches!(logged.event.kind, EventKind::KeysChanged { .. }));
    let Some(first) = keys else { return Ok(()) };
    app.keys.reload(&*app.store, app.clock.now()).await.map_err(|error| (first, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::Event;

    const NOW: Timestamp = Timestamp::from_millis(101_003);

    fn changed(client_id: &str, before: i64) -> LoggedEvent {
        let kind = EventKind::ClientChanged { client_id: client_id.parse().unwrap(), before };
        LoggedEvent { seq: 1, event: Event { kind, until: Timestamp::from_secs(1000) } }
    }

    #[test]
    fn a_change_is_late_if_tokens_may_have_been_made_since() {
        let mut told = HashMap::new();
        let late = learned_late(&[changed("a", 101), changed("b", 102), changed("c", 90)], &mut told, NOW);
        assert_eq!(late, ["a".parse().unwrap(), "c".parse().unwrap()]);
        assert_eq!(learned_late(&[changed("a", 101), changed("a", 102)], &mut told, NOW), []);
    }

    #[test]
    fn what_this_node_told_itself_hides_no_other_change_of_the_same_second() {
        let own = || HashMap::from([("a".parse().unwrap(), 101)]);
        let mut told = own();
        assert_eq!(learned_late(&[changed("a", 101)], &mut told, NOW), []);
        assert!(told.is_empty(), "it hides one event, once");
        for others in [changed("a", 101), changed("a", 99)] {
            let late = learned_late(&[changed("a", 101), others], &mut own(), NOW);
            assert_eq!(late, ["a".parse().unwrap()]);
        }
    }
}
