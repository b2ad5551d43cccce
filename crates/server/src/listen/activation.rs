//! Sockets that systemd passes on (`sd_listen_fds(3)`): `LISTEN_PID` must name this process, and every one of
//! the `LISTEN_FDS` must be a stream socket that listens, over TCP or Unix.

use super::Socket;
use listenfd::ListenFd;
use std::sync::Mutex;
use tokio::net::{TcpListener, UnixListener};

/// Why there are none. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// Nothing was passed on.
    #[error(
        "systemd passed no socket on (LISTEN_FDS and LISTEN_PID): start the socket unit, and let systemd start this service"
    )]
    None,
    /// Too many.
    #[error("systemd passed more than {MAX} sockets on")]
    TooMany,
    /// One cannot be used.
    #[error(
        "the socket number {number} that systemd passed on is no listening TCP or Unix stream socket: {error}"
    )]
    Unusable {
        /// Its place in the list, from 0.
        number: usize,
        /// Why.
        error: std::io::Error,
    },
}

const MAX: usize = 64;

/// The sockets that were passed on. They can be taken once.
pub(super) fn sockets() -> Result<Vec<Socket>, ActivationError> {
    // The descriptors belong to whoever takes them first: a second call must not take them again.
    static TAKEN: Mutex<bool> = Mutex::new(false);
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if std::mem::replace(&mut *taken, true) {
        return Err(ActivationError::None);
    }
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Err(ActivationError::None),
        1..=MAX => {}
        _ => return Err(ActivationError::TooMany),
    }
    (0..passed.len()).map(|number| take(&mut passed, number)).collect()
}

fn take(passed: &mut ListenFd, number: usize) -> Result<Socket, ActivationError> {
    let unusable = |error| ActivationError::Unusable { number, error };
    // Asked for as the wrong kind, a socket stays where it is.
    if let Ok(Some(listener)) = passed.take_tcp_listener(number) {
        listener.set_nonblocking(true).map_err(unusable)?;
        return TcpListener::from_std(listener).map(Socket::Tcp).map_err(unusable);
    }
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let listener = passed.take_unix_listener(number).and_then(|l| l.ok_or_else(missing)).map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    // Its file is systemd's.
    UnixListener::from_std(listener).map(|listener| Socket::Unix(listener, None)).map_err(unusable)
}
