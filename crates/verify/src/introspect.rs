//! Token introspection (RFC 7662): the slow path, for what matters at this very moment and for times when the
//! feed is lost. One call per token however many requests carry it, and its answer is good for a second.

use crate::builder::Credentials;
use crate::cache::{self, TokenHash};
use crate::error::{Unavailable, VerifyError};
use crate::http::{self, cause, form_encode};
use crate::token::Token;
use ::http::header;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

/// Longest wait for an answer, its turn included.
pub const INTROSPECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer is good.
pub const INTROSPECTION_LIFE: Duration = Duration::from_secs(1);
/// Most calls that are under way.
const MAX_CALLS: usize = 64;
/// Most that are under way or wait for their turn, each with its token.
const MAX_WAITING: usize = 4096;
/// Most answers that are kept.
const MAX_ANSWERS: usize = 10_000;
/// Longest answer that is read, in bytes.
const MAX_ANSWER_LEN: usize = 64 * 1024;
/// After a failure nobody is asked for so long: requests shall not queue up for an authority that is away.
const REST: Duration = Duration::from_millis(250);

/// Asks the authority.
pub(crate) struct Introspector {
    pub(crate) http: Client,
    pub(crate) credentials: Credentials,
    pub(crate) http_allowed: bool,
    calls: Semaphore,
    /// Those who call, and those who wait for their turn.
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<TokenHash, watch::Receiver<Option<Answer>>>,
    /// Answers of the last second or so, and those of the one before: the older map goes as a whole.
    young: HashMap<TokenHash, Kept>,
    old: HashMap<TokenHash, Kept>,
    turned_at: Option<Instant>,
    rest_until: Option<Instant>,
}

struct Kept {
    answer: Answer,
    until: Instant,
}

/// What the authority says of a token (RFC 7662 §2.2), as far as it matters beside the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Active { current_rev: Option<u64>, scope: Option<Arc<str>> },
    Inactive,
    Away,
}

impl Answer {
    /// Whether the token is stale.
    pub(crate) fn judge(&self, token: &Token) -> Result<bool, VerifyError> {
        match self {
            Self::Away => Err(VerifyError::Unavailable(Unavailable::Introspection)),
            Self::Inactive => Err(VerifyError::Inactive),
            Self::Active { current_rev, scope } => {
                let changed = current_rev.is_some_and(|rev| token.revision().is_none_or(|own| own < rev));
                // The client may have less now than when the token was issued.
                let narrowed = scope.as_ref().is_some_and(|scope| {
                    token.scope().iter().any(|own| !scope.split(' ').any(|granted| granted == own))
                });
                Ok(changed || narrowed)
            }
        }
    }
}

/// The members of an answer that are looked at.
#[derive(Deserialize)]
struct Members {
    active: bool,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    scope: Option<Arc<str>>,
    #[serde(default)]
    current_rev: Option<u64>,
}

/// Whom to ask about which token.
pub(crate) struct Question {
    pub(crate) endpoint: String,
    pub(crate) token: Zeroizing<String>,
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

impl Introspector {
    pub(crate) fn new(http: Client, credentials: Credentials, http_allowed: bool) -> Arc<Self> {
        Arc::new(Self {
            http,
            credentials,
            http_allowed,
            calls: Semaphore::new(MAX_CALLS),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            state: Mutex::default(),
        })
    }

    /// The answer of now; if `fresh` does not forbid it, one that is a second old at most, or of a call that is
    /// under way (and may have begun its whole time limit ago).
    pub(crate) async fn ask(self: &Arc<Self>, question: Question, fresh: bool) -> Answer {
        let hash = cache::hash(&question.token);
        let mut running = {
            let mut state = self.state();
            let now = Instant::now();
            if !fresh && let Some(answer) = state.kept(&hash, now) {
                return answer;
            }
            if state.rest_until.is_some_and(|until| now < until) {
                return Answer::Away;
            }
            match state.running.get(&hash) {
                // One that is under way began before this request came: good enough for a cached answer only.
                Some(running) if !fresh && running.has_changed().is_ok() => running.clone(),
                _ => {
                    let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                        return Answer::Away;
                    };
                    let (sender, receiver) = watch::channel(None);
                    if !fresh {
                        state.running.insert(hash, receiver.clone());
                    }
                    // A task of its own: a request that is given up must not take the others' answer with it.
                    let run = Arc::clone(self).run(hash, question, sender);
                    tokio::spawn(async move {
                        run.await;
                        drop(place);
                    });
                    receiver
                }
            }
        };
        let answered = running.wait_for(Option::is_some).await;
        answered.ok().and_then(|answer| answer.clone()).unwrap_or(Answer::Away)
    }

