//! The listener: connections bounded in number, headers in size and time, and a shutdown that finishes
//! what was accepted.
//!
//! Plain sockets speak HTTP/1.1 (no h2c: only a proxy speaks to them); over TLS the client chooses, by ALPN,
//! between that and HTTP/2.

mod activation;
mod answers;
mod forwarded;
mod http2;
mod notify;
mod sockets;
pub mod tls;
mod unix;
mod upkeep;

pub use activation::ActivationError;
pub use notify::Notify;
pub use sockets::{BindError, Listeners};
pub use unix::UnixError;
pub use upkeep::{Upkeep, warn_of_certificate};

use crate::authority::App;
use crate::connection::{Connection, Leash};
use crate::http::caller::Peer;
use answers::Worded;
use axum::Router;
use axum::response::Response;
use forwarded::{From as Source, Trusted};
use http2::Traffic;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sockets::{Socket, Stream};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// Answers requests until `stop` is ready, then finishes what was accepted, for
/// `server.shutdown_timeout` at most.
pub async fn serve(
    app: App,
    router: Router,
    listeners: impl Into<Listeners>,
    stop: impl Future<Output = ()>,
) {
    let Listeners { sockets, tls } = listeners.into();
    let server = Arc::new(Server::new(&app, router, tls, sockets.len()));
    let (tell, stopped) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for socket in sockets {
        accepting.spawn(accept(Arc::clone(&server), socket, stopped.clone()));
    }
    drop(stopped);
    stop.await;
    // Connections that are accepted meanwhile are told at once.
    tell.send_replace(true);
    while accepting.join_next().await.is_some() {}
    // They would stay for ever.
    app.feed.stop();
    tracing::info!("finishing accepted requests");
    // Each connection holds a receiver until it is closed.
    if tokio::time::timeout(app.config.server.shutdown_timeout.0, tell.closed()).await.is_err() {
        tracing::warn!("some requests were still running at the end of server.shutdown_timeout");
    }
}

/// What all connections share.
struct Server {
    app: App,
    router: Router,
    tls: Option<Arc<Tls>>,
    trusted: Option<Trusted>,
    http1: http1::Builder,
    http2: hyper::server::conn::http2::Builder<TokioExecutor>,
    limits: http2::Limits,
    handshake_timeout: Duration,
    places: Arc<Semaphore>,
    /// Handshakes at a time: those that are done keep half of the places at least, however many begin one
    /// and do not go on.
    handshakes: Arc<Semaphore>,
    /// Requests over HTTP/2 that run at a time: as many as there can be over HTTP/1.
    requests: Arc<Semaphore>,
}

impl Server {
    fn new(app: &App, router: Router, tls: Option<Arc<Tls>>, sockets: usize) -> Self {
        let config = &app.config.server;
        // Each socket holds a place for its next connection: one is a connection's, the others are on top.
        let waiting = sockets.saturating_sub(1);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Also how long a connection may wait for its next request.
            .header_read_timeout(config.header_timeout.0)
            // The router refuses headers above the limit in our words; this stops those who just go on.
            .max_buf_size(2 * config.max_header_bytes)
            .keep_alive(true);
        let limits = http2::Limits {
            header_bytes: config.max_header_bytes,
            quiet: config.header_timeout.0,
            patience: config.request_timeout.0,
        };
        Self {
            app: Arc::clone(app),
            router,
            tls,
            trusted: Trusted::new(&config.trusted_proxies, config.forwarded_header),
            http1,
            http2: http2::builder(limits),
            limits,
            handshake_timeout: config.header_timeout.0,
            places: Arc::new(Semaphore::new(config.max_connections + waiting)),
            handshakes: Arc::new(Semaphore::new(config.max_connections.div_ceil(2) + waiting)),
            requests: Arc::new(Semaphore::new(config.max_connections)),
        }
    }

    /// The next connection, once there is a place for it. Until then it waits in the kernel's bounded backlog.
    async fn admit(&self, socket: &Socket) -> std::io::Result<(Stream, Source, Admission)> {
        let place = permit(&self.places).await;
        let handshake = match (&self.tls, socket) {
            (Some(_), Socket::Tcp(_)) => permit(&self.handshakes).await,
            _ => None,
        };
        let (stream, source) = socket.accept().await?;
        Ok((stream, source, Admission { place, handshake }))
    }

