//! Checks, figures and backups.

use super::*;
use crate::Write;
use crate::conformance::{commit, session, start, user_id, with_session, with_user};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

#[tokio::test]
async fn quick_check_finds_damage_and_only_damage() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    let user = with_user(&store, 1).await;
    commit(&store, (0..2000).map(|i| start(&session(i, &user)))).await.unwrap();
    assert_eq!(store.quick_check().unwrap(), [""; 0]);
    drop(store);
    let file = folder.path().join("reseal.db");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let store = open(folder.path(), Access::ReadOnly);
    let found = store.quick_check();
    assert!(
        matches!(&found, Ok(lines) if !lines.is_empty()) || matches!(found, Err(StoreError::Corrupt(_))),
        "{found:?}"
    );
}

#[tokio::test]
async fn figures_count_what_is_there() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    let (_, first) = with_session(&store, 1).await;
    with_session(&store, 2).await;
    let ended = first.end(reseal_core::EndReason::SignedOut, crate::conformance::NOW, None).unwrap();
    let mut change = Commit::default();
    change.push_change(ended, crate::conformance::UNTIL);
    store.commit(change).await.unwrap();
    commit(&store, [Write::CreateClient(Box::new(crate::conformance::client("web")))]).await.unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.sessions, stats.open_sessions, stats.timeline_lines), (2, 1, 1));
    assert_eq!((stats.users, stats.clients, stats.challenges, stats.keys), (2, 1, 0, 0));
    assert_eq!((stats.events, stats.last_event, stats.schema), (1, 1, schema::VERSION));
    assert_eq!(stats.page_size, 4096);
    assert!(stats.pages > 10 && stats.database_bytes > 0 && stats.log_bytes > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_busy_writer_is_one_moment_of_it() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Access::Serve));
    let user = with_user(&*store, 0).await;
    for i in 0..20 {
        commit(&*store, [Write::PutMeta(format!("ballast {i}"), vec![7; 1 << 20])]).await.unwrap();
    }
    let target = folder.path().join("backup.db");
    let (to, from, runtime) = (target.clone(), Arc::clone(&store), tokio::runtime::Handle::current());
    let reports = tokio::task::spawn_blocking(move || {
        let mut reports = Vec::new();
        let mut write = |progress| {
            reports.push(progress);
            // Two that belong together, between two steps; later ones than the backup must show.
            if reports.len() < 20 {
                let i = 2 * reports.len();
                let both = [start(&session(i, &user)), start(&session(i + 1, &user))];
                runtime.block_on(commit(&*from, both)).unwrap();
            }
        };
        from.backup(&to, &mut write).unwrap();
        reports
    });
    let reports = reports.await.unwrap();
    assert!(reports.len() > 3, "the writes came in between: {reports:?}");
    let last = reports.last().unwrap();
    assert!(last.copied == last.pages && last.pages > 100, "{last:?}");
    assert!(reports.windows(2).all(|w| w[0].copied < w[1].copied), "it never starts anew: {reports:?}");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);

    let restored = tempfile::tempdir().unwrap();
    fs::copy(&target, restored.path().join("reseal.db")).unwrap();
    let copy = open(restored.path(), Access::Serve);
    assert_eq!(copy.quick_check().unwrap(), [""; 0]);
    assert!(copy.user(user_id(0)).await.unwrap().is_some());
    assert_eq!(copy.stats().unwrap().sessions, 0, "all of them came after the first page was copied");
    assert!(store.stats().unwrap().sessions >= 4);
}

/// Its log goes on otherwise than the one that was copied: no reader may take one for the other.
#[tokio::test]
async fn a_restored_backup_has_another_epoch() {
    let folder = folder();
    let with = |epoch| SqliteOptions { epoch, ..SqliteOptions::default() };
    let store = SqliteStore::open(folder.path(), with([1; 16])).unwrap();
    with_user(&store, 0).await;
    let restored = tempfile::tempdir().unwrap();
    store.backup(&restored.path().join("reseal.db"), &mut |_| {}).unwrap();
    assert_eq!(store.meta(crate::FEED_EPOCH).await.unwrap(), Some(vec![1; 16]), "the original keeps its own");
    for offered in [[2; 16], [3; 16]] {
        let copy = SqliteStore::open(restored.path(), with(offered)).unwrap();
        assert_eq!(copy.meta(crate::FEED_EPOCH).await.unwrap(), Some(vec![2; 16]));
    }
}

#[tokio::test]
async fn a_backup_overwrites_nothing_and_leaves_nothing_half_done() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    with_user(&store, 0).await;
    let target = folder.path().join("backup.db");
    fs::write(&target, "precious").unwrap();
    let refused = store.backup(&target, &mut |_| {});
    assert!(matches!(refused, Err(BackupError::Exists(_))), "{refused:?}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    // Somebody makes the file while the backup runs.
    let raced = folder.path().join("raced.db");
    let refused = store.backup(&raced, &mut |_| fs::write(&raced, "precious").unwrap());
    assert!(matches!(refused, Err(BackupError::Exists(_))), "{refused:?}");
    assert_eq!(fs::read_to_string(&raced).unwrap(), "precious");
    assert!(store.backup(&folder.path().join("no/such/folder.db"), &mut |_| {}).is_err());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[tokio::test]
async fn texts_leave_with_the_last_session_that_uses_them() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    let user = with_user(&store, 0).await;
    for i in 0..20 {
        let mut session = session(i, &user);
        session.user_agent = Some(format!("agent {}", i % 10));
        session.idle_expires_at = if i < 15 { Timestamp::EPOCH } else { session.expires_at };
        commit(&store, [start(&session)]).await.unwrap();
    }
    let texts = || -> Vec<String> {
        let conn = raw(folder.path());
        let mut statement = conn.prepare("SELECT text FROM texts ORDER BY text").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(texts().len(), 13);
    let now = crate::conformance::NOW;
    assert_eq!(store.sweep(now, now, 100).await.unwrap().sessions, 15);
    let left = ["agent 5", "agent 6", "agent 7", "agent 8", "agent 9", "app", "profile read", "web"];
    assert_eq!(texts(), left);
    // A text that comes again is not confused with one that left.
    let mut again = session(50, &user);
    again.user_agent = Some("agent 0".to_owned());
    commit(&store, [start(&again)]).await.unwrap();
    assert_eq!(store.session(again.id).await.unwrap().unwrap().session, again);
}

#[tokio::test]
async fn a_deleted_user_s_numbers_leave_with_its_sessions() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    let (user, session) = with_session(&store, 0).await;
    let now = crate::conformance::NOW;
    let ended = session.end(reseal_core::EndReason::UserDisabled, now, None).unwrap().session.unwrap();
    let delete = Write::DeleteUser { user: user.id, version: 1, at: now };
    commit(&store, [Write::SwapSession(Box::new(ended)), delete]).await.unwrap();
    let users =
        || raw(folder.path()).query_row("SELECT count(*) FROM users", [], |r| r.get::<_, i64>(0)).unwrap();
    let day = Duration::from_secs(86_400);
    store.sweep(now, now - 30 * day, 10).await.unwrap();
    assert_eq!(users(), 1, "its session is still shown");
    assert_eq!(store.sweep(now + 2 * day, now + 2 * day, 10).await.unwrap().sessions, 1);
    assert_eq!(users(), 0);
}
