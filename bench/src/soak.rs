//! The feed under fire: a real authority, many verifiers, changes through the API, connections that are cut
//! and an authority that is killed. How long until each verifier enforces each change, and is any missed?
//!
//! All in one process, so that there is one clock. A change counts from the moment its answer was read; a
//! verifier enforces it from the moment its maps know it.

// With their paths, since a test includes this file by its own.
#[path = "report.rs"]
mod report;
#[path = "seeded.rs"]
mod seeded;
#[path = "times.rs"]
mod times;

pub(crate) use seeded::any_seed;
pub(crate) use times::Times;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use report::Report;
use reseal_core::event::EventKind;
use reseal_core::{SessionId, UserId};
use reseal_verify::freshness::{Facts, Judgement};
use reseal_verify::{OnFeedLost, Verifier};
use seeded::Seeded;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Longest wait for what must come in the end.
const PATIENCE: Duration = Duration::from_secs(180);
/// Who makes the changes, each with users of its own.
const WORKERS: usize = 4;
/// Users of each kind for each worker.
const USERS: usize = 8;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Soak {
    /// The authority's binary.
    pub(crate) binary: PathBuf,
    /// Verifiers, each with its own connection.
    pub(crate) verifiers: usize,
    /// Changes in total.
    pub(crate) changes: usize,
    /// Connections that are cut, at random moments.
    pub(crate) disconnects: usize,
    /// Times that the authority is killed and started again.
    pub(crate) restarts: usize,
    /// Changes in a second, at most.
    pub(crate) rate: u32,
    /// Decides when what is cut or killed, so that a run can be repeated.
    pub(crate) seed: u64,
}

/// What a verifier learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fact {
    Ended(SessionId),
    Revision(UserId, u64),
}

/// A change that was answered.
struct Change {
    fact: Fact,
    /// The session of a token that is no longer good as it is.
    token: String,
    sid: SessionId,
    sub: UserId,
    rev: u64,
    answered: Instant,
}

struct Follower {
    verifier: Verifier,
    learned: Arc<Mutex<HashMap<Fact, Instant>>>,
    /// While it had no connection that had caught up.
    down: Mutex<Vec<(Instant, Instant)>>,
}

impl Soak {
    /// Does it.
    pub(crate) async fn run(self) -> Result<Report> {
        let folder = tempfile::tempdir()?;
        let authority = Arc::new(Authority::start(&self.binary, folder.path()).await?);
        let mut followers = Vec::new();
        for _ in 0..self.verifiers {
            followers.push(Arc::new(Follower::start(&authority).await?));
        }
        let (done, finished) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        // Before anything is killed: making a user cannot be repeated.
        let mut ready = Vec::new();
        for number in 0..WORKERS {
            ready.push(Worker::prepare(Arc::clone(&authority), number, Arc::clone(&done)).await?);
        }
        let began = Instant::now();
        let trouble = tokio::spawn(make_trouble(
            self.clone(),
            Arc::clone(&authority),
            followers.clone(),
            (Arc::clone(&done), Arc::clone(&finished)),
        ));
        let mut workers = Vec::new();
        for (number, worker) in ready.into_iter().enumerate() {
            let share = self.changes / WORKERS + usize::from(number < self.changes % WORKERS);
            let pace = Duration::from_secs_f64(WORKERS as f64 / f64::from(self.rate.max(1)));
            workers.push(tokio::spawn(worker.work(share, pace)));
        }
        let mut changes = Vec::new();
        for worker in workers {
            changes.extend(worker.await??);
        }
        let took = began.elapsed();
        finished.store(true, Ordering::Relaxed);
        let cuts = trouble.await??;
        self.report(&changes, &followers, (cuts, took)).await
    }

