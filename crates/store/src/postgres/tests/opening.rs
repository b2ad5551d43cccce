//! Opening: nodes that start at once, and everything that may be wrong with a database.

use super::*;
use crate::conformance::{NOW, at_once, with_session};
use reseal_test_servers::PgOptions;

/// Longest wait, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

async fn refused(options: PostgresOptions) -> OpenError {
    PostgresStore::open(options).await.expect_err("it must not open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_nodes_that_start_at_once_make_the_tables_once() {
    let engine = OnPostgres::create();
    let stores = at_once(8, |i| {
        let options = PostgresOptions { epoch: [u8::try_from(i).unwrap() + 1; 16], ..engine.options() };
        async move { PostgresStore::open(options).await.unwrap() }
    });
    let stores = stores.await;
    let epoch = stores[0].meta(crate::FEED_EPOCH).await.unwrap().unwrap();
    for store in &stores {
        assert_eq!(store.meta(crate::FEED_EPOCH).await.unwrap().unwrap(), epoch, "one epoch for all");
        store.check().await.unwrap();
    }
    let (_, session) = with_session(&stores[0], 1).await;
    for store in &stores {
        assert_eq!(store.session(session.id).await.unwrap().unwrap().session, session);
    }
    assert_eq!(engine.sql("SELECT version FROM reseal_schema"), schema::VERSION.to_string());
}

#[tokio::test]
async fn tables_lie_in_the_schema_that_the_address_names() {
    let engine = OnPostgres::create();
    engine.sql("CREATE SCHEMA other");
    let url = format!("{}?options=-c%20search_path%3Dother", engine.database.url());
    let store = PostgresStore::open(PostgresOptions::new(url.parse().unwrap())).await.unwrap();
    with_session(&store, 1).await;
    assert_eq!(engine.sql("SELECT count(*) FROM other.sessions"), "1");
    assert_eq!(engine.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[tokio::test]
async fn a_server_is_reached_by_its_socket_and_by_its_number_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    // The server runs as somebody else.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let place = folder.path().to_str().unwrap();
    let postgres = Postgres::start(PgOptions {
        fsync: false,
        settings: vec![setting("unix_socket_directories", place)],
        files: vec![setting("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 trust\n")],
        ..PgOptions::default()
    });
    let (database, port) = (postgres.database(), postgres.port());
    let name = database.name();
    let by_socket = format!("postgres://reseal@{}:{port}/{name}", place.replace('/', "%2F"));
    let by_number = format!("postgres://reseal@/{name}?hostaddr=127.0.0.1&port={port}");
    for url in [by_socket, by_number] {
        let options = PostgresOptions { timeout: PATIENCE, ..PostgresOptions::new(url.parse().unwrap()) };
        PostgresStore::open(options).await.expect(&url).check().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_ours_or_newer_is_not_touched() {
    let engine = OnPostgres::create();
    let only_read = || PostgresOptions { access: Access::ReadOnly, ..engine.options() };
    assert!(matches!(refused(only_read()).await, OpenError::Empty(_)));
    engine.sql("CREATE TABLE users (name text)");
    assert!(matches!(refused(engine.options()).await, OpenError::ForeignTables(_)));
    assert_eq!(engine.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");
    engine.sql("DROP TABLE users");

    let store = engine.open().await;
    let (_, session) = with_session(&store, 1).await;
    let reader = PostgresStore::open(only_read()).await.unwrap();
    assert_eq!(reader.session(session.id).await.unwrap().unwrap().session, session);
    let write = reader.sweep(NOW, NOW, 1).await;
    assert!(matches!(write, Err(StoreError::Unavailable(_))), "{write:?}");
    reader.check().await.unwrap();

    engine.sql("UPDATE reseal_schema SET version = 99");
    let newer = refused(engine.options()).await;
    assert!(matches!(newer, OpenError::NewerSchema { found: 99, .. }), "{newer}");
    assert_eq!(engine.sql("SELECT version FROM reseal_schema"), "99");
}

#[tokio::test]
async fn every_cause_has_its_own_words_and_none_shows_the_password() {
    let postgres = Postgres::start(PgOptions {
        fsync: false,
        password: Some("hunter2".to_owned()),
        ..PgOptions::default()
    });
    let database = postgres.database();
    let options = |url: &str| PostgresOptions {
        timeout: Duration::from_secs(60),
        ..PostgresOptions::new(url.parse().unwrap())
    };
    PostgresStore::open(options(&database.url())).await.unwrap();
    // The password may come from elsewhere.
    let without = database.url().replace(":hunter2", "");
    let given = PostgresOptions { password: Some("hunter2".to_owned().into()), ..options(&without) };
    assert!(!format!("{given:?}").contains("hunter2"));
    let store = PostgresStore::open(given).await.unwrap();
    assert!(!format!("{store:?}").contains("hunter2"));

    let wrong = refused(options(&database.url().replace("hunter2", "hunter3"))).await;
    assert!(matches!(wrong, OpenError::Login { .. }), "{wrong}");
    let nowhere = refused(options(&postgres.url("nowhere"))).await;
    assert!(matches!(&nowhere, OpenError::NoDatabase { database, .. } if database == "nowhere"), "{nowhere}");
    database.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    database.sql("CREATE ROLE guest LOGIN PASSWORD 'hunter2'");
    let guest = database.url().replace("//reseal:", "//guest:");
    let guest = refused(options(&guest)).await;
    assert!(matches!(guest, OpenError::Rights { .. }), "{guest}");
    let free = reseal_test_servers::Port::free();
    let away = refused(options(&format!("postgres://u:hunter2@{}/d", free.addr()))).await;
    assert!(matches!(away, OpenError::Away { .. }) && away.is_away(), "{away}");
    let tls = refused(options(&format!("{}?sslmode=require", database.url()))).await;
    assert!(matches!(tls, OpenError::Tls { .. }), "{tls}");
    for error in [wrong, nowhere, guest, away, tls] {
        let told = format!("{error} {error:?}");
        assert!(!told.contains("hunter"), "{told}");
    }
}

#[tokio::test]
async fn a_standby_does_not_open_and_of_several_hosts_the_one_that_writes_does() {
    let postgres =
        Postgres::start(PgOptions { synchronous_standby: true, fsync: false, ..PgOptions::default() });
    let database = postgres.database();
    let both = PostgresOptions::new(database.multi_host_url().parse().unwrap());
    let store = PostgresStore::open(both).await.unwrap();
    let info = store.server_info().await.unwrap();
    assert_eq!(info.in_recovery, Some(false));
    assert_eq!(info.synchronous_standby_names.as_deref(), Some("standby"));
    let standby = || PostgresOptions::new(postgres.standby_url(database.name()).parse().unwrap());
    // It has every commit, and shows each a little later.
    let reader = loop {
        match PostgresStore::open(PostgresOptions { access: Access::ReadOnly, ..standby() }).await {
            Ok(reader) => break reader,
            Err(OpenError::NoDatabase { .. } | OpenError::Empty(_) | OpenError::OlderSchema { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(reader.server_info().await.unwrap().in_recovery, Some(true));
    let error = refused(standby()).await;
    assert!(error.is_away(), "it may become a primary: {error}");
}

#[tokio::test]
async fn figures_and_settings_are_read() {
    let engine = OnPostgres::create();
    // Whatever is set for everybody, our commits wait for the disk.
    let name = engine.database.name();
    Postgres::shared().sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let store = engine.open().await;
    with_session(&store, 1).await;
    let (_, session) = with_session(&store, 2).await;
    let ended = session.end(reseal_core::EndReason::SignedOut, NOW, None).unwrap();
    let mut commit = Commit::default();
    commit.push_change(ended, NOW);
    store.commit(commit).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.schema, schema::VERSION.unsigned_abs());
    assert_eq!((stats.sessions, stats.open_sessions, stats.users), (2, 1, 2));
    assert_eq!((stats.events, stats.last_event, stats.timeline_lines), (1, 1, 1));
    assert!(stats.database_bytes > stats.session_bytes && stats.session_bytes > 0);
    let info = store.server_info().await.unwrap();
    assert!(info.version.starts_with(|c: char| c.is_ascii_digit()), "{info:?}");
    assert_eq!((info.fsync, info.full_page_writes, info.encrypted), (Some(false), Some(false), Some(false)));
    assert_eq!(info.synchronous_commit.as_deref(), Some("off"));
    assert!(info.max_connections.unwrap() > 0);
    let lease = store.inner.pool.lease().await.unwrap();
    let row = lease.query_opt("SELECT current_setting('synchronous_commit')", &[]).await.unwrap().unwrap();
    assert_eq!(row.get::<_, String>(0), "on");
}
