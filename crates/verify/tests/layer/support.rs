//! Tokens of our own, a service behind the layer, and an authority that answers what a test says.

use aws_lc_rs::rand::SystemRandom;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::{get, post};
use reseal_core::event::{Event, EventKind, LoggedEvent};
use reseal_core::{EndReason, Timestamp};
use reseal_jose::{Algorithm, JwkSet, SigningKey, VerifyingKeys};
use reseal_verify::{ManualClock, Verified, Verifier, VerifyLayer};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const AUDIENCE: &str = "https://notes.example";
pub(crate) const SID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
pub(crate) const SUB: &str = "01920000-0000-7000-8000-000000000001";

/// Writes an answer of the authority: status and body.
pub(crate) type Script = Box<dyn FnMut(u32) -> (u16, Value) + Send>;

pub(crate) struct World {
    key: SigningKey,
    pub(crate) issuer: String,
    pub(crate) verifier: Verifier,
    pub(crate) clock: Arc<ManualClock>,
    authority: Arc<Mutex<Authority>>,
    seq: std::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct Authority {
    calls: Vec<String>,
    script: Option<Script>,
}

impl World {
    /// An authority on a free port, which says 503 until a test says otherwise.
    pub(crate) async fn new() -> Self {
        let authority = Arc::new(Mutex::new(Authority::default()));
        let app = Router::new().route("/v1/session/renew", post(renew)).with_state(Arc::clone(&authority));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let key = SigningKey::generate(Algorithm::Es256, &random()).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let set = JwkSet { keys: vec![key.public_jwk().clone()] };
        let verifier = Verifier::builder(&issuer)
            .audience(AUDIENCE)
            .keys(VerifyingKeys::from_set(&set))
            .clock(Arc::<ManualClock>::clone(&clock))
            .build()
            .await
            .unwrap();
        Self { key, issuer, verifier, clock, authority, seq: 0.into() }
    }

    /// What the authority answers from now on; the argument is the number of the call, from 1.
    pub(crate) fn authority(&self, script: impl FnMut(u32) -> (u16, Value) + Send + 'static) {
        self.authority.lock().unwrap().script = Some(Box::new(script));
    }

    /// The tokens that renewal was asked for with.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.authority.lock().unwrap().calls.clone()
    }

    /// A sliding token, 1200 s of life, with these claims in place of the usual ones; null takes one away.
    pub(crate) fn token(&self, changes: &Value) -> String {
        let mut claims = json!({
            "iss": self.issuer, "aud": [self.issuer, AUDIENCE], "client_id": "web", "jti": "j",
            "sub": SUB, "sid": SID, "rev": 1, "iat": NOW, "exp": NOW + 1200, "renew_at": NOW + 600,
            "auth_time": NOW, "acr": "aal1", "amr": ["pwd"], "scope": "notes:read",
            "name": "Ada", "phone_number": null, "phone_number_verified": false, "roles": ["member"],
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        self.key.sign("at+jwt", claims.to_string().as_bytes(), &random()).unwrap()
    }

    /// Past the half-life of a token of now.
    pub(crate) fn pass_half_life(&self) {
        self.clock.set(NOW + 601);
    }

    pub(crate) fn layer(&self) -> VerifyLayer {
        // Longer than any loaded machine needs.
        VerifyLayer::new(self.verifier.clone()).renewal_timeout(Duration::from_secs(60))
    }

    fn event(&self, kind: EventKind) {
        let seq = self.seq.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let until = Timestamp::from_secs(NOW + 100_000);
        self.verifier.freshness().apply(&LoggedEvent { seq, event: Event { kind, until } });
    }

    pub(crate) fn claims_changed(&self, rev: u64) {
        self.event(EventKind::ClaimsChanged { sub: SUB.parse().unwrap(), rev });
    }

    pub(crate) fn client_changed(&self, before: i64) {
        self.event(EventKind::ClientChanged { client_id: "web".parse().unwrap(), before });
    }

    pub(crate) fn session_ended(&self, reason: EndReason) {
        self.event(EventKind::SessionEnded { sid: SID.parse().unwrap(), reason });
    }
}

async fn renew(
    State(authority): State<Arc<Mutex<Authority>>>,
    headers: HeaderMap,
) -> (StatusCode, axum::Json<Value>) {
    let mut authority = authority.lock().unwrap();
    let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    authority.calls.push(token);
    let number = u32::try_from(authority.calls.len()).unwrap();
    let (status, body) = match &mut authority.script {
        Some(script) => script(number),
        None => (503, json!({ "error": "temporarily_unavailable" })),
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(body))
}

/// The authority's answer with a newer token.
pub(crate) fn renewed(token: &str) -> (u16, Value) {
    (200, json!({ "renewed": true, "token_type": "Bearer", "access_token": token, "session": {} }))
}

#[expect(clippy::disallowed_methods, reason = "keys for tests")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    pub(crate) fn renewed(&self) -> Option<&str> {
        self.header("renewed-access-token")
    }

    /// Status, `error` and `reason`.
    pub(crate) fn refusal(&self) -> (u16, &str, Option<&str>) {
        (self.status, self.body["error"].as_str().unwrap_or_default(), self.body["reason"].as_str())
    }
}

/// A service that says whom it saw; `/fails` sees him too, and fails.
pub(crate) fn service() -> Router {
    Router::new().route("/", get(seen)).route(
        "/fails",
        get(|| async {
            let headers = [("access-control-expose-headers", "ETag"), ("cache-control", "public")];
            (StatusCode::CONFLICT, headers, "no")
        }),
    )
}

async fn seen(verified: Option<Verified>, headers: HeaderMap) -> axum::Json<Value> {
    let claims = verified.map(|v| v.claims::<Value>().unwrap());
    let authorization = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    axum::Json(json!({ "claims": claims, "authorization": authorization }))
}

/// Asks an app.
pub(crate) async fn ask(app: &Router, path: &str, token: Option<&str>) -> Reply {
    let authorization = token.map(|token| format!("Bearer {token}"));
    ask_with(app, path, authorization.as_deref().as_slice()).await
}

/// Asks an app with these `Authorization` headers.
pub(crate) async fn ask_with(app: &Router, path: &str, authorization: &[&str]) -> Reply {
    let mut request = Request::builder().uri(path);
    for value in authorization {
        request = request.header("authorization", *value);
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}
