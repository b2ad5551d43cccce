//! What happens inside one transaction: commits, endings, sweeps.
//!
//! Isolation is READ COMMITTED, which every compatible engine has. What a transaction depends on it locks first:
//! users, then sessions, each in the order of their ids; the log's head comes last. So two transactions seldom
//! wait for each other, and never long; where they do the server undoes one, which is done again.

use super::fail::{Fail, Result, unless_none};
use super::known::{Known, Numbers};
use super::pool::{Client, Lease, Param};
use super::rows::{challenge, client, event, key, session, text, timeline, user, uuid};
use crate::commit::{Commit, EndFilter, EndSessions, StartSession, Write};
use crate::{Conflict, StoreError, Swept};
use reseal_core::event::{EndReason, Event};
use reseal_core::session::Change;
use reseal_core::{Session, SessionId, TimelineEntry, Timestamp};
use session::SessionRow;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use uuid::Uuid;

/// Sessions ended between two reads of a list, so that memory stays bounded.
const PAGE: usize = 200;
/// Rows looked at in the day that is only partly outdated. Those left over go when the day has passed.
const LOOK_AT: usize = 1000;

/// An open transaction.
pub(super) struct Tx<'a> {
    client: &'a Client,
    known: &'a Known,
    /// The numbers of the texts of sessions that are written.
    numbers: HashMap<SessionId, Vec<(Session, Numbers)>>,
    /// What is to be logged when all else is done.
    events: Vec<Event>,
}

/// Does all writes of a commit, or none; whether it logged.
pub(super) async fn commit(lease: &mut Lease, known: &Known, commit: &Commit) -> Result<bool> {
    let numbers = hold_texts(lease, known, &commit.writes).await.map_err(Fail::before_commit)?;
    lease.begin().await?;
    let mut tx = Tx { client: lease, known, numbers, events: Vec::new() };
    let done = tx.commit(commit).await;
    let logged = !tx.events.is_empty();
    finish(lease, done).await.map(|()| logged)
}

/// Ends the sessions that match; how many they were.
pub(super) async fn end_sessions(lease: &mut Lease, known: &Known, end: &EndSessions) -> Result<usize> {
    lease.begin().await?;
    let mut tx = Tx { client: lease, known, numbers: HashMap::new(), events: Vec::new() };
    let done = tx.end_and_log(end).await;
    finish(lease, done).await
}

