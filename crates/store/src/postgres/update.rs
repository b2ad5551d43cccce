//! Decisions on sessions, in batches: read (and write what was foreseen), decide, compare-and-swap.

use super::fail::{Fail, RETRY_AFTER, Result};
use super::known::Numbers;
use super::lanes::{Doubt, Item, Kind, pause};
use super::pool::{Client, Lease};
use super::rows::advance::{self, Foreseen};
use super::rows::{event, session, timeline, uuid};
use super::tries::RETRIES;
use super::{Inner, tx};
use crate::{Snapshot, StoreError};
use reseal_core::event::Event;
use reseal_core::session::Change;
use reseal_core::{Session, SessionId, TimelineEntry, Timestamp};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use uuid::Uuid;

/// Compare-and-swaps that one item may lose; whoever loses more meets a session that never rests.
const LOSSES: u32 = 50;

/// What was decided and is to be written, for the row as it was.
struct Pending {
    item: Item,
    last: Session,
    numbers: Numbers,
    change: Change,
}

/// What of it goes to the database.
struct Swap<'p> {
    id: SessionId,
    change: &'p Change,
    event_until: Timestamp,
}

impl Pending {
    const fn swap(&self) -> Swap<'_> {
        Swap { id: self.last.id, change: &self.change, event_until: self.item.update.event_until }
    }
}

/// A row that was read for an item.
struct Read {
    written: bool,
    numbers: Numbers,
    snapshot: Snapshot,
}

/// The rows for some items, or why there are none; each is there, or cannot be read.
type Rows = Result<HashMap<SessionId, Result<Read>>>;

impl Inner {
    /// Does these items, of one session each. Some may have to be done again, after a pause if the database is
    /// in trouble.
    pub(super) async fn run_batch(&self, kind: Kind, mut batch: Vec<Item>) -> (Vec<Item>, Option<Duration>) {
        batch.sort_by_key(|item| item.update.id);
        let mut round = Round { again: Vec::new(), pause: None, several: self.pool.has_several_hosts() };
        let mut lease = match self.pool.lease().await {
            Ok(lease) => lease,
            Err(fail) => {
                round.failed(batch, &fail, false);
                return (round.again, round.pause);
            }
        };
        let pending = self.read_and_decide(&mut lease, batch, &mut round).await;
        debug_assert!(kind == Kind::Updates || pending.is_empty(), "reads write nothing");
        if !pending.is_empty() && !lease.is_spoilt() {
            self.write(&mut lease, pending, &mut round).await;
        } else {
            round.failed(pending.into_iter().map(|p| p.item).collect(), &spoilt(), false);
        }
        (round.again, round.pause)
    }

    async fn read_and_decide(&self, lease: &mut Lease, batch: Vec<Item>, round: &mut Round) -> Vec<Pending> {
        let foreseen = self.foreseen(&batch);
        let ahead: HashSet<SessionId> = foreseen.iter().map(|f| f.id).collect();
        let plain: Vec<Uuid> = batch
            .iter()
            .filter(|item| !ahead.contains(&item.update.id))
            .map(|item| uuid(*item.update.id.as_bytes()))
            .collect();
        // One trip for both: the statements follow each other on the wire.
        let (advanced, read) = tokio::join!(
            self.pool.within(self.advance_rows(lease, &foreseen)),
            self.pool.within(self.plain_rows(lease, &plain)),
        );
        let advanced = lease.settle(advanced.map_err(Fail::at_commit));
        let read = lease.settle(read);
        drop(foreseen);
        let (ahead, plain): (Vec<Item>, Vec<Item>) =
            batch.into_iter().partition(|item| ahead.contains(&item.update.id));
        let mut pending = self.decide_all(lease, (ahead, advanced), true, round).await;
        pending.extend(self.decide_all(lease, (plain, read), false, round).await);
        pending
    }

