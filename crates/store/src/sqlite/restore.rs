//! Putting a backup in the place of a database, so that at no moment anything is lost: what was there is set aside
//! whole before the backup takes its name in one step.

use super::folder::{self, Alone, Folder, FolderLock, LockError};
use super::{fail, open, quick_check_file, schema};
use crate::{OpenError, StoreError};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a backup was not put in place; the database is what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The folder is in use or of no use.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A command reads or writes it right now.
    #[error("{path}: another command is at work on this folder. Try again when it is done", path = .0.display())]
    InUse(PathBuf),
    /// There is no such backup.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is the database itself.
    #[error("{path}: this is the database of the folder, not a backup of it", path = .0.display())]
    Itself(PathBuf),
    /// It is damaged.
    #[error("{path}: the backup is damaged ({detail}). Take an earlier one", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The copy cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A backup that is being put in place. The folder is locked until this is dropped; given up, it leaves nothing
/// behind but what was set aside.
#[derive(Debug)]
pub struct Restore {
    folder: Folder,
    staging: PathBuf,
    // In this order they are dropped.
    _lock: FolderLock,
    _alone: Alone,
}

/// The folder in the data folder in which the backup is made ready.
const STAGING: &str = "restoring";
/// How the names of databases begin that were set aside; the time follows.
const ASIDE: &str = "reseal.db.before-restore-";
/// Longest wait for another process that has the database open.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes copied between two reports.
const STEP: usize = 1 << 20;

impl Restore {
    /// Locks the data folder (and makes it, if there is none), copies the backup into a data folder of its own
    /// within ([`Restore::staging`]) and checks it whole. `progress` is told how many bytes of how many are copied.
    /// Blocks.
    pub fn begin(
        data: &Path,
        backup: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, RestoreError> {
        let folder = Folder::new(data);
        // Before anything is made: a mistyped name leaves nothing behind.
        check_is_another(&folder, backup)?;
        folder.create().map_err(|e| open::io_error(data, e))?;
        let (lock, alone) = lock(&folder)?;
        let staging = data.join(STAGING);
        let restore = Self { folder, staging, _lock: lock, _alone: alone };
        restore.clear().map_err(|e| open::io_error(&restore.staging, e))?;
        restore.copy(backup, progress)?;
        restore.check(backup)?;
        Ok(restore)
    }

    /// The data folder with the copy: what must follow a restore is done in there, before [`Restore::finish`].
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Sets the database aside under a name that ends with `mark` (the time), and gives the copy its place; what was set
    /// aside, if there was anything. Blocks.
    pub fn finish(self, mark: &str) -> Result<Option<PathBuf>, RestoreError> {
        let ready = Folder::new(&self.staging);
        let failed_here = |error: rusqlite::Error| fail::store_error(&error);
        settle(&ready.database()).map_err(failed_here)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| RestoreError::File { path, error }
        };
        File::open(ready.database()).and_then(|file| file.sync_all()).map_err(failed(&ready.database()))?;
        let database = self.folder.database();
        let aside = if database.try_exists().map_err(failed(&database))? {
            // Folded into one file, it goes aside in one step. One that is damaged goes with its log.
            if is_readable(&database) {
                match settle(&database) {
                    Err(error) if is_busy(&error) => return Err(OpenError::Busy(database).into()),
                    // Damage deeper within: what it could not fold goes aside beside it.
                    Err(error) if is_damage(&error) => {}
                    settled => settled.map_err(failed_here)?,
                }
            }
            Some(self.set_aside(mark).map_err(failed(&database))?)
        } else {
            None
        };
        // The one step: before it the old database has its place, after it the new one.
        fs::rename(ready.database(), &database).map_err(failed(&database))?;
        folder::sync_folder(self.folder.path()).map_err(failed(self.folder.path()))?;
        Ok(aside)
    }

    /// Takes away what a restore that was killed left.
    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn copy(&self, backup: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), RestoreError> {
        let ready = Folder::new(&self.staging);
        ready.create().map_err(|e| open::io_error(&self.staging, e))?;
        // One that somebody copied beside a running server has a log, which belongs to it.
        let mut log = backup.file_name().unwrap_or_default().to_owned();
        log.push("-wal");
        for (from, to) in
            [(backup.to_owned(), ready.database()), (backup.with_file_name(log), ready.write_ahead_log())]
        {
            let mut source = match File::open(&from) {
                Ok(source) => source,
                Err(error) if error.kind() == io::ErrorKind::NotFound && from != backup => continue,
                Err(error) => return Err(RestoreError::File { path: from, error }),
            };
            let size =
                source.metadata().map_err(|error| RestoreError::File { path: from.clone(), error })?.len();
            let at_target = |error| RestoreError::Open(open::io_error(&to, error));
            let mut target = folder::private(OpenOptions::new().write(true).create_new(true))
                .open(&to)
                .map_err(at_target)?;
            let (mut piece, mut copied) = (vec![0; STEP], 0);
            loop {
                let read = source
                    .read(&mut piece)
                    .map_err(|error| RestoreError::File { path: from.clone(), error })?;
                if read == 0 {
                    break;
                }
                target.write_all(&piece[..read]).map_err(at_target)?;
                copied += read as u64;
                progress(copied, size);
            }
        }
        Ok(())
    }

