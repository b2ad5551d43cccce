//! Opening a data folder: everything that may be wrong with it has its own error and damages nothing.

use super::SqliteOptions;
use super::folder::{self, Alone, Folder, FolderLock, LockError};
use super::schema;
use crate::{Access, OpenError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use std::io;
use std::path::Path;
use std::time::Duration;

/// An open data folder.
pub(super) struct Opened {
    /// Kept as long as the store.
    pub(super) share: Option<Alone>,
    /// Kept as long as the store.
    pub(super) lock: Option<FolderLock>,
    /// The connection that writes, unless all may only read.
    pub(super) writer: Option<Connection>,
    /// Connections that read.
    pub(super) readers: Vec<Connection>,
}

/// Connections for reading. The threads that serve requests are about as many as there are processors,
/// and lists get half of the connections.
const READERS: usize = 8;
/// KiB of pages that the writer keeps.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
/// KiB of pages that a reader keeps. Little: any commit of another connection makes it forget them all.
const READER_CACHE_KIB: i64 = 2048;
/// What is left of a write-ahead log that grew beyond it (while a backup was read, say).
const LOG_KEPT_BYTES: i64 = 64 << 20;

pub(super) fn open(folder: &Folder, options: &SqliteOptions) -> Result<Opened, OpenError> {
    if options.access == Access::ReadOnly {
        return open_read_only(folder, options);
    }
    folder.create().map_err(|e| io_error(folder.path(), e))?;
    let share = share(folder)?;
    let lock = match options.access {
        Access::Serve => Some(lock(folder)?),
        _ => None,
    };
    let path = folder.database();
    folder.create_database().map_err(|e| io_error(folder.path(), e))?;
    check_magic(&path)?;
    let mut writer = open_writer(&path, options.timeout).map_err(|e| e.at(&path))?;
    let found = check_ours(&writer).map_err(|e| e.at(&path))?;
    configure_writer(&writer).map_err(|e| e.at(&path))?;
    if found < schema::VERSION {
        // A tool must not change the tables under a server that is at work on them.
        let _lock = match &lock {
            Some(_) => None,
            None => Some(self::lock(folder)?),
        };
        bring_up_to_date(&mut writer).map_err(|e| e.at(&path))?;
    }
    offer_epoch(&writer, &options.epoch).map_err(|e| Trouble::from(e).at(&path))?;
    let readers = open_readers(folder, options.timeout).map_err(|e| e.at(&path))?;
    Ok(Opened { share, lock, writer: Some(writer), readers })
}

fn lock(folder: &Folder) -> Result<FolderLock, OpenError> {
    folder.lock().map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { folder: folder.path().to_owned(), pid },
        LockError::Io(error) => io_error(folder.path(), error),
    })
}

fn share(folder: &Folder) -> Result<Option<Alone>, OpenError> {
    folder.share().map_err(|_| OpenError::Restoring(folder.path().to_owned()))
}

/// A connection of its own for a long read, beside the pool.
pub(super) fn reader(folder: &Folder, timeout: Duration) -> rusqlite::Result<Connection> {
    let path = folder.database();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags)?;
    configure_reader(&conn, timeout)?;
    match conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Ok(()) => Ok(conn),
        // On a read-only file system there is no place for the log's index. A database that was closed
        // in order needs none.
        Err(error) if cannot_write(&error) && folder::size(&folder.write_ahead_log()) == 0 => {
            let uri = format!("file:{}?immutable=1", percent_encoded(&path));
            let conn = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
            configure_reader(&conn, timeout)?;
            Ok(conn)
        }
        Err(error) => Err(error),
    }
}

/// A connection of its own for writing beside the server, as durable as the store's.
pub(super) fn writer(folder: &Folder, timeout: Duration) -> Result<Connection, OpenError> {
    let path = folder.database();
    let opened = open_writer(&path, timeout).and_then(|conn| configure_writer(&conn).map(|()| conn));
    opened.map_err(|e| e.at(&path))
}

