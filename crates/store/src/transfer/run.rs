//! One run of a migration: where it begins, what it does next, and how it ends.

use super::{
    Batch, Counts, FREEZE, Item, Kind, Noted, Page, Records, Source, SourceMark, SourceState, Target,
    TargetMark, TargetState, TransferError,
};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// How to do it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Records on a page, which is one transaction of the target.
    pub batch: usize,
    /// Most records copied in a second; 0 is no limit. Once the source is frozen there is none.
    pub rate: u64,
    /// Follow the source until stopped, and leave it in use.
    pub stay_live: bool,
    /// Records of each kind that are compared one by one at the end, about.
    pub sample: usize,
    /// The source as people know it, without secrets.
    pub from: String,
    /// The target as people know it, without secrets.
    pub to: String,
    /// Random: names the migration (if it is a new one) and this run, and picks samples.
    pub random: [u64; 2],
}

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// An earlier run had come as far.
    Resumed {
        /// Records copied by then.
        copied: u64,
    },
    /// What an aborted migration left in the target is removed.
    Clearing,
    /// The bulk.
    Copying {
        /// Of this kind.
        kind: Kind,
        /// Records copied, of all kinds.
        copied: u64,
        /// Records in all, about.
        total: u64,
    },
    /// Changes are copied while the source is in use.
    Following {
        /// Notes taken in by this run.
        taken: u64,
        /// Notes that wait.
        waiting: u64,
    },
    /// The source refuses writes from now on.
    Frozen,
    /// Counting and comparing.
    Comparing,
}

/// Who watches a run.
pub trait Watch: Send {
    /// Told of every step.
    fn progress(&mut self, progress: Progress);

    /// Asked between steps: whether to stop.
    fn stop(&self) -> bool;
}

/// How a run ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was to stay live and was stopped: the source is in use, and goes on noting changes.
    Following,
    /// Everything is in the target, and the source refuses writes.
    Complete(Report),
}

/// What a complete run saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What both stores have.
    pub counts: Counts,
    /// Records compared one by one.
    pub compared: usize,
    /// How long the source had refused writes when the target was complete.
    pub frozen: Duration,
    /// Changes that were copied after the bulk, by this run.
    pub taken: u64,
    /// An earlier run had done everything already.
    pub done_before: bool,
}

/// A migration from one store to another.
pub struct Migration<'a> {
    source: &'a dyn Source,
    target: &'a dyn Target,
    options: Options,
    watch: &'a mut dyn Watch,
    from: SourceMark,
    to: TargetMark,
    taken: u64,
}

/// Least notes that are taken in at once.
const LOT: usize = 1000;
/// Passes that are all full, after which the source is too fast.
const FULL_PASSES: u32 = 500;
/// How often to look for notes when there were none.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many times the freeze may run out before it is given up.
const FREEZES: u32 = 3;

impl<'a> Migration<'a> {
    /// Begins a migration, or takes over where an earlier run was; then runs it to its end.
    pub async fn run(
        source: &'a dyn Source,
        target: &'a dyn Target,
        options: Options,
        watch: &'a mut dyn Watch,
    ) -> Result<Ended, TransferError> {
        let run = options.random[1];
        let (from, to) = (source.mark().await?, target.mark().await?);
        let (id, old_source, old_target) = match (&from, &to) {
            (Some(s), Some(t)) if s.id == t.id => (s.id.clone(), Some(s), Some(t)),
            (Some(s), _) if s.state == SourceState::Moved => {
                return Err(TransferError::Moved { to: s.to.clone() });
            }
            (Some(s), _) => return Err(TransferError::Elsewhere { to: s.to.clone() }),
            (None, Some(t)) if t.state == TargetState::Complete => return Err(TransferError::InUse),
            (None, _) => (format!("{:016x}", options.random[0]), None, to.as_ref()),
        };
        let new_target = TargetMark {
            id: id.clone(),
            run,
            state: TargetState::Copying { kind: Kind::Meta, after: None },
            from: options.from.clone(),
            copied: 0,
        };
        let state = old_source.map_or(SourceState::Noting, |s| s.state);
        let new_source = SourceMark { id, run, state, to: options.to.clone() };
        let to = match (old_source, old_target) {
            (Some(_), Some(old)) => {
                let taken_over = TargetMark { run, ..old.clone() };
                if old.state != TargetState::Complete {
                    target.write(old.run, Batch::default(), taken_over.clone()).await?;
                }
                watch.progress(Progress::Resumed { copied: old.copied });
                taken_over
            }
            (_, old) => {
                if old.is_some() {
                    watch.progress(Progress::Clearing);
                }
                // The target first: a source that notes has a target.
                target.begin(old.map(|t| t.run), new_target.clone()).await?;
                new_target
            }
        };
        if to.state == TargetState::Complete && state == SourceState::Moved {
            let counts = target.counts().await?;
            return Ok(Ended::Complete(Report { counts, done_before: true, ..Report::default() }));
        }
        let old_run = old_source.map(|s| s.run);
        // A freeze of a run that died ends here, rather than when its time is over.
        let from = match state {
            SourceState::Frozen => SourceMark { state: SourceState::Noting, ..new_source },
            _ => new_source,
        };
        source.put(old_run, Some(from.clone())).await?;
        Self { source, target, options, watch, from, to, taken: 0 }.go().await
    }

