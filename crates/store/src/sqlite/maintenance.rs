//! What an operator asks for: checks, figures, backups. All of it blocks, beside a running server, on a
//! connection of its own.

use super::{SqliteStore, fail, folder, open};
use crate::StoreError;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Figures of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The schema's version.
    pub schema: u32,
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of its write-ahead log.
    pub log_bytes: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages in use or free.
    pub pages: u64,
    /// Pages free for use.
    pub free_pages: u64,
    /// Sessions, ended ones included.
    pub sessions: u64,
    /// Sessions that have not ended; they may have run out.
    pub open_sessions: u64,
    /// Lines of all timelines.
    pub timeline_lines: u64,
    /// Users.
    pub users: u64,
    /// Clients.
    pub clients: u64,
    /// Challenges.
    pub challenges: u64,
    /// Keys.
    pub keys: u64,
    /// Events in the log.
    pub events: u64,
    /// The number of the newest event ever logged.
    pub last_event: u64,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// Pages copied.
    pub copied: u64,
    /// Pages in all.
    pub pages: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Nothing is overwritten.
    #[error("{path}: exists already. Name a file that does not", path = .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database cannot be read or its copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// [`SqliteStore::quick_check`] for a file that nobody uses, such as a backup.
pub fn quick_check_file(path: &Path) -> Result<Vec<String>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags);
    conn.and_then(|conn| quick_check(&conn)).map_err(|e| fail::store_error(&e))
}

fn quick_check(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare("PRAGMA quick_check(20)")?;
    let lines = statement.query_map([], |row| row.get(0))?;
    let mut found = lines.collect::<rusqlite::Result<Vec<String>>>()?;
    found.retain(|line| line != "ok");
    Ok(found)
}

/// Pages copied between two reports.
const STEP: i32 = 1024;

impl SqliteStore {
    /// Looks for damage (`PRAGMA quick_check`): what was found, nothing when all is well. Reads the whole
    /// file.
    pub fn quick_check(&self) -> Result<Vec<String>, StoreError> {
        self.own_reader().and_then(|conn| quick_check(&conn)).map_err(|e| fail::store_error(&e))
    }

    /// Counts everything; reads whole indexes.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.read_stats().map_err(|e| fail::store_error(&e))
    }

    fn read_stats(&self) -> rusqlite::Result<Stats> {
        let conn = self.own_reader()?;
        // One transaction, so that the figures belong together.
        let tx = conn.unchecked_transaction()?;
        let one = |sql: &str| tx.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
        Ok(Stats {
            schema: super::schema::version(&tx)?,
            database_bytes: folder::size(&self.folder.database()),
            log_bytes: folder::size(&self.folder.write_ahead_log()),
            page_size: one("PRAGMA page_size")?,
            pages: one("PRAGMA page_count")?,
            free_pages: one("PRAGMA freelist_count")?,
            sessions: one("SELECT count(*) FROM sessions")?,
            open_sessions: one("SELECT count(*) FROM sessions WHERE ended = 0")?,
            timeline_lines: one("SELECT count(*) FROM timeline")?,
            users: one("SELECT count(*) FROM users WHERE version IS NOT NULL")?,
            clients: one("SELECT count(*) FROM clients")?,
            challenges: one("SELECT count(*) FROM challenges")?,
            keys: one("SELECT count(*) FROM keys")?,
            events: one("SELECT count(*) FROM events")?,
            last_event: one("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)")?,
        })
    }

    /// Copies the database as it is at the start of the call, while it is in use, into a new file for its
    /// owner only. The file has its name only once it is complete and on disk.
    pub fn backup(&self, to: &Path, progress: &mut dyn FnMut(BackupProgress)) -> Result<(), BackupError> {
        let file_error = |error| BackupError::File { path: to.to_owned(), error };
        if to.try_exists().map_err(file_error)? {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let mut name =
            to.file_name().ok_or_else(|| file_error(io::ErrorKind::InvalidFilename.into()))?.to_owned();
        // Of this process alone: two backups to one file must not write into each other.
        name.push(format!(".{}.part", std::process::id()));
        let part = to.with_file_name(name);
        folder::private(OpenOptions::new().write(true).create(true).truncate(true))
            .open(&part)
            .map_err(file_error)?;
        let done = self.copy(&part, progress).map_err(|e| fail::store_error(&e));
        if let Err(error) = done {
            let _ = fs::remove_file(&part);
            return Err(error.into());
        }
        // Unlike `rename`, a link never replaces what somebody made there meanwhile.
        let named = fs::hard_link(&part, to).and_then(|()| fs::remove_file(&part));
        match named {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&part);
                return Err(BackupError::Exists(to.to_owned()));
            }
            // Not every file system has links.
            Err(_) => fs::rename(&part, to).map_err(file_error)?,
        }
        let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder::sync_folder(folder).map_err(file_error)
    }

    fn copy(&self, part: &Path, progress: &mut dyn FnMut(BackupProgress)) -> rusqlite::Result<()> {
        let from = self.own_reader()?;
        // An open read transaction holds one snapshot; without it every commit would start the copy anew.
        let tx = from.unchecked_transaction()?;
        tx.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut copy = Connection::open_with_flags(part, flags)?;
        {
            let backup = Backup::new(&tx, &mut copy)?;
            loop {
                let step = backup.step(STEP)?;
                let at = backup.progress();
                let pages = u64::try_from(at.pagecount).unwrap_or(0);
                let left = u64::try_from(at.remaining).unwrap_or(0);
                progress(BackupProgress { copied: pages.saturating_sub(left), pages });
                match step {
                    StepResult::Done => break,
                    StepResult::More => {}
                    // Nobody else uses either file.
                    _ => {
                        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                        return Err(rusqlite::Error::SqliteFailure(busy, None));
                    }
                }
            }
        }
        // Its log goes on without what comes after this moment: readers must not take it for ours.
        copy.execute("DELETE FROM meta WHERE name = ?1", [crate::FEED_EPOCH])?;
        // One file, without a log beside it.
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        copy.close().map_err(|(_, error)| error)
    }

    fn own_reader(&self) -> rusqlite::Result<Connection> {
        open::reader(&self.folder, self.timeout)
    }
}