    /// Whether the copy is whole, ours, and not of a newer version.
    fn check(&self, backup: &Path) -> Result<(), RestoreError> {
        let path = Folder::new(&self.staging).database();
        let foreign = || RestoreError::Open(OpenError::Foreign(backup.to_owned()));
        if !folder::looks_like_sqlite(&path).map_err(|e| open::io_error(&path, e))? {
            return Err(foreign());
        }
        let damaged = |detail: String| RestoreError::Damaged { path: backup.to_owned(), detail };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let looked = Connection::open_with_flags(&path, flags).and_then(|conn| {
            let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
            Ok((application, schema::version(&conn)?))
        });
        let (application, found) = match looked {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => return Err(foreign()),
            looked => looked.map_err(|error| damaged(error.to_string()))?,
        };
        if application != schema::APPLICATION_ID {
            return Err(foreign());
        }
        if found > schema::VERSION {
            let newer = OpenError::Newer { path: backup.to_owned(), found, known: schema::VERSION };
            return Err(newer.into());
        }
        match quick_check_file(&path) {
            Ok(found) => found.first().map_or(Ok(()), |first| Err(damaged(first.clone()))),
            Err(StoreError::Corrupt(detail)) => Err(damaged(detail)),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the database, with its log if it still has one, a second name; then takes the log's first name away,
    /// which must not meet another database. Its own name stays until another takes it over.
    fn set_aside(&self, mark: &str) -> io::Result<PathBuf> {
        let database = self.folder.database();
        self.forget_interrupted(&database)?;
        let mut aside = self.folder.path().join(format!("{ASIDE}{mark}"));
        for n in 2.. {
            if !aside.try_exists()? {
                break;
            }
            aside = self.folder.path().join(format!("{ASIDE}{mark}-{n}"));
        }
        second_name(&database, &aside)?;
        let log = self.folder.write_ahead_log();
        if log.try_exists()? {
            second_name(&log, &with_suffix(&aside, "-wal"))?;
        }
        folder::sync_folder(self.folder.path())?;
        for leftover in [log, with_suffix(&database, "-shm")] {
            match fs::remove_file(&leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        folder::sync_folder(self.folder.path())?;
        Ok(aside)
    }

    /// A restore that was killed after it had set the database aside left a second name of the very file that is
    /// still in its place.
    fn forget_interrupted(&self, database: &Path) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let is_aside = name.is_some_and(|name| name.starts_with(ASIDE));
            // One with a log is the only one that has it.
            if is_aside && is_same_file(&path, database) && !with_suffix(&path, "-wal").try_exists()? {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(%error, folder = %self.staging.display(), "the folder of the restore could not be removed");
        }
    }
}

fn check_is_another(folder: &Folder, backup: &Path) -> Result<(), RestoreError> {
    let file = |error| RestoreError::File { path: backup.to_owned(), error };
    let meta = fs::metadata(backup).map_err(file)?;
    if !meta.is_file() {
        return Err(file(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file")));
    }
    let same = fs::canonicalize(folder.database()).is_ok_and(|database| {
        fs::canonicalize(backup).is_ok_and(|backup| backup == database || is_same_file(&backup, &database))
    });
    if same { Err(RestoreError::Itself(backup.to_owned())) } else { Ok(()) }
}

/// Nobody else may serve the folder or work on it.
fn lock(folder: &Folder) -> Result<(FolderLock, Alone), RestoreError> {
    let path = || folder.path().to_owned();
    // The server's lock first: it knows whose it is.
    let lock = match folder.lock() {
        Ok(lock) => lock,
        Err(LockError::Held(pid)) => return Err(OpenError::Locked { folder: path(), pid }.into()),
        Err(LockError::Io(error)) => return Err(open::io_error(folder.path(), error).into()),
    };
    match folder.alone() {
        Ok(alone) => Ok((lock, alone)),
        Err(LockError::Held(_)) => Err(RestoreError::InUse(path())),
        Err(LockError::Io(error)) => Err(open::io_error(folder.path(), error).into()),
    }
}

/// Folds the log into the file, and leaves no other file beside it. Nobody else may have it open.
fn settle(database: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database, flags)?;
    conn.busy_timeout(PATIENCE)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("delete") {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ));
    }
    conn.close().map_err(|(_, error)| error)
}

/// Whether SQLite can make sense of it. It may throw away the log of a database of which it cannot, so it is not
/// asked to write.
fn is_readable(database: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    folder::looks_like_sqlite(database).unwrap_or(false)
        && Connection::open_with_flags(database, flags)
            .and_then(|conn| conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .is_ok()
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Another name for the file, or where the file system has no links, a copy of it.
fn second_name(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let part = with_suffix(name, ".part");
            let mut copy =
                folder::private(OpenOptions::new().write(true).create(true).truncate(true)).open(&part)?;
            io::copy(&mut File::open(file)?, &mut copy)?;
            copy.sync_all()?;
            fs::rename(part, name)
        }
        linked => linked,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let of = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        matches!((of(a), of(b)), (Ok(a), Ok(b)) if a == b)
    }
    #[cfg(not(unix))]
    {
        a == b
    }
}
