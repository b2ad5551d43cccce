//! TLS and HTTP/2 over real sockets, by clients that behave and by clients that do not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rcgen::{CertificateParams, KeyPair};
use reseal_server::config::{Config, Listen, TlsConfig};
use reseal_server::listen::Listeners;
use reseal_server::{listen, ops};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::TestAuthority;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than all buffers on the way hold.
const LARGE: usize = 8 * 1024 * 1024;

struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    /// Released, `/wait` answers.
    release: Arc<Notify>,
    /// Told when `/wait` was reached.
    reached: Arc<Notify>,
    authority: TestAuthority,
    _folder: TempDir,
}

impl Server {
    async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, tls) = certificate(&folder);
        let authority = TestAuthority::with(|config| {
            config.server.listen = "127.0.0.1:0".parse().unwrap();
            config.server.tls = Some(tls);
            configure(config);
        })
        .await;
        let (release, reached) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (released, reach) = (Arc::clone(&release), Arc::clone(&reached));
        let wait = async move || {
            reach.notify_one();
            released.notified().await;
            "done"
        };
        let more = Router::new()
            .route("/wait", get(wait))
            .route("/large", get(async || vec![b'x'; LARGE]))
            .route("/echo", post(async |body: Bytes| body));
        let router = ops::layers(ops::routes().split_for_parts().0.merge(more), &authority.app);
        let listeners = Listeners::bind(&authority.app.config.server).await.unwrap();
        let address = listeners.addresses()[0];
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Arc::clone(&authority.app);
        let stopped = async move { stopped.await.unwrap_or(()) };
        let done = tokio::spawn(async move { listen::serve(app, router, listeners, stopped).await });
        Self { address, certificate, stop, done, release, reached, authority, _folder: folder }
    }

    /// A connection that offers these protocols.
    async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        self.try_connect(protocols, rustls::DEFAULT_VERSIONS).await.unwrap()
    }

    async fn try_connect(
        &self,
        protocols: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("auth.test").unwrap(), stream).await
    }

    /// An HTTP/2 client, with windows of this size.
    async fn http2(&self, window: u32) -> Http2 {
        let stream = self.connect(&["h2"]).await;
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        Http2 { client, connection: tokio::spawn(async move { connection.await.err() }) }
    }

    async fn is_well(&self) -> bool {
        let Http2 { client, .. } = self.http2(65_535).await;
        status_of(client, "/health/live").await == 200
    }
}

struct Http2 {
    client: SendRequest<Bytes>,
    connection: JoinHandle<Option<h2::Error>>,
}

fn certificate(folder: &TempDir) -> (CertificateDer<'static>, TlsConfig) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["auth.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate, private) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let parsed = CertificateDer::from_pem_slice(made.pem().as_bytes()).unwrap();
    (parsed, TlsConfig { certificate, key: private, reload_every: "10s".parse().unwrap() })
}

fn get_request(path: &str) -> Request<()> {
    Request::get(format!("https://auth.test{path}")).body(()).unwrap()
}

async fn status_of(client: SendRequest<Bytes>, path: &str) -> u16 {
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(get_request(path), true).unwrap();
    timeout(PATIENCE, answer).await.unwrap().unwrap().status().as_u16()
}

#[tokio::test]
async fn the_client_chooses_the_protocol_and_both_say_hsts() {
    let server = Server::start(|_| {}).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = server.connect(protocols).await;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        assert!(text.contains("strict-transport-security: max-age=31536000"), "{text}");
    }
    let mut http2 = server.http2(65_535).await;
    let (answer, _) = http2.client.send_request(get_request("/health/live"), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert!(answer.headers().contains_key("strict-transport-security"));
    let post = Request::post("https://auth.test/echo").body(()).unwrap();
    let (answer, mut body) = http2.client.send_request(post, false).unwrap();
    body.send_data(Bytes::from_static(b"there "), false).unwrap();
    body.send_data(Bytes::from_static(b"and back"), true).unwrap();
    let mut echoed = answer.await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(data) = echoed.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    assert_eq!(text, b"there and back");
    // What HTTP/1 has limits for, HTTP/2 has, too.
    let large = Request::post("https://auth.test/echo").body(()).unwrap();
    let (answer, mut body) = http2.client.clone().ready().await.unwrap().send_request(large, false).unwrap();
    body.reserve_capacity(70_000);
    let half = Bytes::from(vec![b'x'; 35_000]);
    // The refusal may come before all of it is sent.
    let _ = body.send_data(half.clone(), false).and_then(|()| body.send_data(half, true));
    assert_eq!(answer.await.unwrap().status().as_u16(), 413);
}

