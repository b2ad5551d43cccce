//! Folders that are fine, and folders that are not: those keep every byte.

use super::*;
use crate::conformance::{NOW, commit, session_id, user_id, with_session, with_user};
use crate::{FEED_EPOCH, Write};
use reseal_core::{EndReason, EventKind};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn error(folder: &Path, access: Access) -> OpenError {
    SqliteStore::open(folder, SqliteOptions { access, ..SqliteOptions::default() }).unwrap_err()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_folder_is_for_its_owner_only() {
    let outer = folder();
    let path = outer.path().join("deep").join("data");
    let store = open(&path, Access::Serve);
    with_user(&store, 1).await;
    assert_eq!(mode(&path), 0o700);
    let mut files: Vec<_> = fs::read_dir(&path).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["lock", "reseal.db", "reseal.db-shm", "reseal.db-wal"]);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn closing_leaves_one_file_and_the_lock() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 1).await;
    drop(store);
    assert!(!folder.path().join("reseal.db-wal").exists(), "the log was folded into the database");
    let store = open(folder.path(), Access::Serve);
    assert!(store.user(user_id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn every_write_is_synced_and_the_file_says_whose_it_is() {
    let folder = folder();
    let conn = {
        let store = open(folder.path(), Access::Serve);
        drop(store);
        raw(folder.path())
    };
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    let page: i32 = conn.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), id, page), ("wal", schema::APPLICATION_ID, 4096));
    let opened = open::open(&Folder::new(folder.path()), &SqliteOptions::default());
    let Ok(opened) = opened else { panic!("it opens") };
    let writer = opened.writer.unwrap();
    let sync: i32 = writer.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(sync, 2, "FULL");
}

#[test]
fn a_second_server_is_refused_and_told_who_is_first() {
    let folder = folder();
    let first = open(folder.path(), Access::Serve);
    let refused = error(folder.path(), Access::Serve);
    assert!(
        matches!(refused, OpenError::Locked { pid, .. } if pid == Some(std::process::id())),
        "{refused:?}"
    );
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(first);
    open(folder.path(), Access::Serve);
}

#[tokio::test]
async fn other_files_in_the_folder_are_left_alone() {
    let folder = folder();
    for name in ["lost+found", "reseal.db.old", "notes.txt", ".keep"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 1).await;
    drop(store);
    for name in ["lost+found", "reseal.db.old", "notes.txt", ".keep"] {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), name);
    }
}

/// Opens the folder in every way, each of which must fail so and change nothing.
fn refused(folder: &Path, expected: impl Fn(&OpenError) -> bool) {
    let file = folder.join("reseal.db");
    let before = fs::read(&file).unwrap();
    for access in [Access::Serve, Access::Tool, Access::ReadOnly] {
        let refused = error(folder, access);
        assert!(expected(&refused), "{access:?}: {refused:?}");
        assert!(refused.to_string().contains("reseal.db"), "it names the file: {refused}");
        assert_eq!(fs::read(&file).unwrap(), before, "{access:?} changed it");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_untouched() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 1).await;
    drop(store);
    raw(folder.path()).pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    refused(
        folder.path(),
        |error| matches!(error, OpenError::Newer { found, known, .. } if *found == *known + 1),
    );
    raw(folder.path()).pragma_update(None, "user_version", schema::VERSION).unwrap();
    assert!(open(folder.path(), Access::Serve).user(user_id(1)).await.unwrap().is_some());
}

#[test]
fn files_that_are_not_ours_are_refused_untouched() {
    let text = folder();
    fs::write(text.path().join("reseal.db"), "dear diary, ".repeat(1000)).unwrap();
    refused(text.path(), |error| matches!(error, OpenError::Foreign(_)));

    let other = folder();
    raw(other.path())
        .execute_batch("CREATE TABLE places (url TEXT); INSERT INTO places VALUES ('x')")
        .unwrap();
    refused(other.path(), |error| matches!(error, OpenError::Foreign(_)));

    let another = folder();
    raw(another.path()).execute_batch("PRAGMA application_id = 7; CREATE TABLE t (x)").unwrap();
    refused(another.path(), |error| matches!(error, OpenError::Foreign(_)));
}

#[tokio::test]
async fn a_damaged_database_is_refused_untouched() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 1).await;
    drop(store);
    let file = folder.path().join("reseal.db");
    let mut bytes = fs::read(&file).unwrap();
    // The root of the schema, behind the header.
    bytes[100..4096].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    refused(folder.path(), |error| matches!(error, OpenError::Corrupt { .. }));
}

#[tokio::test]
async fn an_empty_file_is_a_database_to_be() {
    // As a crash leaves it between making the file and writing the tables.
    let folder = folder();
    fs::write(folder.path().join("reseal.db"), "").unwrap();
    assert!(matches!(error(folder.path(), Access::ReadOnly), OpenError::Missing(_)));
    with_session(&open(folder.path(), Access::Serve), 1).await;
}

