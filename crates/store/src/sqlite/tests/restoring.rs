//! A backup takes the place of a database, or nothing happens.

use super::*;
use crate::conformance::{session_id, user_id, with_session, with_user};
use std::fs;
use std::path::PathBuf;

/// A folder with the users 1 and 2 and a backup from when there was only the first.
async fn folder_and_backup() -> (TempDir, PathBuf) {
    let folder = folder();
    let backup = folder.path().join("backup.db");
    let store = open(folder.path(), Access::Serve);
    with_session(&store, 1).await;
    store.backup(&backup, &mut |_| {}).unwrap();
    with_user(&store, 2).await;
    (folder, backup)
}

fn begin(folder: &Path, backup: &Path) -> Result<Restore, RestoreError> {
    Restore::begin(folder, backup, &mut |_, _| {})
}

async fn users(folder: &Path) -> Vec<UserId> {
    let store = open(folder, Access::ReadOnly);
    store.users(None, 10).await.unwrap().into_iter().map(|user| user.id).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_backup_takes_the_place_and_what_was_there_is_set_aside_whole() {
    let (folder, backup) = folder_and_backup().await;
    let restore = begin(folder.path(), &backup).unwrap();
    assert_eq!(users(restore.staging()).await, [user_id(1)]);
    with_user(&open(restore.staging(), Access::Serve), 3).await;
    let aside = restore.finish("1").unwrap().unwrap();
    assert_eq!(users(folder.path()).await, [user_id(1), user_id(3)], "with what was done to it before");
    let store = open(folder.path(), Access::Serve);
    assert!(store.session(session_id(1)).await.unwrap().is_some());
    drop(store);
    assert_eq!(names(folder.path()), ["backup.db", "lock", "reseal.db", "reseal.db.before-restore-1"]);

    // What was set aside is a backup, too.
    let back = begin(folder.path(), &aside).unwrap().finish("1").unwrap().unwrap();
    assert_eq!(back, folder.path().join("reseal.db.before-restore-1-2"), "no name is taken twice");
    assert_eq!(users(folder.path()).await, [user_id(1), user_id(2)]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_made() {
    let (folder, backup) = folder_and_backup().await;
    let other = folder.path().join("deep/data");
    assert_eq!(begin(&other, &backup).unwrap().finish("1").unwrap(), None);
    assert_eq!(users(&other).await, [user_id(1)]);
}

#[tokio::test]
async fn while_anybody_uses_the_folder_nothing_is_done() {
    let (folder, backup) = folder_and_backup().await;
    let server = open(folder.path(), Access::Serve);
    let refused = begin(folder.path(), &backup).unwrap_err();
    assert!(matches!(refused, RestoreError::Open(OpenError::Locked { .. })), "{refused}");
    drop(server);
    for access in [Access::Tool, Access::ReadOnly] {
        let tool = open(folder.path(), access);
        let refused = begin(folder.path(), &backup).unwrap_err();
        assert!(matches!(refused, RestoreError::InUse(_)), "{refused}");
        drop(tool);
    }
    let restore = begin(folder.path(), &backup).unwrap();
    for access in [Access::Serve, Access::Tool, Access::ReadOnly] {
        let options = SqliteOptions { access, ..SqliteOptions::default() };
        let refused = SqliteStore::open(folder.path(), options).unwrap_err();
        assert!(matches!(refused, OpenError::Restoring(_)), "{refused}");
    }
    // Somebody who knows nothing of our locks.
    let foreign = raw(folder.path());
    let held: i64 = foreign.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(held, 2);
    let refused = restore.finish("1").unwrap_err();
    assert!(matches!(refused, RestoreError::Open(OpenError::Busy(_))), "{refused}");
    drop(foreign);
    assert_eq!(users(folder.path()).await, [user_id(1), user_id(2)]);
    assert!(!folder.path().join("restoring").exists(), "given up, it leaves nothing behind");
}

#[tokio::test]
async fn what_is_no_backup_changes_nothing() {
    let (folder, backup) = folder_and_backup().await;
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let bytes = fs::read(&backup).unwrap();
    let refused = |path: &Path| {
        let refused = begin(folder.path(), path).unwrap_err();
        assert!(!folder.path().join("restoring").exists(), "{refused}");
        refused
    };
    let missing = refused(&folder.path().join("missing.db"));
    assert!(matches!(missing, RestoreError::File { .. }), "{missing}");
    let text = refused(&file("text.db", b"somebody's notes"));
    assert!(matches!(text, RestoreError::Open(OpenError::Foreign(_))), "{text}");
    let empty = refused(&file("empty.db", b""));
    assert!(matches!(empty, RestoreError::Open(OpenError::Foreign(_))), "{empty}");
    let cut = refused(&file("cut.db", &bytes[..bytes.len() / 2]));
    assert!(matches!(cut, RestoreError::Damaged { .. }), "{cut}");
    let itself = refused(&folder.path().join("reseal.db"));
    assert!(matches!(itself, RestoreError::Itself(_)), "{itself}");
    fs::hard_link(folder.path().join("reseal.db"), folder.path().join("link.db")).unwrap();
    let itself = refused(&folder.path().join("link.db"));
    assert!(matches!(itself, RestoreError::Itself(_)), "{itself}");
    let newer = file("newer.db", &bytes);
    let conn = rusqlite::Connection::open(&newer).unwrap();
    conn.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(conn);
    let newer = refused(&newer);
    assert!(matches!(newer, RestoreError::Open(OpenError::Newer { .. })), "{newer}");
    assert_eq!(users(folder.path()).await, [user_id(1), user_id(2)]);
}

#[tokio::test]
async fn a_copy_made_by_hand_comes_with_its_log() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 1).await;
    let copies = tempfile::tempdir().unwrap();
    for name in ["reseal.db", "reseal.db-wal"] {
        fs::copy(folder.path().join(name), copies.path().join(name)).unwrap();
    }
    drop(store);
    let other = copies.path().join("data");
    begin(&other, &copies.path().join("reseal.db")).unwrap().finish("1").unwrap();
    assert_eq!(users(&other).await, [user_id(1)]);
}

#[tokio::test]
async fn a_damaged_database_goes_aside_with_its_log() {
    let mut with_a_head = b"SQLite format 3\0".to_vec();
    with_a_head.resize(8192, 0xa5);
    for damage in [vec![0xa5; 8192], with_a_head] {
        let (folder, backup) = folder_and_backup().await;
        let (database, log) = (folder.path().join("reseal.db"), folder.path().join("reseal.db-wal"));
        fs::write(&database, &damage).unwrap();
        fs::write(&log, b"what may still be of use").unwrap();
        let aside = begin(folder.path(), &backup).unwrap().finish("1").unwrap().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), damage);
        assert_eq!(fs::read(format!("{}-wal", aside.display())).unwrap(), b"what may still be of use");
        assert!(!log.exists(), "the log of another database");
        assert_eq!(users(folder.path()).await, [user_id(1)]);
    }
}

#[tokio::test]
async fn what_a_killed_restore_left_is_cleared() {
    let (folder, backup) = folder_and_backup().await;
    fs::create_dir(folder.path().join("restoring")).unwrap();
    fs::write(folder.path().join("restoring/reseal.db"), b"half of it").unwrap();
    // Killed between the second name and the last step.
    let second = folder.path().join("reseal.db.before-restore-0");
    fs::hard_link(folder.path().join("reseal.db"), &second).unwrap();
    begin(folder.path(), &backup).unwrap().finish("1").unwrap();
    assert_eq!(names(folder.path()), ["backup.db", "lock", "reseal.db", "reseal.db.before-restore-1"]);
    assert_eq!(users(folder.path()).await, [user_id(1)]);
}
