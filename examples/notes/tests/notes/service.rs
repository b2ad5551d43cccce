//! The notes, served in this process.

use crate::authority::{Authority, http};
use reqwest::Method;
use reseal_verify::{Clock, OnFeedLost, SystemClock, Verifier};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The system's clock, and so many seconds more.
#[derive(Debug, Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> i64 {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

/// The service and its authority.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) verifier: Verifier,
    clock: Arc<Ahead>,
    url: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(OnFeedLost::Accept).await
    }

    pub(crate) async fn with(when_lost: OnFeedLost) -> Self {
        let authority = Authority::start();
        let clock = Arc::new(Ahead::default());
        let (id, secret) = authority.service_client();
        let verifier = Verifier::builder(&authority.url)
            .audience("notes")
            .client(id, secret)
            .feed(when_lost)
            .clock(Arc::<Ahead>::clone(&clock))
            .build()
            .await
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Longer than any loaded machine needs; a request as a whole has 30 s.
        let app = notes::app(verifier.clone(), Duration::from_secs(25));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let world = Self { authority, verifier, clock, url };
        world.catch_up().await;
        world
    }

    /// Until the feed has caught up.
    pub(crate) async fn catch_up(&self) {
        eventually("the feed has caught up", async || {
            let freshness = self.verifier.freshness();
            freshness.is_caught_up() && !freshness.feed_is_lost()
        })
        .await;
    }

    /// Until the verifier knows that the token's claims have changed.
    pub(crate) async fn learns_that_it_is_stale(&self, token: &str) {
        eventually("the token is stale", async || {
            self.verifier.check(token).await.is_ok_and(|checked| checked.stale)
        })
        .await;
    }

    /// Until the verifier knows that the session is over.
    pub(crate) async fn learns_that_it_is_over(&self, token: &str) {
        eventually("the session is over", async || self.verifier.check(token).await.is_err()).await;
    }

    /// Moves both clocks.
    pub(crate) async fn advance(&self, seconds: i64) {
        self.authority.advance(seconds).await;
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Moves the clock of the service alone, while the authority is away.
    pub(crate) fn advance_here(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Reply {
        self.ask(Method::GET, path, token, None).await
    }

    pub(crate) async fn write(&self, text: &str, token: &str) -> Reply {
        self.ask(Method::POST, "/notes", token, Some(json!({ "text": text }))).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Reply {
        Reply::of(&self.url, method, path, token, body).await
    }
}

/// An answer of the service.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) async fn of(url: &str, method: Method, path: &str, token: &str, body: Option<Value>) -> Self {
        let mut request = http().request(method, format!("{url}{path}"));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// The newer token, and that nobody may store it.
    pub(crate) fn renewed(&self) -> Option<String> {
        let token = self.header("renewed-access-token")?;
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("access-control-expose-headers"), Some("Renewed-Access-Token"));
        Some(token.to_owned())
    }

    /// Status, `error` and `reason`.
    pub(crate) fn refusal(&self) -> (u16, &str, Option<&str>) {
        (self.status, self.body["error"].as_str().unwrap_or_default(), self.body["reason"].as_str())
    }
}

/// Waits for a condition: for what a service learns by itself.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..6000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}