    async fn report(
        &self,
        changes: &[Change],
        followers: &[Arc<Follower>],
        (cuts, took): (usize, Duration),
    ) -> Result<Report> {
        let (mut connected, mut catching_up) = (Vec::new(), Vec::new());
        let (mut missed, mut accepted) = (0, 0);
        for (number, follower) in followers.iter().enumerate() {
            // The last answers may be ahead of the last events.
            let knows = |change: &Change| follower.judges(change) != Judgement::Current;
            let all = async {
                while !changes.iter().all(knows) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            drop(timeout(PATIENCE.min(Duration::from_secs(30)), all).await);
            missed += changes.iter().filter(|change| !knows(change)).count();
            let learned = follower.learned.lock().expect("whole").clone();
            let down = follower.down.lock().expect("whole").clone();
            for change in changes {
                let Some(at) = learned.get(&change.fact) else {
                    missed += usize::from(knows(change));
                    continue;
                };
                let time = at.saturating_duration_since(change.answered);
                let cut = down.iter().any(|(from, to)| *from <= *at && change.answered <= *to);
                if cut { catching_up.push(time) } else { connected.push(time) }
            }
            // And the tokens themselves, each at one verifier.
            for change in changes.iter().skip(number).step_by(followers.len()) {
                accepted += usize::from(follower.verifier.verify(&change.token).await.is_ok());
            }
        }
        Ok(Report {
            missed,
            accepted,
            changes: changes.len(),
            verifiers: followers.len(),
            cuts,
            restarts: self.restarts,
            seed: self.seed,
            connected: Times::new(connected),
            catching_up: Times::new(catching_up),
            took,
        })
    }
}

impl Follower {
    async fn start(authority: &Authority) -> Result<Self> {
        let (id, secret) = authority.service()?;
        let verifier = Verifier::builder(&authority.url)
            .audience(&authority.url)
            .client(id, secret)
            .feed(OnFeedLost::Refuse)
            .build()
            .await?;
        let learned: Arc<Mutex<HashMap<Fact, Instant>>> = Arc::default();
        let to_learned = Arc::clone(&learned);
        verifier.freshness().observe(move |logged| {
            let now = Instant::now();
            let fact = match &logged.event.kind {
                EventKind::SessionEnded { sid, .. } => Fact::Ended(*sid),
                EventKind::ClaimsChanged { sub, rev } => Fact::Revision(*sub, *rev),
                _ => return,
            };
            to_learned.lock().expect("whole").entry(fact).or_insert(now);
        });
        let follower = Self { verifier, learned, down: Mutex::default() };
        follower.has_caught_up(0).await?;
        Ok(follower)
    }

    fn judges(&self, change: &Change) -> Judgement {
        self.verifier.freshness().judge_facts(&Facts {
            sid: Some(change.sid),
            sub: Some(change.sub),
            rev: Some(change.rev),
            ..Facts::default()
        })
    }

    fn connections(&self) -> u64 {
        self.verifier.health().feed.map_or(0, |feed| feed.reconnects)
    }

    /// Waits until a connection after that many has caught up.
    async fn has_caught_up(&self, after: u64) -> Result<()> {
        let caught_up = async {
            while self.connections() < after || !self.verifier.freshness().is_caught_up() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, caught_up).await.with_context(|| format!("{}", self.verifier.health()))
    }

    /// It has no connection from then on; waits until it has caught up on the next one.
    async fn is_down_since(self: Arc<Self>, from: Instant, connections: u64) -> Result<()> {
        self.has_caught_up(connections + 1).await?;
        self.down.lock().expect("whole").push((from, Instant::now()));
        Ok(())
    }
}

/// Cuts connections and kills the authority, at random among the changes. How many were cut.
async fn make_trouble(
    soak: Soak,
    authority: Arc<Authority>,
    followers: Vec<Arc<Follower>>,
    (done, finished): (Arc<AtomicUsize>, Arc<AtomicBool>),
) -> Result<usize> {
    let mut random = Seeded::new(soak.seed);
    let kill_after = random.moments(soak.restarts, soak.changes);
    let cut_after = random.moments(soak.disconnects, soak.changes);
    let (mut cuts, mut kills, mut waiting) = (0, 0, Vec::new());
    while cuts < soak.disconnects || kills < soak.restarts {
        let done = done.load(Ordering::Relaxed);
        let is_over = finished.load(Ordering::Relaxed);
        let due = |so_far: usize, moments: &[usize]| {
            moments.get(so_far).is_some_and(|moment| is_over || done >= *moment)
        };
        if due(kills, &kill_after) {
            kills += 1;
            let from = Instant::now();
            authority.kill();
            let before: Vec<u64> = followers.iter().map(|follower| follower.connections()).collect();
            authority.start_again().await?;
            for (follower, connections) in followers.iter().zip(before) {
                waiting.push(tokio::spawn(Arc::clone(follower).is_down_since(from, connections)));
            }
        } else if due(cuts, &cut_after) {
            let follower = &followers[random.below(followers.len())];
            cuts += 1;
            if follower.verifier.freshness().is_caught_up() {
                let (from, connections) = (Instant::now(), follower.connections());
                follower.verifier.freshness().interrupt();
                waiting.push(tokio::spawn(Arc::clone(follower).is_down_since(from, connections)));
            }
        } else {
            sleep(Duration::from_millis(1)).await;
        }
    }
    for task in waiting {
        task.await??;
    }
    Ok(cuts)
}

/// Makes changes, one after the other.
struct Worker {
    authority: Arc<Authority>,
    users: Vec<String>,
    done: Arc<AtomicUsize>,
}

impl Worker {
    async fn prepare(authority: Arc<Authority>, number: usize, done: Arc<AtomicUsize>) -> Result<Self> {
        let mut users = Vec::new();
        for n in 0..3 * USERS {
            let username = format!("soak-{number}-{n}");
            let made = authority.call("POST", "/v1/admin/users", json!({ "username": username })).await?;
            users.push(text(made.get("id").or_else(|| made.get("sub")).unwrap_or(&Value::Null))?);
        }
        Ok(Self { authority, users, done })
    }