    async fn run(
        self: Arc<Self>,
        hash: TokenHash,
        question: Question,
        sender: watch::Sender<Option<Answer>>,
    ) {
        let mut asked_at = Instant::now();
        let asked = async {
            let _turn = self.calls.acquire().await;
            asked_at = Instant::now();
            self.call(&question).await
        };
        let answer = match timeout(INTROSPECTION_TIMEOUT, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(fault)) => {
                tracing::warn!(%fault, "a token could not be introspected");
                Answer::Away
            }
            Err(_) => {
                tracing::warn!("a token could not be introspected: no answer in time");
                Answer::Away
            }
        };
        let result = match &answer {
            Answer::Active { .. } => "active",
            Answer::Inactive => "inactive",
            Answer::Away => "failed",
        };
        metrics::counter!("reseal_verify_introspections_total", "result" => result).increment(1);
        {
            let mut state = self.state();
            // What runs under this hash may be another's call.
            if state.running.get(&hash).is_some_and(|running| running.same_channel(&sender.subscribe())) {
                state.running.remove(&hash);
            }
            if answer == Answer::Away {
                state.rest_until = Some(Instant::now() + REST);
            } else {
                state.keep(hash, answer.clone(), asked_at);
            }
        }
        sender.send_replace(Some(answer));
    }

    async fn call(&self, question: &Question) -> Result<Answer, String> {
        let url = Url::parse(&question.endpoint).map_err(|_| "its endpoint is not a URL".to_owned())?;
        if !http::may_ask(&url, self.http_allowed) {
            return Err("its endpoint is without TLS".to_owned());
        }
        // Room for all of it, so that growing leaves no copy that is not wiped.
        let mut form = Zeroizing::new(String::with_capacity(64 + 3 * question.token.len()));
        form.push_str("token_type_hint=access_token&token=");
        form_encode(&question.token, &mut form);
        let request = self
            .http
            .post(url)
            .header(header::AUTHORIZATION, self.credentials.basic())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form.as_bytes().to_vec());
        let mut response = request.send().await.map_err(|error| cause(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the authority answered with {}", response.status()));
        }
        let body = http::body(&mut response, MAX_ANSWER_LEN).await.map_err(|fault| fault.to_string())?;
        read(&body, question).ok_or_else(|| "the answer is not what RFC 7662 has".to_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is about somebody else's token is none at all.
fn read(body: &[u8], question: &Question) -> Option<Answer> {
    let members: Members = serde_json::from_slice(body).ok()?;
    if !members.active {
        return Some(Answer::Inactive);
    }
    let is_of = |said: Option<String>, expected: &str| said.is_none_or(|said| said == expected);
    if !is_of(members.iss, &question.issuer) || !is_of(members.sub, &question.subject) {
        return None;
    }
    Some(Answer::Active { current_rev: members.current_rev, scope: members.scope })
}

impl State {
    fn kept(&self, hash: &TokenHash, now: Instant) -> Option<Answer> {
        let kept = self.young.get(hash).or_else(|| self.old.get(hash))?;
        (now < kept.until).then(|| kept.answer.clone())
    }

    /// An answer may be as old as the question.
    fn keep(&mut self, hash: TokenHash, answer: Answer, asked_at: Instant) {
        let until = asked_at + INTROSPECTION_LIFE;
        // A call that was overtaken by one that began later knows less.
        let known = self.young.get(&hash).or_else(|| self.old.get(&hash));
        if known.is_some_and(|known| known.until > until) {
            return;
        }
        let is_due = self.turned_at.is_none_or(|at| asked_at >= at + INTROSPECTION_LIFE);
        if is_due || self.young.len() >= MAX_ANSWERS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.turned_at = Some(asked_at);
        }
        self.young.insert(hash, Kept { answer, until });
    }
}

#[cfg(test)]
mod tests;
