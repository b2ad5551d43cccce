//! Clients that hold refresh sessions and renew them without end, and a ledger of what was acknowledged.

use crate::http::{Reply, ask, client, runtime};
use crate::nodes::Nodes;
use reqwest::Client;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// Clients that renew at the same time.
pub(crate) const CLIENTS: usize = 64;
const USERS: usize = 8;
/// Between two renewals of a client, and before it tries again.
const PAUSE: Duration = Duration::from_millis(25);

/// What the store may lose.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Losses {
    None,
    /// The last rotations, which the tokens themselves mend.
    Rotations,
}

/// The load. It runs until it is dropped.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    url: String,
    losses: Losses,
    http: Client,
    admin: Mutex<String>,
    users: Vec<String>,
    /// Held for writing while a check wants to see what the clients saw last.
    gate: RwLock<()>,
    stop: AtomicBool,
    holders: Vec<Holder>,
    /// How often a request was answered that nobody was there, or not at all.
    errors: AtomicU64,
    last_error: Mutex<Option<(Instant, String)>>,
    /// What must never happen, in words.
    wrongs: Mutex<Vec<String>>,
    /// The last number of each user's record that was acknowledged.
    named: Mutex<HashMap<String, u64>>,
    ended: Mutex<Vec<Ended>>,
}

/// What a task does again and again.
#[derive(Clone, Copy)]
enum Work {
    Renew(usize),
    Update,
    End,
}

/// A client's session: the newest refresh token that it was given.
struct Holder {
    state: Mutex<State>,
    renewals: AtomicU64,
}

#[derive(Clone)]
struct State {
    sid: String,
    token: String,
    generation: u64,
}

/// A session whose end was acknowledged.
struct Ended {
    sid: String,
    refresh_token: String,
}

impl Load {
    /// Starts sessions for all clients, and their renewals.
    pub(crate) fn start(nodes: &Nodes, losses: Losses) -> Self {
        let admin = nodes.service_token("reseal:admin").unwrap();
        let users: Vec<String> = (0..USERS).map(|i| nodes.add_user(&format!("user-{i}"), &admin)).collect();
        let mut shared = Shared {
            url: nodes.url(),
            losses,
            http: client(),
            admin: Mutex::new(admin),
            users,
            gate: RwLock::default(),
            stop: AtomicBool::new(false),
            holders: Vec::new(),
            errors: AtomicU64::new(0),
            last_error: Mutex::default(),
            wrongs: Mutex::default(),
            named: Mutex::default(),
            ended: Mutex::default(),
        };
        for i in 0..CLIENTS {
            let state = runtime().block_on(shared.new_session(i)).expect("a session starts");
            shared.holders.push(Holder { state: Mutex::new(state), renewals: AtomicU64::new(0) });
        }
        let shared = Arc::new(shared);
        for work in (0..CLIENTS).map(Work::Renew).chain([Work::Update, Work::End]) {
            runtime().spawn(Arc::clone(&shared).repeat(work));
        }
        Self { shared }
    }

    /// Waits until every client has renewed that often from now on. Fails at once if something wrong was seen.
    pub(crate) fn until_all_renewed(&self, times: u64, patience: Duration) {
        let goals: Vec<u64> = self.shared.holders.iter().map(|h| h.count() + times).collect();
        let began = Instant::now();
        while self.shared.holders.iter().zip(&goals).any(|(holder, goal)| holder.count() < *goal) {
            self.assert_nothing_wrong();
            assert!(began.elapsed() < patience, "clients do not renew any more: {:?}", self.last_error());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Errors so far.
    pub(crate) fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::SeqCst)
    }

    /// The newest error, and when it was.
    pub(crate) fn last_error(&self) -> Option<(Instant, String)> {
        self.shared.last_error.lock().unwrap().clone()
    }

    /// Renewals so far.
    pub(crate) fn renewals(&self) -> u64 {
        self.shared.holders.iter().map(Holder::count).sum()
    }

    pub(crate) fn assert_nothing_wrong(&self) {
        let wrongs = self.shared.wrongs.lock().unwrap();
        assert!(wrongs.is_empty(), "{} wrong, of which the first: {}", wrongs.len(), wrongs[0]);
    }

    /// Holds the clients still and compares the store with what was acknowledged.
    pub(crate) fn check_ledger(&self, nodes: &Nodes) {
        self.assert_nothing_wrong();
        let still = runtime().block_on(self.shared.gate.write());
        let admin = nodes.service_token("reseal:admin").expect("it answers again");
        *self.shared.admin.lock().unwrap() = admin.clone();
        let get = |path: String| {
            let url = format!("{}/v1/admin/{path}", self.shared.url);
            let reply = ask(|http| http.get(url).bearer_auth(&admin)).expect("it answers again");
            assert_eq!(reply.status, 200, "{path}: {}", reply.body);
            reply.body
        };
        for holder in &self.shared.holders {
            let state = holder.state.lock().unwrap().clone();
            let row = get(format!("sessions/{}", state.sid));
            assert!(row["ended_at"].is_null(), "an honest client's session ended: {row}");
            let used = row["used"].as_u64().unwrap();
            let kept = used + 1 >= state.generation || self.shared.losses == Losses::Rotations;
            assert!(kept, "an acknowledged rotation was undone: {row}");
        }
        for (user, n) in &*self.shared.named.lock().unwrap() {
            let row = get(format!("users/{user}"));
            let seen = row["attributes"]["n"].as_u64().unwrap_or(0);
            assert!(seen >= *n, "an acknowledged update was undone: {seen} instead of {n}");
        }
        for Ended { sid, refresh_token } in &*self.shared.ended.lock().unwrap() {
            let row = get(format!("sessions/{sid}"));
            assert_eq!(row["end_reason"], "signed_out", "an acknowledged ending was undone: {row}");
            let form = self.shared.form(refresh_token);
            let url = format!("{}/oauth/token", self.shared.url);
            let reply = ask(|http| http.post(url).form(&form)).expect("it answers again");
            assert_eq!(reply.status, 400, "an ended session was revived: {}", reply.body);
        }
        drop(still);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Whoever is under way is done when nobody holds the gate.
        drop(runtime().block_on(self.shared.gate.write()));
    }
}