#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken() {
    let server = Server::start(|_| {}).await;
    for (version, spoken) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let stream = server.try_connect(&["h2"], &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    // Somebody who offers nothing that is spoken here is refused, and plain HTTP is not answered.
    assert!(server.try_connect(&["spdy/3"], rustls::DEFAULT_VERSIONS).await.is_err());
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/"));
    let metrics = server.authority.get("/metrics", &support::Credential::None).await;
    let text = metrics.body.as_str().unwrap();
    assert!(text.contains("reseal_tls_handshakes_total{result=\"ok\"} 2"), "{text}");
    assert!(text.contains("reseal_tls_handshakes_total{result=\"failed\"} 2"), "{text}");
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_are_ended() {
    let server = Server::start(|config| config.server.header_timeout = "1s".parse().unwrap()).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(TcpStream::connect(server.address).await.unwrap());
    }
    for stream in &mut slow {
        let mut said = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
        assert!(said.is_empty());
    }
    assert!(server.is_well().await);
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_leave_half_of_the_places_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let places = vec!["127.0.0.1:0".parse().unwrap(), format!("unix:{}", path.display()).parse().unwrap()];
    let server = Server::start(|config| {
        config.server.listen = Listen::new(places).unwrap();
        config.server.header_timeout = "1h".parse().unwrap();
        config.server.max_connections = 4;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The first bytes of a handshake.
        stream.write_all(&[22, 3, 1]).await.unwrap();
        slow.push(stream);
    }
    let ask = async || {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    // More often than there are places.
    for _ in 0..10 {
        let answer = timeout(PATIENCE, ask()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let server = Server::start(|_| {}).await;
    let Http2 { client, connection } = server.http2(65_535).await;
    // CVE-2023-44487: asked for and reset, over and over.
    let flood = async {
        let mut sent = 0_u32;
        loop {
            let Ok(mut ready) = client.clone().ready().await else { break };
            let Ok((answer, mut stream)) = ready.send_request(get_request("/wait"), true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
            sent += 1;
            if sent.is_multiple_of(50) {
                tokio::task::yield_now().await;
            }
            assert!(sent < 1_000_000, "the connection is never closed");
        }
    };
    timeout(PATIENCE, flood).await.unwrap();
    drop(client);
    assert!(timeout(PATIENCE, connection).await.unwrap().unwrap().is_some(), "it ended with an error");
    assert!(server.is_well().await);
}

#[tokio::test]
async fn requests_that_are_taken_back_after_they_were_begun_end_it_too() {
    let server = Server::start(|_| {}).await;
    let Http2 { client, connection } = server.http2(65_535).await;
    let flood = async {
        for _ in 0..100_000 {
            let Ok(mut ready) = client.clone().ready().await else { return };
            let Ok((answer, mut stream)) = ready.send_request(get_request("/wait"), true) else { return };
            // Its handler runs.
            tokio::select! {
                () = server.reached.notified() => {}
                _ = answer => return,
            }
            stream.send_reset(h2::Reason::CANCEL);
        }
        panic!("the connection is never closed");
    };
    timeout(PATIENCE, flood).await.unwrap();
    drop(client);
    // How it ends is the peer's view; that it ends is what counts.
    timeout(PATIENCE, connection).await.unwrap().unwrap();
    assert!(server.is_well().await);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let server = Server::start(|config| {
        config.server.request_timeout = "2s".parse().unwrap();
        // Not because it were idle.
        config.server.header_timeout = "1h".parse().unwrap();
    })
    .await;
    // The windows hold a little of the answer, and nobody opens them again; pings are answered all the while.
    let Http2 { mut client, connection } = server.http2(1000).await;
    let (answer, _) = client.send_request(get_request("/large"), true).unwrap();
    let body = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    timeout(PATIENCE, connection).await.unwrap().unwrap();
    drop(body);
    assert!(server.is_well().await);
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let server = Server::start(|config| {
        config.server.header_timeout = "1s".parse().unwrap();
        config.server.request_timeout = "1s".parse().unwrap();
    })
    .await;
    let Http2 { client, connection } = server.http2(65_535).await;
    assert_eq!(status_of(client.clone(), "/health/live").await, 200);
    let ended = timeout(PATIENCE, connection).await.unwrap().unwrap();
    assert!(ended.is_none_or(|error| error.is_go_away() || error.is_io()));
    drop(client);
    // So is one that never says anything after its handshake.
    let mut silent = server.connect(&["h2"]).await;
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut said)).await.unwrap();
    assert!(server.is_well().await);
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_accepted_over_http2() {
    let server = Server::start(|_| {}).await;
    let Http2 { mut client, connection } = server.http2(65_535).await;
    let (answer, _) = client.send_request(get_request("/wait"), true).unwrap();
    server.reached.notified().await;
    let Server { stop, done, release, address, .. } = server;
    stop.send(()).unwrap();
    // The listener closes first.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!done.is_finished());
    release.notify_one();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), Bytes::from_static(b"done"));
    drop((body, client));
    timeout(PATIENCE, done).await.unwrap().unwrap();
    timeout(PATIENCE, connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let server = Server::start(|config| config.server.max_header_bytes = 8192).await;
    let Http2 { client, .. } = server.http2(65_535).await;
    for (bytes, refusal) in [(9000, 431), (4000, 200)] {
        let mut request = get_request("/health/live");
        request.headers_mut().insert("x-large", "x".repeat(bytes).parse().unwrap());
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, _) = ready.send_request(request, true).unwrap();
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status().as_u16(), refusal);
    }
}