    async fn go(mut self) -> Result<Ended, TransferError> {
        if self.from.state == SourceState::Moved {
            // Everything was there and compared; only the last word is missing.
            let counts = self.target.counts().await?;
            self.complete().await?;
            return Ok(Ended::Complete(Report { counts, ..Report::default() }));
        }
        if let TargetState::Copying { kind, after } = self.to.state.clone() {
            self.copy(kind, after).await?;
            self.target.settle().await?;
        }
        self.catch_up().await?;
        if self.options.stay_live {
            return self.stay().await;
        }
        self.cut_over().await.map(Ended::Complete)
    }

    /// The bulk. The next page is read while one is written.
    async fn copy(&mut self, kind: Kind, after: Option<String>) -> Result<(), TransferError> {
        let total = self.source.counts().await?.total();
        let run = self.to.run;
        let mut place = Some((kind, after));
        let mut page: Option<(Kind, Page)> = None;
        while page.is_some() || place.is_some() {
            if self.watch.stop() {
                return Err(TransferError::Stopped);
            }
            let began = Instant::now();
            let (source, batch) = (self.source, self.options.batch);
            let next = place.take();
            let reading = async {
                match next {
                    Some((kind, after)) => {
                        source.page(kind, after, batch).await.map(|page| Some((kind, page)))
                    }
                    None => Ok(None),
                }
            };
            let mut written = 0;
            let read = match page.take() {
                None => reading.await?,
                Some((kind, Page { batch, next })) => {
                    written = batch.len() as u64;
                    self.to.copied += written;
                    self.to.state = match (next, kind.following()) {
                        (Some(after), _) => TargetState::Copying { kind, after: Some(after) },
                        (None, Some(kind)) => TargetState::Copying { kind, after: None },
                        (None, None) => TargetState::Following,
                    };
                    let writing = self.target.write(run, batch, self.to.clone());
                    let (written, read) = tokio::join!(writing, reading);
                    written?;
                    self.watch.progress(Progress::Copying { kind, copied: self.to.copied, total });
                    read?
                }
            };
            if let Some((kind, read)) = &read {
                place = match (&read.next, kind.following()) {
                    (Some(after), _) => Some((*kind, Some(after.clone()))),
                    (None, Some(kind)) => Some((kind, None)),
                    (None, None) => None,
                };
            }
            page = read;
            self.slow_down(began, written).await;
        }
        Ok(())
    }

    /// Waits, where a rate is set, until so many records may have been copied since then.
    async fn slow_down(&self, began: Instant, records: u64) {
        if let Some(millis) = (records * 1000).checked_div(self.options.rate) {
            tokio::time::sleep_until(began + Duration::from_millis(millis)).await;
        }
    }

    /// Takes in what was noted until little is left.
    async fn catch_up(&mut self) -> Result<(), TransferError> {
        for _ in 0..FULL_PASSES {
            if self.watch.stop() {
                return Err(TransferError::Stopped);
            }
            let began = Instant::now();
            let taken = self.pass().await?;
            let waiting = self.source.noted_count().await?;
            self.watch.progress(Progress::Following { taken: self.taken, waiting });
            if taken < self.lot() {
                return Ok(());
            }
            self.slow_down(began, taken as u64).await;
        }
        Err(TransferError::CannotCatchUp)
    }