#[test]
fn a_missing_database_is_not_made_by_a_reader() {
    let folder = folder();
    let missing = error(folder.path(), Access::ReadOnly);
    assert!(matches!(missing, OpenError::Missing(_)), "{missing:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_path_that_cannot_be_a_folder_is_named() {
    let outer = folder();
    let path = outer.path().join("file");
    fs::write(&path, "").unwrap();
    let failed = error(&path.join("data"), Access::Serve);
    assert!(failed.to_string().contains("file/data"), "{failed}");
}

#[tokio::test]
async fn a_reader_reads_and_writes_nothing() {
    let folder = folder();
    let server = open(folder.path(), Access::Serve);
    with_user(&server, 1).await;
    let reader = open(folder.path(), Access::ReadOnly);
    with_user(&server, 2).await;
    assert!(reader.user(user_id(2)).await.unwrap().is_some());
    let refused = commit(&reader, [Write::PutMeta("x".to_owned(), vec![])]).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert!(reader.sweep(NOW, NOW, 1).await.is_err());
}

#[tokio::test]
async fn a_new_database_gets_the_epoch_it_is_offered_and_keeps_it() {
    let folder = folder();
    let with = |epoch| SqliteOptions { epoch, ..SqliteOptions::default() };
    let none = SqliteStore::open(folder.path(), with([0; 16])).unwrap();
    assert_eq!(none.meta(FEED_EPOCH).await.unwrap(), None);
    drop(none);
    for offered in [[1; 16], [2; 16]] {
        let store = SqliteStore::open(folder.path(), with(offered)).unwrap();
        assert_eq!(store.meta(FEED_EPOCH).await.unwrap(), Some(vec![1; 16]));
    }
}

#[test]
fn a_tool_does_not_make_tables_under_a_server_that_is_at_work() {
    let folder = folder();
    fs::create_dir_all(folder.path()).unwrap();
    let Ok(_serving) = Folder::new(folder.path()).lock() else { panic!("nobody has it") };
    assert!(matches!(error(folder.path(), Access::Tool), OpenError::Locked { .. }));
}

/// Schema 1 knew neither `before` nor what is remembered of deleted users.
#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date_with_its_events_and_users() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let (sub, sid, gone) = (user_id(1), session_id(1), user_id(2));
    let old = raw(folder.path());
    old.execute_batch(schema::MIGRATIONS[0]).unwrap();
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let until = crate::conformance::UNTIL;
    let log = |columns: &str, values: &str, id: Option<&[u8; 16]>| {
        let sql = format!("INSERT INTO events (until, {columns}) VALUES (?1, {values})");
        match id {
            Some(id) => old.execute(&sql, rusqlite::params![until.millis(), id]).unwrap(),
            None => old.execute(&sql, [until.millis()]).unwrap(),
        };
    };
    log("kind, sid, reason", "'session-ended', ?2, 'revoked'", Some(sid.as_bytes()));
    log("kind, sub, rev", "'claims-changed', ?2, 7", Some(sub.as_bytes()));
    log("kind, client_id", "'client-changed', 'web'", None);
    log("kind, withdrawn", "'keys-changed', '[\"k\"]'", None);
    old.execute("INSERT INTO users (id) VALUES (?1)", [gone.as_bytes()]).unwrap();
    drop(old);

    let store = open(folder.path(), Access::Serve);
    let events: Vec<_> = store.events_after(0, 10).await.unwrap();
    assert!(events.iter().zip(1..).all(|(logged, seq)| logged.seq == seq && logged.event.until == until));
    let kinds: Vec<_> = events.into_iter().map(|logged| logged.event.kind).collect();
    let expected = [
        EventKind::SessionEnded { sid, reason: EndReason::Revoked },
        EventKind::ClaimsChanged { sub, rev: 7 },
        // When it was is not known: all tokens that it may concern are void.
        EventKind::ClientChanged { client_id: "web".parse().unwrap(), before: until.secs() },
        EventKind::KeysChanged { withdrawn: vec!["k".to_owned()] },
    ];
    assert_eq!(kinds, expected);
    assert_eq!(store.last_event().await.unwrap(), 4);
    let again = with_user(&store, 2).await;
    assert_eq!(store.user(gone).await.unwrap(), Some(again), "a user deleted before is no obstacle");
    drop(store);
    assert_eq!(schema::version(&raw(folder.path())).unwrap(), schema::VERSION);
}

#[tokio::test]
async fn migrations_that_two_run_at_once_are_done_once() {
    let folder = folder();
    let path = folder.path().join("reseal.db");
    let migrate = move || {
        let mut conn = rusqlite::Connection::open(&path).unwrap();
        conn.busy_timeout(Duration::from_secs(10)).unwrap();
        schema::migrate(&mut conn).unwrap();
        schema::version(&conn).unwrap()
    };
    let tasks: Vec<_> = (0..4).map(|_| tokio::task::spawn_blocking(migrate.clone())).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), schema::VERSION);
    }
}
