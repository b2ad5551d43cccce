//! An authority in this process for tests: the real store on a temporary folder, the real routes, one
//! client per policy kind, a clock that stands still until it is moved, and an outbox in memory.
//!
//! ```ignore
//! let authority = TestAuthority::start().await;
//! authority.user("alice").await;
//! let phone = authority.login("refresh", "alice").await;
//! authority.advance(300);
//! let answer = authority.refresh("refresh", &phone).await;
//! ```
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses a part of it")]

pub mod gate;

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gate::Gate;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_core::user::{UserPatch, UserSecrets};
use reseal_core::{Client, SessionId, Timestamp, User, UserId};
use reseal_server::authority::{App, Authority};
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::http::caller::Peer;
use reseal_server::manage::users::user_change;
use reseal_server::password::Password;
use reseal_server::random::Random;
use reseal_server::sms::{SmsError, TextMessages};
use reseal_store::Access;
use reseal_store::{Commit, Store, Write};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;

/// `iss`.
pub const ISSUER: &str = "https://auth.test";
/// The origin that every client allows.
pub const APP_ORIGIN: &str = "https://app.test";
/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// The confidential client; the others are named after their policy's kind.
pub const SERVICE: &str = "service";
/// Its secret.
pub const SERVICE_SECRET: &str = "service-secret-of-the-tests";
/// A number that can exist.
pub const NUMBER: &str = "+12025550123";
/// Another one.
pub const OTHER_NUMBER: &str = "+12025550187";
/// When the clock starts.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The authority and all around it.
pub struct TestAuthority {
    pub app: App,
    pub outbox: Arc<Outbox>,
    /// Between the authority and its store.
    pub gate: Arc<Gate>,
    router: axum::Router,
    _folder: Arc<tempfile::TempDir>,
}

