//! A Redis that is away, hangs or forgets: bounded errors, and recovery by itself.

use super::*;
use crate::conformance::{at_once, commit, with_session};
use crate::{EndFilter, Write};
use reseal_core::EndReason;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_costs_errors_and_no_session() {
    let settings = vec![("appendfsync".to_owned(), "always".to_owned())];
    let durable = servers::RedisOptions { appendonly: true, settings, ..servers::RedisOptions::default() };
    let place = Place { folder: tempfile::tempdir().unwrap(), redis: servers::Redis::start(&durable) };
    let store = place
        .node_with(|options| {
            options.timeout = Duration::from_millis(500);
        })
        .await;
    let (_, session) = with_session(&*store, 1).await;
    let (_, doomed) = with_session(&*store, 2).await;
    let mut token = renew(&*store, ring().successor(&session).unwrap(), 30, 3).await;
    for round in 0..3 {
        place.redis.kill();
        let refused = present(&*store, token, 600 + round * 60).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(store.check().await.is_err());
        store.stand_before().await.unwrap();
        assert!(store.write_back_all().await.is_err());
        assert!(is_before(&**store.backing()).await.unwrap(), "nobody may take the store for whole");
        if round == 1 {
            // Ending needs no Redis.
            let end = EndSessions {
                filter: EndFilter::One(doomed.id),
                reason: EndReason::SignedOut,
                now: NOW,
                ip: None,
                event_until: UNTIL,
            };
            commit(&*store, [Write::EndSessions(end)]).await.unwrap();
            let found = store.session(doomed.id).await.unwrap().unwrap().session;
            assert!(found.ended.is_some(), "nor does knowing of it");
        }
        place.redis.restart();
        token = renew(&*store, token, 600 + round * 60, 1).await;
        store.check().await.unwrap();
    }
    assert_eq!(
        store.session(session.id).await.unwrap().unwrap().session.rotation.used,
        6,
        "nothing was lost"
    );
    assert_eq!(present(&*store, ring().successor(&doomed).unwrap(), 700).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_waited_for_within_bounds_and_what_it_did_late_is_no_loss() {
    let place = Place::new();
    let short = |options: &mut RedisOptions| {
        options.timeout = Duration::from_millis(300);
        options.queue = 8;
        options.connections = 1;
    };
    let (store, patient) = (place.node_with(short).await, place.node().await);
    let (_, session) = with_session(&*patient, 1).await;
    let token = renew(&*patient, ring().successor(&session).unwrap(), 30, 1).await;
    place.redis.pause();
    let answers = at_once(64, |_| {
        let store = Arc::clone(&store);
        async move { present(&*store, token, 90).await }
    });
    let answers = answers.await;
    assert!(answers.iter().all(Result::is_err));
    assert!(answers.iter().any(|a| matches!(a, Err(StoreError::Busy { .. }))), "the queue is bounded");
    assert!(answers.iter().any(|a| matches!(a, Err(StoreError::Unavailable(_)))));
    place.redis.resume();
    // Whether or not the renewal was done meanwhile, the same token is answered with its successor.
    let next = loop {
        match present(&*store, token, 95).await {
            Ok(answer) => break answer.expect("nobody is logged out").0,
            Err(StoreError::Unavailable(_) | StoreError::Busy { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(next.number, token.number + 1);
    assert_eq!(renew(&*patient, next, 200, 1).await.number, token.number + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_script_is_told_again() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let mut token = ring().successor(&session).unwrap();
    for round in 1..=3 {
        place.redis.ask(&["SCRIPT", "FLUSH"]);
        token = renew(&*store, token, round * 60, 2).await;
    }
    assert_eq!(store.session(session.id).await.unwrap().unwrap().session.rotation.used, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_says_so() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    place.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = present(&*store, ring().successor(&session).unwrap(), 30).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    let advice = store.report().await.unwrap();
    for word in ["appendonly", "no replica", "asks for no password"] {
        assert!(advice[0].advice.iter().any(|line| line.contains(word)), "{advice:?}");
    }
    place.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    renew(&*store, ring().successor(&session).unwrap(), 30, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_it_does_not_open_is_told_without_the_password() {
    let password = Some("hunter2".to_owned());
    let locked = servers::RedisOptions { password, ..servers::RedisOptions::default() };
    let place = Place { folder: tempfile::tempdir().unwrap(), redis: servers::Redis::start(&locked) };
    let open = async |url: String, password: Option<&str>| {
        let mut options = options(vec![url]);
        options.timeout = Duration::from_secs(2);
        options.password = password.map(|word| word.to_owned().into());
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
        RedisStore::open(options, sqlite(place.folder.path())).await
    };
    let bare = format!("redis://127.0.0.1:{}", place.redis.port());
    drop(open(place.redis.url(), None).await.unwrap());
    drop(open(bare.clone(), Some("hunter2")).await.unwrap());
    let asks = open(place.redis.url(), None).await.unwrap().report().await.unwrap();
    assert!(!asks[0].advice.iter().any(|line| line.contains("password")), "{asks:?}");
    for refused in [open(bare.clone(), None).await, open(bare.clone(), Some("other")).await] {
        assert!(matches!(refused, Err(OpenError::Login { .. })), "{refused:?}");
    }
    place.redis.kill();
    let away = open(place.redis.url(), None).await.unwrap_err();
    assert!(away.is_away(), "{away:?}");
    assert!(!away.to_string().contains("hunter2"), "{away}");
}

/// A port behind which there is this server or that.
async fn relay(to: Arc<std::sync::atomic::AtomicU16>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                // Either of them may be the first to go.
                let _ = tokio::io::copy_bidirectional(&mut from, &mut server).await;
            });
        }
    });
    port
}

/// As behind a service's name, or with Sentinel: the old server lives on as a replica, and refuses writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_became_a_replica_is_left() {
    let place = Place::new();
    let second = server();
    let at = |server: &servers::Redis| server.port();
    let to = Arc::new(std::sync::atomic::AtomicU16::new(at(&place.redis)));
    let url = format!("redis://127.0.0.1:{}", relay(Arc::clone(&to)).await);
    let store = place.node_with(|options| options.urls = vec![url.parse().unwrap()]).await;
    let (_, session) = with_session(&*store, 1).await;
    let token = renew(&*store, ring().successor(&session).unwrap(), 30, 2).await;
    let follow = |server: &servers::Redis, port: u16| {
        server.ask(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    };
    follow(&second, at(&place.redis));
    while !place.redis.ask(&["INFO", "replication"]).text().contains("state=online") {
        tokio::task::yield_now().await;
    }
    place.redis.ask(&["WAIT", "1", "0"]);
    second.ask(&["REPLICAOF", "NO", "ONE"]);
    follow(&place.redis, at(&second));
    to.store(at(&second), Ordering::Relaxed);
    let token = renew(&*store, token, 300, 2).await;
    assert_eq!(token.number, 5);
    assert_eq!(store.figures().missed, 0);
}

/// Otherwise every batch would wait for a replica that is not there as long as the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_did_not_come_is_not_waited_for_as_long_again() {
    let place = Place::new();
    let store = place.node_with(|options| options.wait_replicas = 1).await;
    let (_, session) = with_session(&*store, 1).await;
    let hot = store.bytes(session.id).await.unwrap();
    let in_time = store.inner.with_link(async |link| {
        assert!(!link.in_time, "the start was told on this connection");
        link.rows(&[session.id]).await;
        let after_a_read = link.in_time;
        let swap = keys::Swap {
            id: session.id,
            expected: keys::Stored(hot.clone()).head(),
            row: hot,
            life: Duration::from_secs(60),
        };
        assert!(matches!(link.swap(&[swap]).await[..], [keys::Swapped::Done { confirmed: false }]));
        [after_a_read, link.in_time]
    });
    assert_eq!(in_time.await.unwrap(), [false, false]);
}

/// A key pair and a certificate for 127.0.0.1 that signs itself, in PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_connection_is_made_only_to_a_server_with_a_believed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (key, mine) = certificate();
    let (_, other) = certificate();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let port = servers::Port::free();
    let settings = [
        ("tls-port", port.number().to_string()),
        ("tls-cert-file", file("cert.pem", &mine)),
        ("tls-key-file", file("key.pem", &key)),
        ("tls-ca-cert-file", file("ca.pem", &mine)),
        ("tls-auth-clients", "no".to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let redis =
        servers::Redis::start(&servers::RedisOptions { settings, ..servers::RedisOptions::default() });
    let open = async |roots, host: &str| {
        let url = format!("rediss://{host}:{}", port.number());
        RedisStore::open(RedisOptions { roots, ..options(vec![url]) }, sqlite(folder.path())).await
    };
    let store = open(TlsRoots::Pem(mine.clone().into_bytes()), "127.0.0.1").await.unwrap();
    let (_, session) = with_session(&store, 1).await;
    renew(&store, ring().successor(&session).unwrap(), 30, 2).await;
    for (roots, host) in [
        (TlsRoots::System, "127.0.0.1"),
        (TlsRoots::Pem(other.into_bytes()), "127.0.0.1"),
        (TlsRoots::Pem(mine.into_bytes()), "localhost"),
    ] {
        let refused = open(roots, host).await;
        assert!(refused.is_err(), "{host}");
    }
    drop(redis);
}
