//! The operations, each a closed loop: a connection sends its next request when it has the answer.

use crate::client::Client;
use crate::server::{Server, now};
use crate::soak::Times;
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `POST /oauth/token` with a refresh token: rotation, durable, and one signature.
    Refresh,
    /// `POST /v1/session/renew` of a sliding token before its half-life.
    Renew,
    /// `GET /v1/session` with a session cookie.
    Cookie,
    /// `GET /gateway/verify` with a session cookie, as a proxy asks.
    Gateway,
    /// `GET /v1/session` with an access token.
    VerifyOwn,
    /// `POST /v1/session` with a password.
    Login,
}

/// What came out.
pub(crate) struct Figures {
    operations: u64,
    cpu: Duration,
    store: Duration,
    wall: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.operations.max(1) as f64;
        write!(
            f,
            "{:>7.1} µs CPU per operation{}, {:>8.0} operations/s ({} in {:.1} s)",
            self.cpu.as_secs_f64() * 1e6 / operations,
            match self.store.as_secs_f64() * 1e6 / operations {
                // SQLite is inside the authority.
                0.0 => String::new(),
                store => format!(" and {store:.1} in the store's servers"),
            },
            operations / self.wall.as_secs_f64(),
            self.operations,
            self.wall.as_secs_f64()
        )
    }
}

impl Operation {
    /// The operation of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "refresh" => Self::Refresh,
            "renew" => Self::Renew,
            "cookie" => Self::Cookie,
            "gateway" => Self::Gateway,
            "verify-own" => Self::VerifyOwn,
            "login" => Self::Login,
            _ => return None,
        })
    }

    /// Runs it on so many connections for so many seconds, after a short warm-up.
    pub(crate) async fn measure(self, server: &Server, connections: usize, seconds: u64) -> Result<Figures> {
        let admin = admin_token(server).await?;
        let user = user_id(server, &admin).await?;
        let mut loops = Vec::new();
        let count = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..connections {
            let mut client = Client::connect(server.address).await?;
            let mut step = self.prepare(server, &mut client, (&admin, &user)).await?;
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            loops.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    step.once(&mut client).await?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            }));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = Reading::take(server, &count)?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let after = Reading::take(server, &count)?;
        stop.store(true, Ordering::Relaxed);
        for task in loops {
            task.await??;
        }
        Ok(Figures {
            operations: after.operations - before.operations,
            cpu: after.cpu.saturating_sub(before.cpu),
            store: after.store.saturating_sub(before.store),
            wall: after.at.duration_since(before.at),
        })
    }

    /// Runs it on so many connections until the second flag is up; how long each took, those before the first
    /// flag was up and those after.
    pub(crate) async fn times(
        self,
        server: &Server,
        connections: usize,
        (turned, stop): (&Arc<AtomicBool>, &Arc<AtomicBool>),
    ) -> Result<(Times, Times)> {
        let admin = admin_token(server).await?;
        let user = user_id(server, &admin).await?;
        let mut loops = Vec::new();
        for _ in 0..connections {
            let mut client = Client::connect(server.address).await?;
            let mut step = self.prepare(server, &mut client, (&admin, &user)).await?;
            let (turned, stop) = (Arc::clone(turned), Arc::clone(stop));
            loops.push(tokio::spawn(async move {
                let (mut before, mut after) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let begun = now();
                    step.once(&mut client).await?;
                    let times = if turned.load(Ordering::Relaxed) { &mut after } else { &mut before };
                    times.push(now().duration_since(begun));
                }
                anyhow::Ok((before, after))
            }));
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for task in loops {
            let (these, those) = task.await??;
            before.extend(these);
            after.extend(those);
        }
        Ok((Times::new(before), Times::new(after)))
    }

    async fn prepare(
        self,
        server: &Server,
        client: &mut Client,
        (admin, user): (&str, &str),
    ) -> Result<Step> {
        let kind = match self {
            Self::Refresh => "refresh",
            Self::Cookie | Self::Gateway => "cookie",
            Self::Renew | Self::VerifyOwn | Self::Login => "sliding",
        };
        let client_id = text(&server.dev["clients"][kind]["client_id"])?;
        if self == Self::Login {
            let body = login_body(server, &client_id)?;
            return Ok(Step::Post { path: "/v1/session", bearer: None, body, status: 201 });
        }
        let path = format!("/v1/admin/users/{user}/sessions");
        let body = json!({ "client_id": client_id }).to_string();
        let headers = [("authorization", admin), ("content-type", "application/json")];
        let answer = client.post(&path, &headers, body).await?;
        let started = answer.json(201)?;
        Ok(match self {
            Self::Refresh => Step::Refresh { client_id, refresh_token: text(&started["refresh_token"])? },
            Self::Cookie | Self::Gateway => {
                let cookie =
                    answer.headers.get("set-cookie").and_then(|c| c.to_str().ok()).context("no cookie")?;
                let pair = cookie.split(';').next().unwrap_or_default().to_owned();
                if self == Self::Gateway {
                    Step::Gateway { cookie: pair }
                } else {
                    Step::Get { name: "cookie", value: pair }
                }
            }
            _ => {
                let bearer = format!("Bearer {}", text(&started["access_token"])?);
                if self == Self::VerifyOwn {
                    Step::Get { name: "authorization", value: bearer }
                } else {
                    Step::Post {
                        path: "/v1/session/renew",
                        bearer: Some(bearer),
                        body: String::new(),
                        status: 200,
                    }
                }
            }
        })
    }
}

