//! Unix sockets: made with their mode, in place of one whose process is dead but never of one that lives, and
//! removed at the end.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, Permissions};
use std::io;
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
    // Who looks whether the old socket is dead and replaces it does so alone; let go when this returns.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => UnixError::Live,
        other => UnixError::System(other.into()),
    })?;
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