impl TestAuthority {
    /// With the default configuration.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With another one.
    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { issuer: Some(ISSUER.to_owned()), ..Config::default() };
        config.store.data = folder.path().to_owned();
        configure(&mut config);
        let store =
            reseal_server::start::open_store(&config, &Random::new(), Access::Serve).await.unwrap().shared();
        for (id, policy) in [
            ("sliding", "web"),
            ("fixed", "remember"),
            ("refresh", "app"),
            ("cookie", "browser"),
            (SERVICE, "app"),
        ] {
            let write = Write::CreateClient(Box::new(client(id, policy)));
            store.commit(Commit::of([write])).await.unwrap();
        }
        Self::over(config, store, (Clock::manual(START), Arc::default()), Arc::new(folder)).await
    }

    /// A node over a store that has clients already.
    pub async fn over(
        config: Config,
        store: Arc<dyn Store>,
        (clock, outbox): (Clock, Arc<Outbox>),
        folder: Arc<tempfile::TempDir>,
    ) -> Self {
        let gate = Arc::new(Gate::new(store));
        let store: Arc<dyn Store> = Arc::clone(&gate) as _;
        let mut app = reseal_server::start::open(config, store, clock, None).await.unwrap();
        let texts: Arc<dyn TextMessages> = Arc::clone(&outbox) as _;
        Arc::get_mut(&mut app).expect("nobody else holds it yet").texts = texts;
        let router = reseal_server::router::router(&app);
        Self { app, outbox, gate, router, _folder: folder }
    }

    /// The same folder, served by another authority: another start.
    pub fn served_by(self, app: App) -> Self {
        let router = reseal_server::router::router(&app);
        Self { app, router, ..self }
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: u64) {
        self.app.clock.advance(Duration::from_secs(seconds));
    }

    /// Makes a user with [`PASSWORD`].
    pub async fn user(&self, username: &str) -> UserId {
        let now = self.app.clock.now();
        let user = User {
            id: UserId::new(now, self.app.random.bytes()),
            username: username.to_owned(),
            name: Some("Alice Example".to_owned()),
            email: Some("alice@example.com".to_owned()),
            phone_number: None,
            phone_number_verified: false,
            roles: vec!["member".to_owned()],
            attributes: Default::default(),
            disabled: false,
            revision: 1,
            auth_epoch: 1,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let id = user.id;
        let secrets =
            UserSecrets { password: Some(password_hash(&self.app).await), recovery_codes: Vec::new() };
        self.app.store.commit(Commit::of([Write::CreateUser(Box::new(user), secrets)])).await.unwrap();
        id
    }

    /// Changes a record as an administrator does.
    pub async fn patch_user(&self, id: UserId, patch: UserPatch) -> User {
        let now = self.app.clock.now();
        let old = self.app.store.user(id).await.unwrap().unwrap();
        let new = old.patched(&patch, now).unwrap().unwrap();
        let writes = user_change(&old, new.clone(), None, now, self.app.event_until(now));
        self.app.store.commit(Commit::of(writes)).await.unwrap();
        new
    }

    /// The record.
    pub async fn record(&self, id: UserId) -> User {
        self.app.store.user(id).await.unwrap().unwrap()
    }

    /// The names of a session's timeline.
    pub async fn timeline(&self, sid: SessionId) -> Vec<&'static str> {
        self.app.store.timeline(sid).await.unwrap().into_iter().map(|e| e.kind.as_str()).collect()
    }

    /// The types of the events logged so far.
    pub async fn events(&self) -> Vec<&'static str> {
        let events = self.app.store.events_after(0, 1000).await.unwrap();
        events.into_iter().map(|e| e.event.kind.type_name()).collect()
    }

    /// Sends the request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        exchange(self.router.clone(), request).await
    }

    /// Sends the request; the answer's body is not read yet.
    pub async fn open(&self, mut request: Request<Body>) -> axum::response::Response {
        request.extensions_mut().insert(Peer(IpAddr::from([192, 0, 2, 1])));
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends the request in a task of its own.
    pub fn spawn(&self, request: Request<Body>) -> tokio::task::JoinHandle<Answer> {
        tokio::spawn(exchange(self.router.clone(), request))
    }

    /// Sends the requests at once.
    pub async fn send_all(&self, requests: impl IntoIterator<Item = Request<Body>>) -> Vec<Answer> {
        let tasks: Vec<_> = requests.into_iter().map(|request| self.spawn(request)).collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    }

    /// Sends JSON with a credential; [`Value::Null`] sends no body.
    pub async fn call(&self, method: Method, path: &str, with: &Credential, body: Value) -> Answer {
        self.send(request(method, path, with, &body)).await
    }

    pub async fn get(&self, path: &str, with: &Credential) -> Answer {
        self.call(Method::GET, path, with, Value::Null).await
    }

    pub async fn post(&self, path: &str, with: &Credential, body: Value) -> Answer {
        self.call(Method::POST, path, with, body).await
    }

    pub async fn put(&self, path: &str, with: &Credential, body: Value) -> Answer {
        self.call(Method::PUT, path, with, body).await
    }

    pub async fn patch(&self, path: &str, with: &Credential, body: Value) -> Answer {
        self.call(Method::PATCH, path, with, body).await
    }

    pub async fn delete(&self, path: &str, with: &Credential) -> Answer {
        self.call(Method::DELETE, path, with, Value::Null).await
    }

    /// Sends a form.
    pub async fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        // Everything the tests send is made of characters that a form leaves as they are.
        let body: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body.join("&")))
            .unwrap();
        self.send(request).await
    }

    /// Tries to log in with [`PASSWORD`].
    pub async fn try_login(&self, client_id: &str, username: &str) -> Answer {
        let body = json!({ "client_id": client_id, "username": username, "password": PASSWORD });
        self.post("/v1/session", &Credential::None, body).await
    }

    /// Logs in with [`PASSWORD`].
    pub async fn login(&self, client_id: &str, username: &str) -> Answer {
        let answer = self.try_login(client_id, username).await;
        answer.expect(StatusCode::CREATED);
        answer
    }

    /// Presents the refresh token of an answer.
    pub async fn refresh(&self, client_id: &str, held: &Answer) -> Answer {
        let token = held.body["refresh_token"].as_str().expect("no refresh token");
        let pairs = [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", token)];
        self.form("/oauth/token", &pairs).await
    }

    /// Turns on [`NUMBER`] as second factor for the caller; the answer to the verification.
    pub async fn turn_on_phone(&self, with: &Credential) -> Answer {
        let started = self.post("/v1/me/phone", with, json!({ "phone_number": NUMBER })).await;
        started.expect(StatusCode::ACCEPTED);
        let body = json!({ "challenge": started.body["challenge"], "code": self.outbox.code() });
        let answer = self.post("/v1/me/phone/verify", with, body).await;
        answer.expect(StatusCode::OK);
        answer
    }
}

