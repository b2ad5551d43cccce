//! The listener: connections bounded in number, headers in size and time, and a shutdown that finishes
//! what was accepted.

use crate::authority::App;
use crate::connection::{Connection, Leash};
use crate::http::caller::Peer;
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// Answers requests until `stop` is ready, then finishes what was accepted, for
/// `server.shutdown_timeout` at most.
pub async fn serve(app: App, router: Router, listener: TcpListener, stop: impl Future<Output = ()>) {
    let limits = &app.config.server;
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Also how long a connection may wait for its next request.
        .header_read_timeout(limits.header_timeout.0)
        // The router refuses headers above the limit in our words; this stops those who just go on.
        .max_buf_size(2 * limits.max_header_bytes)
        .keep_alive(true);
    tokio::pin!(stop);
    loop {
        // At the limit, connections wait in the kernel's bounded backlog.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection::new(prepared(stream), limits.request_timeout.0);
                let service = service(&router, peer, connection.leash());
                let connection = http.serve_connection(TokioIo::new(connection), service);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    // A broken connection is the client's business; its request was answered or not.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    // They would stay for ever.
    app.feed.stop();
    tracing::info!("finishing accepted requests");
    if tokio::time::timeout(limits.shutdown_timeout.0, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still running at the end of server.shutdown_timeout");
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

fn prepared(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    stream
}

/// The router for one connection, which tells it whose connection it is.
fn service(
    router: &Router,
    peer: SocketAddr,
    leash: Leash,
) -> impl hyper::service::Service<
    ::http::Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> + use<> {
    let router = router.clone();
    hyper::service::service_fn(move |mut request: ::http::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
        request.extensions_mut().insert(leash.clone());
        router.clone().oneshot(request)
    })
}
