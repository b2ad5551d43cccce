//! The world of one session: its row in a store, the browser's storage that two tabs share, the packets
//! under way, the workers of a server, and perhaps a thief.

use reseal_core::credential::{KeyRing, RefreshToken};
use reseal_core::refresh::{Issued, OnRollback, Outcome, Presenter};
use reseal_core::session::{Change, Ended};
use reseal_core::{EndReason, Policy, Session, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Decides on a refresh token: [`reseal_core::refresh::rotate`], or a mutant of it.
pub(crate) type Rule =
    fn(&Session, &Policy, &RefreshToken, OnRollback, (Timestamp, Presenter<'_>)) -> Outcome;

/// Seconds since the login. A worker's, a packet's, everybody's clock.
pub(crate) type Secs = u8;

/// Which token of an answer a client keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adopt {
    /// The newer one, by number. What clients must do.
    Newer,
    /// Whichever came last.
    Last,
}

/// When the store swaps a row in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// If the row is still the one that was read, and not ended. What stores must do.
    Compared,
    /// Always.
    Blind,
}

/// How a thief acts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thief {
    /// Nobody copies the storage.
    None,
    /// He and the victim act more than `grace` apart.
    Apart,
    /// At any rate.
    Hurry,
}

/// One bounded world. Everything a mutant may change is here.
#[derive(Clone)]
pub(crate) struct Setting {
    /// The rule under test.
    pub(crate) rule: Rule,
    /// The client's part of the protocol.
    pub(crate) adopt: Adopt,
    /// The store's part.
    pub(crate) swap: Swap,
    /// What a token ahead of the store means.
    pub(crate) on_rollback: OnRollback,
    /// How many writes the store may lose at once.
    pub(crate) forgets: usize,
    /// Whether what ended is kept where nothing is lost (design §10).
    pub(crate) ends_are_durable: bool,
    /// The policies that may be in force; the first one is at login.
    pub(crate) policies: Vec<Policy>,
    /// Requests that may be under way at once.
    pub(crate) requests: usize,
    /// Answers that may be under way at once.
    pub(crate) answers: usize,
    /// Longest delay of a request, in seconds.
    pub(crate) request_delay: Secs,
    /// Longest delay of an answer, in seconds.
    pub(crate) answer_delay: Secs,
    /// Decisions under way at once; none: each request is decided in one step.
    pub(crate) workers: usize,
    /// Whether the user may sign out.
    pub(crate) sign_out: bool,
    /// Who copied the storage.
    pub(crate) thief: Thief,
    /// The last second.
    pub(crate) horizon: Secs,
    /// The last number that anybody presents.
    pub(crate) numbers: u64,
    /// Most branches of one token.
    pub(crate) branches: u32,
    /// The authority's keys.
    pub(crate) ring: KeyRing,
    /// The row at login.
    pub(crate) login: Session,
    /// Which rows of the protocol were taken.
    pub(crate) rows: Arc<Reached>,
}

/// A row of the protocol's table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Advance,
    Repeat,
    Branch,
    Late,
    Theft,
    Ahead,
    Over,
}

/// The rows that a search has taken so far.
#[derive(Default)]
pub(crate) struct Reached(AtomicU8);

impl Reached {
    fn add(&self, row: Row) {
        self.0.fetch_or(1 << row as u8, Ordering::Relaxed);
    }

    pub(crate) fn contains(&self, row: Row) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << row as u8) != 0
    }
}

/// A state of the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: Secs,
    pub(crate) row: Session,
    /// States the store may fall back to, oldest first.
    pub(crate) older: Vec<Session>,
    /// Index into the setting's policies.
    pub(crate) policy: u8,
    /// The token that both tabs read and write.
    pub(crate) storage: RefreshToken,
    /// Under way to the server.
    pub(crate) requests: Vec<Packet>,
    /// Under way to the tabs.
    pub(crate) answers: Vec<Packet>,
    /// Read and decided, not yet committed.
    pub(crate) deciding: Vec<Deciding>,
    pub(crate) booty: Option<Booty>,
    pub(crate) seen: Seen,
}

/// A token on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) token: RefreshToken,
    pub(crate) sent_at: Secs,
}

