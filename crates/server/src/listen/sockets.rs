//! The sockets of the configuration: opened, told apart, and told of.

use super::activation::{self, ActivationError};
use super::forwarded::From as Source;
use super::tls::{Tls, TlsError};
use super::unix::{self, SocketFile, UnixError};
use crate::config::{ListenOn, ServerConfig};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Sockets that listen, and the TLS of those over TCP.
#[derive(Debug)]
pub struct Listeners {
    pub(super) sockets: Vec<Socket>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    /// With its file, if it is ours.
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] Option<SocketFile>),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Why a socket cannot be had. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// An address.
    #[error("cannot listen on {address}: {}", advice(error))]
    Tcp {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on unix:{path}: {error}", path = path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: UnixError,
    },
    /// What systemd passes on.
    #[error("cannot listen on systemd's sockets: {0}")]
    Systemd(#[from] ActivationError),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What to do when an address cannot be had.
fn advice(error: &io::Error) -> String {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match error.kind() {
        AddrInUse => {
            "another program has this port; stop it, or choose another with --listen or `server.listen`"
                .into()
        }
        AddrNotAvailable => {
            "this machine does not have the address; choose another with --listen or `server.listen`".into()
        }
        PermissionDenied => "ports below 1024 need a privilege: let systemd open it (a socket unit, and \
             `server.listen = \"systemd\"`) or grant it (AmbientCapabilities=CAP_NET_BIND_SERVICE), \
             or choose a higher port and put a proxy before it"
            .into(),
        _ => error.to_string(),
    }
}

impl Listeners {
    /// Opens them all, and reads the certificate first.
    pub async fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let mut sockets = Vec::new();
        for place in config.listen.places() {
            match place {
                ListenOn::Tcp(address) => {
                    let address = *address;
                    // `[::]` takes what comes over IPv4 as well, unless that has a socket of its own.
                    let has_ipv4 = config.listen.places().iter().any(|other| {
                        matches!(other, ListenOn::Tcp(other) if other.is_ipv4() && other.port() == address.port())
                    });
                    let listener = match address {
                        SocketAddr::V6(v6) if has_ipv4 && v6.ip().is_unspecified() => bind_ipv6_only(v6),
                        _ => TcpListener::bind(address).await,
                    };
                    sockets.push(Socket::Tcp(listener.map_err(|error| BindError::Tcp { address, error })?));
                }
                ListenOn::Unix(path) => {
                    let failed = |error| BindError::Unix { path: path.clone(), error };
                    let (listener, file) = unix::bind(path, config.socket_mode.0).map_err(failed)?;
                    let listener = UnixListener::from_std(listener).map_err(|e| failed(e.into()))?;
                    sockets.push(Socket::Unix(listener, Some(file)));
                }
                ListenOn::Systemd => sockets.extend(activation::sockets()?),
            }
        }
        Ok(Self { sockets, tls })
    }

    /// Their URLs, those over TCP first: `http://127.0.0.1:4000`, `unix:/run/reseal/reseal.sock`.
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let tcp = self.addresses().into_iter().map(|address| format!("{scheme}://{address}"));
        let unix = self.sockets.iter().filter_map(|socket| match socket {
            Socket::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|a| a.as_pathname()).map(|p| p.display().to_string());
                Some(format!("unix:{}", path.as_deref().unwrap_or("(unnamed)")))
            }
            Socket::Tcp(_) => None,
        });
        tcp.chain(unix).collect()
    }

    /// The addresses of those over TCP; never port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        };
        self.sockets.iter().filter_map(address).collect()
    }

    /// The TLS of those over TCP.
    pub const fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }
}

fn bind_ipv6_only(address: SocketAddrV6) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1024)?;
    TcpListener::from_std(socket.into())
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self { sockets: vec![Socket::Tcp(listener)], tls: None }
    }
}

impl Socket {
    pub(super) async fn accept(&self) -> io::Result<(Stream, Source)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                Ok((Stream::Tcp(stream), Source::Ip(peer.ip().to_canonical())))
            }
            Self::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), Source::Unix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    fn on(places: &[&str]) -> ServerConfig {
        let places = places.iter().map(|place| place.parse().unwrap()).collect();
        ServerConfig { listen: Listen::new(places).unwrap(), ..ServerConfig::default() }
    }

    #[tokio::test]
    async fn both_protocols_on_one_port() {
        let mut tries = 0;
        let (v4, v6, listeners) = loop {
            let Ok(first) = TcpListener::bind("[::]:0").await else { return };
            let port = first.local_addr().unwrap().port();
            drop(first);
            let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
            match Listeners::bind(&on(&[&v4, &v6])).await {
                Ok(listeners) => break (v4, v6, listeners),
                // Somebody else may have taken the port meanwhile.
                Err(error) => assert!(tries < 10, "{error}"),
            }
            tries += 1;
        };
        assert_eq!(listeners.urls(), [format!("http://{v4}"), format!("http://{v6}")]);
        let error = Listeners::bind(&on(&[&v4])).await.unwrap_err();
        assert!(error.to_string().contains("another program has this port"), "{error}");
    }

    #[tokio::test]
    async fn addresses_are_told_before_unix_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let unix = format!("unix:{}", folder.path().join("a.sock").display());
        let listeners = Listeners::bind(&on(&[&unix, "127.0.0.1:0"])).await.unwrap();
        let urls = listeners.urls();
        assert!(urls[0].starts_with("http://127.0.0.1:") && !urls[0].ends_with(":0"), "{urls:?}");
        assert_eq!(urls[1], unix);
    }

    #[tokio::test]
    async fn nothing_is_passed_on_to_this_process() {
        let error = Listeners::bind(&on(&["systemd"])).await.unwrap_err();
        assert!(error.to_string().contains("LISTEN_FDS"), "{error}");
    }
}