impl Shared {
    async fn repeat(self: Arc<Self>, work: Work) {
        let mut n = 0;
        while !self.stop.load(Ordering::SeqCst) {
            n += 1;
            let going = self.gate.read().await;
            match work {
                Work::Renew(client) => self.renew(client).await,
                Work::Update => self.update(n).await,
                Work::End => self.end_one(n).await,
            }
            drop(going);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn renew(&self, i: usize) {
        let held = self.holders[i].state.lock().unwrap().clone();
        let request = self.http.post(format!("{}/oauth/token", self.url)).form(&self.form(&held.token));
        let Some(reply) = self.answered(Reply::of(request).await, "renewal") else { return };
        if reply.status != 200 {
            return self.wrong(format!(
                "client {i} was logged out at {}: {} {}",
                held.generation, reply.status, reply.body
            ));
        }
        let generation = reply.body["session"]["generation"].as_u64().unwrap();
        // Only what is newer is adopted (an answer that was overtaken is not).
        if generation <= held.generation {
            self.wrong(format!("client {i} held {} and was given {generation}", held.generation));
        }
        *self.holders[i].state.lock().unwrap() =
            State { token: reply.text("refresh_token"), generation, ..held };
        self.holders[i].renewals.fetch_add(1, Ordering::SeqCst);
    }

    /// One changes the records, again and again.
    async fn update(&self, n: u64) {
        let user = &self.users[usize::try_from(n).unwrap() % USERS];
        let request = self
            .http
            .patch(format!("{}/v1/admin/users/{user}", self.url))
            .bearer_auth(self.admin.lock().unwrap().clone())
            .json(&json!({ "attributes": { "n": n } }));
        let Some(reply) = self.answered(Reply::of(request).await, "update") else { return };
        if reply.status == 200 {
            self.named.lock().unwrap().insert(user.clone(), n);
        } else {
            self.wrong(format!("an update: {} {}", reply.status, reply.body));
        }
    }

    /// One starts sessions, renews them and signs out.
    async fn end_one(&self, n: u64) {
        let Some(state) = self.new_session(usize::try_from(n).unwrap()).await else { return };
        let request = self.http.post(format!("{}/oauth/token", self.url)).form(&self.form(&state.token));
        let Some(renewed) = self.answered(Reply::of(request).await, "renewal of a short session") else {
            return;
        };
        if renewed.status != 200 {
            return self
                .wrong(format!("a new session cannot be renewed: {} {}", renewed.status, renewed.body));
        }
        let refresh_token = renewed.text("refresh_token");
        let form = [("token", refresh_token.as_str()), ("client_id", "app")];
        let request = self.http.post(format!("{}/oauth/revoke", self.url)).form(&form);
        let Some(reply) = self.answered(Reply::of(request).await, "ending") else { return };
        if reply.status == 200 {
            self.ended.lock().unwrap().push(Ended { sid: state.sid, refresh_token });
        } else {
            self.wrong(format!("an ending: {} {}", reply.status, reply.body));
        }
    }

    async fn new_session(&self, n: usize) -> Option<State> {
        let request = self
            .http
            .post(format!("{}/v1/admin/users/{}/sessions", self.url, self.users[n % USERS]))
            .bearer_auth(self.admin.lock().unwrap().clone())
            .json(&json!({ "client_id": "app" }));
        let reply = self.answered(Reply::of(request).await, "start")?;
        if reply.status != 201 {
            self.wrong(format!("a start: {} {}", reply.status, reply.body));
            return None;
        }
        let sid = reply.body["session"]["id"].as_str().unwrap().to_owned();
        Some(State { sid, token: reply.text("refresh_token"), generation: 1 })
    }

    /// The answer, unless it is that nobody is there.
    fn answered(&self, reply: Option<Reply>, what: &str) -> Option<Reply> {
        match reply {
            Some(reply) if !reply.is_unavailable() => Some(reply),
            other => {
                self.errors.fetch_add(1, Ordering::SeqCst);
                let said =
                    other.map_or_else(|| "no answer".to_owned(), |r| format!("{} {}", r.status, r.body));
                *self.last_error.lock().unwrap() = Some((Instant::now(), format!("{what}: {said}")));
                None
            }
        }
    }

    fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }

    fn form<'a>(&self, token: &'a str) -> [(&'static str, &'a str); 3] {
        [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token)]
    }
}

impl Holder {
    fn count(&self) -> u64 {
        self.renewals.load(Ordering::SeqCst)
    }
}
