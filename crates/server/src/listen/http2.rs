//! One HTTP/2 connection (RFC 9113). What the protocol lets a peer do without end has one: streams, windows,
//! headers, resets, idleness, answers that are not taken.

use super::told;
use crate::connection::Leash;
use crate::http::error::ApiError;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2::{Builder, Connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Requests of one connection at a time.
const STREAMS_MAX: u32 = 100;
/// Bytes of request bodies that a connection may have sent and nobody has read yet, per stream and in all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of an answer that wait for room, per stream; what goes there does so in pieces, so that each piece
/// that the peer takes is seen.
const SEND_BUFFER: usize = 64 * 1024;
const PIECE: usize = 16 * 1024;
/// Streams that the peer reset before they were looked at (CVE-2023-44487), and that we reset for its faults
/// (CVE-2025-8671): more, and the connection is closed.
const PENDING_RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 100;
/// So many requests more than were answered may the peer take back.
const ABANDONED_MAX: u64 = 100;
/// A peer that is gone without a word is asked whether it is there, and given this long to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long a shutdown waits for an answer that is not taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bounds of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most bytes of headers.
    pub(super) header_bytes: usize,
    /// How long a connection may stay without a request.
    pub(super) quiet: Duration,
    /// How long an answer may make no progress.
    pub(super) patience: Duration,
}

/// What all connections share.
pub(super) fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // Counted with 32 bytes a field (RFC 9113 §6.5.2); the router refuses what is above the limit in our
        // words.
        .max_header_list_size(u32::try_from(2 * limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(limits.quiet);
    builder
}

/// Why a connection was cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// It broke, or broke the protocol.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// An answer was not taken.
    #[error("the peer does not take its answer")]
    Stalled,
    /// It takes back what it asks for, again and again.
    #[error("the peer resets its requests")]
    Resets,
    /// It was told to end and did not.
    #[error("the peer does not close")]
    Lingers,
}

/// Runs the connection to its end; once `stopped`, it ends when what was accepted is answered.
pub(super) async fn drive<I, S>(
    connection: Connection<I, S, TokioExecutor>,
    (traffic, leash): (&Traffic, &Leash),
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Cut>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut connection = pin!(connection);
    let mut look = interval((limits.quiet.min(limits.patience) / 4).max(Duration::from_millis(100)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stopping, mut closing) = (false, None::<Instant>);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => return Ok(result?),
            () = told(&mut stopped), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = traffic.flooded.notified() => return Err(Cut::Resets),
            _ = look.tick() => {
                let patience = leash.patience().unwrap_or(limits.patience);
                let patience = if stopping { patience.min(LAST_WORDS) } else { patience };
                match traffic.judge(Instant::now(), (limits.quiet, patience)) {
                    Judged::Busy => closing = None,
                    Judged::Stalled => {
                        leash.run_out();
                        return Err(Cut::Stalled);
                    }
                    Judged::Quiet => match closing {
                        None => {
                            closing = Some(Instant::now());
                            connection.as_mut().graceful_shutdown();
                        }
                        // Time to take the end of an answer, which nobody can watch.
                        Some(since) if since.elapsed() > patience => return Err(Cut::Lingers),
                        Some(_) => {}
                    },
                }
            }
        }
    }
}

/// What happens on one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    state: Mutex<State>,
    /// Told when the peer resets too much.
    flooded: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests whose answer is not handed over whole.
    open: usize,
    /// Since when there is none.
    quiet_since: Instant,
    answered: u64,
    abandoned: u64,
    next: u64,
    /// Answers of which a piece was handed over and the next not asked for yet, and since when.
    waiting: HashMap<u64, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Busy,
    Quiet,
    Stalled,
}

