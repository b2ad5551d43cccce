//! One connection, below TLS: a peer that does not read its answer is let go.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream with these habits.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    /// How long a write may make no progress.
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    leash: Leash,
}

impl<S> Connection<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None, leash: Leash(Arc::default()) }
    }

    /// What the handlers of its requests hold it by.
    pub(crate) fn leash(&self) -> Leash {
        self.leash.clone()
    }

    /// The outcome of a write, or the end of patience.
    fn impatient<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.leash.patience().unwrap_or(self.patience);
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        let is_over = stalled.as_mut().poll(cx).is_ready();
        if !self.leash.poll_stalled(cx, is_over) {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
    }
}

/// The hold that the handler of a request has on its connection while it answers.
#[derive(Clone)]
pub(crate) struct Leash(Arc<Mutex<Option<Tight>>>);

struct Tight {
    /// Over HTTP/2 there may be several.
    holders: usize,
    patience: Duration,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    ran_out: bool,
}

impl fmt::Debug for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leash")
    }
}

impl Leash {
    /// From now on a write may make no progress for `patience` at most, and for no time at all once `until`
    /// is ready.
    pub(crate) fn tighten(&self, patience: Duration, until: impl Future<Output = ()> + Send + 'static) {
        let mut held = self.held();
        let (holders, ran_out) = held.as_ref().map_or((0, false), |tight| (tight.holders, tight.ran_out));
        *held = Some(Tight { holders: holders + 1, patience, until: Box::pin(until), ran_out });
    }

    /// Gives the connection its own habits back, if nobody else holds it; whether it was let go for the hold.
    pub(crate) fn loosen(&self) -> bool {
        let mut held = self.held();
        let Some(tight) = held.as_mut() else { return false };
        tight.holders = tight.holders.saturating_sub(1);
        let ran_out = tight.ran_out;
        if tight.holders == 0 {
            *held = None;
        }
        ran_out
    }

    /// The connection is let go because an answer on it makes no progress.
    pub(crate) fn run_out(&self) {
        if let Some(tight) = self.held().as_mut() {
            tight.ran_out = true;
        }
    }

    /// How long an answer may make no progress, if a handler holds the connection.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.held().as_ref().map(|tight| tight.patience)
    }

    /// Whether a connection that makes no progress is to be let go; it is if `is_over`.
    fn poll_stalled(&self, cx: &mut Context<'_>, is_over: bool) -> bool {
        let mut held = self.held();
        let Some(tight) = held.as_mut() else { return is_over };
        tight.ran_out = tight.ran_out || is_over || tight.until.as_mut().poll(cx).is_ready();
        tight.ran_out
    }

    fn held(&self) -> MutexGuard<'_, Option<Tight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.impatient(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.impatient(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_let_go() {
        let (ours, _theirs) = duplex(8);
        let mut connection = Connection::new(ours, Duration::from_secs(5));
        let error = connection.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_may_hold_its_connection_tighter() {
        let (ours, _theirs) = duplex(8);
        let mut connection = Connection::new(ours, Duration::from_secs(3600));
        let leash = connection.leash();
        leash.tighten(Duration::from_secs(2), std::future::pending());
        let begun = tokio::time::Instant::now();
        let error = connection.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 2);
        assert!(leash.loosen());
        assert!(!leash.loosen(), "it has its own habits again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_connection_is_let_go_when_its_handler_has_to_end() {
        let (ours, _theirs) = duplex(8);
        let mut connection = Connection::new(ours, Duration::from_secs(3600));
        let leash = connection.leash();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        leash.tighten(Duration::from_secs(3600), async move { drop(ended.await) });
        let writer = tokio::spawn(async move { connection.write_all(&[0; 64]).await });
        sleep(Duration::from_secs(60)).await;
        assert!(!writer.is_finished());
        end.send(()).unwrap();
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(leash.loosen());
    }

    #[test]
    fn the_hold_lasts_until_the_last_holder_lets_go() {
        let leash = Leash(Arc::default());
        let second = Duration::from_secs(1);
        leash.tighten(second, std::future::pending());
        leash.tighten(second, std::future::pending());
        assert!(!leash.loosen());
        assert_eq!(leash.patience(), Some(second));
        leash.run_out();
        assert!(leash.loosen());
        assert_eq!(leash.patience(), None);
    }
}
