//! The import itself: lines become users, users are committed in batches, and each batch says in the same
//! transaction how far it got.

use super::Format;
use super::lines::Line;
use super::record::{Columns, Record};
use super::source::{FileFacts, Source};
use crate::folder::Folder;
use crate::output::{Out, Progress, note, shown};
use crate::words;
use anyhow::{Context as _, bail};
use reseal_core::user::{UserSecrets, username_key};
use reseal_core::{Timestamp, User, UserId};
use reseal_server::clock::Clock;
use reseal_server::manage::ManageError;
use reseal_server::manage::users::NewUser;
use reseal_server::random::Random;
use reseal_server::sms::phone;
use reseal_store::{Commit, CommitError, Conflict, Store as _, StoreError, Write};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Users in one transaction.
const BATCH: usize = 500;
/// Lines that are read ahead.
const READ_AHEAD: usize = 1000;
/// How often a batch is tried while the store has too much to do.
const ATTEMPTS: usize = 20;

/// What has been done so far; kept in the store while a file is imported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Lines dealt with.
    pub(super) lines: u64,
    /// Users imported.
    pub(super) imported: u64,
    /// Users who were there with the same record.
    pub(super) already_there: u64,
    /// Lines that could not be imported.
    pub(super) bad: u64,
}

/// An import under way.
pub(super) struct Import<'a> {
    /// `None`: a dry run before there is a data folder.
    folder: Option<&'a Folder>,
    format: Format,
    json: bool,
    counts: Counts,
    columns: Option<Columns>,
    batch: Vec<NewRecord>,
    usernames: HashSet<String>,
    /// Usernames seen, in a dry run, which leaves none in the store to be found.
    seen: Option<HashSet<String>>,
    /// Where the store keeps how far this file got.
    meta: Option<String>,
    pace: Pace,
    random: Random,
}

/// A user to be committed, and the line it came from.
struct NewRecord {
    line: u64,
    /// Whether the line names the id; else it is made anew and says nothing.
    has_id: bool,
    user: User,
    secrets: UserSecrets,
}

impl<'a> Import<'a> {
    /// An import into the folder.
    pub(super) fn new(folder: Option<&'a Folder>, format: Format, (dry_run, json): (bool, bool)) -> Self {
        Self {
            folder,
            format,
            json,
            counts: Counts::default(),
            columns: None,
            batch: Vec::with_capacity(BATCH),
            usernames: HashSet::with_capacity(BATCH),
            seen: dry_run.then(HashSet::new),
            meta: None,
            pace: Pace::new(),
            random: Random::new(),
        }
    }

    /// What has been done.
    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Imports all lines; `true`: it was interrupted, and what was done is committed.
    pub(super) async fn run(&mut self, source: Source) -> anyhow::Result<bool> {
        let interrupted = self.all(source).await;
        self.pace.line.clear();
        interrupted
    }

    async fn all(&mut self, source: Source) -> anyhow::Result<bool> {
        if let Some(file) = &source.file {
            self.pace.total = Some(file.lines);
            self.resume(file).await?;
        }
        let mut stop = Stop::new()?;
        let mut lines = read_ahead(source);
        loop {
            let line = tokio::select! {
                () = stop.wanted() => None,
                line = lines.recv() => Some(line),
            };
            let Some(line) = line else {
                self.flush().await?;
                return Ok(true);
            };
            let Some(line) = line else { break };
            self.take(line.context("the input cannot be read")?).await?;
            if self.batch.len() >= BATCH {
                self.flush().await?;
            }
            self.pace.show(&self.counts);
        }
        self.flush().await?;
        self.finish().await?;
        Ok(false)
    }

    /// Goes on where an earlier run of the same file was interrupted.
    async fn resume(&mut self, file: &FileFacts) -> anyhow::Result<()> {
        let (Some(folder), None) = (self.folder, &self.seen) else { return Ok(()) };
        let hex: String = file.digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let name = format!("import:{hex}");
        let kept = folder.store.meta(&name).await?;
        if let Some(counts) = kept.and_then(|v| serde_json::from_slice::<Counts>(&v).ok()) {
            note(format_args!(
                "going on after line {} of {}, where an earlier run was interrupted",
                words::grouped(counts.lines),
                words::grouped(file.lines)
            ));
            self.pace.start = counts.lines;
            self.counts = counts;
        }
        self.meta = Some(name);
        Ok(())
    }

    /// Forgets how far the file got: another run begins at its start and finds everybody there.
    async fn finish(&mut self) -> anyhow::Result<()> {
        let (Some(folder), Some(name)) = (self.folder, self.meta.take()) else { return Ok(()) };
        folder.store.commit(Commit::of([Write::PutMeta(name, Vec::new())])).await?;
        Ok(())
    }

