//! What the engine keeps parsed and numbered, shared by all connections. Only what was read as committed gets
//! in, so nothing has to be taken back, unless another server takes over that lacks the newest commits of the one
//! before ([`Known::forget_numbers`]).

use super::fail::{Fail, Result};
use super::pool::Client;
use super::rows::text;
use crate::cache::{Cache, Caches};
use reseal_core::Session;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of parsed values.
const CACHE_BYTES: usize = 8 << 20;
/// Texts whose numbers are known; more, and all are forgotten.
const NUMBERS: usize = 20_000;

/// The caches of a store.
pub(super) struct Known {
    parsed: Mutex<Caches>,
    numbers: Mutex<HashMap<Box<str>, Held>>,
    agents: Mutex<HashMap<Box<str>, Held>>,
    /// How often numbers were forgotten: a number means something within one such time only.
    times: AtomicU32,
}

/// The number of a text, and until which day it surely stays.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) n: i32,
    pub(super) until_day: i32,
}

/// The numbers of a session's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) client: i32,
    pub(super) policy: i32,
    pub(super) scope: i32,
    pub(super) user_agent: Option<i32>,
}

/// Texts that were not in the caches.
pub(super) struct Fetched {
    texts: HashMap<i32, Box<str>>,
    time: u32,
}

impl Fetched {
    /// The key of a number in the caches.
    fn key(&self, n: i32) -> i64 {
        i64::from(self.time) << 32 | i64::from(n.cast_unsigned())
    }
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            parsed: Mutex::new(Caches::new(CACHE_BYTES)),
            numbers: Mutex::default(),
            agents: Mutex::default(),
            times: AtomicU32::new(0),
        }
    }

    /// From now on no number is known: whoever answers may be another server, which has not all of them and may
    /// give what it has not to other texts.
    pub(super) fn forget_numbers(&self) {
        self.times.fetch_add(1, Ordering::SeqCst);
        for map in [&self.numbers, &self.agents] {
            map.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The parsed values, for as long as some rows are read.
    pub(super) fn parsed(&self) -> MutexGuard<'_, Caches> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets the texts of these numbers that are not parsed yet.
    pub(super) async fn fetch(&self, client: &Client, numbers: &[Numbers]) -> Result<Fetched> {
        let time = self.times.load(Ordering::SeqCst);
        let mut fetched = Fetched { texts: HashMap::new(), time };
        let mut missing = Vec::new();
        {
            let mut parsed = self.parsed();
            for n in numbers {
                if parsed.clients.find(fetched.key(n.client)).is_none() {
                    missing.push(n.client);
                }
                if parsed.policies.find(fetched.key(n.policy)).is_none() {
                    missing.push(n.policy);
                }
                if parsed.scopes.find(fetched.key(n.scope)).is_none() {
                    missing.push(n.scope);
                }
                if let Some(agent) = n.user_agent
                    && parsed.user_agents.find(fetched.key(agent)).is_none()
                {
                    missing.push(agent);
                }
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            fetched.texts = text::by_numbers(client, &missing).await?;
        }
        Ok(fetched)
    }

    /// The number of a text that is no user agent, if it is known here.
    pub(super) fn number(&self, text: &str) -> Option<i32> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).get(text).map(|held| held.n)
    }

    /// The numbers of the sessions' texts; texts that are new get one, in a transaction of their own, so that
    /// no login waits for another's commit. They stay as long as a session that uses them can.
    pub(super) async fn hold(&self, client: &Client, sessions: &[&Session]) -> Result<Vec<Numbers>> {
        let mut held = Vec::with_capacity(sessions.len());
        for session in sessions {
            let until = super::rows::session::day(session.expires_at);
            let scope = session.scope.to_string();
            held.push(Numbers {
                client: self.hold_one(client, session.client_id.as_str(), (false, until)).await?,
                policy: self.hold_one(client, session.policy.as_str(), (false, until)).await?,
                scope: self.hold_one(client, &scope, (false, until)).await?,
                user_agent: match &session.user_agent {
                    Some(agent) => Some(self.hold_one(client, agent, (true, until)).await?),
                    None => None,
                },
            });
        }
        Ok(held)
    }

    async fn hold_one(&self, client: &Client, text: &str, (agent, until): (bool, i32)) -> Result<i32> {
        let map = if agent { &self.agents } else { &self.numbers };
        let found = map.lock().unwrap_or_else(PoisonError::into_inner).get(text).copied();
        if let Some(held) = found
            && (!agent || held.until_day >= until)
        {
            return Ok(held.n);
        }
        let time = self.times.load(Ordering::SeqCst);
        let held = text::hold(client, text, (agent, until)).await?;
        let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
        if self.times.load(Ordering::SeqCst) != time {
            return Ok(held.n);
        }
        if map.len() >= NUMBERS {
            map.clear();
        }
        map.insert(text.into(), held);
        Ok(held.n)
    }

    /// Remembers the numbers of a session's client and policy.
    pub(super) fn learn_of(&self, numbers: Numbers, session: &Session) {
        let mut map = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for (text, n) in
            [(session.client_id.as_str(), numbers.client), (session.policy.as_str(), numbers.policy)]
        {
            if !map.contains_key(text) && map.len() < NUMBERS {
                map.insert(text.into(), Held { n, until_day: 0 });
            }
        }
    }
}

/// The parsed value of a text, from the cache or from what was fetched.
pub(super) fn parsed<T: FromStr + Clone>(cache: &mut Cache<i64, T>, n: i32, fetched: &Fetched) -> Result<T> {
    if let Some(value) = cache.find(fetched.key(n)) {
        return Ok(value);
    }
    let text = fetched.texts.get(&n).ok_or_else(|| Fail::corrupt(format!("text {n} is missing")))?;
    let value: T = text.parse().map_err(|_| Fail::corrupt(format!("text {n} does not parse")))?;
    cache.insert(fetched.key(n), value.clone(), weight(text));
    Ok(value)
}

/// The user agent of that number; one that was forgotten is none.
pub(super) fn user_agent(cache: &mut Cache<i64, Arc<str>>, n: i32, fetched: &Fetched) -> Option<Arc<str>> {
    if let Some(value) = cache.find(fetched.key(n)) {
        return Some(value);
    }
    let text = fetched.texts.get(&n)?;
    let value: Arc<str> = (&**text).into();
    cache.insert(fetched.key(n), Arc::clone(&value), weight(text));
    Some(value)
}

/// Parsed sets take several times the bytes of their text.
const fn weight(text: &str) -> usize {
    4 * text.len() + 128
}
