//! Keys and what is done to them: hot rows at `reseal:{SID}`, and of each user the sessions that may have one
//! at `reseal:u:{USER}`.

use super::link::{Call, CallError, Link};
use super::nodes::slot;
use super::row::HEAD;
use crate::StoreError;
use redis::{Cmd, Script, Value, cmd};
use reseal_core::{Session, SessionId, UserId};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

/// How long a row stays after the session ran out: whoever comes then may still be told more exactly.
pub(super) const SLACK: Duration = Duration::from_secs(120);
/// Longest life of a key: the longest that a policy can want is less, and more would overflow in Redis.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Most rows in one run of the script, so that no other client of the server waits for long.
const AT_ONCE: usize = 128;

/// Compare and swap: of each key the bytes it must begin with (none: it must not be there), the new ones and
/// their life in milliseconds; 1 where that was done.
const SWAP: &str = r"
local done = {}
for i, key in ipairs(KEYS) do
  local head, row, life = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local found = redis.call('GET', key)
  local as_expected
  if found then
    as_expected = head ~= '' and string.sub(found, 1, #head) == head
  else
    as_expected = head == ''
  end
  if as_expected then
    redis.call('SET', key, row, 'PX', life)
    done[i] = 1
  else
    done[i] = 0
  end
end
return done";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SWAP));

/// A row as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored(pub(super) Vec<u8>);

impl Stored {
    /// What a compare-and-swap compares.
    pub(super) fn head(&self) -> Vec<u8> {
        self.0[..HEAD.min(self.0.len())].to_vec()
    }
}

/// A row to write.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) id: SessionId,
    /// The head of what must lie there; empty: nothing.
    pub(super) expected: Vec<u8>,
    pub(super) row: Vec<u8>,
    pub(super) life: Duration,
}

/// What came of a swap.
#[derive(Clone, Debug)]
pub(super) enum Swapped {
    /// It is done; whether replicas have it, too.
    Done { confirmed: bool },
    /// Something else lay there.
    Changed,
    /// It was not done, or nobody knows.
    Failed(StoreError),
}

/// How long the key of a session may live that was just written: relative, so that the clock of Redis counts
/// for nothing. The deadline itself is in the row.
pub(super) fn life(session: &Session) -> Duration {
    (session.idle_expires_at.since(session.renewed_at) + SLACK).min(LONGEST)
}

impl Link {
    /// The rows, in the order of the ids.
    pub(super) async fn rows(&mut self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let calls = ids.iter().map(|id| {
            let (slot, key) = session_key(*id);
            Call { slot, commands: vec![key_command("GET", &key)], writes: false }
        });
        let answers = self.run(calls.collect()).await;
        let stored = |values: Vec<Value>| match values.into_iter().next() {
            Some(Value::Nil) => Ok(None),
            Some(Value::BulkString(bytes)) => Ok(Some(Stored(bytes))),
            _ => Err(StoreError::Unavailable("Redis answered something else".to_owned())),
        };
        answers
            .into_iter()
            .map(|answer| {
                answer.map_err(CallError::into_store_error).and_then(|answer| stored(answer.values))
            })
            .collect()
    }