    /// The predictions that can be written ahead.
    fn foreseen<'b>(&self, batch: &'b [Item]) -> Vec<Foreseen<'b>> {
        let foreseen = |item: &'b Item| {
            let advance = item.update.advance.as_ref()?;
            if item.tries > 0 || !matches!(item.doubt, Doubt::None) || !advance::is_plausible(advance) {
                return None;
            }
            let client = self.known.number(advance.client_id.as_str())?;
            let policy = self.known.number(advance.policy.as_str())?;
            Some(Foreseen { id: item.update.id, advance, client, policy })
        };
        batch.iter().filter_map(foreseen).collect()
    }

    async fn advance_rows(&self, client: &Client, foreseen: &[Foreseen<'_>]) -> Rows {
        if foreseen.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = advance::write(client, foreseen).await?;
        let found = advance::read(client, &self.known, &rows).await.map_err(Fail::after_commit)?;
        let read = |f: advance::Found| Read { written: f.written, numbers: f.numbers, snapshot: f.snapshot };
        Ok(found.into_iter().map(|(id, found)| (id, found.map(read))).collect())
    }

    async fn plain_rows(&self, client: &Client, ids: &[Uuid]) -> Rows {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found = session::snapshots(client, &self.known, ids).await?;
        let read = |(numbers, snapshot): (Numbers, Snapshot)| {
            self.known.learn_of(numbers, &snapshot.session);
            Read { written: false, numbers, snapshot }
        };
        Ok(found.into_iter().map(|(id, found)| (id, found.map(read))).collect())
    }

    /// Decides on each row; what needs no (more) write is answered.
    async fn decide_all(
        &self,
        lease: &mut Lease,
        (items, rows): (Vec<Item>, Rows),
        ahead: bool,
        round: &mut Round,
    ) -> Vec<Pending> {
        let mut rows = match rows {
            Ok(rows) => rows,
            Err(fail) => {
                // A row at which the statement fails spoils the batch it is in: by itself it fails alone.
                if items.len() > 1 && fail.may_concern_one() {
                    round.one_by_one(items);
                } else {
                    round.failed(items, &fail, ahead);
                }
                return Vec::new();
            }
        };
        let mut pending = Vec::new();
        for item in items {
            let Some(read) = rows.remove(&item.update.id) else {
                item.answer(Ok(false));
                continue;
            };
            match read {
                Ok(read) if read.written => self.settle_written(lease, item, read).await,
                Ok(read) => pending.extend(decide_unwritten(item, read)),
                Err(fail) => item.answer(Err(fail.into_store_error())),
            }
        }
        pending
    }

    /// The prediction is written already: so the decision must be exactly that.
    async fn settle_written(&self, lease: &mut Lease, mut item: Item, read: Read) {
        let last = &read.snapshot.session;
        let foretold = item.update.advance.as_ref().and_then(|advance| advance.apply(last));
        let change = match decide(&mut item, &read.snapshot) {
            Ok(change) => change,
            Err(fail) => {
                tracing::error!(sid = %item.update.id, "a decision failed whose foreseen advance is written");
                item.answer(Err(fail.into_store_error()));
                return;
            }
        };
        let as_foretold = change.timeline.is_empty() && change.events.is_empty();
        if as_foretold && change.session.is_some() && change.session == foretold {
            item.answer(Ok(true));
            return;
        }
        tracing::error!(sid = %item.update.id, "an advance was written that the decision does not want; it is taken back");
        let done = match foretold {
            Some(written) if !lease.is_spoilt() => {
                self.take_back(lease, (last, &written, read.numbers), (change, item.update.event_until)).await
            }
            _ => Err(Fail::Item(StoreError::Internal(
                "what was written ahead is not what was foreseen".to_owned(),
            ))),
        };
        item.answer(done.map_err(Fail::into_store_error));
    }

    async fn take_back(
        &self,
        lease: &mut Lease,
        (last, written, numbers): (&Session, &Session, Numbers),
        (mut change, until): (Change, Timestamp),
    ) -> Result<bool> {
        let mut wanted = change.session.take().unwrap_or_else(|| last.clone());
        wanted.version = written.version.wrapping_add(1);
        change.session = Some(wanted);
        let write = tx::change(lease, &self.known, (written, numbers), (&change, until));
        let done = self.pool.within(write).await;
        let done = lease.settle(done)?;
        if done && !change.events.is_empty() {
            self.tell();
        }
        if done { Ok(true) } else { Err(Fail::Away(StoreError::Busy { retry_after: RETRY_AFTER })) }
    }

    /// Writes what was decided, most of it together.
    async fn write(&self, lease: &mut Lease, pending: Vec<Pending>, round: &mut Round) {
        let is_hot =
            |p: &Pending| p.change.session.as_ref().is_none_or(|next| session::same_but_hot(&p.last, next));
        let (hot, whole): (Vec<Pending>, Vec<Pending>) = pending.into_iter().partition(is_hot);
        let mut alone = whole;
        if !hot.is_empty() {
            let swaps: Vec<Swap<'_>> = hot.iter().map(Pending::swap).collect();
            let done = self.pool.within(swap_together(lease, &swaps)).await;
            drop(swaps);
            match lease.settle(done) {
                Ok(won) => {
                    if hot.iter().any(|p| won.contains(&p.item.update.id) && !p.change.events.is_empty()) {
                        self.tell();
                    }
                    for p in hot {
                        round.swapped(p.item, won.contains(&p.last.id));
                    }
                }
                // One of them may be at fault: each by itself then.
                Err(fail) if hot.len() > 1 && fail.may_concern_one() => alone.extend(hot),
                Err(fail) => round.unwritten(hot, &fail),
            }
        }
        for p in alone {
            if lease.is_spoilt() {
                round.failed(vec![p.item], &spoilt(), false);
                continue;
            }
            let until = p.item.update.event_until;
            let write = tx::change(lease, &self.known, (&p.last, p.numbers), (&p.change, until));
            let done = self.pool.within(write).await;
            match lease.settle(done) {
                Ok(won) => {
                    if won && !p.change.events.is_empty() {
                        self.tell();
                    }
                    round.swapped(p.item, won);
                }
                Err(fail) => round.unwritten(vec![p], &fail),
            }
        }
    }

    /// Whether the database can be written.
    pub(super) async fn check(&self) -> Result<()> {
        let mut lease = self.pool.lease().await?;
        let done = self
            .pool
            .within(async {
                const MARK: &str = "INSERT INTO meta (name, value) VALUES ('check', '')
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                lease.execute(MARK, &[]).await.map(drop)
            })
            .await;
        lease.settle(done)
    }
}

