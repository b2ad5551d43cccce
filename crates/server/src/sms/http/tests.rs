//! Against a provider that is really there: an HTTP server on a port of this machine.

use super::*;
use crate::sms::config::HeaderTemplate;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::net::TcpListener;

/// What the provider does with a request.
#[derive(Clone, Debug)]
enum Reaction {
    Answer(u16, &'static [(&'static str, &'static str)]),
    /// Takes the request and never answers.
    Silence,
    /// A body without end.
    Endless,
}

#[derive(Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

/// The provider: reacts in order, then with 200.
#[derive(Default)]
struct Provider {
    reactions: Mutex<VecDeque<Reaction>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    /// Bytes of endless answers that were taken from it.
    sent: AtomicUsize,
}

impl Provider {
    async fn start(reactions: &[Reaction]) -> (Arc<Self>, String) {
        let provider =
            Arc::new(Self { reactions: Mutex::new(reactions.iter().cloned().collect()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/send", listener.local_addr().unwrap());
        let app = Router::new().fallback(receive).with_state(Arc::clone(&provider));
        let counted = Arc::clone(&provider);
        let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
            counted.connections.fetch_add(1, Ordering::SeqCst);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        (provider, url)
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn receive(State(provider): State<Arc<Provider>>, headers: HeaderMap, body: Bytes) -> Response {
    provider.received.lock().unwrap().push(Received { headers, body });
    let reaction = provider.reactions.lock().unwrap().pop_front();
    match reaction {
        None => "ok".into_response(),
        Some(Reaction::Silence) => std::future::pending().await,
        Some(Reaction::Endless) => axum::body::Body::new(Endless(provider)).into_response(),
        Some(Reaction::Answer(status, headers)) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

/// A body without end.
struct Endless(Arc<Provider>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        let chunk = Bytes::from_static(&[b'x'; 16 * 1024]);
        self.0.sent.fetch_add(chunk.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(hyper::body::Frame::data(chunk))))
    }
}

fn config(url: &str) -> HttpSms {
    HttpSms {
        url: url.to_owned(),
        method: HttpMethod::Post,
        headers: BTreeMap::from([("Authorization".to_owned(), HeaderTemplate::new("Bearer ${SMS_TOKEN}"))]),
        body: r#"{"to": "{{to}}", "text": "{{text}}"}"#.to_owned(),
        content_type: "application/json".to_owned(),
        timeout: Duration::from_secs(10),
        retries: 2,
    }
}

fn env(name: &str) -> Option<String> {
    (name == "SMS_TOKEN").then(|| "hunter2".to_owned())
}

fn open(config: &HttpSms) -> HttpTextMessages {
    let texts = HttpTextMessages::open(config, env).unwrap();
    HttpTextMessages { first_pause: Duration::from_millis(2), ..texts }
}

const TO: &str = "+4915112345678";
const TEXT: &str = "042137 is your \"code\"";

#[tokio::test]
async fn a_message_arrives_as_configured() {
    let (provider, url) = Provider::start(&[]).await;
    open(&config(&url)).send(TO, TEXT).await.unwrap();
    let [request] = provider.received().try_into().ok().unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap(),
        json!({"to": TO, "text": TEXT})
    );
    assert_eq!(request.headers["authorization"], "Bearer hunter2");
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("reseal/"));
}

#[tokio::test]
async fn a_form_arrives_as_a_form() {
    let (provider, url) = Provider::start(&[]).await;
    let form = HttpSms {
        body: "To={{to}}&Body={{text}}".to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        method: HttpMethod::Put,
        ..config(&url)
    };
    open(&form).send(TO, "a & b").await.unwrap();
    assert_eq!(provider.received()[0].body, "To=%2B4915112345678&Body=a+%26+b");
}

#[tokio::test]
async fn failures_of_the_provider_are_tried_again_under_one_key() {
    let (provider, url) =
        Provider::start(&[Reaction::Answer(500, &[]), Reaction::Answer(429, &[("retry-after", "0")])]).await;
    open(&config(&url)).send(TO, TEXT).await.unwrap();
    let received = provider.received();
    assert_eq!(received.len(), 3);
    let key = |r: &Received| r.headers["idempotency-key"].clone();
    assert!(received.iter().all(|r| key(r) == key(&received[0]) && r.body == received[0].body));

    open(&config(&url)).send(TO, TEXT).await.unwrap();
    assert_ne!(key(&provider.received()[3]), key(&received[0]), "another message has another key");
}

#[tokio::test]
async fn a_provider_that_stays_silent_is_tried_again() {
    let (provider, url) = Provider::start(&[Reaction::Silence]).await;
    let patient = HttpSms { timeout: Duration::from_millis(300), ..config(&url) };
    open(&patient).send(TO, TEXT).await.unwrap();
    assert_eq!(provider.received().len(), 2);
}

#[tokio::test]
async fn silence_to_the_end_is_told() {
    let (provider, url) = Provider::start(&[Reaction::Silence, Reaction::Silence]).await;
    let patient = HttpSms { timeout: Duration::from_millis(100), retries: 1, ..config(&url) };
    let error = open(&patient).send(TO, TEXT).await.unwrap_err();
    assert!(matches!(error, SmsError::TimedOut), "{error}");
    assert_eq!(provider.received().len(), 2);
}

#[tokio::test]
async fn retries_end() {
    let (provider, url) = Provider::start(&[const { Reaction::Answer(503, &[]) }; 9]).await;
    let error = open(&config(&url)).send(TO, TEXT).await.unwrap_err();
    assert!(matches!(error, SmsError::Failed { status: 503, tries: 3 }), "{error}");
    assert_eq!(provider.received().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_final() {
    for status in [400, 401, 404, 422] {
        let (provider, url) = Provider::start(&[Reaction::Answer(status, &[])]).await;
        let error = open(&config(&url)).send(TO, TEXT).await.unwrap_err();
        assert!(matches!(error, SmsError::Refused(s) if s == status), "{error}");
        assert_eq!(provider.received().len(), 1);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (provider, url) = Provider::start(&[Reaction::Answer(307, &[("location", "/elsewhere")])]).await;
    let error = open(&config(&url)).send(TO, TEXT).await.unwrap_err();
    assert!(matches!(error, SmsError::Refused(307)), "{error}");
    assert_eq!(provider.received().len(), 1);
}

#[tokio::test]
async fn a_provider_that_asks_for_an_hour_is_left_alone() {
    let (provider, url) = Provider::start(&[Reaction::Answer(429, &[("retry-after", "3600")])]).await;
    let error = open(&config(&url)).send(TO, TEXT).await.unwrap_err();
    assert!(matches!(error, SmsError::Overloaded(d) if d == Duration::from_secs(3600)), "{error}");
    assert_eq!(provider.received().len(), 1);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let (provider, url) = Provider::start(&[Reaction::Endless]).await;
    open(&config(&url)).send(TO, TEXT).await.unwrap();
    assert_eq!(provider.received().len(), 1);
    // What the buffers of both ends hold on top of what is read.
    assert!(provider.sent.load(Ordering::SeqCst) < MAX_ANSWER + 64 * 1024 * 1024);
}

#[tokio::test]
async fn messages_share_a_connection() {
    let (provider, url) = Provider::start(&[Reaction::Answer(500, &[])]).await;
    let texts = open(&config(&url));
    for _ in 0..5 {
        texts.send(TO, TEXT).await.unwrap();
    }
    assert_eq!(provider.received().len(), 6);
    assert_eq!(provider.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_at_home_is_told_without_url_number_or_text() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook/s3cret", listener.local_addr().unwrap());
    drop(listener);
    let texts = open(&config(&url));
    let error = texts.send(TO, TEXT).await.unwrap_err();
    assert!(matches!(error, SmsError::Unreachable { tries: 3, .. }), "{error}");
    for shown in [error.to_string(), format!("{error:?}"), format!("{texts:?}")] {
        for secret in ["s3cret", "hunter2", TO, "042137"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn messages_on_their_way_are_bounded() {
    let (_provider, url) = Provider::start(&[]).await;
    let texts = open(&config(&url));
    let all = texts.on_their_way.acquire_many(u32::try_from(MAX_ON_THEIR_WAY).unwrap()).await.unwrap();
    assert!(matches!(texts.send(TO, TEXT).await, Err(SmsError::Busy)));
    drop(all);
    texts.send(TO, TEXT).await.unwrap();
}

#[test]
fn a_setting_that_cannot_work_stops_the_start() {
    let fault = |config: &HttpSms| match HttpTextMessages::open(config, env).unwrap_err() {
        SmsError::Config { key, reason } => (key, reason),
        other => panic!("{other}"),
    };
    for (url, says) in [
        ("http://sms.example/send", "https"),
        ("ftp://sms.example/send", "https"),
        ("sms.example", "URL"),
        ("https://user:pw@sms.example/", "headers"),
        ("https://sms.example/?to={{to}}", "body"),
        ("https://sms.example/a b", "space"),
        ("https://sms.example/#x", "fragment"),
    ] {
        let (key, reason) = fault(&config(url));
        assert_eq!(key, "url", "{url}");
        assert!(reason.contains(says), "{url}: {reason}");
    }
    let with_header = |name: &str, value: &str| HttpSms {
        headers: BTreeMap::from([(name.to_owned(), HeaderTemplate::new(value))]),
        ..config("https://sms.example/")
    };
    for (name, value, says) in [
        ("X Y", "a", "X Y"),
        ("X-Key", "a\r\nX-Other: b", "control"),
        ("X-Key", "${NOT_SET}", "NOT_SET"),
        ("Content-Type", "text/plain", "content_type"),
        ("Host", "a", "remove"),
    ] {
        let (key, reason) = fault(&with_header(name, value));
        assert_eq!(key, "headers", "{name}");
        assert!(reason.contains(says), "{name}: {reason}");
        assert!(!reason.contains("X-Other"), "values are secret: {reason}");
    }
    let (key, _) =
        fault(&HttpSms { content_type: "application/xml".to_owned(), ..config("https://sms.example/") });
    assert_eq!(key, "body");
}

#[test]
fn pauses_double_are_spread_and_bounded() {
    let ms = Duration::from_millis;
    assert_eq!(pause(ms(200), 1, 0), ms(100));
    assert_eq!(pause(ms(200), 1, u16::MAX), ms(200));
    assert_eq!(pause(ms(200), 3, u16::MAX), ms(800));
    assert_eq!(pause(ms(200), u32::MAX, u16::MAX), LONGEST_PAUSE);
}

#[test]
fn retry_after_is_read_in_seconds() {
    let read = |value: &'static str| {
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]))
    };
    assert_eq!(read("2"), Some(Duration::from_secs(2)));
    assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    assert_eq!(read("-1"), None);
}
