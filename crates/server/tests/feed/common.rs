//! A reader of the feed, as a verifier is one.

use crate::support::{Credential, SERVICE, SERVICE_SECRET, TestAuthority, request};
use axum::body::Body;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use reseal_core::event::{Event, EventKind};
use reseal_core::feed::{FeedMessage, Position};
use reseal_server::authority::App;
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::feed::log::follow;
use reseal_server::start;
use reseal_store::{Commit, FEED_EPOCH, Write};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An authority whose log is read, as in a running server.
pub struct Running {
    pub authority: TestAuthority,
    stop: watch::Sender<bool>,
    following: JoinHandle<()>,
}

impl Running {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::over(TestAuthority::with(configure).await)
    }

    pub fn over(authority: TestAuthority) -> Self {
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(follow(Arc::clone(&authority.app), stopped));
        Self { authority, stop, following }
    }

    /// Stops reading the log, as at the end of a run.
    pub async fn finish(self) -> TestAuthority {
        self.stop.send(true).unwrap();
        self.following.await.unwrap();
        self.authority
    }
}

impl std::ops::Deref for Running {
    type Target = TestAuthority;

    fn deref(&self) -> &TestAuthority {
        &self.authority
    }
}

/// The next start over the same folder, whose log may have become another one in between.
pub async fn restart(authority: TestAuthority, epoch: Option<[u8; 16]>) -> Running {
    let config = authority.app.config.clone();
    if let Some(epoch) = epoch {
        let write = Write::PutMeta(FEED_EPOCH.to_owned(), epoch.to_vec());
        authority.app.store.commit(Commit::of([write])).await.unwrap();
    }
    let clock = Clock::manual(authority.app.clock.now());
    let app = start::open(config, Arc::clone(&authority.app.store), clock, None).await.unwrap();
    Running::over(authority.served_by(app))
}

/// A token of the service client, of that scope.
pub async fn token(authority: &TestAuthority, scope: &str) -> Credential {
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_id", SERVICE),
        ("client_secret", SERVICE_SECRET),
        ("scope", scope),
    ];
    let answer = authority.form("/oauth/token", &pairs).await;
    answer.expect(StatusCode::OK);
    answer.credential()
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: Option<String>,
    pub is: FeedMessage,
}

impl Message {
    pub fn name(&self) -> &'static str {
        self.is.name()
    }

    pub fn seq(&self) -> u64 {
        match &self.is {
            FeedMessage::Event(logged) => logged.seq,
            FeedMessage::CaughtUp { seq } | FeedMessage::Heartbeat { seq, .. } => *seq,
            other => panic!("{other:?}"),
        }
    }

    pub fn kind(&self) -> &EventKind {
        let FeedMessage::Event(logged) = &self.is else { panic!("{self:?}") };
        &logged.event.kind
    }
}

/// A stream being read.
pub struct Reading {
    body: Body,
    text: String,
    pub headers: HeaderMap,
    /// The newest id, to resume from.
    pub last_id: Option<String>,
}

impl Reading {
    /// Opens the feed with a token of its scope, after that id.
    pub async fn open(authority: &TestAuthority, last_id: Option<&str>) -> Self {
        let token = token(authority, "reseal:feed").await;
        Self::with(authority, &token, last_id).await
    }

    pub async fn with(authority: &TestAuthority, token: &Credential, last_id: Option<&str>) -> Self {
        let mut request = request(Method::GET, "/v1/feed", token, &Value::Null);
        if let Some(id) = last_id {
            request.headers_mut().insert("last-event-id", id.parse().unwrap());
        }
        let response = authority.open(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let (parts, body) = response.into_parts();
        Self { body, text: String::new(), headers: parts.headers, last_id: last_id.map(str::to_owned) }
    }

    /// The next message of any kind; `None`: the stream is over.
    pub async fn next_of_any_kind(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let message = parse(message);
                self.text = rest.to_owned();
                if message.id.is_some() {
                    self.last_id.clone_from(&message.id);
                }
                return Some(message);
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next message that is no heartbeat; `None`: the stream is over.
    pub async fn next(&mut self) -> Option<Message> {
        let next = async {
            loop {
                let message = self.next_of_any_kind().await?;
                if message.name() != "heartbeat" {
                    return Some(message);
                }
            }
        };
        timeout(PATIENCE, next).await.expect("nothing comes")
    }

    /// The next event.
    pub async fn event(&mut self) -> Message {
        let message = self.next().await.expect("the stream is over");
        assert!(matches!(message.is, FeedMessage::Event(_)), "{message:?}");
        message
    }

    /// Everything up to `caught-up`, and the number it has.
    pub async fn caught_up(&mut self) -> (Vec<Message>, u64) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await.expect("the stream is over");
            if message.name() == "caught-up" {
                assert_eq!(message.id, None);
                return (before, message.seq());
            }
            before.push(message);
        }
    }

    /// Waits for the end of the stream; what came before it.
    pub async fn end(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Some(message) = self.next().await {
            rest.push(message);
        }
        rest
    }
}

/// One message, line by line as the specification of server-sent events has it.
fn parse(text: &str) -> Message {
    let (mut name, mut id, mut data) = (None, None, None);
    for line in text.lines() {
        let (field, value) = line.split_once(": ").unwrap();
        match field {
            "event" => name = Some(value),
            "id" => id = Some(value.to_owned()),
            "data" => data = Some(value),
            other => panic!("{other}"),
        }
    }
    let (name, data) = (name.unwrap(), data.unwrap());
    let is = FeedMessage::decode(name, data).unwrap().expect("a message that is known");
    if let FeedMessage::Event(logged) = &is {
        let position: Position = id.as_deref().expect("an event has an id").parse().unwrap();
        assert_eq!(position.seq, logged.seq);
    } else {
        assert_eq!(id, None, "{name}");
    }
    Message { id, is }
}

/// An event that is easy to tell from others.
pub fn changed(app: &App, name: &str) -> Write {
    let now = app.clock.now();
    let kind = EventKind::ClientChanged { client_id: name.parse().unwrap(), before: now.secs() + 1 };
    Write::Log(Event { kind, until: app.event_until(now) })
}

/// Logs one event for each name, in one commit.
pub async fn log(app: &App, names: impl IntoIterator<Item = String>) {
    let writes = names.into_iter().map(|name| changed(app, &name));
    app.store.commit(Commit::of(writes)).await.unwrap();
}

/// The names of such events.
pub fn names(messages: &[Message]) -> Vec<String> {
    let name = |message: &Message| match message.kind() {
        EventKind::ClientChanged { client_id, .. } => client_id.to_string(),
        other => panic!("{other:?}"),
    };
    messages.iter().map(name).collect()
}

/// Waits until the condition holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}
