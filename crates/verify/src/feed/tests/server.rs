//! A server that does as the test says, byte by byte.

use reseal_core::SessionId;
use reseal_core::event::{EndReason, Event, EventKind, LoggedEvent};
use reseal_core::feed::FeedMessage;
use reseal_core::time::Timestamp;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const EPOCH: [u8; 16] = [0xab; 16];

/// Answers metadata and tokens by itself and hands connections to the feed to the test.
pub(super) struct Server {
    pub(super) url: String,
    feeds: mpsc::UnboundedReceiver<Feed>,
    pub(super) tokens: Arc<AtomicU32>,
    /// Status and body of the token endpoint, if not a token.
    pub(super) token_answer: Arc<Mutex<Option<(u16, String)>>>,
    task: JoinHandle<()>,
}

/// A connection to the feed, of which only the head of the request was read.
pub(super) struct Feed {
    pub(super) head: String,
    stream: TcpStream,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_at("").await
    }

    /// Has that path to itself and nothing else.
    pub(super) async fn start_at(path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let (to_test, feeds) = mpsc::unbounded_channel();
        let (tokens, token_answer) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None)));
        let state = (url.clone(), Arc::clone(&tokens), Arc::clone(&token_answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone(), to_test.clone()));
            }
        });
        Self { url, feeds, tokens, token_answer, task }
    }

    /// The next connection to the feed.
    pub(super) async fn next(&mut self) -> Feed {
        timeout(PATIENCE, self.feeds.recv()).await.expect("a connection in time").unwrap()
    }

    /// The next connection, answered as a feed.
    pub(super) async fn next_stream(&mut self) -> Feed {
        let mut feed = self.next().await;
        feed.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n").await;
        feed
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type State = (String, Arc<AtomicU32>, Arc<Mutex<Option<(u16, String)>>>);

async fn serve(mut stream: TcpStream, state: State, to_test: mpsc::UnboundedSender<Feed>) {
    let (url, tokens, token_answer) = state;
    let mut head = Vec::new();
    // One request for each connection, so that nothing is left over from an earlier one.
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let is = |what: &str, at: &str| head.starts_with(&format!("{what} {path}{at} "));
    if is("get", "/v1/feed") {
        drop(to_test.send(Feed { head, stream }));
        return;
    }
    let (status, body) = if is("get", "/.well-known/oauth-authorization-server") {
        (200, format!("{{\"issuer\":\"{url}\",\"token_endpoint\":\"{url}/oauth/token\"}}"))
    } else if head.starts_with("get ") {
        (404, String::new())
    } else {
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        assert!(is("post", "/oauth/token"), "{head}");
        assert_eq!(body, b"grant_type=client_credentials&scope=reseal%3Afeed");
        let number = tokens.fetch_add(1, Ordering::Relaxed);
        let granted = format!(
            "{{\"access_token\":\"token-{number}\",\"token_type\":\"Bearer\",\"expires_in\":300,\"scope\":\"reseal:feed\"}}"
        );
        token_answer.lock().unwrap().clone().unwrap_or((200, granted))
    };
    let answer = format!(
        "HTTP/1.1 {status} Any\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    drop(stream.write_all(answer.as_bytes()).await);
}

impl Feed {
    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// As `send`, to one who may have gone.
    pub(super) async fn try_send(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).await.is_ok()
    }

    pub(super) async fn refuse(mut self, status: u16) {
        let more = "location: /elsewhere\r\ncontent-length: 0\r\nconnection: close";
        self.send(format!("HTTP/1.1 {status} No\r\n{more}\r\n\r\n")).await;
    }

    pub(super) async fn message(&mut self, message: &FeedMessage) {
        self.send(message.encode(EPOCH)).await;
    }

    pub(super) async fn caught_up(&mut self, seq: u64) {
        self.message(&FeedMessage::CaughtUp { seq }).await;
    }

    pub(super) fn last_event_id(&self) -> Option<&str> {
        self.head.split("\r\n").find_map(|line| line.strip_prefix("last-event-id: "))
    }

    /// Waits until the other side closes.
    pub(super) async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is a way of closing, too.
        drop(timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("closed in time"));
    }
}

pub(super) fn sid(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

/// Session `n` ended; number `seq` of the log.
pub(super) fn ended(n: u8, seq: u64) -> FeedMessage {
    ended_until(n, seq, 4_000_000_000)
}

pub(super) fn ended_until(n: u8, seq: u64, until: i64) -> FeedMessage {
    let kind = EventKind::SessionEnded { sid: sid(n), reason: EndReason::SignedOut };
    FeedMessage::Event(LoggedEvent { seq, event: Event { kind, until: Timestamp::from_secs(until) } })
}