    async fn take(&mut self, line: Line) -> anyhow::Result<()> {
        let is_header = self.format == Format::Csv && self.columns.is_none();
        if !is_header && line.number <= self.counts.lines {
            return Ok(());
        }
        let text = match line.text {
            Ok(text) if is_header => {
                self.columns = Some(Columns::parse(&text).map_err(|e| anyhow::anyhow!("line 1: {e}"))?);
                self.counts.lines = self.counts.lines.max(line.number);
                return Ok(());
            }
            Err(reason) if is_header => bail!("line 1: {reason}"),
            Ok(text) => text,
            Err(reason) => {
                self.counts.lines = line.number;
                return self.bad(line.number, reason);
            }
        };
        self.counts.lines = line.number;
        if text.trim().is_empty() {
            return Ok(());
        }
        match self.record(&text) {
            Ok(new) => self.add(NewRecord { line: line.number, ..new }).await,
            Err(reason) => self.bad(line.number, &reason),
        }
    }

    fn record(&self, text: &str) -> Result<NewRecord, String> {
        let record = match &self.columns {
            Some(columns) => columns.record(text)?,
            None => Record::from_json(text)?,
        };
        let now = self.now();
        let id = match &record.sub {
            Some(id) => id.to_lowercase().parse().map_err(|_| "sub: not a UUID".to_owned())?,
            None => UserId::new(now, self.random.bytes()),
        };
        let phone_number = match &record.phone_number {
            Some(number) => {
                Some(phone::parse(number).map_err(|e| format!("phone_number: {e}"))?.into_string())
            }
            None => None,
        };
        let new = NewUser {
            username: record.username,
            name: record.name,
            email: record.email,
            phone_number,
            phone_number_verified: record.phone_number_verified,
            roles: record.roles,
            attributes: record.attributes,
            disabled: record.disabled,
            password_hash: record.password_hash.map(|hash| hash.to_string()),
        };
        let (user, secrets) = new.into_record(id, now).map_err(|e: ManageError| e.to_string())?;
        Ok(NewRecord { line: 0, has_id: record.sub.is_some(), user, secrets })
    }

    /// Puts the user into the batch, unless it is there already.
    async fn add(&mut self, new: NewRecord) -> anyhow::Result<()> {
        let key = username_key(&new.user.username);
        if self.usernames.contains(&key) {
            // The same name twice in one batch: commit the first, so that the store tells.
            self.flush().await?;
        }
        if let Some(seen) = &mut self.seen
            && !seen.insert(key.clone())
        {
            return self.bad(new.line, "the username is there twice");
        }
        if let Some(folder) = self.folder {
            if let Some((found, _)) = folder.store.user_by_username(&new.user.username).await? {
                return self.found(&new, &found);
            }
            if folder.store.user(new.user.id).await?.is_some() {
                return self.bad(new.line, "sub: another user has it");
            }
        }
        self.usernames.insert(key);
        self.batch.push(new);
        Ok(())
    }

    fn found(&mut self, new: &NewRecord, found: &User) -> anyhow::Result<()> {
        if new.has_id && new.user.id != found.id {
            let reason = format!("sub: {} is there with another one, which stays", shown(&found.username));
            return self.bad(new.line, &reason);
        }
        if is_same(&new.user, found) {
            self.counts.already_there += 1;
            return Ok(());
        }
        let reason =
            format!("username: {} is there with another record, which stays", shown(&found.username));
        self.bad(new.line, &reason)
    }

