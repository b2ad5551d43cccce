//! A reader of the feed on one node sees what is changed on the others: all of it, in order, soon.

use crate::alone;
use crate::faults::rounds;
use crate::http::{Reply, client, runtime};
use crate::nodes::{Kind, Nodes};
use crate::postgres::Cluster;
use reqwest::Client;
use reseal_test_servers::Postgres;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Those who change at the same time; each has a user of his own.
const WRITERS: usize = 4;
/// Of the promise of one second; what a slow and loaded machine may add is not the point here.
const GENEROUS: Duration = Duration::from_secs(20);

/// What was told: by its number in the log.
#[derive(Default)]
struct Told {
    events: Mutex<Vec<(u64, Value, Instant)>>,
    caught_up: AtomicBool,
}

/// A change that was answered.
enum Change {
    Record { sub: String, revision: u64 },
    Ending { sid: String },
}

#[test]
fn each_change_on_one_node_reaches_a_reader_of_another_in_order() {
    let _alone = alone();
    let database = Postgres::shared().database();
    let cluster = Cluster::start(database.server(), database.name(), Kind::HaProxy, "");
    let nodes = &cluster.nodes;
    let admin = nodes.service_token("reseal:admin").unwrap();
    let users: Vec<String> = (0..WRITERS).map(|i| nodes.add_user(&format!("user-{i}"), &admin)).collect();
    let told = Arc::<Told>::default();
    let reading = runtime().spawn(read(nodes.url_of(0), tokens(nodes), Arc::clone(&told)));
    wait("the reader has caught up", || told.caught_up.load(Ordering::SeqCst));
    let began = told.events.lock().unwrap().len();

    let each = rounds(1000, 10_000) / WRITERS;
    let answered: Vec<(Change, Instant)> = runtime().block_on(async {
        let tasks: Vec<_> = users
            .into_iter()
            .enumerate()
            .map(|(i, user)| {
                let renewed = tokens(nodes);
                tokio::spawn(write(nodes.url_of(1 + i % 2), renewed, user, each))
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    wait("everything has come", || told.events.lock().unwrap().len() - began >= answered.len());
    reading.abort();

    let events = told.events.lock().unwrap();
    for pair in events.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "none is left out and none comes late");
    }
    let mut at: HashMap<String, Instant> = HashMap::new();
    let mut newest: HashMap<String, u64> = HashMap::new();
    for (_, data, seen) in &events[began..] {
        let key = if let Some(sid) = data["sid"].as_str() {
            sid.to_owned()
        } else {
            let (sub, rev) = (data["sub"].as_str().unwrap(), data["rev"].as_u64().unwrap());
            let before = newest.insert(sub.to_owned(), rev);
            assert!(before < Some(rev), "revisions of a user come in order");
            format!("{sub} {rev}")
        };
        assert!(at.insert(key, *seen).is_none(), "none comes twice: {data}");
    }
    assert_eq!(at.len(), answered.len(), "what was not changed is not told");
    let mut delays: Vec<Duration> = answered
        .iter()
        .map(|(change, answer)| {
            let key = match change {
                Change::Record { sub, revision } => format!("{sub} {revision}"),
                Change::Ending { sid } => sid.clone(),
            };
            at.get(&key).unwrap_or_else(|| panic!("{key} was missed")).saturating_duration_since(*answer)
        })
        .collect();
    delays.sort();
    let percentile = |p: usize| delays[(delays.len() - 1) * p / 100];
    println!(
        "{} changes seen on another node after: p50 {:?}, p99 {:?}, longest {:?}; within 1 s: {}",
        delays.len(),
        percentile(50),
        percentile(99),
        percentile(100),
        delays.iter().filter(|delay| **delay <= Duration::from_secs(1)).count()
    );
    assert!(percentile(100) < GENEROUS);
}

/// One who changes a record and ends sessions by turns; what was answered, and when.
async fn write(url: String, tokens: Tokens, user: String, count: usize) -> Vec<(Change, Instant)> {
    let (http, mut done) = (client(), Vec::new());
    for n in 0..count {
        let admin = tokens.get(&http).await;
        if n % 4 == 3 {
            let start = http.post(format!("{url}/v1/admin/users/{user}/sessions")).bearer_auth(&admin);
            let started = Reply::of(start.json(&json!({ "client_id": "app" }))).await.unwrap();
            assert_eq!(started.status, 201, "{}", started.body);
            let sid = started.body["session"]["id"].as_str().unwrap().to_owned();
            let end = http.delete(format!("{url}/v1/admin/sessions/{sid}")).bearer_auth(&admin);
            assert_eq!(Reply::of(end).await.unwrap().status, 204);
            done.push((Change::Ending { sid }, Instant::now()));
        } else {
            let patch = http.patch(format!("{url}/v1/admin/users/{user}")).bearer_auth(&admin);
            let reply = Reply::of(patch.json(&json!({ "attributes": { "n": n } }))).await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
            let revision = reply.body["revision"].as_u64().unwrap();
            done.push((Change::Record { sub: user.clone(), revision }, Instant::now()));
        }
    }
    done
}

/// Reads the feed for ever; a stream that ends (with its token, for example) is taken up where it was.
async fn read(url: String, tokens: Tokens, told: Arc<Told>) {
    let http = Client::builder().no_proxy().build().unwrap();
    let mut last_id: Option<String> = None;
    loop {
        let mut request = http.get(format!("{url}/v1/feed")).bearer_auth(tokens.get(&http).await);
        if let Some(id) = &last_id {
            request = request.header("last-event-id", id);
        }
        let mut response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            let now = Instant::now();
            text.extend_from_slice(&chunk);
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = text.drain(..end + 2).collect();
                let message = String::from_utf8(message).unwrap();
                let field =
                    |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                match field("id") {
                    Some(id) => {
                        let data: Value = serde_json::from_str(field("data").unwrap()).unwrap();
                        told.events.lock().unwrap().push((data["seq"].as_u64().unwrap(), data, now));
                        last_id = Some(id.to_owned());
                    }
                    None => match field("event") {
                        Some("caught-up") => told.caught_up.store(true, Ordering::SeqCst),
                        Some("heartbeat") => {}
                        other => panic!("{other:?}"),
                    },
                }
            }
        }
    }
}

/// Tokens of the service client, new ones in time.
#[derive(Clone)]
struct Tokens {
    url: String,
    service: (String, String),
    held: Arc<Mutex<Option<(String, Instant)>>>,
}

fn tokens(nodes: &Nodes) -> Tokens {
    Tokens { url: nodes.url(), service: nodes.service(), held: Arc::default() }
}

impl Tokens {
    async fn get(&self, http: &Client) -> String {
        let held = self.held.lock().unwrap().clone();
        if let Some((token, since)) = held
            && since.elapsed() < Duration::from_secs(60)
        {
            return token;
        }
        let form = [("grant_type", "client_credentials"), ("scope", "reseal:admin reseal:feed")];
        let (id, secret) = &self.service;
        let request = http.post(format!("{}/oauth/token", self.url)).basic_auth(id, Some(secret)).form(&form);
        let token = Reply::of(request).await.unwrap().text("access_token");
        *self.held.lock().unwrap() = Some((token.clone(), Instant::now()));
        token
    }
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    reseal_test_servers::until(what, || condition().then_some(()));
}