    /// Follows until stopped.
    async fn stay(mut self) -> Result<Ended, TransferError> {
        while !self.watch.stop() {
            let taken = self.pass().await?;
            let waiting = self.source.noted_count().await?;
            self.watch.progress(Progress::Following { taken: self.taken, waiting });
            if taken < self.lot() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(Ended::Following)
    }

    /// Takes in one lot of notes; how many they were.
    async fn pass(&mut self) -> Result<usize, TransferError> {
        let noted = self.source.noted(self.lot()).await?;
        if noted.is_empty() {
            return Ok(0);
        }
        let count = noted.len();
        self.take_in(noted).await?;
        self.taken += count as u64;
        Ok(count)
    }

    /// Notes taken in at once: few of them would never catch up with a source that is busy.
    fn lot(&self) -> usize {
        self.options.batch.max(LOT)
    }

    async fn take_in(&mut self, noted: Vec<Noted>) -> Result<(), TransferError> {
        let mut seen = HashSet::with_capacity(noted.len());
        let items: Vec<Item> =
            noted.iter().map(|n| n.item.clone()).filter(|i| seen.insert(i.clone())).collect();
        // Read after the notes, so that each note is of a change that is seen.
        let batch = self.source.read(items).await?;
        self.target.write(self.to.run, batch, self.to.clone()).await?;
        self.source.forget(self.from.run, noted).await
    }

    async fn cut_over(mut self) -> Result<Report, TransferError> {
        for _ in 0..FREEZES {
            match self.try_cut_over().await {
                Err(TransferError::Thawed) => {
                    self.thaw().await?;
                    self.catch_up().await?;
                }
                // Whoever took over has the source in hand.
                Err(TransferError::Superseded) => return Err(TransferError::Superseded),
                Err(error) => {
                    if self.from.state == SourceState::Frozen {
                        // Failing that, the freeze ends by itself.
                        let _ = self.thaw().await;
                    }
                    return Err(error);
                }
                Ok(report) => return Ok(report),
            }
        }
        Err(TransferError::Thawed)
    }

    async fn try_cut_over(&mut self) -> Result<Report, TransferError> {
        let frozen_at = Instant::now();
        let mut freeze_since = frozen_at;
        self.enter(SourceState::Frozen).await?;
        self.watch.progress(Progress::Frozen);
        loop {
            if self.watch.stop() {
                return Err(TransferError::Stopped);
            }
            if self.pass().await? == 0 {
                break;
            }
            self.prolong(&mut freeze_since).await?;
        }
        self.watch.progress(Progress::Comparing);
        let counts = self.source.counts().await?;
        self.target.set_last_event(self.to.run, counts.last_event).await?;
        let copied = self.target.counts().await?;
        if let Some((what, ours, theirs)) = counts.difference(&copied) {
            return Err(TransferError::Differs(format!(
                "{ours} {what} at the source, {theirs} at the target"
            )));
        }
        let mut compared = 0;
        for kind in Kind::ALL {
            compared += self.compare(kind, counts.of(kind)).await?;
            self.prolong(&mut freeze_since).await?;
        }
        if self.watch.stop() {
            return Err(TransferError::Stopped);
        }
        self.enter(SourceState::Moved).await?;
        self.complete().await?;
        Ok(Report { counts, compared, frozen: frozen_at.elapsed(), taken: self.taken, done_before: false })
    }

    /// Compares all records of the kind, or as many as the sample is large from all over its keys.
    async fn compare(&mut self, kind: Kind, count: u64) -> Result<usize, TransferError> {
        let places = if count <= self.options.sample as u64 { 1 } else { PLACES };
        let mut compared = 0;
        let mut place = self.options.random[0];
        for _ in 0..places {
            // Weyl's sequence: evenly spread, whatever it begins with.
            place = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let (place, limit) =
                if places == 1 { (0, self.options.sample) } else { (place, self.options.sample / PLACES) };
            let items = self.source.sample(kind, place, limit.max(1)).await?;
            if items.is_empty() {
                continue;
            }
            let source: &dyn Records = self.source;
            let target: &dyn Records = self.target;
            let (ours, theirs) = tokio::try_join!(source.read(items.clone()), target.read(items))?;
            compared += check_same(ours, theirs)?;
        }
        Ok(compared)
    }

    async fn prolong(&self, since: &mut Instant) -> Result<(), TransferError> {
        if since.elapsed() > FREEZE / 6 {
            *since = Instant::now();
            self.source.put(Some(self.from.run), Some(self.from.clone())).await?;
        }
        Ok(())
    }

    async fn thaw(&mut self) -> Result<(), TransferError> {
        self.enter(SourceState::Noting).await
    }

    async fn enter(&mut self, state: SourceState) -> Result<(), TransferError> {
        let mark = SourceMark { state, ..self.from.clone() };
        self.source.put(Some(self.from.run), Some(mark.clone())).await?;
        self.from = mark;
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), TransferError> {
        self.to.state = TargetState::Complete;
        self.target.write(self.to.run, Batch::default(), self.to.clone()).await
    }
}

/// Places from which a sample is taken.
const PLACES: usize = 20;

fn check_same(mut ours: Batch, mut theirs: Batch) -> Result<usize, TransferError> {
    ours.sort();
    theirs.sort();
    if ours == theirs {
        return Ok(ours.len());
    }
    // Which one, but not what is in it.
    let (present, copied): (HashSet<_>, HashSet<_>) =
        (ours.items().into_iter().collect(), theirs.items().into_iter().collect());
    let example = match present.symmetric_difference(&copied).next() {
        Some(item) => format!("{} is in one of them only", shown(item)),
        None => format!("a record of {} sampled {}", ours.len(), ours.items().first().map_or("", kind_name)),
    };
    Err(TransferError::Differs(example))
}

fn kind_name(item: &Item) -> &'static str {
    item.kind().name()
}

fn shown(item: &Item) -> String {
    match item {
        Item::Meta(name) => format!("the value {name:?}"),
        Item::Client(id) => format!("client {id}"),
        Item::Key(_) => "a key".to_owned(),
        Item::User(id) => format!("user {id}"),
        Item::Session(id) => format!("session {id}"),
        Item::Challenge(_) => "a challenge".to_owned(),
        Item::Event(seq) => format!("event {seq}"),
    }
}
