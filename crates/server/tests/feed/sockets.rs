//! Readers over real sockets: one that does not read, one that leaves, and a shutdown.

use crate::common::{PATIENCE, Reading, Running, token, until};
use crate::support::{Credential, request};
use axum::body::Body;
use http::Method;
use http_body_util::BodyExt as _;
use reseal_core::event::{Event, EventKind};
use reseal_server::config::Config;
use reseal_server::{listen, router};
use reseal_store::{Commit, Write};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Server {
    running: Running,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl Server {
    async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let running = Running::with(configure).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Arc::clone(&running.app);
        let stopped = async move { stopped.await.unwrap_or(()) };
        let router = router::router(&app);
        let done = tokio::spawn(async move { listen::serve(app, router, listener, stopped).await });
        Self { running, address, stop, done }
    }

    /// A connection that has asked for the feed, and read nothing of it.
    async fn reader(&self) -> TcpStream {
        let Credential::Bearer(token) = token(&self.running, "reseal:feed").await else { panic!() };
        let socket = TcpSocket::new_v4().unwrap();
        // Little room in between, so that it stalls soon.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let head = format!("GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Logs more than the buffers of a connection hold.
    async fn flood(&self) {
        let app = &self.running.app;
        let until = app.event_until(app.clock.now());
        let withdrawn: Vec<String> = (0..100).map(|i| format!("{i:0200}")).collect();
        let event = Event { kind: EventKind::KeysChanged { withdrawn }, until };
        for _ in 0..40 {
            let writes = (0..20).map(|_| Write::Log(event.clone()));
            app.store.commit(Commit::of(writes)).await.unwrap();
        }
    }

    async fn metrics(&self) -> String {
        let asked = request(Method::GET, "/metrics", &Credential::None, &Value::Null);
        let body: Body = self.running.open(asked).await.into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let (mut text, wanted_bytes) = (Vec::new(), wanted.as_bytes());
    let read = async {
        let mut searched: usize = 0;
        while !text[searched..].windows(wanted.len()).any(|bytes| bytes == wanted_bytes) {
            searched = text.len().saturating_sub(wanted.len());
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
        }
    };
    assert!(timeout(PATIENCE, read).await.is_ok(), "{wanted} does not come");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_costs_nobody_anything() {
    let server = Server::start(|config| config.feed.write_timeout = "1s".parse().unwrap()).await;
    let mut healthy = Reading::open(&server.running, None).await;
    healthy.caught_up().await;
    let mut slow = server.reader().await;
    read_until(&mut slow, "caught-up").await;
    let mut leaving = server.reader().await;
    read_until(&mut leaving, "caught-up").await;
    drop(leaving);
    until("one has left", || server.running.app.feed.readers() == 2).await;

    server.flood().await;
    for seq in 1..=800 {
        assert_eq!(healthy.event().await.seq(), seq);
    }
    until("the other one is cut", || server.running.app.feed.readers() == 1).await;
    let metrics = server.metrics().await;
    for line in [
        "reseal_feed_readers_ended_total{reason=\"slow\"} 1",
        "reseal_feed_readers_ended_total{reason=\"left\"} 1",
        "reseal_feed_readers 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let sent: u64 = metrics
        .lines()
        .find_map(|l| l.strip_prefix("reseal_feed_events_sent_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert!((800..1600).contains(&sent), "{sent}");
    // Its connection is gone: what was under way comes, then the end.
    let mut rest = Vec::new();
    drop(timeout(PATIENCE, slow.read_to_end(&mut rest)).await.expect("the connection is still open"));
    assert!(rest.len() < 8 * 1024 * 1024);
}

#[tokio::test]
async fn a_shutdown_ends_readers_at_once_whether_they_read_or_not() {
    // Any wait for the readers would take an hour.
    let server = Server::start(|config| {
        config.server.shutdown_timeout = "1h".parse().unwrap();
        config.feed.write_timeout = "1h".parse().unwrap();
    })
    .await;
    let (mut reading, mut stalled) = (server.reader().await, server.reader().await);
    read_until(&mut reading, "caught-up").await;
    read_until(&mut stalled, "caught-up").await;
    server.flood().await;
    let address = server.address;
    // One has everything; the other has taken nothing of it, and never will.
    read_until(&mut reading, ".800\n").await;
    let collect = tokio::spawn(async move {
        let mut text = Vec::new();
        reading.read_to_end(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    });
    assert_eq!(server.running.app.feed.readers(), 2);
    server.stop.send(()).unwrap();
    timeout(PATIENCE, server.done).await.expect("the shutdown waits for readers").unwrap();
    let text = collect.await.unwrap();
    assert!(text.ends_with("0\r\n\r\n"), "the stream ends in order");
    assert!(TcpStream::connect(address).await.is_err());
    let refused = server.running.get("/v1/feed", &token(&server.running, "reseal:feed").await).await;
    refused.expect_error(503, "temporarily_unavailable");
    drop(stalled);
}

#[tokio::test]
async fn no_timeout_of_requests_ends_a_stream() {
    let server = Server::start(|config| {
        config.server.request_timeout = "1s".parse().unwrap();
        config.server.header_timeout = "1s".parse().unwrap();
    })
    .await;
    let mut reading = server.reader().await;
    // The first one comes after five seconds.
    read_until(&mut reading, "event: heartbeat").await;
    server.flood().await;
    read_until(&mut reading, ".800\n").await;
}