fn spoilt() -> Fail {
    Fail::Away(StoreError::Unavailable("the connection broke before it was its turn".to_owned()))
}

/// Decides on a row over which nothing was written. `None`: it is answered.
fn decide_unwritten(mut item: Item, read: Read) -> Option<Pending> {
    let row = &read.snapshot.session;
    if let Doubt::Written { before, next } = &item.doubt {
        // The answer that was decided on with it is still the right one.
        if row == &**next {
            item.answer(Ok(true));
            return None;
        }
        if row.version != *before {
            item.answer(Err(unknown()));
            return None;
        }
    }
    let change = match decide(&mut item, &read.snapshot) {
        Ok(change) => change,
        Err(fail) => {
            item.answer(Err(fail.into_store_error()));
            return None;
        }
    };
    if change.is_empty() {
        item.answer(Ok(true));
        return None;
    }
    // The token may have become the one in use by this very request: then nothing must come of it.
    let maybe_done = matches!(item.doubt, Doubt::Advance)
        && item.update.advance.as_ref().is_some_and(|a| row.rotation.used >= a.number);
    if maybe_done && change.session.is_some() {
        item.answer(Err(unknown()));
        return None;
    }
    Some(Pending { item, last: read.snapshot.session, numbers: read.numbers, change })
}

fn unknown() -> StoreError {
    StoreError::Unavailable("the connection broke, and nobody knows what was done".to_owned())
}