fn open_read_only(folder: &Folder, options: &SqliteOptions) -> Result<Opened, OpenError> {
    let path = folder.database();
    // Without the right to look into the folder nobody knows what is missing.
    if let Err(error) = path.try_exists() {
        return Err(OpenError::Io { path, error });
    }
    if !path.is_file() {
        return Err(OpenError::Missing(path));
    }
    let share = share(folder)?;
    check_magic(&path)?;
    let readers = open_readers(folder, options.timeout).map_err(|e| e.at(&path))?;
    if let Some(conn) = readers.first() {
        let found = check_ours(conn).map_err(|e| e.at(&path))?;
        if found == 0 {
            return Err(OpenError::Missing(path));
        }
        if found < schema::VERSION {
            return Err(OpenError::Older { path, found, known: schema::VERSION });
        }
    }
    Ok(Opened { share, lock: None, writer: None, readers })
}

fn open_readers(folder: &Folder, timeout: Duration) -> Result<Vec<Connection>, Trouble> {
    (0..READERS).map(|_| reader(folder, timeout).map_err(Trouble::from)).collect()
}

fn open_writer(path: &Path, timeout: Duration) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(timeout)?;
    // SQLite would open what it cannot write all the same, and fail at the first write.
    if conn.is_readonly("main")? {
        return Err(Trouble::ReadOnly);
    }
    Ok(conn)
}

fn bring_up_to_date(conn: &mut Connection) -> Result<(), Trouble> {
    schema::migrate(conn)?;
    // The file itself then says whose it is, should somebody take it without its log.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// The schema's version; 0 for an empty file.
fn check_ours(conn: &Connection) -> Result<u32, Trouble> {
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found = schema::version(conn)?;
    if application == schema::APPLICATION_ID {
        return if found > schema::VERSION { Err(Trouble::Newer(found)) } else { Ok(found) };
    }
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && found == 0 && tables == 0 { Ok(0) } else { Err(Trouble::Foreign) }
}

fn configure_writer(conn: &Connection) -> Result<(), Trouble> {
    conn.pragma_update(None, "page_size", 4096)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Trouble::Unsuitable);
    }
    // FULL: the log is synced at every commit, so what was answered survives a power failure.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    keep_plans(conn)?;
    // The writer does it between batches, so that no answer waits for it.
    let _: i64 = conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |row| row.get(0))?;
    let _: i64 =
        conn.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT_BYTES, |row| row.get(0))?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn configure_reader(conn: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    conn.busy_timeout(timeout)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    keep_plans(conn)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Lets no bound value change a plan. Else SQLite prepares statements anew whenever one is bound, which
/// costs several times what running them does.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// A new database gets the epoch of its feed; an old one keeps its own.
fn offer_epoch(conn: &Connection, epoch: &[u8; 16]) -> rusqlite::Result<()> {
    let has: Option<i64> = conn
        .query_row("SELECT 1 FROM meta WHERE name = ?1", [crate::FEED_EPOCH], |row| row.get(0))
        .optional()?;
    if has.is_none() && *epoch != [0; 16] {
        let sql = "INSERT OR IGNORE INTO meta (name, value) VALUES (?1, ?2)";
        conn.execute(sql, rusqlite::params![crate::FEED_EPOCH, epoch])?;
    }
    Ok(())
}

fn check_magic(path: &Path) -> Result<(), OpenError> {
    match folder::looks_like_sqlite(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenError::Foreign(path.to_owned())),
        Err(error) => Err(io_error(path, error)),
    }
}

/// Why a connection is of no use; [`Trouble::at`] adds the path.
enum Trouble {
    Newer(u32),
    Foreign,
    ReadOnly,
    Unsuitable,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    fn at(self, path: &Path) -> OpenError {
        let (path, known) = (path.to_owned(), schema::VERSION);
        match self {
            Self::Newer(found) => OpenError::Newer { path, found, known },
            Self::Foreign => OpenError::Foreign(path),
            Self::ReadOnly => OpenError::ReadOnly(path),
            Self::Unsuitable => OpenError::Unsuitable(path),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => OpenError::Full(path),
                Some(ErrorCode::ReadOnly) => OpenError::ReadOnly(path),
                Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
                Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { path, detail: error.to_string() },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy(path),
                Some(ErrorCode::SystemIoFailure)
                    if extended(&error) == rusqlite::ffi::SQLITE_IOERR_SHMSIZE =>
                {
                    OpenError::Full(path)
                }
                _ => OpenError::Sqlite { path, error },
            },
        }
    }
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |e| e.extended_code)
}

fn cannot_write(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

pub(super) fn io_error(path: &Path, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full(path),
        _ => OpenError::Io { path, error },
    }
}

/// A path as a URI takes it.
fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
