//! What the writer does inside a transaction: decisions, commits, endings.

use crate::commit::{Commit, EndFilter, EndSessions, StartSession, Write};
use crate::sqlite::cache::Caches;
use crate::sqlite::fail::{Fail, Result};
use crate::sqlite::rows::{challenge, client, event, key, session, text, timeline, user};
use crate::{Conflict, SessionUpdate, StoreError};
use reseal_core::event::{EndReason, Event};
use reseal_core::session::Change;
use reseal_core::{Session, Timestamp};
use rusqlite::{Connection, params};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Sessions ended between two reads of a list, so that memory stays bounded.
const PAGE: usize = 200;

/// An open transaction.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) caches: &'a mut Caches,
    /// Set by whatever logs an event, also if that is undone.
    pub(super) logged: &'a mut bool,
}

impl Tx<'_> {
    /// Runs a decision next to its row and writes what it decides; whether there is such a session.
    pub(super) fn update(&mut self, update: &mut SessionUpdate) -> Result<bool> {
        let Some((place, snapshot)) = session::snapshot(self.conn, self.caches, update.id)? else {
            return Ok(false);
        };
        // A panicking decision fails its own item: the other items and this thread go on.
        let change = catch_unwind(AssertUnwindSafe(|| (update.decide)(&snapshot)))
            .map_err(|_| Fail::Item(StoreError::Internal("the decision panicked".to_owned())))?;
        if change.is_empty() {
            return Ok(true);
        }
        let last = &snapshot.session;
        if let Some(next) = &change.session {
            check_successor(last, next)?;
            if change.timeline.is_empty() && change.events.is_empty() && session::is_one_statement(last, next)
            {
                session::replace(self.conn, (place, last), next)?;
                return Ok(true);
            }
        }
        self.savepoint(|tx| tx.write_change((place, last), &change, update.event_until))?;
        Ok(true)
    }

    /// Does all writes of a commit, or none.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<()> {
        if commit.writes.is_empty() {
            return Ok(());
        }
        self.savepoint(|tx| commit.writes.iter().try_for_each(|write| tx.write(write)))
    }

    /// Ends the sessions that match, and says how many they were.
    pub(super) fn end_sessions(&mut self, end: &EndSessions) -> Result<usize> {
        self.savepoint(|tx| tx.end_matching(end))
    }

    /// Runs several statements as one: what a failed item wrote is undone, its neighbours stay.
    pub(super) fn savepoint<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.conn.prepare_cached("SAVEPOINT item")?.execute([])?;
        let result = work(self);
        if matches!(result, Err(Fail::Conflict(_) | Fail::Item(_))) {
            self.conn.prepare_cached("ROLLBACK TO item")?.execute([])?;
            // They may know what was just undone.
            self.caches.clear();
        }
        if !matches!(result, Err(Fail::Sqlite(_))) {
            self.conn.prepare_cached("RELEASE item")?.execute([])?;
        }
        result
    }

    fn write_change(
        &mut self,
        last: (session::Place, &Session),
        change: &Change,
        event_until: Timestamp,
    ) -> Result<()> {
        if let Some(next) = &change.session {
            session::replace(self.conn, last, next)?;
        }
        for entry in &change.timeline {
            timeline::append(self.conn, entry)?;
        }
        for event in change.events_until(event_until) {
            self.log(&event)?;
        }
        Ok(())
    }

    fn log(&mut self, event: &Event) -> Result<()> {
        *self.logged = true;
        event::append(self.conn, event)
    }

    fn write(&mut self, write: &Write) -> Result<()> {
        let conn = self.conn;
        match write {
            Write::StartSession(start) => self.start(start),
            Write::SwapSession(session) => self.swap_session(session),
            Write::EndSessions(end) => self.end_matching(end).map(drop),
            Write::CreateUser(user, secrets) => user::insert(conn, user, secrets),
            Write::SwapUser(user, secrets) => {
                user::replace(conn, user)?;
                secrets.as_ref().map_or(Ok(()), |secrets| user::write_secrets(conn, user.id, secrets))
            }
            Write::SwapSecrets { user, version, secrets } => {
                if !user::has_version(conn, *user, *version)? {
                    return Err(Fail::Conflict(Conflict::UserChanged));
                }
                user::write_secrets(conn, *user, secrets)
            }
            Write::DeleteUser { user, version, at } => user::delete(conn, *user, (*version, *at)),
            Write::CreateClient(client) => client::insert(conn, client),
            Write::SwapClient(client) => client::replace(conn, client),
            Write::DeleteClient(id) => client::delete(conn, id),
            Write::CreateChallenge(challenge) => challenge::insert(conn, challenge),
            Write::SwapChallenge(challenge) => challenge::replace(conn, challenge),
            Write::TakeChallenge { id, version } => challenge::take(conn, id, *version),
            Write::PutKey(key) => key::put(conn, key),
            Write::DeleteKey(key_use) => key::delete(conn, key_use),
            Write::Timeline(entry) => timeline::append(conn, entry),
            Write::Log(event) => self.log(event),
            Write::PutMeta(name, value) => {
                conn.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
                    .execute(params![name, value])?;
                Ok(())
            }
            Write::SwapMeta { name, before, value } => swap_meta(conn, name, (before.as_deref(), value)),
        }
    }

    fn start(&mut self, start: &StartSession) -> Result<()> {
        let user = user::login_state(self.conn, start.session.user_id)?
            .filter(|user| !user.disabled && user.auth_epoch == start.auth_epoch)
            .ok_or(Fail::Conflict(Conflict::EpochRaised))?;
        session::insert(self.conn, user.n, &start.session)?;
        if start.max_sessions == 0 {
            return Ok(());
        }
        let now = start.session.started_at;
        let surplus = session::surplus_of_user(self.conn, self.caches, user.n, (now, start.max_sessions))?;
        for row in surplus {
            self.end(&row, (EndReason::Revoked, now, start.session.ip), start.event_until)?;
        }
        Ok(())
    }

    fn swap_session(&mut self, next: &Session) -> Result<()> {
        let row = session::by_id(self.conn, self.caches, next.id)?
            .filter(|row| check_successor(&row.session, next).is_ok())
            .ok_or(Fail::Conflict(Conflict::SessionChanged))?;
        session::replace(self.conn, (row.place, &row.session), next)
    }

    fn end_matching(&mut self, end: &EndSessions) -> Result<usize> {
        match &end.filter {
            EndFilter::One(id) => {
                let row = session::by_id(self.conn, self.caches, *id)?;
                self.end_all(row, end)
            }
            EndFilter::User { user, except } => {
                let Some(user_n) = user::number(self.conn, *user)? else { return Ok(0) };
                let (mut ended, mut after) = (0, None);
                loop {
                    let mut page = session::open_of_user(self.conn, self.caches, user_n, (after, PAGE))?;
                    let Some(last) = page.last() else { return Ok(ended) };
                    after = Some(last.session.id);
                    page.retain(|row| Some(row.session.id) != *except);
                    ended += self.end_all(page, end)?;
                }
            }
            EndFilter::Client { client, limit } => {
                let Some(client_n) = text::number(self.conn, client.as_str())? else { return Ok(0) };
                self.end_of_client(client_n, *limit, end)
            }
            EndFilter::All { limit } => {
                let (mut ended, mut after) = (0, 0);
                while ended < *limit
                    && let Some(client_n) = session::next_client(self.conn, after)?
                {
                    ended += self.end_of_client(client_n, limit - ended, end)?;
                    after = client_n;
                }
                Ok(ended)
            }
        }
    }

    fn end_of_client(&mut self, client_n: i64, limit: usize, end: &EndSessions) -> Result<usize> {
        let mut ended = 0;
        while ended < limit {
            let most = PAGE.min(limit - ended);
            let page = session::open_of_client(self.conn, self.caches, client_n, most)?;
            if page.is_empty() {
                break;
            }
            ended += self.end_all(page, end)?;
        }
        Ok(ended)
    }

    fn end_all(
        &mut self,
        rows: impl IntoIterator<Item = session::SessionRow>,
        end: &EndSessions,
    ) -> Result<usize> {
        let mut ended = 0;
        for row in rows {
            ended += usize::from(self.end(&row, (end.reason, end.now, end.ip), end.event_until)?);
        }
        Ok(ended)
    }

    /// Ends one session by the rule of core; `false`: it had ended before.
    fn end(
        &mut self,
        row: &session::SessionRow,
        (reason, now, ip): (EndReason, Timestamp, Option<IpAddr>),
        event_until: Timestamp,
    ) -> Result<bool> {
        let Some(change) = row.session.end(reason, now, ip) else { return Ok(false) };
        self.write_change((row.place, &row.session), &change, event_until)?;
        Ok(true)
    }
}

/// Sets a named value that is still the one that was read.
fn swap_meta(conn: &Connection, name: &str, (before, value): (Option<&[u8]>, &[u8])) -> Result<()> {
    let done = match before {
        Some(before) => conn
            .prepare_cached("UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2")?
            .execute(params![name, before, value])?,
        None => conn
            .prepare_cached("INSERT OR IGNORE INTO meta (name, value) VALUES (?1, ?2)")?
            .execute(params![name, value])?,
    };
    if done == 1 { Ok(()) } else { Err(Fail::Conflict(Conflict::MetaChanged)) }
}

/// The compare-and-swap: a row is replaced only by its own next version, and only while it has not ended.
fn check_successor(last: &Session, next: &Session) -> Result<()> {
    if last.ended.is_none()
        && next.id == last.id
        && next.user_id == last.user_id
        && next.version == last.version.wrapping_add(1)
    {
        return Ok(());
    }
    Err(Fail::Item(StoreError::Internal("the decision returned no successor of the row".to_owned())))
}
