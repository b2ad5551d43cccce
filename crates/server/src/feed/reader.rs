//! One reader's stream: what it has been sent, what comes next, and when it ends.
//!
//! The stream is pulled: hyper asks for the next chunk when the connection has room, so a reader that takes
//! nothing holds one chunk and a cursor, and nobody waits for it.

use super::FeedToken;
use super::chunk::Chunk;
use crate::authority::App;
use crate::connection::Leash;
use crate::keys::KeySet;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use reseal_core::feed::FeedMessage;
use reseal_store::StoreError;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

/// Time between two heartbeats (design §7).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often to see whether the token still holds.
const CHECK: Duration = Duration::from_millis(500);
/// How long a shutdown waits for a connection that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Events read from the store at a time by a reader that is behind the hub.
const PAGE: usize = 500;

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With all live events.
    Whole,
    /// The same, and the reader must forget what it knows.
    Over,
    /// After the event of that number.
    After(u64),
}

/// A reader, pulled for its next chunk.
pub(super) struct Reader {
    app: App,
    token: FeedToken,
    /// What the token was last checked against.
    checked: (i64, Arc<KeySet>),
    /// Everything up to this number was sent or needed no sending.
    cursor: u64,
    start_over: bool,
    /// The number from which on the reader is told that it has caught up; `None` once it was.
    catching_up: Option<u64>,
    more: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    check: Interval,
    heartbeat_at: Instant,
    place: Place,
}

impl Reader {
    /// A reader that begins there, and has caught up with the event of that number.
    pub(super) fn new(app: App, token: FeedToken, (begin, newest): (Begin, u64), place: Place) -> Self {
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let more = app.feed.follow();
        let cursor = if let Begin::After(seq) = begin { seq } else { 0 };
        Self {
            checked: (app.clients.generation(), app.keys.load()),
            cursor,
            start_over: begin == Begin::Over,
            catching_up: Some(newest),
            more,
            stopping: app.feed.stopping(),
            check,
            heartbeat_at: Instant::now() + HEARTBEAT,
            place,
            token,
            app,
        }
    }