    async fn run(
        self: Arc<Self>,
        stream: Stream,
        source: Source,
        admission: Admission,
        stop: watch::Receiver<bool>,
    ) {
        let Admission { place, handshake } = admission;
        match (stream, &self.tls) {
            (Stream::Tcp(stream), None) => self.plain(stream, source, stop).await,
            (Stream::Unix(stream), _) => self.plain(stream, source, stop).await,
            (Stream::Tcp(stream), Some(tls)) => {
                let connection = Connection::new(stream, self.limits.patience);
                let leash = connection.leash();
                let shaking = Box::pin(tls.acceptor().accept(connection));
                let shaken = tokio::time::timeout(self.handshake_timeout, shaking).await;
                drop(handshake);
                match shaken {
                    Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        self.app.metrics.tls_handshake("ok");
                        Box::pin(self.http2(stream, leash, source, stop)).await;
                    }
                    Ok(Ok(stream)) => {
                        self.app.metrics.tls_handshake("ok");
                        Box::pin(self.http1(stream, leash, source, stop)).await;
                    }
                    Ok(Err(error)) => {
                        self.app.metrics.tls_handshake("failed");
                        tracing::debug!(%error, "TLS handshake");
                    }
                    Err(_) => self.app.metrics.tls_handshake("timeout"),
                }
            }
        }
        drop(place);
    }

    async fn plain(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        source: Source,
        stop: watch::Receiver<bool>,
    ) {
        let connection = Connection::new(stream, self.limits.patience);
        let leash = connection.leash();
        self.http1(connection, leash, source, stop).await;
    }

    async fn http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        leash: Leash,
        source: Source,
        mut stop: watch::Receiver<bool>,
    ) {
        let service = service_fn(|request| self.answer(request, source, &leash));
        let mut connection = pin!(self.http1.serve_connection(TokioIo::new(Worded::new(stream)), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // A broken connection is the client's business; its request was answered or not.
        if let Err(error) = ended {
            tracing::debug!(%error, "connection");
        }
    }

    async fn http2(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        leash: Leash,
        source: Source,
        stop: watch::Receiver<bool>,
    ) {
        let traffic = Traffic::new();
        let (server, held, seen) = (Arc::clone(self), leash.clone(), Arc::clone(&traffic));
        let service = service_fn(move |request| {
            let (server, leash) = (Arc::clone(&server), held.clone());
            let (traffic, requests) = (Arc::clone(&seen), Arc::clone(&server.requests));
            async move {
                let work = async || match server.answer(request, source, &leash).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                Ok::<_, Infallible>(traffic.answer(requests, work).await)
            }
        });
        let connection = self.http2.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = http2::drive(connection, (&traffic, &leash), self.limits, stop).await {
            tracing::debug!(%error, "connection");
        }
    }

    /// The router for one request, which is told whose it is.
    fn answer(
        &self,
        mut request: ::http::Request<Incoming>,
        source: Source,
        leash: &Leash,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        let client = match &self.trusted {
            None => source.ip(),
            Some(trusted) => trusted.client(source, request.headers()),
        };
        if let Some(client) = client {
            request.extensions_mut().insert(Peer(client));
        }
        request.extensions_mut().insert(leash.clone());
        self.router.clone().oneshot(request)
    }
}

/// What a connection holds: a place among all, and one among those that shake hands.
struct Admission {
    place: Option<OwnedSemaphorePermit>,
    handshake: Option<OwnedSemaphorePermit>,
}

/// `None` never comes: the semaphores are not closed.
async fn permit(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).acquire_owned().await.ok()
}

/// Ready once it is time to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Whoever would tell is gone: it is time, too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Accepts connections on one socket until told to stop.
async fn accept(server: Arc<Server>, socket: Socket, mut stopped: watch::Receiver<bool>) {
    loop {
        let admitted = tokio::select! {
            biased;
            () = told(&mut stopped) => break,
            admitted = server.admit(&socket) => admitted,
        };
        match admitted {
            Ok((stream, source, admission)) => {
                tokio::spawn(Arc::clone(&server).run(stream, source, admission, stopped.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Each connection is an open file, and the usual soft limit of 1024 is less than `server.max_connections`:
/// raises it as far as that needs and the hard limit allows.
pub(crate) fn raise_file_limit(max_connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        // The store, the log, the timers: some dozens of files besides.
        let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(128);
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|current| current >= wanted) {
            return;
        }
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        limit.current = Some(raised);
        let set = setrlimit(Resource::Nofile, limit);
        if raised < wanted || set.is_err() {
            tracing::warn!(
                wanted,
                limit = raised,
                "fewer open files are allowed than server.max_connections needs"
            );
        }
    }
}