/// A worker between its read and its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Deciding {
    pub(crate) token: RefreshToken,
    /// When the request arrived: the `now` of its decision.
    pub(crate) at: Secs,
    pub(crate) read: Session,
}

/// What a thief has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Booty {
    /// The number of the token he copied.
    pub(crate) stolen: u64,
    /// All tokens he has, by number.
    pub(crate) tokens: Vec<RefreshToken>,
}

/// What the properties ask about and the world itself does not remember.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// Seconds since the victim's and the thief's last act, where they act apart (counted to `grace` + 1).
    pub(crate) since: [Secs; 2],
    /// When each number was overtaken: first presented was a token with the next one (by the number).
    pub(crate) overtaken_at: Vec<Secs>,
    /// A try that had to end the session did not.
    pub(crate) escaped: bool,
    /// The session has been ended.
    pub(crate) ended: bool,
    /// A token was issued from a row that had ended.
    pub(crate) revived: bool,
    /// A token was issued at or past the session's greatest age, or its access token reaches past it.
    pub(crate) outlived: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A second passes; what is too late is lost.
    Tick,
    /// A tab sends the token in storage.
    Send,
    /// A request arrives; the network may keep a copy of it.
    Arrive { request: usize, copy: bool },
    /// A request is lost.
    LoseRequest(usize),
    /// A worker commits, or finds that the row has changed and reads it again.
    Commit(usize),
    /// The server crashes: whatever was being decided is gone.
    Crash,
    /// An answer arrives; the network may keep a copy of it.
    Adopt { answer: usize, copy: bool },
    /// An answer is lost, or the server crashed after its commit.
    LoseAnswer(usize),
    /// The store falls back to an older state.
    FallBack(usize),
    /// The configuration changes.
    Policy(u8),
    /// The user signs out.
    SignOut,
    /// The thief copies the storage.
    Steal,
    /// The thief presents one of his tokens. He loses nothing on the way.
    Present(usize),
}

/// Who presents a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Victim,
    Thief,
}

