//! The client of the feed against a server that is broken, slow or hostile.

mod server;

use super::*;
use crate::clock::ManualClock;
use crate::freshness::{Facts, Judgement};
use reseal_core::feed::FeedMessage;
use server::{EPOCH, Feed, PATIENCE, Server, ended, ended_until, sid};
use std::sync::atomic::Ordering;

const NOW: i64 = 1_800_000_000;

/// A feed that follows the server.
struct Follower {
    feed: FeedTask,
    freshness: Arc<SharedFreshness>,
    clock: Arc<ManualClock>,
}

impl Follower {
    fn of(server: &Server) -> Self {
        Self::with(server, 1000, Timing::default())
    }

    fn with(server: &Server, max_entries: usize, timing: Timing) -> Self {
        let freshness = Arc::new(SharedFreshness::new(max_entries));
        let clock = Arc::new(ManualClock::new(NOW));
        let config = FeedConfig {
            issuer: server.url.clone(),
            http: crate::http::client().unwrap(),
            credentials: Credentials {
                client_id: "orders".to_owned(),
                secret: "hush: a secret".to_owned().into(),
            },
            http_allowed: false,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            timing,
        };
        Self { feed: start(config, Arc::clone(&freshness)), freshness, clock }
    }

    fn knows(&self, n: u8) -> bool {
        let facts = Facts { sid: Some(sid(n)), ..Facts::default() };
        self.freshness.judge_facts(&facts) != Judgement::Current
    }

    async fn learns(&self, n: u8) {
        eventually(|| self.knows(n), "it learns of the event").await;
    }

    async fn is_caught_up(&self) {
        eventually(|| self.freshness.is_caught_up(), "it catches up").await;
    }
}