/// What stood on the counters.
struct Reading {
    operations: u64,
    cpu: Duration,
    store: Duration,
    at: Instant,
}

impl Reading {
    fn take(server: &Server, count: &AtomicU64) -> Result<Self> {
        Ok(Self {
            operations: count.load(Ordering::Relaxed),
            cpu: server.cpu()?,
            store: server.cpu_of_store()?,
            at: now(),
        })
    }
}

/// The next request of a loop.
enum Step {
    Refresh { client_id: String, refresh_token: String },
    Gateway { cookie: String },
    Get { name: &'static str, value: String },
    Post { path: &'static str, bearer: Option<String>, body: String, status: u16 },
}

impl Step {
    async fn once(&mut self, client: &mut Client) -> Result<()> {
        match self {
            Self::Refresh { client_id, refresh_token } => {
                let body =
                    format!("grant_type=refresh_token&client_id={client_id}&refresh_token={refresh_token}");
                let form = [("content-type", "application/x-www-form-urlencoded")];
                let answer = client.post("/oauth/token", &form, body).await?.json(200)?;
                *refresh_token = text(&answer["refresh_token"])?;
            }
            Self::Gateway { cookie } => {
                let headers = [("cookie", cookie.as_str()), ("x-original-method", "GET")];
                let answer = client.get("/gateway/verify", &headers).await?;
                if answer.status != 200 || !answer.headers.contains_key("authorization") {
                    bail!("{} instead of 200 and a token", answer.status);
                }
            }
            Self::Get { name, value } => {
                client.get("/v1/session", &[(name, value)]).await?.json(200)?;
            }
            Self::Post { path, bearer, body, status } => {
                let mut headers = Vec::new();
                if let Some(bearer) = bearer {
                    headers.push(("authorization", bearer.as_str()));
                }
                if !body.is_empty() {
                    headers.push(("content-type", "application/json"));
                }
                client.post(path, &headers, body.clone()).await?.json(*status)?;
            }
        }
        Ok(())
    }
}

/// Logs the development user in, so many times, one after the other.
pub(crate) async fn login_many(server: &Server, times: u32) -> Result<()> {
    let mut client = Client::connect(server.address).await?;
    let body = login_body(server, &text(&server.dev["clients"]["refresh"]["client_id"])?)?;
    for _ in 0..times {
        client.post("/v1/session", &[("content-type", "application/json")], body.clone()).await?.json(201)?;
    }
    Ok(())
}

pub(crate) fn login_body(server: &Server, client_id: &str) -> Result<String> {
    let user = &server.dev["user"];
    let (username, password) = (text(&user["username"])?, text(&user["password"])?);
    Ok(json!({ "client_id": client_id, "username": username, "password": password }).to_string())
}

async fn admin_token(server: &Server) -> Result<String> {
    let service = &server.dev["clients"]["service"];
    let pair = format!("{}:{}", text(&service["client_id"])?, text(&service["client_secret"])?);
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let body = "grant_type=client_credentials&scope=reseal:admin";
    let answer =
        Client::connect(server.address).await?.post("/oauth/token", &headers, body).await?.json(200)?;
    Ok(format!("Bearer {}", text(&answer["access_token"])?))
}

async fn user_id(server: &Server, admin: &str) -> Result<String> {
    let username = text(&server.dev["user"]["username"])?;
    let path = format!("/v1/admin/users?username={username}");
    let answer =
        Client::connect(server.address).await?.get(&path, &[("authorization", admin)]).await?.json(200)?;
    let user = answer["items"].as_array().and_then(|items| items.first()).context("no such user")?;
    text(user.get("sub").or_else(|| user.get("id")).unwrap_or(&Value::Null))
}

pub(crate) fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("a text is missing in the answer")
}