    /// Swaps, each on its own; in the order of the swaps.
    pub(super) async fn swap(&mut self, swaps: &[Swap]) -> Vec<Swapped> {
        let mut outcomes: Vec<Option<Swapped>> = vec![None; swaps.len()];
        let groups = self.groups(swaps);
        let call = |group: &Vec<usize>, run: &dyn Fn() -> Cmd| {
            let mut command = run();
            command.arg(group.len());
            for i in group {
                command.arg(session_key(swaps[*i].id).1);
            }
            for i in group {
                let Swap { expected, row, life, .. } = &swaps[*i];
                command.arg(expected).arg(row).arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
            }
            Call { slot: session_key(swaps[group[0]].id).0, commands: vec![command], writes: true }
        };
        let by_hash = || {
            let mut command = cmd("EVALSHA");
            command.arg(SCRIPT.get_hash());
            command
        };
        let by_text = || {
            let mut command = cmd("EVAL");
            command.arg(SWAP);
            command
        };
        let mut unknown = Vec::new();
        let mut forgotten = Vec::new();
        let answers = self.run(groups.iter().map(|group| call(group, &by_hash)).collect()).await;
        for (group, answer) in groups.into_iter().zip(answers) {
            match answer {
                Err(CallError::NoScript) => forgotten.push(group),
                answer => settle(&group, answer, &mut outcomes, &mut unknown),
            }
        }
        if !forgotten.is_empty() {
            let answers = self.run(forgotten.iter().map(|group| call(group, &by_text)).collect()).await;
            for (group, answer) in forgotten.into_iter().zip(answers) {
                settle(&group, answer, &mut outcomes, &mut unknown);
            }
        }
        if !unknown.is_empty() {
            self.find_out(swaps, unknown, &mut outcomes).await;
        }
        let none = || Swapped::Failed(StoreError::Internal("a swap without an outcome".to_owned()));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(none)).collect()
    }

    /// Swaps of one server where there is but one, else of one slot.
    fn groups(&self, swaps: &[Swap]) -> Vec<Vec<usize>> {
        let mut by_slot: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (i, swap) in swaps.iter().enumerate() {
            let slot = if self.is_cluster() { session_key(swap.id).0 } else { 0 };
            by_slot.entry(slot).or_default().push(i);
        }
        by_slot
            .into_values()
            .flat_map(|group| group.chunks(AT_ONCE).map(<[usize]>::to_vec).collect::<Vec<_>>())
            .collect()
    }

    /// Looks whether swaps were done whose answer was lost: the rows tell.
    async fn find_out(
        &mut self,
        swaps: &[Swap],
        unknown: Vec<(usize, StoreError)>,
        outcomes: &mut [Option<Swapped>],
    ) {
        let ids: Vec<SessionId> = unknown.iter().map(|(i, _)| swaps[*i].id).collect();
        let rows = self.rows(&ids).await;
        for ((i, error), row) in unknown.into_iter().zip(rows) {
            outcomes[i] = Some(match row {
                Ok(Some(stored)) if stored.0 == swaps[i].row => Swapped::Done { confirmed: false },
                Ok(Some(stored)) if stored.head() == swaps[i].expected => Swapped::Changed,
                Ok(None) if swaps[i].expected.is_empty() => Swapped::Changed,
                // Somebody else went on, from this write or from the one before: nobody knows.
                _ => Swapped::Failed(error),
            });
        }
    }

    /// Forgets rows; what is not forgotten now is found out of date later.
    pub(super) async fn forget(&mut self, ids: &[SessionId]) {
        let calls = ids.iter().map(|id| {
            let (slot, key) = session_key(*id);
            Call { slot, commands: vec![key_command("UNLINK", &key)], writes: false }
        });
        self.try_all(calls.collect()).await;
    }

    /// Notes that a user has sessions.
    pub(super) async fn note(&mut self, sessions: &[&Session]) {
        let calls = sessions.iter().map(|session| {
            let (slot, key) = user_key(session.user_id);
            let life = session.expires_at.since(session.started_at).min(LONGEST);
            let mut add = key_command("ZADD", &key);
            add.arg(session.expires_at.millis()).arg(session.id.as_bytes());
            let mut trim = key_command("ZREMRANGEBYSCORE", &key);
            trim.arg("-inf").arg(session.started_at.millis());
            // As long as the longest-lived of them: GT alone would never set a first expiry.
            let expire = |only: &str| {
                let mut expire = key_command("PEXPIRE", &key);
                expire.arg(u64::try_from((life + SLACK).as_millis()).unwrap_or(u64::MAX)).arg(only);
                expire
            };
            Call { slot, commands: vec![add, trim, expire("NX"), expire("GT")], writes: false }
        });
        self.try_all(calls.collect()).await;
    }

    /// Notes that sessions of a user are over.
    pub(super) async fn strike(&mut self, user: UserId, ids: &[SessionId]) {
        if ids.is_empty() {
            return;
        }
        let (slot, key) = user_key(user);
        let mut remove = key_command("ZREM", &key);
        for id in ids {
            remove.arg(id.as_bytes());
        }
        self.try_all(vec![Call { slot, commands: vec![remove], writes: false }]).await;
    }

    /// The sessions noted of a user, `limit` at most.
    pub(super) async fn noted(&mut self, user: UserId, limit: usize) -> Vec<SessionId> {
        let (slot, key) = user_key(user);
        let mut range = key_command("ZRANGE", &key);
        range.arg(0).arg(limit.saturating_sub(1));
        let answer = self.run(vec![Call { slot, commands: vec![range], writes: false }]).await.pop();
        let Some(Ok(answer)) = answer else { return Vec::new() };
        let Some(Value::Array(members)) = answer.values.into_iter().next() else { return Vec::new() };
        let id = |member| match member {
            Value::BulkString(bytes) => Some(SessionId::from_bytes(bytes.try_into().ok()?)),
            _ => None,
        };
        members.into_iter().filter_map(id).collect()
    }

    async fn try_all(&mut self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        for answer in self.run(calls).await {
            if let Err(error) = answer.map_err(CallError::into_store_error) {
                tracing::debug!(%error, "Redis was not told; it is found out later");
            }
        }
    }
}

/// Takes the outcome of each swap of a group from its answer.
fn settle(
    group: &[usize],
    answer: Result<super::link::Answer, CallError>,
    outcomes: &mut [Option<Swapped>],
    unknown: &mut Vec<(usize, StoreError)>,
) {
    match answer {
        Ok(answer) => {
            let confirmed = answer.confirmed;
            let done = match answer.values.into_iter().next() {
                Some(Value::Array(done)) => done,
                _ => Vec::new(),
            };
            for (k, i) in group.iter().enumerate() {
                outcomes[*i] = match done.get(k) {
                    Some(Value::Int(1)) => Some(Swapped::Done { confirmed }),
                    Some(Value::Int(0)) => Some(Swapped::Changed),
                    _ => None,
                };
            }
        }
        Err(CallError::Unknown(error)) => unknown.extend(group.iter().map(|i| (*i, error.clone()))),
        Err(error) => {
            let error = error.into_store_error();
            for i in group {
                outcomes[*i] = Some(Swapped::Failed(error.clone()));
            }
        }
    }
}

fn key_command(name: &str, key: &str) -> Cmd {
    let mut command = cmd(name);
    command.arg(key);
    command
}

/// The slot and the key of a session.
pub(super) fn session_key(id: SessionId) -> (u16, String) {
    let tag = id.to_string();
    (slot(tag.as_bytes()), format!("reseal:{{{tag}}}"))
}

/// The slot and the key of a user's sessions.
pub(super) fn user_key(id: UserId) -> (u16, String) {
    let tag = id.to_string();
    (slot(tag.as_bytes()), format!("reseal:u:{{{tag}}}"))
}
