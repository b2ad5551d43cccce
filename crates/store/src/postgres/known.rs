//! What the engine keeps parsed and numbered, shared by all connections. Only what was read as committed gets
//! in, so nothing has to be taken back.

use super::fail::{Fail, Result};
use super::pool::Client;
use super::rows::text;
use crate::cache::{Cache, Caches};
use reseal_core::Session;
use std::collections::HashMap;
use std::str::FromStr;
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
pub(super) type Fetched = HashMap<i32, Box<str>>;

impl Known {
    pub(super) fn new() -> Self {
        Self {
            parsed: Mutex::new(Caches::new(CACHE_BYTES)),
            numbers: Mutex::default(),
            agents: Mutex::default(),
        }
    }

    /// The parsed values, for as long as some rows are read.
    pub(super) fn parsed(&self) -> MutexGuard<'_, Caches> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets the texts of these numbers that are not parsed yet.
    pub(super) async fn fetch(&self, client: &Client, numbers: &[Numbers]) -> Result<Fetched> {
        let mut missing = Vec::new();
        {
            let mut parsed = self.parsed();
            for n in numbers {
                if parsed.clients.find(n.client.into()).is_none() {
                    missing.push(n.client);
                }
                if parsed.policies.find(n.policy.into()).is_none() {
                    missing.push(n.policy);
                }
                if parsed.scopes.find(n.scope.into()).is_none() {
                    missing.push(n.scope);
                }
                if let Some(agent) = n.user_agent
                    && parsed.user_agents.find(agent.into()).is_none()
                {
                    missing.push(agent);
                }
            }
        }
        if missing.is_empty() {
            return Ok(Fetched::new());
        }
        missing.sort_unstable();
        missing.dedup();
        text::by_numbers(client, &missing).await
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
        let held = text::hold(client, text, (agent, until)).await?;
        let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
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
    if let Some(value) = cache.find(n.into()) {
        return Ok(value);
    }
    let text = fetched.get(&n).ok_or_else(|| Fail::corrupt(format!("text {n} is missing")))?;
    let value: T = text.parse().map_err(|_| Fail::corrupt(format!("text {n} does not parse")))?;
    cache.insert(n.into(), value.clone(), weight(text));
    Ok(value)
}

/// The user agent of that number; one that was forgotten is none.
pub(super) fn user_agent(cache: &mut Cache<i64, Arc<str>>, n: i32, fetched: &Fetched) -> Option<Arc<str>> {
    if let Some(value) = cache.find(n.into()) {
        return Some(value);
    }
    let text = fetched.get(&n)?;
    let value: Arc<str> = (&**text).into();
    cache.insert(n.into(), Arc::clone(&value), weight(text));
    Some(value)
}

/// Parsed sets take several times the bytes of their text.
const fn weight(text: &str) -> usize {
    4 * text.len() + 128
}