async fn eventually(condition: impl Fn() -> bool, what: &str) {
    let seen = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A server and a follower that has caught up at number 5.
async fn caught_up() -> (Server, Follower, Feed) {
    let mut server = Server::start().await;
    let follower = Follower::of(&server);
    let mut feed = server.next_stream().await;
    feed.message(&ended(5, 5)).await;
    feed.caught_up(5).await;
    follower.is_caught_up().await;
    (server, follower, feed)
}

fn position(seq: u64) -> Option<String> {
    Some(format!("{}.{seq}", "ab".repeat(16)))
}

#[tokio::test]
async fn a_cold_start_is_lost_until_it_has_caught_up() {
    let mut server = Server::start().await;
    let follower = Follower::of(&server);
    let mut feed = server.next_stream().await;
    assert!(feed.head.contains("authorization: bearer token-0\r\n"), "{}", feed.head);
    assert!(feed.head.contains("accept: text/event-stream\r\n"), "{}", feed.head);
    assert_eq!(feed.last_event_id(), None);
    feed.message(&ended(1, 1)).await;
    feed.message(&FeedMessage::Heartbeat { seq: 1, now: NOW + 7 }).await;
    follower.learns(1).await;
    assert!(follower.freshness.feed_is_lost());
    feed.caught_up(1).await;
    follower.is_caught_up().await;
    assert!(!follower.freshness.feed_is_lost());
    feed.message(&ended(2, 9)).await;
    follower.learns(2).await;
    let health = follower.feed.health();
    assert_eq!((health.lost, health.connected, health.events, health.problem), (false, true, 2, None));
    assert_eq!(health.clock_difference_seconds, Some(7));
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_message_is_resumed_and_nothing_is_missed() {
    let (mut server, follower, mut feed) = caught_up().await;
    let whole = ended(6, 6).encode(EPOCH);
    feed.send(&whole[..whole.len() - 1]).await;
    drop(feed);
    let mut feed = server.next_stream().await;
    assert!(!follower.knows(6), "a message that did not end is none");
    assert_eq!(feed.last_event_id().map(str::to_owned), position(5));
    assert!(!follower.freshness.feed_is_lost(), "a short interruption is no loss");
    feed.send(whole).await;
    feed.caught_up(6).await;
    follower.learns(6).await;
    follower.is_caught_up().await;
    assert_eq!(server.tokens.load(Ordering::Relaxed), 1, "its token is still good");
}

#[tokio::test]
async fn messages_arrive_whole_however_they_are_cut() {
    let (_server, follower, mut feed) = caught_up().await;
    for byte in ended(6, 6).encode(EPOCH).replace('\n', "\r\n").bytes() {
        feed.send([byte]).await;
    }
    follower.learns(6).await;
}

#[tokio::test]
async fn a_start_over_keeps_what_is_known_until_it_has_caught_up_again() {
    let (mut server, follower, mut feed) = caught_up().await;
    feed.message(&FeedMessage::StartOver).await;
    feed.send(ended(7, 2).encode([0xcd; 16])).await;
    follower.learns(7).await;
    assert!(follower.knows(5), "both are judged by");
    assert!(!follower.freshness.is_caught_up());
    feed.caught_up(2).await;
    follower.is_caught_up().await;
    assert!(follower.knows(7) && !follower.knows(5), "what the other log said is gone");
    drop(feed);
    let feed = server.next_stream().await;
    assert_eq!(feed.last_event_id(), Some(&*format!("{}.2", "cd".repeat(16))));
}

/// Whatever is sent, the next connection asks for everything, and what was known stays until then.
async fn starts_over_after(sent: &str) {
    let (mut server, follower, mut feed) = caught_up().await;
    feed.send(sent).await;
    feed.closed().await;
    let mut feed = server.next_stream().await;
    assert_eq!(feed.last_event_id(), None, "{sent}");
    assert!(follower.knows(5), "{sent}");
    let problem = follower.feed.health().problem;
    assert!(problem.is_some(), "{sent}");
    feed.message(&ended(8, 8)).await;
    feed.caught_up(8).await;
    follower.is_caught_up().await;
    assert!(follower.knows(8) && !follower.knows(5), "{sent}");
    assert_eq!(follower.feed.health().problem, None);
}

#[tokio::test]
async fn it_starts_over_when_something_may_be_missed() {
    let sid = sid(6);
    let id = format!("id: {}.6", "ab".repeat(16));
    let good = format!("{{\"seq\":6,\"sid\":\"{sid}\",\"reason\":\"revoked\",\"until\":4000000000}}");
    for bad in [
        format!("event: session-ended\n{id}\ndata: {{\"seq\":6}}\n\n"),
        format!("event: session-ended\n{id}\ndata: no JSON\n\n"),
        format!("event: session-ended\ndata: {good}\n\n"),
        format!("event: session-ended\nid: 6\ndata: {good}\n\n"),
        format!("event: session-ended\n{}\ndata: {good}\n\n", id.replace(".6", ".7")),
        format!(
            "event: client-changed\n{id}\ndata: {{\"seq\":6,\"client_id\":\"a b\",\"before\":1,\"until\":2}}\n\n"
        ),
        "event: caught-up\ndata: []\n\n".to_owned(),
        "event: caught-up\ndata: {\"seq\":4}\n\n".to_owned(),
        "event: heartbeat\ndata: {\"seq\":4,\"now\":1}\n\n".to_owned(),
        ended(6, 4).encode(EPOCH),
        ended(6, 6).encode([0; 16]),
        format!("data: {}", "x".repeat(100_000)),
        "data: x\n".repeat(70_000),
    ] {
        starts_over_after(&bad).await;
    }
}

#[tokio::test]
async fn an_event_out_of_order_counts_although_it_is_not_as_it_should_be() {
    let (mut server, follower, mut feed) = caught_up().await;
    feed.message(&ended(6, 5)).await;
    follower.learns(6).await;
    feed.message(&ended(7, 7)).await;
    follower.learns(7).await;
    feed.message(&ended(8, 6)).await;
    follower.learns(8).await;
    let feed = server.next().await;
    assert_eq!(feed.last_event_id(), None);
}

#[tokio::test]
async fn what_a_later_version_says_is_passed_by_and_its_place_counts() {
    let (mut server, follower, mut feed) = caught_up().await;
    feed.send(format!(": a comment\n\nevent: new\nid: {}.8\ndata: ?\n\n", "ab".repeat(16))).await;
    feed.message(&ended(9, 9)).await;
    follower.learns(9).await;
    drop(feed);
    assert_eq!(server.next().await.last_event_id().map(str::to_owned), position(9));
}

#[tokio::test]
async fn it_comes_back_after_whatever_is_no_feed() {
    let (mut server, follower, feed) = caught_up().await;
    drop(feed);
    for status in [500, 503, 302, 404, 204] {
        let feed = server.next().await;
        assert_eq!(feed.last_event_id().map(str::to_owned), position(5), "{status}");
        feed.refuse(status).await;
    }
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\ndata: x\n\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "no HTTP at all\r\n\r\n",
        "",
    ] {
        let mut feed = server.next().await;
        assert_eq!(feed.last_event_id().map(str::to_owned), position(5), "{answer}");
        feed.send(answer).await;
    }
    let mut feed = server.next_stream().await;
    feed.caught_up(5).await;
    follower.is_caught_up().await;
    assert!(follower.knows(5));
}

#[tokio::test]
async fn a_position_that_is_refused_is_given_up() {
    for status in [400, 410] {
        let (mut server, follower, feed) = caught_up().await;
        drop(feed);
        server.next().await.refuse(status).await;
        let mut feed = server.next_stream().await;
        assert_eq!(feed.last_event_id(), None);
        assert!(follower.knows(5));
        feed.caught_up(0).await;
        follower.is_caught_up().await;
        assert!(!follower.knows(5));
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let mut server = Server::start().await;
    let _follower = Follower::of(&server);
    server.next().await.refuse(401).await;
    let feed = server.next().await;
    assert!(feed.head.contains("authorization: bearer token-1\r\n"), "{}", feed.head);
}

#[tokio::test]
async fn a_missing_scope_is_told() {
    let mut server = Server::start().await;
    let follower = Follower::of(&server);
    server.next().await.refuse(403).await;
    let told = || follower.feed.health().problem.is_some_and(|problem| problem.contains("reseal:feed"));
    eventually(told, "health names the scope").await;
    assert!(follower.freshness.feed_is_lost());

    let server = Server::start().await;
    *server.token_answer.lock().unwrap() = Some((400, "{\"error\":\"invalid_scope\"}".to_owned()));
    let follower = Follower::of(&server);
    let told = || follower.feed.health().problem.is_some_and(|problem| problem.contains("reseal:feed"));
    eventually(told, "health names the scope").await;

    *server.token_answer.lock().unwrap() = Some((401, "{\"error\":\"invalid_client\"}".to_owned()));
    let follower = Follower::of(&server);
    let told = || follower.feed.health().problem.is_some_and(|problem| problem.contains("secret"));
    eventually(told, "health says that the credentials are wrong").await;
    let shown = format!("{:?} {}", follower.feed.health(), follower.feed.health());
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn a_token_endpoint_that_is_ill_is_asked_again() {
    let mut server = Server::start().await;
    *server.token_answer.lock().unwrap() = Some((503, String::new()));
    let _follower = Follower::of(&server);
    eventually(|| server.tokens.load(Ordering::Relaxed) >= 2, "it asks again").await;
    *server.token_answer.lock().unwrap() = Some((200, " ".repeat(100_000)));
    let asked = server.tokens.load(Ordering::Relaxed);
    eventually(|| server.tokens.load(Ordering::Relaxed) >= asked + 2, "it asks again").await;
    *server.token_answer.lock().unwrap() = None;
    server.next().await;
}

#[tokio::test]
async fn silence_is_noticed_and_only_whole_messages_break_it() {
    let timing = Timing { silence: Duration::from_millis(300), ..Timing::default() };
    for noise in ["", ": comment\n\n", "x", "data: x\n", "data: x\n\n", "event: ping\ndata: {}\n\n"] {
        let mut server = Server::start().await;
        let follower = Follower::with(&server, 1000, timing);
        let mut feed = server.next_stream().await;
        feed.message(&ended(5, 5)).await;
        feed.caught_up(5).await;
        follower.is_caught_up().await;
        let trickle = tokio::spawn(async move {
            while feed.try_send(noise).await {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let feed = server.next().await;
        assert_eq!(feed.last_event_id().map(str::to_owned), position(5), "{noise:?}");
        trickle.abort();
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let timing = Timing { answer: Duration::from_millis(300), ..Timing::default() };
    let mut server = Server::start().await;
    let _follower = Follower::with(&server, 1000, timing);
    let mut first = server.next().await;
    first.send("HTTP/1.1 200 OK\r\n").await;
    server.next().await;
}

#[tokio::test]
async fn a_stream_that_ends_in_order_is_taken_up_again() {
    let timing = Timing { good: Duration::ZERO, ..Timing::default() };
    let mut server = Server::start().await;
    let follower = Follower::with(&server, 1000, timing);
    for round in 0..20_u8 {
        let mut feed = server.next_stream().await;
        let expected = round.checked_sub(1).and_then(|seq| position(seq.into()));
        assert_eq!(feed.last_event_id().map(str::to_owned), expected);
        feed.message(&ended(round, round.into())).await;
        feed.caught_up(round.into()).await;
        follower.learns(round).await;
    }
    assert!(!follower.freshness.feed_is_lost());
}

#[tokio::test]
async fn more_than_there_is_room_for_is_a_loss_that_mends_itself() {
    let mut server = Server::start().await;
    let follower = Follower::with(&server, 4, Timing::default());
    let mut feed = server.next_stream().await;
    feed.caught_up(0).await;
    for n in 1..=5 {
        feed.message(&ended_until(n, n.into(), NOW + 100)).await;
    }
    eventually(|| follower.feed.health().full, "it is full").await;
    assert!(follower.freshness.feed_is_lost());
    assert!(follower.feed.health().to_string().contains("room"), "{}", follower.feed.health());
    follower.clock.advance(101);
    // The maps are swept in small parts, one each second; the test does not wait for that.
    (0..64).for_each(|_| follower.freshness.prune(NOW + 101));
    let mut feed = server.next_stream().await;
    assert_eq!(feed.last_event_id(), None);
    assert!(follower.freshness.feed_is_lost());
    feed.message(&ended_until(6, 6, NOW + 500)).await;
    feed.caught_up(6).await;
    eventually(|| !follower.freshness.feed_is_lost(), "it is mended").await;
    assert!(!follower.feed.health().full);
}

#[tokio::test]
async fn a_clock_that_is_set_back_needs_everything_again() {
    let (mut server, follower, feed) = caught_up().await;
    follower.clock.set(NOW + 3600);
    // The time of the machine was wrong for a while, and what was dead by it is gone.
    follower.freshness.prune(NOW + 3600);
    follower.clock.set(NOW);
    feed.closed().await;
    assert!(follower.freshness.feed_is_lost());
    let mut feed = server.next_stream().await;
    assert_eq!(feed.last_event_id(), None);
    feed.caught_up(5).await;
    eventually(|| !follower.freshness.feed_is_lost(), "it is mended").await;
}

#[tokio::test]
async fn withdrawn_keys_are_told_to_who_fetches_keys() {
    use reseal_core::event::{Event, EventKind, LoggedEvent};
    let (_server, follower, mut feed) = caught_up().await;
    let mut changes = follower.freshness.keys_changed();
    let kind = EventKind::KeysChanged { withdrawn: vec!["old".to_owned()] };
    let event = Event { kind, until: reseal_core::Timestamp::from_secs(4_000_000_000) };
    feed.message(&FeedMessage::Event(LoggedEvent { seq: 6, event })).await;
    tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    assert!(follower.freshness.is_withdrawn("old"));
}

#[tokio::test]
async fn an_interrupted_connection_is_left_and_resumed() {
    let (mut server, follower, feed) = caught_up().await;
    follower.freshness.interrupt();
    feed.closed().await;
    assert_eq!(server.next().await.last_event_id().map(str::to_owned), position(5));
}

#[tokio::test]
async fn it_ends_with_its_last_owner() {
    let (_server, follower, feed) = caught_up().await;
    drop(follower);
    feed.closed().await;
}

#[tokio::test]
async fn its_first_word_is_waited_for() {
    let mut server = Server::start().await;
    let follower = Follower::of(&server);
    let mut began = std::pin::pin!(follower.feed.began(PATIENCE));
    let mut feed = tokio::select! {
        feed = server.next_stream() => feed,
        () = &mut began => panic!("nothing was said"),
    };
    feed.message(&ended(1, 1)).await;
    feed.caught_up(1).await;
    began.await;
    assert!(follower.knows(1) && !follower.freshness.feed_is_lost());

    let mut server = Server::start().await;
    let follower = Follower::of(&server);
    let refused = async { server.next().await.refuse(503).await };
    tokio::join!(refused, follower.feed.began(PATIENCE));
    assert!(follower.freshness.feed_is_lost());
}

#[tokio::test]
async fn an_authority_that_has_only_a_path_to_itself_is_found() {
    let mut server = Server::start_at("/tenant/a").await;
    let follower = Follower::of(&server);
    let mut feed = server.next_stream().await;
    feed.caught_up(0).await;
    follower.is_caught_up().await;
}

#[tokio::test]
async fn after_a_loss_the_keys_are_looked_at_again() {
    let (mut server, follower, feed) = caught_up().await;
    let changes = follower.freshness.keys_changed();
    drop(feed);
    let mut feed = server.next_stream().await;
    feed.caught_up(5).await;
    follower.is_caught_up().await;
    assert!(!changes.has_changed().unwrap(), "a short interruption");
    drop(feed);
    follower.freshness.lose();
    let mut feed = server.next_stream().await;
    feed.caught_up(5).await;
    follower.is_caught_up().await;
    eventually(|| changes.has_changed().unwrap(), "a key may have been withdrawn and have left the feed")
        .await;
}