    /// The next chunk, when there is something to say; `None`: the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stopping.borrow() {
                return self.end("shutdown");
            }
            if !self.may_go_on().await {
                return self.end("token");
            }
            match self.collect().await {
                Ok(chunk) if !chunk.is_empty() => {
                    self.app.metrics.feed_sent(chunk.events());
                    return Some(chunk.into_bytes());
                }
                Ok(_) => {}
                // The node's own reading of the log says so in the log; this one tries again at the next check.
                Err(error) => tracing::debug!(%error, "a page of the feed could not be read"),
            }
            let is_due = Instant::now() >= self.heartbeat_at;
            tokio::select! {
                _ = self.stopping.changed() => {}
                _ = self.more.changed() => {}
                // One that is due and cannot be sent yet is tried again at the next check.
                () = sleep_until(self.heartbeat_at), if !is_due => {}
                _ = self.check.tick() => {}
            }
        }
    }

    const fn end(&mut self, why: &'static str) -> Option<Bytes> {
        self.place.end = why;
        None
    }

    /// Whether the token still holds: looked at again whenever a client or a key changed.
    async fn may_go_on(&mut self) -> bool {
        if self.app.clock.now().secs() >= self.token.exp {
            return false;
        }
        let now = (self.app.clients.generation(), self.app.keys.load());
        if now.0 == self.checked.0 && Arc::ptr_eq(&now.1, &self.checked.1) {
            return true;
        }
        match self.token.check_again(&self.app).await {
            Ok(()) => self.checked = now,
            // While the store is away nobody knows better than before.
            Err(error) => return error.status().is_server_error(),
        }
        true
    }

    /// Everything there is to say now, up to a full chunk.
    async fn collect(&mut self) -> Result<Chunk, StoreError> {
        let (mut chunk, epoch) = (Chunk::default(), self.app.feed.epoch);
        if std::mem::take(&mut self.start_over) {
            chunk.push_message(&FeedMessage::StartOver, epoch);
        }
        let last = *self.more.borrow_and_update();
        while self.cursor < last && !chunk.is_full() {
            let now = self.app.clock.now();
            if let Some(reached) = self.app.feed.read(self.cursor, last, now, &mut chunk) {
                self.cursor = reached;
            } else if let Err(error) = self.read_store(last, &mut chunk).await {
                return if chunk.is_empty() { Err(error) } else { Ok(chunk) };
            }
        }
        if self.catching_up.is_some_and(|target| self.cursor >= target && last >= target) {
            self.catching_up = None;
            chunk.push_message(&FeedMessage::CaughtUp { seq: self.cursor }, epoch);
        }
        // Only to a reader that has everything this node knows of, and only if that is up to date.
        let is_up_to_date = self.catching_up.is_none() && self.cursor >= self.app.feed.last();
        if is_up_to_date && Instant::now() >= self.heartbeat_at && self.app.feed.is_fresh() {
            self.heartbeat_at = Instant::now() + HEARTBEAT;
            let now = self.app.clock.now().secs();
            chunk.push_message(&FeedMessage::Heartbeat { seq: self.cursor, now }, epoch);
        }
        Ok(chunk)
    }

    /// Adds a page of the store to the chunk, nothing beyond `last`: this node may not have dropped yet what
    /// later events make stale.
    async fn read_store(&mut self, last: u64, chunk: &mut Chunk) -> Result<(), StoreError> {
        let page = self.app.store.events_after(self.cursor, PAGE).await?;
        let (now, epoch) = (self.app.clock.now(), self.app.feed.epoch);
        let is_whole = page.len() < PAGE || page.last().is_some_and(|logged| logged.seq >= last);
        for logged in page.into_iter().take_while(|logged| logged.seq <= last) {
            self.cursor = logged.seq;
            if logged.event.until > now {
                chunk.push_event(&Bytes::from(FeedMessage::Event(logged).encode(epoch)));
            }
        }
        if is_whole {
            self.cursor = last;
        }
        Ok(())
    }
}

/// A reader's place, with all that is done when it goes.
pub(super) struct Place {
    app: App,
    who: String,
    end: &'static str,
    leash: Option<Leash>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// A place for the client. Its connection may stall for `feed.write_timeout` at most, and hardly once
    /// the readers have to go.
    pub(super) fn new(app: &App, who: String, permit: OwnedSemaphorePermit, leash: Option<Leash>) -> Self {
        if let Some(leash) = &leash {
            let mut stopping = app.feed.stopping();
            let stop = async move {
                drop(stopping.wait_for(|stop| *stop).await);
                // Time for one that does read to take what is under way.
                sleep(LAST_WORDS).await;
            };
            leash.tighten(app.config.feed.write_timeout.0, stop);
        }
        tracing::debug!(client_id = who, readers = app.feed.readers(), "a reader of the feed came");
        Self { app: Arc::clone(app), who, end: "left", leash, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.leash.as_ref().is_some_and(Leash::loosen) {
            self.end = if *self.app.feed.stopping().borrow() { "shutdown" } else { "slow" };
        }
        self.app.metrics.feed_ended(self.end);
        if self.end == "slow" {
            tracing::warn!(
                client_id = self.who,
                "a reader of the feed took nothing for feed.write_timeout and was cut"
            );
        }
        tracing::debug!(client_id = self.who, end = self.end, "a reader of the feed went");
    }
}

/// The stream as the body of an answer.
pub(super) struct FeedBody(Option<Next>);

type Next = Pin<Box<dyn Future<Output = (Reader, Option<Bytes>)> + Send>>;

impl FeedBody {
    pub(super) fn new(reader: Reader) -> Self {
        Self(Some(next_of(reader)))
    }
}

fn next_of(mut reader: Reader) -> Next {
    Box::pin(async move {
        let next = reader.next().await;
        (reader, next)
    })
}

impl Body for FeedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let (reader, chunk) = ready!(next.as_mut().poll(cx));
        self.0 = chunk.is_some().then(|| next_of(reader));
        Poll::Ready(chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}
