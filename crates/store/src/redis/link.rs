//! Commands to the servers that have their keys: in one pipeline per server, followed where the keys have moved.

use super::nodes::{Address, Nodes, store_error};
use crate::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, ServerError, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a replica is waited for, and how long when it did not come the last time.
const WAIT_MILLIS: u64 = 100;
const WAIT_MILLIS_AGAIN: u64 = 10;
/// How long to wait before a server is asked again that could not answer.
const PAUSE: Duration = Duration::from_millis(25);
/// Most servers to which one link stays connected; beyond it begins anew.
const MAX_OPEN: usize = 256;

/// Commands on keys of one slot.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) slot: u16,
    pub(super) commands: Vec<Cmd>,
    /// What is written waits for replicas, and is not done again if nobody knows whether it was done.
    pub(super) writes: bool,
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// It was sent, and may have been done.
    Unknown(StoreError),
    /// It was not done.
    Failed(StoreError),
    /// It was not done: the server does not know the script.
    NoScript,
}

impl CallError {
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Unknown(error) | Self::Failed(error) => error,
            Self::NoScript => StoreError::Unavailable("Redis forgot a script".to_owned()),
        }
    }
}

/// What a call brought.
pub(super) struct Answer {
    pub(super) values: Vec<Value>,
    /// Whether as many replicas as asked for have what it wrote.
    pub(super) confirmed: bool,
}

/// Connections of one user at a time: WAIT concerns what was written on the same connection.
pub(super) struct Link {
    nodes: Arc<Nodes>,
    open: HashMap<Address, MultiplexedConnection>,
    replicas: u32,
    /// Longest time for one run.
    patience: Duration,
    /// Whether replicas came in time when last waited for.
    pub(super) in_time: bool,
}

/// A call under way.
struct Pending {
    index: usize,
    call: Call,
    /// Where a server said that the key is now, for this one time.
    ask: Option<Address>,
}

enum Next {
    /// Done, for better or worse.
    Done(Result<Answer, CallError>),
    /// To be asked there, once.
    Ask(Address),
    /// To be tried again when it is known who has the slot.
    Again(StoreError),
}

impl Link {
    /// Whether keys are spread over slots.
    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.is_cluster()
    }

    pub(super) fn new(nodes: Arc<Nodes>, replicas: u32, patience: Duration) -> Self {
        Self { nodes, open: HashMap::new(), replicas, patience, in_time: true }
    }

    /// Whether what is written waits for replicas.
    pub(super) const fn waits_for_replicas(&self) -> bool {
        self.replicas > 0
    }

    /// Runs calls, in any order; an answer for each.
    pub(super) async fn run(&mut self, calls: Vec<Call>) -> Vec<Result<Answer, CallError>> {
        let deadline = Instant::now() + self.patience;
        let mut answers: Vec<Option<Result<Answer, CallError>>> = calls.iter().map(|_| None).collect();
        let mut pending: Vec<Pending> =
            calls.into_iter().enumerate().map(|(index, call)| Pending { index, call, ask: None }).collect();
        while !pending.is_empty() {
            let mut again = Vec::new();
            let mut why = None;
            for (mut call, next) in self.round(pending).await {
                match next {
                    Next::Done(answer) => answers[call.index] = Some(answer),
                    Next::Ask(node) => {
                        call.ask = Some(node);
                        again.push(call);
                    }
                    Next::Again(error) => {
                        call.ask = None;
                        why = Some(error);
                        again.push(call);
                    }
                }
            }
            pending = again;
            let Some(error) = why else { continue };
            if Instant::now() + PAUSE >= deadline {
                for call in pending.drain(..) {
                    answers[call.index] = Some(Err(CallError::Failed(error.clone())));
                }
                break;
            }
            tokio::time::sleep(PAUSE).await;
            // Servers that hang are asked one after the other, which may take longer than there is time.
            if let Ok(Err(error)) = tokio::time::timeout_at(deadline, self.nodes.look()).await {
                tracing::debug!(%error, "no server says who has which slot");
            }
        }
        let lost = || Err(CallError::Unknown(StoreError::Internal("a call without an answer".to_owned())));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Sends every call to whom it concerns, one pipeline each, all at once.
    async fn round(&mut self, pending: Vec<Pending>) -> Vec<(Pending, Next)> {
        let map = self.nodes.map();
        let mut by_node: HashMap<Address, Vec<Pending>> = HashMap::new();
        let mut done = Vec::with_capacity(pending.len());
        for call in pending {
            match call.ask.clone().or_else(|| map.node(call.call.slot).cloned()) {
                Some(node) => by_node.entry(node).or_default().push(call),
                None => done
                    .push((call, Next::Again(StoreError::Unavailable("a slot without a server".to_owned())))),
            }
        }
        if self.open.len() > MAX_OPEN {
            self.open.clear();
        }
        let replicas = if self.replicas == 0 {
            None
        } else {
            Some((self.replicas, if self.in_time { WAIT_MILLIS } else { WAIT_MILLIS_AGAIN }))
        };
        let mut tasks = JoinSet::new();
        for (node, calls) in by_node {
            let (open, nodes) = (self.open.remove(&node), Arc::clone(&self.nodes));
            tasks.spawn(async move { talk(nodes, node, open, calls, replicas).await });
        }
        let mut in_time = None;
        while let Some(talk) = tasks.join_next().await {
            // A task only fails by a panic or with the runtime; its calls then have no answer.
            let Ok(talk) = talk else { continue };
            if let Some(came) = talk.replicas_came {
                in_time = Some(in_time.unwrap_or(true) && came);
            }
            if let Some(connection) = talk.open {
                self.open.insert(talk.node, connection);
            }
            done.extend(talk.done);
        }
        // Reads wait for nobody, and say nothing of it.
        self.in_time = in_time.unwrap_or(self.in_time);
        done
    }
}

