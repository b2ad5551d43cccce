//! Commits: done by the backing store, then told to Redis.

use super::Inner;
use super::backing::{Backing, Renewed};
use super::keys::{Swap, life};
use super::link::Link;
use super::resolve::Current;
use super::row::{self, Hot, Unreadable};
use crate::{Commit, CommitError, Conflict, EndFilter, StoreError, Write};
use reseal_core::{Session, SessionId, UserId};
use std::collections::HashMap;

/// Sessions of a user that are looked at together.
const PAGE: usize = 200;
/// Most sessions of a user whose rows are dropped when all end; those of others are found ended when used.
const FORGET_AT_MOST: usize = 10_000;

/// What a session is at some point within a commit.
struct Place {
    /// Its version as seen from outside.
    version: u32,
    /// Its version in the backing store.
    base: u32,
    user_id: UserId,
}

/// What Redis is told of after a commit.
#[derive(Default)]
struct Told {
    started: Vec<Session>,
    swapped: HashMap<SessionId, (Session, u32)>,
    ended: Vec<EndFilter>,
}

impl<B: Backing> Inner<B> {
    /// Does all writes, or none.
    pub(super) async fn commit(&self, mut commit: Commit) -> Result<(), CommitError> {
        let concerns_sessions = commit.writes.iter().any(|write| {
            matches!(write, Write::StartSession(_) | Write::SwapSession(_) | Write::EndSessions(_))
        });
        if !concerns_sessions {
            return self.backing.commit(commit).await;
        }
        for write in &commit.writes {
            if let Write::StartSession(start) = write
                && start.max_sessions > 0
            {
                self.settle(start.session.user_id).await?;
            }
        }
        let found = self.swapped_sessions(&commit).await?;
        let told = translate(&mut commit, &found)?;
        self.backing.commit(commit).await?;
        self.tell(found, told).await;
        Ok(())
    }

    /// The sessions that the commit replaces, as they are.
    async fn swapped_sessions(&self, commit: &Commit) -> Result<HashMap<SessionId, Current>, CommitError> {
        let mut ids: Vec<SessionId> = commit
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::SwapSession(session) => Some(session.id),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        ids.sort_unstable();
        ids.dedup();
        let found = self.with_link(async |link| {
            let mut by_id = HashMap::with_capacity(ids.len());
            for (id, current) in ids.iter().zip(self.resolve(link, &ids).await) {
                let Some(mut current) = current? else { continue };
                if !self.make_again(link, &mut current).await? {
                    return Err(CommitError::Conflict(Conflict::SessionChanged));
                }
                by_id.insert(*id, current);
            }
            Ok(by_id)
        });
        found.await?
    }

    async fn tell(&self, found: HashMap<SessionId, Current>, told: Told) {
        #[cfg(test)]
        if self.crash_before_apply.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let Told { started, swapped, ended } = told;
        let telling = self.with_link(async |link| {
            self.tell_of_starts(link, &started).await;
            for (id, (next, base)) in &swapped {
                if let Some(current) = found.get(id) {
                    self.apply(link, current, (next, *base)).await;
                }
            }
        });
        if let Err(error) = telling.await {
            tracing::debug!(%error, "Redis was not told; it is found out later");
        }
        if !ended.is_empty() {
            self.forget_ended(&ended).await;
        }
    }

    async fn tell_of_starts(&self, link: &mut Link, started: &[Session]) {
        let open: Vec<&Session> = started.iter().filter(|session| session.ended.is_none()).collect();
        let swaps: Vec<Swap> = open
            .iter()
            .map(|session| Swap {
                id: session.id,
                expected: Vec::new(),
                row: row::encode(session, session.version, session.idle_expires_at),
                life: life(session),
            })
            .collect();
        if swaps.is_empty() {
            return;
        }
        open.iter().for_each(|session| self.known().learn(session));
        // One that lies there already, of whatever origin, does not agree with the head and is made again.
        link.swap(&swaps).await;
        link.note(&open).await;
    }