    async fn work(self, changes: usize, pace: Duration) -> Result<Vec<Change>> {
        let mut tick = interval(pace);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut all = Vec::new();
        for n in 0..changes {
            tick.tick().await;
            // Users of one kind of change have no other: what is measured is that change.
            let user = &self.users[n % 3 * USERS + n / 3 % USERS];
            all.push(self.change(n, user).await?);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(all)
    }

    async fn change(&self, n: usize, user: &str) -> Result<Change> {
        let client_id = text(&self.authority.dev["clients"]["sliding"]["client_id"])?;
        let path = format!("/v1/admin/users/{user}");
        let started = self
            .authority
            .call("POST", &format!("{path}/sessions"), json!({ "client_id": client_id }))
            .await?;
        let token = text(&started["access_token"])?;
        let claims = claims(&token)?;
        let (sid, sub) = (text(&claims["sid"])?, text(&claims["sub"])?);
        let rev = claims["rev"].as_u64().context("no rev")?;
        let (parsed_sid, parsed_sub) = (sid.parse()?, sub.parse()?);
        let (fact, answered) = match n % 3 {
            0 => {
                self.authority.call("DELETE", &format!("/v1/admin/sessions/{sid}"), Value::Null).await?;
                (Fact::Ended(parsed_sid), Instant::now())
            }
            1 => {
                let roles = json!({ "roles": [format!("role-{n}")] });
                self.authority.call("PATCH", &path, roles).await?;
                (Fact::Revision(parsed_sub, rev + 1), Instant::now())
            }
            _ => {
                self.authority.call("PATCH", &path, json!({ "disabled": true })).await?;
                let answered = Instant::now();
                self.authority.call("PATCH", &path, json!({ "disabled": false })).await?;
                (Fact::Ended(parsed_sid), answered)
            }
        };
        Ok(Change { fact, token, sid: parsed_sid, sub: parsed_sub, rev, answered })
    }
}

/// The authority: the real one, killed by its id.
struct Authority {
    binary: PathBuf,
    folder: PathBuf,
    listen: String,
    url: String,
    dev: Value,
    child: Mutex<Option<Child>>,
    http: reqwest::Client,
    token: tokio::sync::Mutex<Option<(String, Instant)>>,
}

impl Authority {
    async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        // A port that stays the same over restarts.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).no_proxy().build()?;
        let child = Mutex::new(Some(spawn(binary, folder, &listen)?));
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let url = format!("http://{listen}");
        let mut authority = Self {
            binary,
            folder,
            listen,
            url,
            dev: Value::Null,
            child,
            http,
            token: tokio::sync::Mutex::default(),
        };
        authority.is_ready().await?;
        authority.dev = serde_json::from_slice(&std::fs::read(authority.folder.join("data/dev.json"))?)?;
        Ok(authority)
    }

    async fn start_again(&self) -> Result<()> {
        let child = spawn(&self.binary, &self.folder, &self.listen)?;
        *self.child.lock().expect("whole") = Some(child);
        self.is_ready().await
    }

    fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("whole").take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    async fn is_ready(&self) -> Result<()> {
        let url = format!("{}/health/ready", self.url);
        let ready = async {
            while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, ready).await.context("the authority is not ready in time")
    }

    fn service(&self) -> Result<(String, String)> {
        let service = &self.dev["clients"]["service"];
        Ok((text(&service["client_id"])?, text(&service["client_secret"])?))
    }

    /// A call that must succeed; made again when there was no answer, since nobody knows then.
    async fn call(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let began = Instant::now();
        let mut again = false;
        loop {
            let outcome = self.try_call(method, path, &body).await;
            match outcome {
                Ok((200..=299, answer)) => return Ok(answer),
                // The first time it was done, and its answer was lost.
                Ok((404 | 409, _)) if again && method == "DELETE" => return Ok(Value::Null),
                Ok((409, answer)) if again && method == "POST" => {
                    bail!("{path}: done before it died: {answer}")
                }
                Ok((503, _)) | Err(_) if began.elapsed() < PATIENCE => {}
                Ok((status, answer)) => bail!("{method} {path}: {status} {answer}"),
                Err(error) => return Err(error),
            }
            again = true;
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let token = self.token().await?;
        let method = method.parse::<reqwest::Method>()?;
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
    }

    async fn token(&self) -> Result<String> {
        let mut held = self.token.lock().await;
        if let Some((token, since)) = &*held
            && since.elapsed() < Duration::from_secs(60)
        {
            return Ok(token.clone());
        }
        let (id, secret) = self.service()?;
        let answer = self
            .http
            .post(format!("{}/oauth/token", self.url))
            .basic_auth(id, Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials&scope=reseal:admin")
            .send()
            .await?;
        ensure!(answer.status().is_success(), "no token: {}", answer.status());
        let token = text(&answer.json::<Value>().await?["access_token"])?;
        *held = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(binary: &Path, folder: &Path, listen: &str) -> Result<Child> {
    Command::new(binary)
        .args(["serve", "--dev", "--listen", listen, "--data"])
        .arg(folder.join("data"))
        .env_remove("RESEAL_MASTER_KEY")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", binary.display()))
}

fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("no token")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("a text is missing: {value}"))
}
