//! Keys, tokens, and an issuer whose answers a test chooses.

use aws_lc_rs::rand::SystemRandom;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use reseal_jose::{Algorithm, JwkSet, SigningKey, VerifyingKeys};
use reseal_verify::{Builder, ManualClock, Verifier};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What time it is.
pub const NOW: i64 = 1_800_000_000;
/// Who verifies.
pub const AUDIENCE: &str = "orders";

#[allow(clippy::disallowed_methods, reason = "tests need keys")]
pub fn random() -> SystemRandom {
    SystemRandom::new()
}

pub fn key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm, &random()).unwrap()
}

pub fn set(keys: &[&SigningKey]) -> JwkSet {
    JwkSet { keys: keys.iter().map(|key| key.public_jwk().clone()).collect() }
}

pub fn given(keys: &[&SigningKey]) -> VerifyingKeys {
    VerifyingKeys::from_set(&set(keys))
}

/// Good claims.
pub fn claims(issuer: &str) -> Value {
    json!({ "iss": issuer, "sub": "alice", "aud": [issuer, AUDIENCE], "iat": NOW, "exp": NOW + 300, "jti": "1" })
}

/// Good claims with some replaced; null takes one away.
pub fn with(issuer: &str, changes: Value) -> Value {
    let mut claims = claims(issuer);
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

pub fn sign(key: &SigningKey, claims: &Value) -> String {
    sign_text(key, &claims.to_string())
}

pub fn sign_text(key: &SigningKey, payload: &str) -> String {
    key.sign("at+jwt", payload.as_bytes(), &random()).unwrap()
}

/// With a clock that stands at [`NOW`].
pub fn builder(issuer: &str) -> (Builder, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW));
    (Verifier::builder(issuer).audience(AUDIENCE).clock(clock.clone()), clock)
}

/// Waits until it is so. The bound is for a test that would hang.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

/// An issuer on loopback.
#[derive(Clone)]
pub struct Issuer(Arc<IssuerState>);

pub struct IssuerState {
    pub url: String,
    pub answers: Mutex<Answers>,
    metadata_calls: AtomicUsize,
    key_calls: AtomicUsize,
    /// A permit per answer with keys, while it is shut.
    gate: tokio::sync::Semaphore,
}

/// What it answers.
pub struct Answers {
    pub metadata: Value,
    pub metadata_path: String,
    pub keys: (u16, String),
    pub cache_control: &'static str,
    pub gated: bool,
}

impl Issuer {
    pub async fn start(keys: &[&SigningKey]) -> Self {
        Self::start_at("", keys).await
    }

    /// Whose URL has that path.
    pub async fn start_at(path: &str, keys: &[&SigningKey]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        let url = format!("{host}{path}");
        let answers = Answers {
            metadata: json!({ "issuer": url, "jwks_uri": format!("{host}/keys") }),
            metadata_path: format!("/.well-known/oauth-authorization-server{path}"),
            keys: (200, serde_json::to_string(&set(keys)).unwrap()),
            cache_control: "max-age=3600",
            gated: false,
        };
        let state = IssuerState {
            url,
            answers: Mutex::new(answers),
            metadata_calls: AtomicUsize::new(0),
            key_calls: AtomicUsize::new(0),
            gate: tokio::sync::Semaphore::new(0),
        };
        let issuer = Self(Arc::new(state));
        let router = axum::Router::new().fallback(answer).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    pub fn change(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.0.answers.lock().unwrap());
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys = serde_json::to_string(&set(keys)).unwrap();
        self.change(|answers| answers.keys = (200, keys));
    }

    /// Lets one answer through.
    pub fn let_through(&self) {
        self.0.gate.add_permits(1);
    }

    pub fn key_calls(&self) -> usize {
        self.0.key_calls.load(Ordering::SeqCst)
    }

    pub fn metadata_calls(&self) -> usize {
        self.0.metadata_calls.load(Ordering::SeqCst)
    }
}

async fn answer(State(issuer): State<Issuer>, uri: Uri) -> Response {
    let state = &issuer.0;
    if uri.path() == "/keys" {
        state.key_calls.fetch_add(1, Ordering::SeqCst);
        if state.answers.lock().unwrap().gated {
            state.gate.acquire().await.unwrap().forget();
        }
        let answers = state.answers.lock().unwrap();
        let (status, keys) = answers.keys.clone();
        let headers = [(header::CACHE_CONTROL, answers.cache_control), (header::LOCATION, "/elsewhere")];
        return (StatusCode::from_u16(status).unwrap(), headers, keys).into_response();
    }
    state.metadata_calls.fetch_add(1, Ordering::SeqCst);
    let answers = state.answers.lock().unwrap();
    if uri.path() == answers.metadata_path {
        (HeaderMap::new(), answers.metadata.to_string()).into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}