/// Removes outdated rows.
pub(super) async fn sweep(
    lease: &mut Lease,
    (now, sessions_before): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Swept> {
    lease.begin().await?;
    let done = sweep_all(lease, (now, sessions_before), limit).await;
    finish(lease, done).await
}

/// Writes the change that was decided on for one session; `false`: the row is not as it was.
pub(super) async fn change(
    lease: &mut Lease,
    known: &Known,
    (last, numbers): (&Session, Numbers),
    (change, event_until): (&Change, Timestamp),
) -> Result<bool> {
    let whole = change.session.as_ref().filter(|next| !session::same_but_hot(last, next));
    let next_numbers = match whole {
        Some(next) => {
            let held = known.hold(lease, &[next]).await.map_err(Fail::before_commit)?;
            held.first().copied().unwrap_or(numbers)
        }
        None => numbers,
    };
    lease.begin().await?;
    let mut tx = Tx { client: lease, known, numbers: HashMap::new(), events: Vec::new() };
    let done = tx.change((last, next_numbers), (change, event_until)).await;
    match done {
        // Undone, for the row is another.
        Err(Fail::Conflict(Conflict::SessionChanged)) => {
            lease.roll_back().await.map_err(Fail::before_commit)?;
            Ok(false)
        }
        done => finish(lease, done).await.map(|()| true),
    }
}

/// Commits what was done, or undoes it.
pub(super) async fn finish<T>(lease: &mut Lease, done: Result<T>) -> Result<T> {
    match done {
        Ok(value) => {
            lease.commit().await?;
            Ok(value)
        }
        Err(fail) => {
            if !fail.spoils_connection() {
                lease.roll_back().await.map_err(Fail::before_commit)?;
            }
            Err(fail.before_commit())
        }
    }
}

async fn hold_texts(
    client: &Client,
    known: &Known,
    writes: &[Write],
) -> Result<HashMap<SessionId, Vec<(Session, Numbers)>>> {
    let sessions: Vec<&Session> = writes
        .iter()
        .filter_map(|write| match write {
            Write::StartSession(start) => Some(&start.session),
            Write::SwapSession(session) => Some(&**session),
            _ => None,
        })
        .collect();
    let numbers = known.hold(client, &sessions).await?;
    let mut held: HashMap<SessionId, Vec<(Session, Numbers)>> = HashMap::new();
    for (session, numbers) in sessions.into_iter().zip(numbers) {
        held.entry(session.id).or_default().push((session.clone(), numbers));
    }
    Ok(held)
}

impl Tx<'_> {
    async fn commit(&mut self, commit: &Commit) -> Result<()> {
        self.lock(commit).await?;
        let mut lines = Vec::new();
        for write in &commit.writes {
            // Lines that follow each other go together.
            if let Write::Timeline(entry) = write {
                lines.push(entry.clone());
                continue;
            }
            timeline::append(self.client, &std::mem::take(&mut lines)).await?;
            // Not inlined: the future of all kinds of writes is large.
            Box::pin(self.write(write)).await?;
        }
        timeline::append(self.client, &lines).await?;
        self.log().await
    }

    /// Locks what the commit depends on, before anything is looked at.
    async fn lock(&self, commit: &Commit) -> Result<()> {
        let (mut users, mut sessions) = (BTreeSet::new(), BTreeSet::new());
        for write in &commit.writes {
            match write {
                Write::StartSession(start) => {
                    users.insert(*start.session.user_id.as_bytes());
                }
                Write::SwapSession(session) => {
                    sessions.insert(*session.id.as_bytes());
                }
                Write::EndSessions(end) => match &end.filter {
                    EndFilter::One(id) => {
                        sessions.insert(*id.as_bytes());
                    }
                    EndFilter::User { user, .. } => {
                        users.insert(*user.as_bytes());
                    }
                    EndFilter::Client { .. } | EndFilter::All { .. } => {}
                },
                Write::CreateUser(user, _) | Write::SwapUser(user, _) => {
                    users.insert(*user.id.as_bytes());
                }
                Write::SwapSecrets { user, .. } | Write::DeleteUser { user, .. } => {
                    users.insert(*user.as_bytes());
                }
                Write::Timeline(entry) => {
                    sessions.insert(*entry.session_id.as_bytes());
                }
                _ => {}
            }
        }
        let ids = |set: BTreeSet<[u8; 16]>| set.into_iter().map(uuid).collect::<Vec<Uuid>>();
        if !users.is_empty() {
            user::lock(self.client, &ids(users)).await?;
        }
        if !sessions.is_empty() {
            session::lock(self.client, &ids(sessions)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, write: &Write) -> Result<()> {
        let pg = self.client;
        match write {
            Write::StartSession(start) => self.start(start).await,
            Write::SwapSession(session) => self.swap_session(session).await,
            Write::EndSessions(end) => self.end_matching(end).await.map(drop),
            Write::CreateUser(user, secrets) => user::insert(pg, user, secrets).await,
            Write::SwapUser(user, secrets) => {
                user::replace(pg, user).await?;
                match secrets {
                    Some(secrets) => user::write_secrets(pg, user.id, (None, secrets)).await,
                    None => Ok(()),
                }
            }
            Write::SwapSecrets { user, version, secrets } => {
                user::write_secrets(pg, *user, (Some(*version), secrets)).await
            }
            Write::DeleteUser { user, version, at } => user::delete(pg, *user, (*version, *at)).await,
            Write::CreateClient(record) => client::insert(pg, record).await,
            Write::SwapClient(record) => client::replace(pg, record).await,
            Write::DeleteClient(id) => client::delete(pg, id).await,
            Write::CreateChallenge(record) => challenge::insert(pg, record).await,
            Write::SwapChallenge(record) => challenge::replace(pg, record).await,
            Write::TakeChallenge { id, version } => challenge::take(pg, id, *version).await,
            Write::PutKey(record) => key::put(pg, record).await,
            Write::DeleteKey(key_use) => key::delete(pg, key_use).await,
            Write::Timeline(entry) => timeline::append(pg, std::slice::from_ref(entry)).await,
            Write::Log(event) => {
                self.events.push(event.clone());
                Ok(())
            }
            Write::PutMeta(name, value) => {
                const PUT: &str = "INSERT INTO meta (name, value) VALUES ($1, $2)
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                pg.execute(PUT, &[name, value]).await.map(drop)
            }
            Write::SwapMeta { name, before: None, value } => {
                const PUT: &str =
                    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
                unless_none(pg.execute(PUT, &[name, value]).await?, Conflict::MetaChanged)
            }
            Write::SwapMeta { name, before: Some(before), value } => {
                const SWAP: &str = "UPDATE meta SET value = $2 WHERE name = $1 AND value = $3";
                let params: [Param<'_>; 3] = [name, value, before];
                unless_none(pg.execute(SWAP, &params).await?, Conflict::MetaChanged)
            }
        }
    }

    /// Appends what is to be logged: the last statement, for all who log wait from here on.
    async fn log(&self) -> Result<()> {
        if self.events.is_empty() { Ok(()) } else { event::append(self.client, &self.events).await }
    }

    /// The user's row is locked: its epoch stays as it is, and no other session of the user starts meanwhile.
    async fn start(&mut self, start: &StartSession) -> Result<()> {
        let user = user::login_state(self.client, start.session.user_id)
            .await?
            .filter(|user| !user.disabled && user.auth_epoch == start.auth_epoch)
            .ok_or(Fail::Conflict(Conflict::EpochRaised))?;
        let numbers = self.numbers_of(&start.session)?;
        session::insert(self.client, (user.n, numbers), &start.session).await?;
        if start.max_sessions == 0 {
            return Ok(());
        }
        let now = start.session.started_at;
        let surplus = (user.n, start.session.id, now, start.max_sessions);
        let rows = session::surplus_of_user(self.client, self.known, surplus).await?;
        self.end_all(rows, (EndReason::Revoked, now, start.session.ip), start.event_until).await.map(drop)
    }

    fn numbers_of(&self, session: &Session) -> Result<Numbers> {
        let held = self.numbers.get(&session.id).into_iter().flatten();
        let held = held.into_iter().find(|(held, _)| held == session).map(|(_, numbers)| *numbers);
        held.ok_or_else(|| Fail::Item(StoreError::Internal("a session without its texts".to_owned())))
    }

    async fn swap_session(&mut self, next: &Session) -> Result<()> {
        let row = session::by_id(self.client, self.known, next.id)
            .await?
            .filter(|row| check_successor(&row.session, next).is_ok())
            .ok_or(Fail::Conflict(Conflict::SessionChanged))?;
        let numbers = self.numbers_of(next)?;
        self.replace((&row.session, numbers), next).await
    }

    async fn replace(&self, (last, numbers): (&Session, Numbers), next: &Session) -> Result<()> {
        let swapped = if session::same_but_hot(last, next) {
            !session::swap_hot(self.client, &[next]).await?.is_empty()
        } else {
            let user_n = user::number(self.client, next.user_id).await?;
            let user_n = user_n.ok_or(Fail::Conflict(Conflict::SessionChanged))?;
            session::swap_whole(self.client, (user_n, numbers, last.version), next).await?
        };
        if swapped { Ok(()) } else { Err(Fail::Conflict(Conflict::SessionChanged)) }
    }

    async fn change(
        &mut self,
        (last, numbers): (&Session, Numbers),
        (change, event_until): (&Change, Timestamp),
    ) -> Result<()> {
        match &change.session {
            Some(next) => self.replace((last, numbers), next).await?,
            None => session::lock(self.client, &[uuid(*last.id.as_bytes())]).await?,
        }
        timeline::append(self.client, &change.timeline).await?;
        self.events.extend(change.events_until(event_until));
        self.log().await
    }

    async fn end_and_log(&mut self, end: &EndSessions) -> Result<usize> {
        if let EndFilter::User { user, .. } = &end.filter {
            user::lock(self.client, &[uuid(*user.as_bytes())]).await?;
        }
        let ended = self.end_matching(end).await?;
        self.log().await?;
        Ok(ended)
    }

    async fn end_matching(&mut self, end: &EndSessions) -> Result<usize> {
        let (pg, known) = (self.client, self.known);
        let how = (end.reason, end.now, end.ip);
        match &end.filter {
            EndFilter::One(id) => {
                let row = session::by_id(pg, known, *id).await?;
                self.end_all(row.into_iter().collect(), how, end.event_until).await
            }
            EndFilter::User { user, except } => {
                let Some(user_n) = user::number(pg, *user).await? else { return Ok(0) };
                let (mut ended, mut after) = (0, None);
                loop {
                    let mut page = session::open_of_user(pg, known, (user_n, after, PAGE)).await?;
                    let Some(last) = page.last() else { return Ok(ended) };
                    after = Some(last.session.id);
                    page.retain(|row| Some(row.session.id) != *except);
                    ended += self.end_all(page, how, end.event_until).await?;
                }
            }
            EndFilter::Client { client, limit } => {
                let Some(client_n) = text::number(pg, client.as_str()).await? else { return Ok(0) };
                self.end_of_client(client_n, *limit, end).await
            }
            EndFilter::All { limit } => {
                let (mut ended, mut after) = (0, i32::MIN);
                while ended < *limit
                    && let Some(client_n) = session::next_client(pg, after).await?
                {
                    ended += self.end_of_client(client_n, limit - ended, end).await?;
                    after = client_n;
                }
                Ok(ended)
            }
        }
    }

    async fn end_of_client(&mut self, client_n: i32, limit: usize, end: &EndSessions) -> Result<usize> {
        let mut ended = 0;
        while ended < limit {
            let most = PAGE.min(limit - ended);
            let page = session::open_of_client(self.client, self.known, (client_n, most)).await?;
            if page.is_empty() {
                break;
            }
            ended += self.end_all(page, (end.reason, end.now, end.ip), end.event_until).await?;
        }
        Ok(ended)
    }

    /// Ends these sessions, whose rows are locked, by the rule of core; how many had not ended before.
    async fn end_all(
        &mut self,
        mut rows: Vec<SessionRow>,
        (reason, now, ip): (EndReason, Timestamp, Option<IpAddr>),
        event_until: Timestamp,
    ) -> Result<usize> {
        rows.sort_by_key(|row| row.session.id);
        let changes: Vec<Change> = rows.iter().filter_map(|row| row.session.end(reason, now, ip)).collect();
        if changes.is_empty() {
            return Ok(0);
        }
        let next: Vec<&Session> = changes.iter().filter_map(|change| change.session.as_ref()).collect();
        if session::swap_hot(self.client, &next).await?.len() != next.len() {
            return Err(Fail::Item(StoreError::Internal("a locked session changed".to_owned())));
        }
        let lines: Vec<TimelineEntry> = changes.iter().flat_map(|c| c.timeline.clone()).collect();
        timeline::append(self.client, &lines).await?;
        self.events.extend(changes.iter().flat_map(|c| c.events_until(event_until)));
        Ok(changes.len())
    }
}

async fn sweep_all(client: &Client, (now, before): (Timestamp, Timestamp), limit: usize) -> Result<Swept> {
    let day = session::day(before);
    let sessions = session::delete_outdated(client, (day, before), (limit, LOOK_AT)).await?;
    timeline::delete(client, &sessions).await?;
    let rest = sweep_but_sessions(client, (now, before), limit).await?;
    Ok(Swept { sessions: sessions.len(), ..rest })
}

/// Removes what is outdated, but no session.
pub(super) async fn sweep_but_sessions(
    client: &Client,
    (now, before): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Swept> {
    user::forget_deleted(client, now, limit).await?;
    // A session may have ended, of whatever reason, up to that long after its deadline.
    let kept = now.since(before);
    text::sweep(client, session::day(before - kept).saturating_sub(2), limit).await?;
    super::cells::sweep(client, now, limit).await?;
    let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    Ok(Swept {
        sessions: 0,
        challenges: count(challenge::sweep(client, now, limit).await?),
        events: count(event::sweep(client, now, limit).await?),
    })
}

/// The compare-and-swap: a row is replaced only by its own next version, and only while it has not ended.
pub(super) fn check_successor(last: &Session, next: &Session) -> Result<()> {
    if last.ended.is_none()
        && next.id == last.id
        && next.user_id == last.user_id
        && next.version == last.version.wrapping_add(1)
    {
        return Ok(());
    }
    Err(Fail::Item(StoreError::Internal("the decision returned no successor of the row".to_owned())))
}
