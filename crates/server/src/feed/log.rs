//! The one reader of the event log on this node: what an event makes stale here is dropped first, then the
//! readers of the feed learn of it.

use crate::authority::{App, Authority};
use crate::jobs::JobError;
use reseal_core::event::{EventKind, LoggedEvent};
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
    let _one_at_a_time = app.feed.reading.lock().await;
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

/// Drops what the events make stale on this node. On failure also how many of them may be known all the same.
async fn drop_stale(app: &Authority, events: &[LoggedEvent]) -> Result<(), (usize, JobError)> {
    if events.iter().any(|logged| matches!(logged.event.kind, EventKind::ClientChanged { .. })) {
        app.clients.clear();
    }
    let keys = events.iter().position(|logged| matches!(logged.event.kind, EventKind::KeysChanged { .. }));
    let Some(first) = keys else { return Ok(()) };
    app.keys.reload(&*app.store, app.clock.now()).await.map_err(|error| (first, error.into()))
}
