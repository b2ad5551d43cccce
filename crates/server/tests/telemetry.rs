//! Traces leave as OTLP over HTTP, with the trace that the caller named. Alone in its process: the log is
//! opened once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, Request, StatusCode};
use reseal_server::config::Config;
use reseal_server::ops::log::{Log, LogError};
use support::TestAuthority;
use tokio::sync::mpsc;

const TRACE: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_become_spans_at_the_collector() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let collect = post(async move |headers: HeaderMap, body: Bytes| {
        sender.send((headers, body)).unwrap();
        StatusCode::OK
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Router::new().route("/v1/traces", collect);
    tokio::spawn(async move { axum::serve(listener, collector).await.unwrap() });

    let authority = TestAuthority::with(|c| c.telemetry.otlp_endpoint = Some(endpoint)).await;
    let log = Log::open(&authority.app.config).unwrap();
    assert!(matches!(Log::open(&Config::default()), Err(LogError::Twice)));
    let request = Request::get("/v1/me")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("authorization", "Bearer hunter2")
        .body(axum::body::Body::empty())
        .unwrap();
    authority.send(request).await.expect_error(401, "invalid_token");
    log.close().await;

    let (headers, body) = received.recv().await.unwrap();
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert!(contains(&body, &TRACE), "the caller's trace");
    assert!(contains(&body, b"GET /v1/me") && contains(&body, b"reseal"));
    assert!(!contains(&body, b"hunter2"));
}
