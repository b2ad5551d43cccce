//! One TCP connection: a peer that does not read its answer is let go, and the errors that the HTTP parser
//! answers by itself, without a body, get ours.

use bytes::Bytes;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
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
    instead: Option<Instead>,
}

/// What is written in place of the parser's own answer.
#[derive(Debug)]
struct Instead {
    rest: Bytes,
    /// The length of what it stands for.
    stands_for: usize,
}

impl<S> Connection<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None, leash: Leash(Arc::default()), instead: None }
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
        *self.held() = Some(Tight { patience, until: Box::pin(until), ran_out: false });
    }

    /// Gives the connection its own habits back; whether it was let go for the hold.
    pub(crate) fn loosen(&self) -> bool {
        self.held().take().is_some_and(|tight| tight.ran_out)
    }

    fn patience(&self) -> Option<Duration> {
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

impl<S: AsyncWrite + Unpin> Connection<S> {
    fn write_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(Instead { rest, stands_for }) = &mut self.instead {
            if rest.is_empty() {
                let whole = *stands_for;
                self.instead = None;
                return Poll::Ready(Ok(whole));
            }
            let written = Pin::new(&mut self.stream).poll_write(cx, rest);
            if let Poll::Ready(Ok(n)) = written {
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let _ = rest.split_to(n);
            }
            ready!(self.impatient(cx, written))?;
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_none()
            && let Some(ours) = with_body(buf)
        {
            this.instead = Some(Instead { rest: ours, stands_for: buf.len() });
        }
        if this.instead.is_some() {
            return this.write_instead(cx);
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.impatient(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_some() || bufs.len() == 1 {
            return self.poll_write(cx, bufs.first().map_or(&[], |b| b));
        }
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

/// The parser's own answer with a body of ours, if `head` is one: handlers never answer these without a
/// body and its type.
fn with_body(head: &[u8]) -> Option<Bytes> {
    let (status, error, description) = match head.strip_prefix(b"HTTP/1.")?.get(1..5)? {
        b" 400" => ("400 Bad Request", "invalid_request", "This is not a well-formed HTTP request."),
        b" 414" => ("414 URI Too Long", "uri_too_long", "The URL is too long."),
        b" 431" => ("431 Request Header Fields Too Large", "headers_too_large", "The headers are too large."),
        _ => return None,
    };
    let text = std::str::from_utf8(head).ok()?;
    if !text.contains("\r\ncontent-length: 0\r\n") || text.contains("\r\ncontent-type:") {
        return None;
    }
    let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
    Some(Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn bare_errors_of_the_parser_get_a_body() {
        let (ours, mut theirs) = duplex(7);
        let mut connection = Connection::new(ours, Duration::from_secs(5));
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let writer = tokio::spawn(async move { connection.write_all(bare).await });
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        writer.await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("connection: close"));
        assert_eq!(body["error"], "headers_too_large");
    }

    #[tokio::test]
    async fn answers_of_handlers_pass_unchanged() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            let (ours, mut theirs) = duplex(1024);
            let mut connection = Connection::new(ours, Duration::from_secs(5));
            connection.write_all(text.as_bytes()).await.unwrap();
            drop(connection);
            let mut read = String::new();
            theirs.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, text);
        }
    }

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
}
