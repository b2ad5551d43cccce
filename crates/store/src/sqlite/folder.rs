//! The data folder: its files, their modes, and the lock that keeps two servers apart.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The database's name in the folder.
const DATABASE: &str = "reseal.db";
/// The lock's name in the folder. It holds the process id of its owner, for the error message.
const LOCK: &str = "lock";

/// A data folder. Files in it that are not ours are left alone.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// The right to serve a folder, until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Not by closing: a child process that is just being started has the file open for a moment longer,
        // and with it the lock. If this fails, closing does it.
        let _ = self.file.unlock();
    }
}

/// A share in the right to use a folder's database, or all of it, until it is dropped. On the folder itself, so that
/// whoever only reads leaves nothing behind.
#[derive(Debug)]
pub(super) struct Alone {
    folder: File,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.folder.unlock();
    }
}

/// Why a folder is not ours to serve.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process serves it: the one of this id, where known.
    Held(Option<u32>),
    /// The lock file cannot be used.
    Io(io::Error),
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) fn write_ahead_log(&self) -> PathBuf {
        self.path.join(format!("{DATABASE}-wal"))
    }

    /// Makes the folder if it is missing, for its owner only.
    pub(super) fn create(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        if self.path.exists() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "this is a file, not a folder"));
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)
    }

    /// Makes the database file if it is missing, for its owner only, and its entry durable. SQLite gives
    /// the files it adds the same mode.
    pub(super) fn create_database(&self) -> io::Result<()> {
        match private(OpenOptions::new().write(true).create_new(true)).open(self.database()) {
            Ok(file) => {
                file.sync_all()?;
                sync_folder(&self.path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// For whoever uses the database: while one does, no other database takes its place. `None` where folders
    /// cannot be locked.
    pub(super) fn share(&self) -> Result<Option<Alone>, LockError> {
        let Ok(folder) = File::open(&self.path) else { return Ok(None) };
        match folder.try_lock_shared() {
            Ok(()) => Ok(Some(Alone { folder })),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(None)),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// For whoever puts another database in its place.
    pub(super) fn alone(&self) -> Result<Alone, LockError> {
        let folder = File::open(&self.path).map_err(LockError::Io)?;
        match folder.try_lock() {
            Ok(()) => Ok(Alone { folder }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(None)),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }

    pub(super) fn lock(&self) -> Result<FolderLock, LockError> {
        let mut file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(self.path.join(LOCK))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The lock decides; the number in the file only helps to find its owner.
                let _ = (&mut file).take(20).read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::debug!(%error, "the process id could not be written into the lock");
        }
        Ok(FolderLock { file })
    }
}

/// Whether the file begins like a SQLite database; an empty one is one to be.
pub(super) fn looks_like_sqlite(path: &Path) -> io::Result<bool> {
    let mut head = Vec::with_capacity(16);
    File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(head.is_empty() || head == b"SQLite format 3\0")
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// The size of a file; 0 when there is none.
pub(super) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Readable and writable for the owner only.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_once_dropped_although_a_child_has_the_file_open_still() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::new(temporary.path());
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(LockError::Held(_))));
        // What a fork leaves: another descriptor of the same open file.
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(folder.lock().is_ok());
        drop(inherited);
    }
}