    /// Drops the rows of sessions that have ended. They would be found ended anyway, but take memory.
    pub(super) async fn forget_ended(&self, filters: &[EndFilter]) {
        #[cfg(test)]
        if self.crash_before_apply.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let forgetting = self.with_link(async |link| {
            for filter in filters {
                match filter {
                    EndFilter::One(id) => link.forget(&[*id]).await,
                    EndFilter::User { user, .. } => {
                        let noted = link.noted(*user, FORGET_AT_MOST).await;
                        // Not one that started meanwhile: its renewals are there alone.
                        let Ok(heads) = self.backing.heads(&noted).await else { continue };
                        let is_over = |id: &SessionId| heads.get(id).is_none_or(|head| head.ended);
                        let ids: Vec<SessionId> = noted.into_iter().filter(is_over).collect();
                        link.forget(&ids).await;
                        link.strike(*user, &ids).await;
                    }
                    EndFilter::Client { .. } | EndFilter::All { .. } => {}
                }
            }
        });
        if let Err(error) = forgetting.await {
            tracing::debug!(%error, "Redis was not told; it is found out later");
        }
    }

    /// Brings the deadlines of a user's sessions in the backing store up to date, before they count there.
    async fn settle(&self, user: UserId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.backing.sessions_of_user(user, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            self.write_back_of(&page).await?;
        }
    }

    /// Writes back what Redis knows better of these sessions; which those are.
    pub(super) async fn write_back_of(&self, sessions: &[Session]) -> Result<Vec<SessionId>, StoreError> {
        let open: Vec<&Session> = sessions.iter().filter(|session| session.ended.is_none()).collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<SessionId> = open.iter().map(|session| session.id).collect();
        let rows = self.with_link(async |link| link.rows(&ids).await).await?;
        let mut later = Vec::new();
        for (session, row) in open.into_iter().zip(rows) {
            let Some(stored) = row? else { continue };
            let hot = match Hot::decode(&stored.0) {
                Ok(hot) => hot,
                // In use, by those who can read it.
                Err(error @ Unreadable::Newer(_)) => return Err(error.into()),
                Err(Unreadable::Damaged | Unreadable::Text) => continue,
            };
            if hot.is_later_than(&Hot::of(session, session.version, session.idle_expires_at)) {
                later.push(Renewed {
                    id: session.id,
                    version: session.version,
                    rotation: hot.rotation,
                    renewed_at: hot.renewed_at,
                    idle_expires_at: hot.idle_expires_at,
                    expires_at: hot.expires_at,
                });
            }
        }
        if !later.is_empty() {
            self.backing.write_back(&later).await?;
        }
        Ok(later.into_iter().map(|row| row.id).collect())
    }
}

/// Gives replaced sessions the version that the backing store expects, after checking the one that is seen
/// from outside.
fn translate(commit: &mut Commit, found: &HashMap<SessionId, Current>) -> Result<Told, CommitError> {
    let mut places: HashMap<SessionId, Place> = found
        .iter()
        .filter(|(_, current)| current.session.ended.is_none())
        .map(|(id, current)| {
            let Current { session, base, .. } = current;
            (*id, Place { version: session.version, base: *base, user_id: session.user_id })
        })
        .collect();
    let mut told = Told::default();
    for write in &mut commit.writes {
        match write {
            Write::StartSession(start) => {
                let Session { id, version, user_id, .. } = start.session;
                places.entry(id).or_insert(Place { version, base: version, user_id });
                told.started.push(start.session.clone());
            }
            Write::SwapSession(next) => {
                let place = places
                    .get_mut(&next.id)
                    .filter(|place| {
                        next.version == place.version.wrapping_add(1) && next.user_id == place.user_id
                    })
                    .ok_or(Conflict::SessionChanged)
                    .map_err(CommitError::Conflict)?;
                let seen = Session::clone(next);
                place.version = seen.version;
                place.base = place.base.wrapping_add(1);
                next.version = place.base;
                told.swapped.insert(seen.id, (seen, place.base));
            }
            Write::EndSessions(end) => told.ended.push(end.filter.clone()),
            _ => {}
        }
    }
    Ok(told)
}