/// What came of talking to one server.
struct Talk {
    node: Address,
    open: Option<MultiplexedConnection>,
    /// Whether replicas came in time; `None` where none was waited for.
    replicas_came: Option<bool>,
    done: Vec<(Pending, Next)>,
}

async fn talk(
    nodes: Arc<Nodes>,
    node: Address,
    open: Option<MultiplexedConnection>,
    calls: Vec<Pending>,
    replicas: Option<(u32, u64)>,
) -> Talk {
    let failed = |node, calls: Vec<Pending>, next: &dyn Fn(&Pending) -> Next| {
        let done =
            calls.into_iter().map(|call| (next(&call), call)).map(|(next, call)| (call, next)).collect();
        Talk { node, open: None, replicas_came: None, done }
    };
    let mut connection = match open {
        Some(open) => open,
        None => match nodes.connect(&node).await {
            Ok(new) => new,
            Err(error) => {
                let error = store_error(&error);
                return failed(node, calls, &|_| Next::Again(error.clone()));
            }
        },
    };
    let mut pipe = Pipeline::new();
    pipe.ignore_errors();
    for pending in &calls {
        for command in &pending.call.commands {
            if pending.ask.is_some() {
                pipe.cmd("ASKING");
            }
            pipe.add_command(command.clone());
        }
    }
    let waits = replicas.filter(|_| calls.iter().any(|pending| pending.call.writes));
    if let Some((count, millis)) = waits {
        pipe.cmd("WAIT").arg(count).arg(millis);
    }
    let answer: RedisResult<Vec<Value>> = pipe.query_async(&mut connection).await;
    let mut values = match answer {
        Ok(values) => values,
        Err(error) => {
            // The connection is gone, or too late to be of use.
            let error = store_error(&error);
            return failed(node, calls, &|pending| {
                if pending.call.writes {
                    Next::Done(Err(CallError::Unknown(error.clone())))
                } else {
                    Next::Again(error.clone())
                }
            });
        }
    };
    let replicas_came =
        waits.map(|(count, _)| matches!(values.pop(), Some(Value::Int(n)) if n >= i64::from(count)));
    let confirmed = replicas_came.unwrap_or(true);
    // One that became a replica stays one: behind its address there may be another server by now.
    let demoted = values.iter().any(is_of_a_replica);
    let mut values = values.into_iter();
    let done = calls
        .into_iter()
        .map(|pending| {
            let each = if pending.ask.is_some() { 2 } else { 1 };
            let own: Vec<Value> = values.by_ref().take(each * pending.call.commands.len()).collect();
            let own = own.into_iter().skip(each - 1).step_by(each).collect();
            let next = judge(own, confirmed || !pending.call.writes);
            (pending, next)
        })
        .collect();
    Talk { node, open: (!demoted).then_some(connection), replicas_came, done }
}

fn is_of_a_replica(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "MASTERDOWN"))
}

/// What to do about the answers to a call's commands.
fn judge(values: Vec<Value>, confirmed: bool) -> Next {
    let error = values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    let Some(error) = error else { return Next::Done(Ok(Answer { values, confirmed })) };
    let shown = store_error(&error.clone().into());
    match error.code() {
        "ASK" => redirect(error).map_or(Next::Again(shown), Next::Ask),
        // Nothing was done: another server has the key now, or this one is not ready.
        "MOVED" | "READONLY" | "LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" => Next::Again(shown),
        "NOSCRIPT" => Next::Done(Err(CallError::NoScript)),
        _ => Next::Done(Err(CallError::Failed(shown))),
    }
}

/// The server that an ASK names: `SLOT HOST:PORT`.
fn redirect(error: &ServerError) -> Option<Address> {
    let node = error.details()?.split_ascii_whitespace().nth(1)?;
    node.rsplit_once(':').filter(|(host, _)| !host.is_empty())?;
    Some(node.into())
}