impl stateright::Model for Setting {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let storage = self.ring.successor(&self.login).unwrap();
        let since = if self.thief == Thief::Apart { [self.grace() + 1; 2] } else { [0; 2] };
        vec![World {
            now: 0,
            row: self.login.clone(),
            older: vec![],
            policy: 0,
            storage,
            requests: vec![],
            answers: vec![],
            deciding: vec![],
            booty: None,
            seen: Seen { since, ..Seen::default() },
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.now < self.horizon {
            actions.push(Action::Tick);
        }
        if world.requests.len() < self.requests && world.storage.number <= self.numbers {
            actions.push(Action::Send);
        }
        let may_arrive =
            self.may_act(world, Who::Victim) && (self.workers == 0 || world.deciding.len() < self.workers);
        for request in distinct(&world.requests) {
            if may_arrive {
                actions.push(Action::Arrive { request, copy: false });
                actions.push(Action::Arrive { request, copy: true });
            }
            actions.push(Action::LoseRequest(request));
        }
        actions.extend((0..world.deciding.len()).map(Action::Commit));
        if !world.deciding.is_empty() {
            actions.push(Action::Crash);
        }
        for answer in distinct(&world.answers) {
            actions.push(Action::Adopt { answer, copy: false });
            actions.push(Action::Adopt { answer, copy: true });
            actions.push(Action::LoseAnswer(answer));
        }
        actions.extend((0..world.older.len()).map(Action::FallBack));
        let policies = u8::try_from(self.policies.len()).unwrap();
        actions.extend((0..policies).filter(|p| *p != world.policy).map(Action::Policy));
        if self.sign_out && world.row.ended.is_none() {
            actions.push(Action::SignOut);
        }
        match &world.booty {
            None if self.thief != Thief::None => actions.push(Action::Steal),
            Some(booty) if self.may_act(world, Who::Thief) => {
                let useful = |t: &RefreshToken| t.number <= self.numbers;
                let all = booty.tokens.iter().enumerate().filter(|(_, t)| useful(t));
                actions.extend(all.map(|(i, _)| Action::Present(i)));
            }
            _ => {}
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Tick => self.tick(&mut world),
            Action::Send => {
                let packet = Packet { token: world.storage, sent_at: world.now };
                put(&mut world.requests, packet);
            }
            Action::Arrive { request, copy } => {
                let token = take(&mut world.requests, request, copy).token;
                let at = world.now;
                if self.workers == 0 {
                    let read = world.row.clone();
                    self.answer(&mut world, &Deciding { token, at, read }, Who::Victim);
                } else {
                    world.deciding.push(Deciding { token, at, read: world.row.clone() });
                }
            }
            Action::Commit(worker) => {
                let deciding = world.deciding.remove(worker);
                // As stores do: on (`version`, not ended), which a fall-back may make equal by chance.
                let is_other = deciding.read.version != world.row.version
                    || (world.row.ended.is_some() && deciding.read.ended.is_none());
                if self.swap == Swap::Compared && is_other {
                    let again = Deciding { read: world.row.clone(), ..deciding };
                    world.deciding.insert(worker, again);
                } else {
                    self.answer(&mut world, &deciding, Who::Victim);
                }
            }
            Action::Crash => world.deciding.clear(),
            Action::LoseRequest(request) => drop(world.requests.remove(request)),
            Action::LoseAnswer(answer) => drop(world.answers.remove(answer)),
            Action::Adopt { answer, copy } => {
                let token = take(&mut world.answers, answer, copy).token;
                if self.adopt == Adopt::Last || token.number > world.storage.number {
                    world.storage = token;
                }
            }
            Action::FallBack(to) => {
                let ended = world.row.ended.filter(|_| self.ends_are_durable);
                world.row = world.older[to].clone();
                world.row.ended = world.row.ended.or(ended);
                world.older.truncate(to);
            }
            Action::Policy(policy) => world.policy = policy,
            Action::SignOut => {
                let change = world.row.end(EndReason::SignedOut, time(world.now), None)?;
                self.commit(&mut world, change);
            }
            Action::Steal => {
                world.booty = Some(Booty { stolen: world.storage.number, tokens: vec![world.storage] });
            }
            Action::Present(token) => {
                let token = world.booty.as_ref()?.tokens[token];
                let read = world.row.clone();
                let at = world.now;
                self.answer(&mut world, &Deciding { token, at, read }, Who::Thief);
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        crate::properties::of(self)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.row.rotation.branch <= self.branches
    }
}

impl Setting {
    /// Where the rows that were taken are kept.
    pub(crate) fn reached(&self) -> Arc<Reached> {
        Arc::clone(&self.rows)
    }

    /// What the rule says to this token now, from the row as it is.
    pub(crate) fn decide(&self, world: &World, token: &RefreshToken) -> Outcome {
        self.decide_at(&world.row, world, token, world.now)
    }

    fn decide_at(&self, row: &Session, world: &World, token: &RefreshToken, at: Secs) -> Outcome {
        (self.rule)(row, self.policy(world), token, self.on_rollback, (time(at), Presenter::default()))
    }

    fn policy(&self, world: &World) -> &Policy {
        &self.policies[usize::from(world.policy)]
    }

    fn grace(&self) -> Secs {
        Secs::try_from(self.policies[0].grace.as_secs()).unwrap()
    }

    /// Whether the time has come for this party, where the two act apart.
    fn may_act(&self, world: &World, who: Who) -> bool {
        let other = match who {
            Who::Victim => world.seen.since[1],
            Who::Thief => world.seen.since[0],
        };
        self.thief != Thief::Apart || other > self.grace()
    }

    fn tick(&self, world: &mut World) {
        world.now += 1;
        let now = world.now;
        world.requests.retain(|p| now - p.sent_at <= self.request_delay);
        world.answers.retain(|p| now - p.sent_at <= self.answer_delay);
        if self.thief == Thief::Apart {
            for since in &mut world.seen.since {
                *since = (*since + 1).min(self.grace() + 1);
            }
        }
    }

    /// Decides, commits and answers.
    fn answer(&self, world: &mut World, deciding: &Deciding, who: Who) {
        if self.thief == Thief::Apart {
            world.seen.since[usize::from(who == Who::Thief)] = 0;
        }
        let Deciding { token, at, read } = deciding;
        let outcome = self.decide_at(read, world, token, *at);
        self.rows.add(row_of(&outcome));
        let is_over = matches!(outcome, Outcome::Reuse { .. } | Outcome::Over(_));
        match outcome {
            Outcome::Issue { session, change, .. } => {
                self.look_at_issue(world, &session, (read, *at));
                self.commit(world, change);
                let successor = self.ring.successor(&session).unwrap();
                match (who, &mut world.booty) {
                    (Who::Thief, Some(booty)) => booty.add(successor),
                    _ if world.answers.len() < self.answers => {
                        let packet = Packet { token: successor, sent_at: world.now };
                        put(&mut world.answers, packet);
                    }
                    _ => {} // One more than we follow: it is lost.
                }
            }
            Outcome::Superseded { change } | Outcome::Reuse { change } => self.commit(world, change),
            Outcome::Over(_) => {}
        }
        if self.thief == Thief::Hurry {
            world.seen.escaped |= !is_over && self.must_end(&world.seen, read, token, *at);
            let used = usize::try_from(world.row.rotation.used).unwrap();
            if world.seen.overtaken_at.len() < used {
                world.seen.overtaken_at.push(world.now);
            }
        }
    }

    /// Whether a try with this token must end the session: it was overtaken more than twice `grace` ago,
    /// or a sibling of it is in use.
    fn must_end(&self, seen: &Seen, read: &Session, token: &RefreshToken, at: Secs) -> bool {
        let row = &read.rotation;
        let is_sibling = token.number == row.used && token.nonce != row.used_nonce;
        let overtaken_at = usize::try_from(token.number).ok().and_then(|n| seen.overtaken_at.get(n));
        is_sibling || overtaken_at.is_some_and(|then| at - then > 2 * self.grace())
    }

    fn commit(&self, world: &mut World, change: Change) {
        let Some(next) = change.session else { return };
        if next.ended.is_some() {
            world.seen.ended = true;
        }
        let lost = std::mem::replace(&mut world.row, next);
        if self.forgets > 0 {
            world.older.push(lost);
            if world.older.len() > self.forgets {
                world.older.remove(0);
            }
        }
    }

    fn look_at_issue(&self, world: &mut World, session: &Session, (read, at): (&Session, Secs)) {
        if read.ended.is_some() {
            world.seen.revived = true;
        }
        let policy = self.policy(world);
        let greatest_age = policy.max_ttl.min(self.policies[0].max_ttl);
        let end = self.login.started_at + greatest_age;
        let exp = session.access_life(policy, time(at)).exp;
        if time(at) >= end || exp > end.secs() {
            world.seen.outlived = true;
        }
    }
}

impl Booty {
    fn add(&mut self, token: RefreshToken) {
        if !self.tokens.contains(&token) {
            self.tokens.push(token);
            self.tokens.sort_by_key(|t| (t.number, t.nonce));
        }
    }
}

/// The instant so many seconds after the login.
pub(crate) fn time(secs: Secs) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + i64::from(secs))
}

fn row_of(outcome: &Outcome) -> Row {
    match outcome {
        Outcome::Issue { how: Issued::Advance, .. } => Row::Advance,
        Outcome::Issue { how: Issued::Repeat, .. } => Row::Repeat,
        Outcome::Issue { how: Issued::Branch, .. } => Row::Branch,
        Outcome::Issue { how: Issued::Ahead, .. } => Row::Ahead,
        Outcome::Superseded { .. } => Row::Late,
        Outcome::Reuse { .. } => Row::Theft,
        Outcome::Over(Ended { .. }) => Row::Over,
    }
}

/// Packets have no order: they are kept sorted, so that the same ones are the same state.
fn put(packets: &mut Vec<Packet>, packet: Packet) {
    packets.push(packet);
    packets.sort_by_key(|p| (p.sent_at, p.token.number, p.token.nonce));
}

fn take(packets: &mut Vec<Packet>, i: usize, copy: bool) -> Packet {
    if copy { packets[i] } else { packets.remove(i) }
}

/// One index for each of the packets that differ.
fn distinct(packets: &[Packet]) -> impl Iterator<Item = usize> + '_ {
    (0..packets.len()).filter(|i| *i == 0 || packets[*i] != packets[*i - 1])
}
