//! Unix sockets: made with their mode, in place of one whose process is dead but never of one that lives, and
//! removed at the end.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why there is no socket. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnixError {
    /// Somebody answers there.
    #[error("another process listens there; stop it, or choose another path in `server.listen`")]
    Live,
    /// Something else has the name.
    #[error(
        "a file that is no socket has this name; it is left alone. Choose another path in `server.listen`"
    )]
    NoSocket,
    /// The folder is not there.
    #[error("its folder is not there: make it, or let systemd do so (RuntimeDirectory=)")]
    NoFolder,
    /// The system refuses.
    #[error(transparent)]
    System(io::Error),
}

impl From<io::Error> for UnixError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NoFolder } else { Self::System(error) }
    }
}

/// A socket's file; removed when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and when it was made, since inodes are used again.
type Identity = (u64, u64, Option<SystemTime>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file could not be removed");
        }
    }
}

/// Listens there.
pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), UnixError> {
    let _alone = Alone::take(path)?;
    remove_stale(path)?;

    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
    // The file takes the socket's own mode, less the umask, so that it is never wider than it should be.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    rustix::net::bind(&socket, &address).map_err(io::Error::from)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, 1024).map_err(io::Error::from)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

/// Who looks whether the old socket is dead and replaces it does so alone; let go when this is dropped. By a file
/// beside the socket, since the folder may have other sockets, and a data folder has locks of its own.
struct Alone {
    path: PathBuf,
    _locked: OwnedFd,
}

/// How often the lock is opened anew because somebody else took its name away.
const ATTEMPTS: usize = 16;

impl Alone {
    fn take(socket: &Path) -> Result<Self, UnixError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let file =
                File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?);
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(
                |error| match error {
                    rustix::io::Errno::WOULDBLOCK => UnixError::Live,
                    other => UnixError::System(other.into()),
                },
            )?;
            // Whoever had it before took its name away; who comes next makes another file.
            let mine = file.metadata()?;
            if fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()))
            {
                return Ok(Self { path, _locked: file.into() });
            }
        }
        Err(UnixError::Live)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Before it is let go. If this fails, the next one takes the file that is there.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what a dead process left behind.
fn remove_stale(path: &Path) -> Result<(), UnixError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !found.file_type().is_socket() {
        return Err(UnixError::NoSocket);
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(UnixError::System(error)),
        _ => Err(UnixError::Live),
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino(), found.created().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reseal.sock");
        for mode in [0o660, 0o600, 0o666] {
            let (_listener, file) = bind(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reseal.sock");
        let (listener, file) = bind(&path, 0o660).unwrap();
        assert!(matches!(bind(&path, 0o660), Err(UnixError::Live)));
        UnixStream::connect(&path).unwrap();
        // As after kill -9: the process is gone, the file is not.
        drop(listener);
        let (_listener, _file) = bind(&path, 0o660).unwrap();
        drop(file);
        assert!(path.exists(), "the file of another listener is left alone");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn who_replaces_a_socket_does_so_alone_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reseal.sock");
        // A data folder is locked as long as it is served.
        let served = File::open(folder.path()).unwrap();
        served.try_lock_shared().unwrap();
        let alone = Alone::take(&path).unwrap();
        assert!(matches!(bind(&path, 0o660), Err(UnixError::Live)));
        let (_listener, file) = bind(&folder.path().join("other.sock"), 0o660).unwrap();
        drop(file);
        drop(alone);
        let (_listener, _file) = bind(&path, 0o660).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["reseal.sock"]);
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reseal.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path, 0o660), Err(UnixError::NoSocket)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        std::os::unix::fs::symlink("/nowhere", folder.path().join("link")).unwrap();
        assert!(matches!(bind(&folder.path().join("link"), 0o660), Err(UnixError::NoSocket)));
        assert!(matches!(bind(&folder.path().join("no/reseal.sock"), 0o660), Err(UnixError::NoFolder)));
    }
}