async fn exchange(router: axum::Router, mut request: Request<Body>) -> Answer {
    if request.extensions().get::<Peer>().is_none() {
        request.extensions_mut().insert(Peer(IpAddr::from([192, 0, 2, 1])));
    }
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_page = kind.starts_with(b"text/") || kind.starts_with(b"image/svg");
    let body = match bytes.is_empty() {
        true => Value::Null,
        false if is_page => String::from_utf8(bytes.to_vec()).unwrap().into(),
        false => serde_json::from_slice(&bytes).unwrap(),
    };
    Answer { status: parts.status, headers: parts.headers, body }
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Credential {
    None,
    Bearer(String),
    Cookie(String),
    Basic(String, String),
}

/// A request with JSON in it, not yet sent.
pub fn request(method: Method, path: &str, with: &Credential, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    request = match with {
        Credential::None => request,
        Credential::Bearer(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        Credential::Cookie(value) => request
            .header(header::COOKIE, format!("__Host-reseal={value}"))
            .header(header::ORIGIN, APP_ORIGIN),
        Credential::Basic(id, secret) => {
            let pair = STANDARD.encode(format!("{id}:{secret}"));
            request.header(header::AUTHORIZATION, format!("Basic {pair}"))
        }
    };
    if body.is_null() {
        return request.body(Body::empty()).unwrap();
    }
    request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Fails the test with the whole answer unless it has this status.
    #[track_caller]
    pub fn expect(&self, status: StatusCode) {
        assert_eq!(self.status, status, "{}", self.body);
    }

    /// Fails the test unless it is this error.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.error()), (status, code), "{}", self.body);
        assert!(self.body["error_description"].is_string(), "{}", self.body);
    }

    /// The error code; empty when there is none.
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }

    /// The header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// The value of the session cookie that it sets.
    pub fn cookie(&self) -> Option<String> {
        let cookies: Vec<_> = self.headers.get_all(header::SET_COOKIE).iter().collect();
        assert!(cookies.len() <= 1, "one Set-Cookie at most");
        let text = cookies.first()?.to_str().unwrap();
        let (value, attributes) = text.strip_prefix("__Host-reseal=").unwrap().split_once(';').unwrap();
        for attribute in ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"] {
            assert!(attributes.contains(attribute), "{text}");
        }
        Some(value.to_owned())
    }

    /// The credential that it carries.
    #[track_caller]
    pub fn credential(&self) -> Credential {
        if let Some(token) = self.body["access_token"].as_str() {
            return Credential::Bearer(token.to_owned());
        }
        Credential::Cookie(self.cookie().expect("neither access token nor cookie"))
    }

    /// The claims of its access token.
    #[track_caller]
    pub fn claims(&self) -> Value {
        claims(self.body["access_token"].as_str().expect("no access token"))
    }

    /// The session it tells of.
    #[track_caller]
    pub fn sid(&self) -> SessionId {
        self.body["session"]["id"].as_str().expect("no session").parse().unwrap()
    }
}

/// The payload of a JWT, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Text messages in memory.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: Mutex<Vec<(String, String)>>,
    failing: AtomicBool,
}

#[async_trait]
impl TextMessages for Outbox {
    async fn send(&self, to: &str, text: &str) -> Result<(), SmsError> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(SmsError::TimedOut);
        }
        self.messages.lock().unwrap().push((to.to_owned(), text.to_owned()));
        Ok(())
    }
}

impl Outbox {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    /// The newest message: number and text.
    #[track_caller]
    pub fn newest(&self) -> (String, String) {
        self.messages.lock().unwrap().last().cloned().expect("the outbox is empty")
    }

    /// The code of the newest message.
    #[track_caller]
    pub fn code(&self) -> String {
        let (_, text) = self.newest();
        let runs: Vec<&str> =
            text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() == 6).collect();
        assert_eq!(runs.len(), 1, "{text}");
        runs[0].to_owned()
    }

    /// From now on nothing can be sent, or everything again.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }
}

/// Asks again until there is an answer.
pub async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let answered = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("it never comes")
}

/// Another code than this one.
pub fn other_than(code: &str) -> String {
    let number: u32 = code.parse().unwrap();
    format!("{:06}", (number + 1) % 1_000_000)
}

/// A client of the tests, confidential if it is [`SERVICE`].
pub fn client(id: &str, policy: &str) -> Client {
    let confidential = id == SERVICE;
    Client {
        id: id.parse().unwrap(),
        name: format!("The {id} app"),
        secret_hash: confidential.then(|| SecretHash::of(SERVICE_SECRET)),
        policy: policy.parse().unwrap(),
        audience: vec!["https://api.test".to_owned()],
        scope: if confidential { "reseal:admin reseal:feed read" } else { "read write" }.parse().unwrap(),
        claims: Projection::parse([
            "name",
            "email",
            "phone_number",
            "phone_number_verified",
            "roles",
            "attributes.plan",
            "attributes.color",
        ])
        .unwrap(),
        origins: vec![APP_ORIGIN.to_owned()],
        algorithm: "ES256".to_owned(),
        introspect: confidential,
        disabled: false,
        version: 1,
        created_at: START,
        updated_at: START,
    }
}

/// The hash of [`PASSWORD`], made once: it is slow on purpose.
async fn password_hash(app: &Authority) -> String {
    static HASH: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    HASH.get_or_init(|| async {
        let password: Password = serde_json::from_value(PASSWORD.into()).unwrap();
        app.hasher.hash(password).await.unwrap().to_string()
    })
    .await
    .clone()
}