    /// Commits the batch together with how far it got.
    async fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.usernames.clear();
        let size = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if self.seen.is_some() {
            self.counts.imported += size;
            return Ok(());
        }
        self.counts.imported += size;
        match self.commit(&batch, true).await {
            Ok(()) => Ok(()),
            Err(CommitError::Conflict(Conflict::UserExists)) => {
                // Somebody else added one of them meanwhile: find out which, one by one.
                self.counts.imported -= size;
                self.one_by_one(batch).await
            }
            Err(error) => {
                self.counts.imported -= size;
                Err(self.interrupted(error))
            }
        }
    }

    /// Says how far it got only at the end: an import that stops in between must find the rest again, and
    /// those who are there already do no harm.
    async fn one_by_one(&mut self, batch: Vec<NewRecord>) -> anyhow::Result<()> {
        for new in batch {
            self.counts.imported += 1;
            match self.commit(std::slice::from_ref(&new), false).await {
                Ok(()) => {}
                Err(CommitError::Conflict(Conflict::UserExists)) => {
                    self.counts.imported -= 1;
                    self.bad(new.line, "username: another user got it meanwhile")?;
                }
                Err(error) => return Err(self.interrupted(error)),
            }
        }
        self.commit(&[], true).await.map_err(|error| self.interrupted(error))
    }

    async fn commit(&self, batch: &[NewRecord], is_whole: bool) -> Result<(), CommitError> {
        let Some(folder) = self.folder else { return Ok(()) };
        let users = batch.iter().map(|n| Write::CreateUser(Box::new(n.user.clone()), n.secrets.clone()));
        let mut commit = Commit::of(users);
        if let (true, Some(name), Ok(counts)) = (is_whole, &self.meta, serde_json::to_vec(&self.counts)) {
            commit.push(Write::PutMeta(name.clone(), counts));
        }
        for _ in 1..ATTEMPTS {
            match folder.store.commit(commit.clone()).await {
                Err(CommitError::Store(StoreError::Busy { retry_after })) => {
                    tokio::time::sleep(retry_after).await;
                }
                done => return done,
            }
        }
        folder.store.commit(commit).await
    }

    fn interrupted(&self, error: CommitError) -> anyhow::Error {
        anyhow::Error::new(error).context(format!(
            "the import stopped before line {}; what was committed stays. Mend the cause and give the same \
             command again to go on",
            words::grouped(self.counts.lines)
        ))
    }

    fn bad(&mut self, line: u64, reason: &str) -> anyhow::Result<()> {
        self.counts.bad += 1;
        self.pace.line.clear();
        if !self.json {
            note(format_args!("line {line}: {reason}"));
            return Ok(());
        }
        let mut out = Out::new();
        let told =
            out.json(&serde_json::json!({ "line": line, "error": reason })).and_then(|()| out.finish());
        // Nobody reads what goes wrong: then it is no time to go on quietly.
        told.map_err(|e| anyhow::anyhow!("bad lines cannot be reported: {e}"))
    }

    fn now(&self) -> Timestamp {
        self.folder.map_or_else(|| Clock::system().now(), Folder::now)
    }
}

/// Whether both records say the same. The password does not count: it may have been hashed anew at a
/// login since.
fn is_same(a: &User, b: &User) -> bool {
    let facts = |u: &User| {
        let contact = (u.name.clone(), u.email.clone(), u.phone_number.clone(), u.phone_number_verified);
        (username_key(&u.username), contact, u.roles.clone(), u.attributes.clone(), u.disabled)
    };
    facts(a) == facts(b)
}

/// Reads lines on a thread of their own, so that a slow pipe does not keep an interruption waiting.
fn read_ahead(mut source: Source) -> mpsc::Receiver<std::io::Result<Line>> {
    let (lines, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        while let Some(line) = source.lines.next().transpose() {
            let failed = line.is_err();
            if lines.blocking_send(line).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How fast it goes.
struct Pace {
    line: Progress,
    began: Instant,
    shown: Option<Instant>,
    /// Lines that were done before this run.
    start: u64,
    total: Option<u64>,
}

impl Pace {
    fn new() -> Self {
        Self { line: Progress::new(), began: Instant::now(), shown: None, start: 0, total: None }
    }

    fn show(&mut self, counts: &Counts) {
        let now = Instant::now();
        if self.shown.is_some_and(|at| now.duration_since(at).as_millis() < 200) {
            return;
        }
        self.shown = Some(now);
        let millis = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = counts.lines.saturating_sub(self.start).saturating_mul(1000) / millis;
        let done = words::grouped(counts.lines);
        let bad =
            if counts.bad > 0 { format!(" · {} bad", words::grouped(counts.bad)) } else { String::new() };
        let speed = words::grouped(rate);
        match self.total {
            Some(total) => {
                let left = std::time::Duration::from_secs(total.saturating_sub(counts.lines) / rate.max(1));
                let (total, left) = (words::grouped(total), words::duration(left));
                self.line.show(format_args!("{done} of {total} lines · {speed}/s · {left} left{bad}"));
            }
            None => self.line.show(format_args!("{done} lines · {speed}/s{bad}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(change: impl FnOnce(&mut NewUser)) -> User {
        let mut new = NewUser { username: "Ada".into(), roles: vec!["a".into()], ..NewUser::default() };
        change(&mut new);
        new.into_record(UserId::from_bytes([1; 16]), Timestamp::from_secs(1)).unwrap().0
    }

    #[test]
    fn records_are_the_same_by_what_they_say() {
        assert!(is_same(&user(|_| {}), &user(|u| u.username = "ada".into())));
        assert!(is_same(&user(|_| {}), &User { version: 7, revision: 3, ..user(|_| {}) }));
        assert!(!is_same(&user(|_| {}), &user(|u| u.roles.clear())));
        assert!(!is_same(&user(|_| {}), &user(|u| u.disabled = true)));
    }
}
