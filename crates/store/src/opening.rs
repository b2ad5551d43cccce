//! What a process means to do with a store, and why a store does not open.

use std::io;
use std::path::PathBuf;

/// What a process means to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Serve it. A data folder then belongs to this process alone, under the folder's lock; a database server
    /// is shared by as many as there are nodes.
    #[default]
    Serve,
    /// Write to it beside a server that may be running (the command line).
    Tool,
    /// Only read.
    ReadOnly,
}

/// Why a store does not open. Each message says what to do; none shows a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another server has it.
    #[error("{folder}: {owner} is serving this folder already. Stop it first, or use another folder",
        folder = folder.display(), owner = owner(*pid))]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Its process id, where known.
        pid: Option<u32>,
    },
    /// A backup is being put in its place.
    #[error("{path}: a backup is being restored here. Try again when that is done", path = .0.display())]
    Restoring(PathBuf),
    /// The folder or the file system cannot be written.
    #[error("{path}: cannot be written. Give this user the right to write there, or mount it writable", path = .0.display())]
    ReadOnly(PathBuf),
    /// No room.
    #[error("{path}: the disk is full. Free some space and start again; nothing is lost", path = .0.display())]
    Full(PathBuf),
    /// There is no database where one must be.
    #[error("{path}: there is no database. Start `reseal serve` on this folder once, or check the path", path = .0.display())]
    Missing(PathBuf),
    /// A newer version wrote it.
    #[error("{path}: written by a newer version (schema {found}, this one knows {known}). Use that version, or restore a backup of this one; it was not touched", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest this version knows.
        known: u32,
    },
    /// An older version wrote it, and it may only be read.
    #[error("{path}: written by an older version (schema {found}, this one needs {known}). Start `reseal serve` of this version on it once, which brings it up to date", path = path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// What this version needs.
        known: u32,
    },
    /// Something else lies in its place.
    #[error("{path}: this is not a database of Reseal. Move it away or use another folder; it was not touched", path = .0.display())]
    Foreign(PathBuf),
    /// The file is damaged.
    #[error("{path}: the database is damaged ({detail}). Keep a copy of the folder, then restore the last backup", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// Another process holds it for too long.
    #[error("{path}: another process has been writing to it for too long. Try again when it is done", path = .0.display())]
    Busy(PathBuf),
    /// The file system cannot do what a database needs.
    #[error("{path}: this file system cannot keep a write-ahead log (a network mount?). Use a local disk", path = .0.display())]
    Unsuitable(PathBuf),
    /// Anything else.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {error}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
    /// It is one end of a move to another store.
    #[error(transparent)]
    NotServed(#[from] crate::transfer::NotServed),
    /// The options cannot be used as they are.
    #[error("{0}")]
    Options(String),
    /// Nobody answers there, or it is starting or stopping: the one cause that may go away by itself.
    #[error("{server} cannot be reached: {detail}. Check that it runs, the address, and what lies between")]
    Away {
        /// The server, as it may be shown.
        server: String,
        /// Why.
        detail: String,
    },
    /// It answers, and lets this user not in.
    #[error(
        "{server} refuses the login: {detail}. Check the user, the password (`store.password_file`) and the server's own rules (pg_hba.conf, ACL)"
    )]
    Login {
        /// The server, as it may be shown.
        server: String,
        /// What it says.
        detail: String,
    },
    /// The encrypted connection cannot be had.
    #[error(
        "{server}: no encrypted connection: {detail}. Check `sslmode`, `sslrootcert` and the server's certificate"
    )]
    Tls {
        /// The server, as it may be shown.
        server: String,
        /// Why.
        detail: String,
    },
    /// There is no such database on the server.
    #[error("{server} has no database {database:?}. Make it: `createdb --owner USER {database}`")]
    NoDatabase {
        /// The server, as it may be shown.
        server: String,
        /// Its name.
        database: String,
    },
    /// There is a database, and nothing of ours in it.
    #[error(
        "{0}: nothing of Reseal is in this database yet. Start `reseal serve` on it once, or check the address"
    )]
    Empty(String),
    /// The user may not do what is needed.
    #[error(
        "{server}: the user lacks a right: {detail}. Let it own the database, or grant it CREATE on the schema"
    )]
    Rights {
        /// The server, as it may be shown.
        server: String,
        /// What it says.
        detail: String,
    },
    /// The server's version is too old.
    #[error("{server} is version {found}; {needed} or newer is needed")]
    OldServer {
        /// The server, as it may be shown.
        server: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// A newer version of Reseal made the tables.
    #[error(
        "{server}: written by a newer version (schema {found}, this one knows {known}). Use that version; nothing was touched"
    )]
    NewerSchema {
        /// The server, as it may be shown.
        server: String,
        /// Its schema.
        found: u32,
        /// The newest this version knows.
        known: u32,
    },
    /// An older version of Reseal made the tables, and they may only be read.
    #[error(
        "{server}: written by an older version (schema {found}, this one needs {known}). Start `reseal serve` of this version on it once, which brings it up to date"
    )]
    OlderSchema {
        /// The server, as it may be shown.
        server: String,
        /// Its schema.
        found: u32,
        /// What this version needs.
        known: u32,
    },
    /// Tables of something else are in its place.
    #[error(
        "{0}: tables that are not Reseal's are in this schema. Use another database or schema; nothing was touched"
    )]
    ForeignTables(String),
    /// Anything else that a database server says.
    #[error("{server}: {detail}")]
    Server {
        /// The server, as it may be shown.
        server: String,
        /// What it says.
        detail: String,
    },
}

impl OpenError {
    /// Whether it may open later without anybody doing anything here: whoever starts may wait for it.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
}
