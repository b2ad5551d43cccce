//! One call for all who ask, against a listener that counts.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// An authority whose every answer the test writes: it hands over the connection once the request is read.
struct Line {
    renewer: Arc<Renewer>,
    calls: mpsc::Receiver<TcpStream>,
}

impl Line {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, calls) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let request = String::from_utf8(request).unwrap();
                assert!(request.starts_with("POST /v1/session/renew HTTP/1.1\r\n"), "{request}");
                assert!(request.to_lowercase().contains("\r\nauthorization: bearer old.of."), "{request}");
                assert!(request.to_lowercase().contains("\r\ncontent-length: 0\r\n"), "{request}");
                if sender.send(stream).await.is_err() {
                    break;
                }
            }
        });
        let endpoint = Endpoint::of(&issuer, false, Duration::from_secs(60));
        Self { renewer: Arc::new(Renewer::new(endpoint)), calls }
    }

    /// Asks in a task of its own.
    fn ask(&self, token: &str, why: Why, newer_than: Option<u64>) -> tokio::task::JoinHandle<Answered> {
        let (renewer, token) = (Arc::clone(&self.renewer), token.to_owned());
        tokio::spawn(async move { renewer.renew(&token, why, 0, newer_than).await })
    }

    /// Answers the next call.
    async fn answer(&mut self, status: &str, body: &str) {
        let mut stream = self.calls.recv().await.unwrap();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    fn is_idle(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

fn renewed(answered: &Answered) -> &str {
    match &answered.outcome {
        Outcome::Renewed(token) => token.reveal(),
        other => panic!("{other:?}"),
    }
}

const NEW: &str = r#"{"renewed":true,"access_token":"new"}"#;
const NEWER: &str = r#"{"renewed":true,"access_token":"newer"}"#;

#[tokio::test]
async fn fifty_who_ask_at_once_make_one_call() {
    let mut line = Line::open().await;
    let asked: Vec<_> = (0..50).map(|_| line.ask("old.of.a", Why::Due, None)).collect();
    line.answer("200 OK", NEW).await;
    let mut began = 0;
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(renewed(&answer), "new");
        began += u32::from(answer.asked_for_me);
    }
    assert_eq!(began, 1);
    let late = line.ask("old.of.a", Why::Due, None).await.unwrap();
    assert_eq!(renewed(&late), "new", "who comes late gets the same");
    assert!(line.is_idle());
}

#[tokio::test]
async fn another_token_is_another_call() {
    let mut line = Line::open().await;
    let one = line.ask("old.of.a", Why::Due, None);
    line.answer("200 OK", NEW).await;
    assert_eq!(renewed(&one.await.unwrap()), "new");
    let other = line.ask("old.of.b", Why::Due, None);
    line.answer("200 OK", NEWER).await;
    assert_eq!(renewed(&other.await.unwrap()), "newer");
}

#[tokio::test]
async fn a_request_that_is_given_up_takes_nobodys_answer_with_it() {
    let mut line = Line::open().await;
    let first = line.ask("old.of.a", Why::Due, None);
    let stream = line.calls.recv().await.unwrap();
    let second = line.ask("old.of.a", Why::Due, None);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let mut stream = stream;
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{NEW}", NEW.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(renewed(&second.await.unwrap()), "new");
    assert!(line.is_idle());
}

/// A service with a runtime for each thread: when one of them goes, its calls go with it.
#[tokio::test]
async fn a_call_whose_runtime_is_gone_is_made_again() {
    let mut line = Line::open().await;
    let gone = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let renewer = Arc::clone(&line.renewer);
    let first = gone.spawn(async move { renewer.renew("old.of.a", Why::Stale, 0, None).await });
    let _unanswered = line.calls.recv().await.unwrap();
    gone.shutdown_background();
    assert!(first.await.is_err());
    // It counts as one that was not answered, which is not kept for long.
    let over = async {
        while lock(&line.renewer.flights).by_key.values().any(|flight| flight.keep_until.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("the call is still in flight");
    lock(&line.renewer.flights)
        .by_key
        .values_mut()
        .for_each(|flight| flight.keep_until = Some(Instant::now()));
    let again = line.ask("old.of.a", Why::Stale, None);
    line.answer("200 OK", NEW).await;
    assert_eq!(renewed(&again.await.unwrap()), "new");
}

#[tokio::test]
async fn a_later_call_is_made_for_who_knows_better() {
    let mut line = Line::open().await;
    let asked = line.ask("old.of.a", Why::Stale, None);
    line.answer("200 OK", NEW).await;
    let first = asked.await.unwrap();
    let asked: Vec<_> = (0..10).map(|_| line.ask("old.of.a", Why::Stale, Some(first.flight))).collect();
    line.answer("200 OK", NEWER).await;
    for answer in asked {
        assert_eq!(renewed(&answer.await.unwrap()), "newer");
    }
    assert!(line.is_idle(), "they share it");
}

#[tokio::test]
async fn what_was_answered_before_the_change_does_not_count_after_it() {
    let mut line = Line::open().await;
    let due = line.ask("old.of.a", Why::Due, None);
    line.answer("200 OK", r#"{"renewed":false,"renew_at":100}"#).await;
    assert!(matches!(due.await.unwrap().outcome, Outcome::NotYet { renew_at: Some(100) }));
    let again = line.ask("old.of.a", Why::Due, None).await.unwrap();
    assert!(matches!(again.outcome, Outcome::NotYet { .. }), "kept until then");
    let stale = line.ask("old.of.a", Why::Stale, None);
    line.answer("200 OK", NEW).await;
    assert_eq!(renewed(&stale.await.unwrap()), "new");
}

#[tokio::test]
async fn a_refusal_is_kept() {
    let mut line = Line::open().await;
    let asked = line.ask("old.of.a", Why::Due, None);
    line.answer("401 Unauthorized", r#"{"error":"invalid_token","reason":"revoked"}"#).await;
    for answered in [asked.await.unwrap(), line.ask("old.of.a", Why::Due, None).await.unwrap()] {
        assert!(
            matches!(&answered.outcome, Outcome::Refused { reason } if reason.as_deref() == Some("revoked"))
        );
    }
    assert!(line.is_idle());
}

#[tokio::test]
async fn an_authority_that_is_away_is_not_asked_by_everyone_who_could_wait() {
    let mut line = Line::open().await;
    let asked = line.ask("old.of.a", Why::Due, None);
    line.answer("503 Service Unavailable", "{}").await;
    assert!(matches!(asked.await.unwrap().outcome, Outcome::Away { .. }));
    // Held open, since a slow machine may need more than the second that it lasts.
    lock(&line.renewer.flights).away_until = Some(Instant::now() + Duration::from_secs(3600));
    let other = line.ask("old.of.b", Why::Due, None).await.unwrap();
    assert!(matches!(other.outcome, Outcome::Away { .. }));
    let stale = line.ask("old.of.b", Why::Stale, None);
    line.answer("200 OK", NEW).await;
    assert_eq!(renewed(&stale.await.unwrap()), "new", "who cannot wait asks all the same");
    let other = line.ask("old.of.c", Why::Due, None);
    line.answer("200 OK", NEW).await;
    assert_eq!(renewed(&other.await.unwrap()), "new", "and has found out that it is back");
}

#[tokio::test]
async fn redirects_lead_nowhere_and_long_answers_are_not_read() {
    let mut line = Line::open().await;
    let asked = line.ask("old.of.a", Why::Stale, None);
    let mut stream = line.calls.recv().await.unwrap();
    let text = "HTTP/1.1 307 Temporary Redirect\r\nlocation: /v1/session/renew\r\ncontent-length: 0\r\n\
                connection: close\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    assert!(matches!(asked.await.unwrap().outcome, Outcome::Away { .. }));
    let asked = line.ask("old.of.b", Why::Stale, None);
    let long = format!(r#"{{"renewed":true,"access_token":"{}"}}"#, "x".repeat(80_000));
    line.answer("200 OK", &long).await;
    assert!(matches!(asked.await.unwrap().outcome, Outcome::Away { .. }));
}

/// A map that remembers at most so many, whatever happens.
#[test]
fn memory_is_bounded() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let time = Instant::now();
    let mut flights = Flights::default();
    let key = |n: usize| (hash(&n.to_string()), Why::Due);
    for n in 0..MAX_FLIGHTS * 2 {
        let (number, _sender) = flights.begin(key(n), time).unwrap();
        flights.end((key(n), number), &Outcome::NotYet { renew_at: None }, (time, 0));
        assert!(flights.order.len() <= MAX_FLIGHTS && flights.by_key.len() <= MAX_FLIGHTS);
    }
    assert!(flights.by_key.contains_key(&key(MAX_FLIGHTS * 2 - 1)));
    assert!(!flights.by_key.contains_key(&key(0)), "the oldest has gone");
    // What is over goes by itself.
    flights.begin(key(0), time + KEEP_NOT_YET).unwrap();
    assert_eq!((flights.order.len(), flights.by_key.len()), (1, 1));
}

#[test]
fn too_many_calls_in_flight_are_refused() {
    let mut flights = Flights::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let time = Instant::now();
    for n in 0..MAX_FLIGHTS {
        flights.begin((hash(&n.to_string()), Why::Stale), time).unwrap();
    }
    assert!(flights.begin((hash("one more"), Why::Stale), time).is_none());
}

#[test]
fn each_answer_is_kept_for_its_time() {
    let not_yet = |renew_at| Outcome::NotYet { renew_at };
    assert_eq!(keep(&not_yet(Some(130)), Why::Due, 100), Duration::from_secs(30));
    assert_eq!(keep(&not_yet(Some(99)), Why::Due, 100), Duration::from_secs(1), "never zero");
    assert_eq!(keep(&not_yet(Some(i64::MAX)), Why::Due, i64::MIN), KEEP_NOT_YET);
    assert_eq!(keep(&not_yet(Some(130)), Why::Stale, 100), KEEP_NOT_YET_STALE);
}

#[tokio::test]
async fn no_token_goes_in_the_clear_to_another_machine() {
    for issuer in ["http://auth.example.com", "ftp://auth.example.com", "no url", ""] {
        let renewer = Renewer::new(Endpoint::of(issuer, false, Duration::from_secs(1)));
        let answered = renewer.renew("old.of.a", Why::Stale, 0, None).await;
        // And its holder is told to renew it himself, not to wait for ever.
        assert!(matches!(answered.outcome, Outcome::NotYet { renew_at: None }), "{issuer}");
    }
}
