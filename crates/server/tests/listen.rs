//! The listener over real sockets: what is malformed, too slow or too much, and a shutdown in order.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::Router;
use axum::routing::get;
use reseal_server::config::Config;
use reseal_server::{listen, ops};
use std::net::SocketAddr;
use std::sync::Arc;
use support::TestAuthority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    /// Released, `/wait` answers.
    release: Arc<Notify>,
    /// Told when `/wait` was reached.
    reached: Arc<Notify>,
    _authority: TestAuthority,
}

impl Server {
    async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let authority = TestAuthority::with(configure).await;
        let (release, reached) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (released, reach) = (Arc::clone(&release), Arc::clone(&reached));
        let wait = async move || {
            reach.notify_one();
            released.notified().await;
            "done"
        };
        let routes = ops::routes().split_for_parts().0.merge(Router::new().route("/wait", get(wait)));
        let router = ops::layers(routes, &authority.app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Arc::clone(&authority.app);
        let stopped = async move { stopped.await.unwrap_or(()) };
        let done = tokio::spawn(async move { listen::serve(app, router, listener, stopped).await });
        Self { address, stop, done, release, reached, _authority: authority }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything the server says to these bytes until it closes the connection.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut text = Vec::new();
        // A connection that is reset after the answer has answered all the same.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }
}

fn error_of(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    assert!(body["error_description"].is_string(), "{answer}");
    body["error"].as_str().unwrap().to_owned()
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";

#[tokio::test]
async fn malformed_requests_get_a_code_and_a_description() {
    let server = Server::start(|_| {}).await;
    for bad in ["GET / HTTP/1.1\r\nno colon\r\n\r\n", "\x01\x02\x03\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = server.say(bad.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert_eq!(error_of(&answer), "invalid_request");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(66_000));
    let answer = server.say(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn large_headers_are_refused_by_our_limit_and_by_the_parser() {
    let server = Server::start(|c| c.server.max_header_bytes = 8192).await;
    let ours = format!("{LIVE}X-Large: {}\r\n\r\n", "x".repeat(9000));
    let many: String = (0..101).map(|i| format!("X-{i}: 1\r\n")).collect();
    for text in [ours, format!("{LIVE}{many}\r\n")] {
        let answer = server.say(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert_eq!(error_of(&answer), "headers_too_large");
    }
    let fine = format!("{LIVE}X-Large: {}\r\n\r\n", "x".repeat(4000));
    assert!(server.say(fine.as_bytes()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn headers_that_do_not_end_are_cut_off() {
    let server = Server::start(|c| c.server.header_timeout = "1s".parse().unwrap()).await;
    // Returns only because the server closes.
    let answer = server.say(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_accepted_and_takes_nothing_new() {
    let server = Server::start(|_| {}).await;
    let mut busy = server.connect().await;
    let request = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";
    busy.write_all(request.as_bytes()).await.unwrap();
    server.reached.notified().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let Server { stop, done, release, address, .. } = server;
    stop.send(()).unwrap();
    // An idle connection is closed while the busy one goes on.
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("}") && !done.is_finished(), "{rest}");
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    release.notify_one();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
    done.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_it_was_told() {
    let server = Server::start(|c| c.server.shutdown_timeout = "1s".parse().unwrap()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.reached.notified().await;
    server.stop.send(()).unwrap();
    server.done.await.unwrap();
}

#[tokio::test]
async fn connections_above_the_limit_wait_their_turn() {
    let server = Server::start(|c| c.server.max_connections = 1).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.reached.notified().await;
    let request = format!("{LIVE}\r\n");
    let second = server.say(request.as_bytes());
    tokio::pin!(second);
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "there is one place only");
    server.release.notify_one();
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200 "));
}