/// Compare-and-swaps these rows, with their lines and events; the ids of those that were as they had been.
async fn swap_together(lease: &mut Lease, swaps: &[Swap<'_>]) -> Result<HashSet<SessionId>> {
    let next: Vec<&Session> = swaps.iter().filter_map(|s| s.change.session.as_ref()).collect();
    let rows_only = |s: &Swap<'_>| s.change.timeline.is_empty() && s.change.events.is_empty();
    if swaps.iter().all(rows_only) {
        let won = session::swap_hot(lease, &next).await.map_err(Fail::at_commit)?;
        return Ok(won.into_iter().collect());
    }
    lease.begin().await?;
    let done = swap_and_tell(lease, swaps, &next).await;
    tx::finish(lease, done).await
}

async fn swap_and_tell(client: &Client, swaps: &[Swap<'_>], next: &[&Session]) -> Result<HashSet<SessionId>> {
    let ids: Vec<Uuid> = swaps.iter().map(|s| uuid(*s.id.as_bytes())).collect();
    session::lock(client, &ids).await?;
    let mut won: HashSet<SessionId> = session::swap_hot(client, next).await?.into_iter().collect();
    won.extend(swaps.iter().filter(|s| s.change.session.is_none()).map(|s| s.id));
    let winners = || swaps.iter().filter(|s| won.contains(&s.id));
    let lines: Vec<TimelineEntry> = winners().flat_map(|s| s.change.timeline.clone()).collect();
    timeline::append(client, &lines).await?;
    let events: Vec<Event> = winners().flat_map(|s| s.change.events_until(s.event_until)).collect();
    if !events.is_empty() {
        event::append(client, &events).await?;
    }
    Ok(won)
}

/// Runs the decision; one that panics fails alone.
fn decide(item: &mut Item, snapshot: &Snapshot) -> Result<Change> {
    let change = catch_unwind(AssertUnwindSafe(|| (item.update.decide)(snapshot)))
        .map_err(|_| Fail::Item(StoreError::Internal("the decision panicked".to_owned())))?;
    if let Some(next) = &change.session {
        tx::check_successor(&snapshot.session, next)?;
    }
    Ok(change)
}

/// What is left when a batch is through.
struct Round {
    again: Vec<Item>,
    pause: Option<Duration>,
    several: bool,
}

impl Round {
    /// These were not done: again, if that may help, or the answer is why.
    fn failed(&mut self, items: Vec<Item>, fail: &Fail, ahead: bool) {
        let in_vain = fail.is_read_only() && !self.several;
        let again = fail.may_read_again() && !in_vain;
        for mut item in items {
            if !again || item.tries >= RETRIES {
                item.answer(Err(fail.store_error()));
                continue;
            }
            if ahead && matches!(fail, Fail::Lost(_)) {
                item.doubt = Doubt::Advance;
            }
            self.retry(item);
        }
    }

    /// These were decided on, and nobody knows whether they are written, or it is known that they are not.
    fn unwritten(&mut self, pending: Vec<Pending>, fail: &Fail) {
        for mut p in pending {
            if let Fail::Lost(_) = fail {
                let Some(next) = p.change.session else {
                    p.item.answer(Err(fail.store_error()));
                    continue;
                };
                p.item.doubt = Doubt::Written { before: p.last.version, next: Box::new(next) };
            }
            self.failed(vec![p.item], fail, false);
        }
    }

    /// A compare-and-swap was won, or somebody else was faster. A doubt stays: it may have been this item's own
    /// first try, which the server came to after all.
    fn swapped(&mut self, mut item: Item, won: bool) {
        if won {
            return item.answer(Ok(true));
        }
        item.tries += 1;
        if item.tries > LOSSES {
            return item.answer(Err(StoreError::Busy { retry_after: RETRY_AFTER }));
        }
        self.again.push(item);
    }

    fn one_by_one(&mut self, items: Vec<Item>) {
        for mut item in items {
            item.alone = true;
            self.again.push(item);
        }
    }

    fn retry(&mut self, mut item: Item) {
        self.pause = self.pause.max(Some(pause(item.tries)));
        item.tries += 1;
        self.again.push(item);
    }
}