impl Traffic {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            open: 0,
            quiet_since: Instant::now(),
            answered: 0,
            abandoned: 0,
            next: 0,
            waiting: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), flooded: Notify::new() })
    }

    /// Answers a request, if there is a place for it among all that run.
    pub(super) async fn answer<F>(
        self: Arc<Self>,
        places: Arc<Semaphore>,
        work: impl FnOnce() -> F,
    ) -> Response<Answer>
    where
        F: Future<Output = Response>,
    {
        let mut stream = Stream::new(self, places.try_acquire_owned().ok());
        let response = if stream.place.is_some() {
            work().await
        } else {
            ApiError::unavailable(Duration::from_secs(1)).into_response()
        };
        stream.answered();
        response.map(|body| Answer { body, rest: Bytes::new(), stream })
    }

    fn judge(&self, now: Instant, (quiet, patience): (Duration, Duration)) -> Judged {
        let state = self.state();
        let waits_for = |since: &Instant| now.saturating_duration_since(*since);
        if state.waiting.values().any(|since| waits_for(since) > patience) {
            return Judged::Stalled;
        }
        if state.open == 0 && waits_for(&state.quiet_since) > quiet { Judged::Quiet } else { Judged::Busy }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, until its answer is handed over whole or it is given up.
#[derive(Debug)]
struct Stream {
    traffic: Arc<Traffic>,
    number: u64,
    is_answered: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Stream {
    fn new(traffic: Arc<Traffic>, place: Option<OwnedSemaphorePermit>) -> Self {
        let mut state = traffic.state();
        state.open += 1;
        let number = state.next;
        state.next += 1;
        drop(state);
        Self { traffic, number, is_answered: false, place }
    }

    /// The handler is done; a body that goes on holds a place no more.
    fn answered(&mut self) {
        self.place = None;
        self.is_answered = true;
        self.traffic.state().answered += 1;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.traffic.state();
        state.open = state.open.saturating_sub(1);
        state.waiting.remove(&self.number);
        if state.open == 0 {
            state.quiet_since = Instant::now();
        }
        if !self.is_answered {
            state.abandoned += 1;
            if state.abandoned > ABANDONED_MAX + state.answered {
                self.traffic.flooded.notify_one();
            }
        }
    }
}

/// The body of an answer, that knows for how long nobody has asked for its next piece.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    /// What is left of its last frame.
    rest: Bytes,
    stream: Stream,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.next_piece(cx);
        let mut state = self.stream.traffic.state();
        if frame.is_ready() {
            state.waiting.insert(self.stream.number, Instant::now());
        } else {
            // It is we who have nothing to say yet.
            state.waiting.remove(&self.stream.number);
        }
        drop(state);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Answer {
    fn next_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    const QUIET: Duration = Duration::from_secs(10);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn judge(traffic: &Traffic) -> Judged {
        traffic.judge(Instant::now(), (QUIET, PATIENCE))
    }

    async fn answer(traffic: &Arc<Traffic>, places: &Arc<Semaphore>, body: Body) -> Response<Answer> {
        let work = || async { Response::new(body) };
        Arc::clone(traffic).answer(Arc::clone(places), work).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_becomes_quiet() {
        let (traffic, places) = (Traffic::new(), Arc::new(Semaphore::new(1)));
        tokio::time::advance(QUIET).await;
        assert_eq!(judge(&traffic), Judged::Busy);
        let held = answer(&traffic, &places, Body::from("x")).await;
        tokio::time::advance(2 * QUIET).await;
        assert_eq!(judge(&traffic), Judged::Busy);
        drop(held);
        tokio::time::advance(QUIET + Duration::from_millis(1)).await;
        assert_eq!(judge(&traffic), Judged::Quiet);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_noticed_and_one_that_waits_for_us_is_not() {
        let (traffic, places) = (Traffic::new(), Arc::new(Semaphore::new(1)));
        let silent = Body::new(Silent);
        let mut silent = answer(&traffic, &places, silent).await.into_body();
        let asked = tokio::time::timeout(Duration::from_millis(1), silent.frame()).await;
        assert!(asked.is_err());
        tokio::time::advance(2 * PATIENCE).await;
        assert_eq!(judge(&traffic), Judged::Busy);
        let mut taken = answer(&traffic, &places, Body::from("x")).await.into_body();
        taken.frame().await.unwrap().unwrap();
        tokio::time::advance(PATIENCE).await;
        assert_eq!(judge(&traffic), Judged::Busy);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(judge(&traffic), Judged::Stalled);
        drop(taken);
        assert_eq!(judge(&traffic), Judged::Busy);
    }

    /// A body that has nothing to say yet.
    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_large_answer_goes_out_in_pieces_and_whole() {
        let (traffic, places) = (Traffic::new(), Arc::new(Semaphore::new(1)));
        let text: Vec<u8> = (0..3 * PIECE + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut body = answer(&traffic, &places, Body::from(text.clone())).await.into_body();
        let mut taken = Vec::new();
        assert!(!HttpBody::is_end_stream(&body));
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE && !piece.is_empty());
            taken.extend_from_slice(&piece);
            let left = u64::try_from(text.len() - taken.len()).unwrap();
            assert_eq!(HttpBody::size_hint(&body).exact(), Some(left));
            assert_eq!(HttpBody::is_end_stream(&body), left == 0);
        }
        assert_eq!(taken, text);
    }

    #[tokio::test]
    async fn resets_are_counted_against_answers() {
        let (traffic, places) = (Traffic::new(), Arc::new(Semaphore::new(1)));
        let abandon = || {
            let work = Arc::clone(&traffic).answer(Arc::clone(&places), std::future::pending);
            async move { drop(tokio::time::timeout(Duration::ZERO, work).await) }
        };
        let flooded = || {
            let notified = traffic.flooded.notified();
            async move { tokio::time::timeout(Duration::ZERO, notified).await.is_ok() }
        };
        for _ in 0..10 {
            drop(answer(&traffic, &places, Body::empty()).await);
        }
        for _ in 0..110 {
            abandon().await;
        }
        assert!(!flooded().await);
        abandon().await;
        assert!(flooded().await);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn without_a_place_the_answer_is_503() {
        let (traffic, places) = (Traffic::new(), Arc::new(Semaphore::new(0)));
        let response = answer(&traffic, &places, Body::empty()).await;
        assert_eq!(response.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(http::header::RETRY_AFTER));
    }
}
