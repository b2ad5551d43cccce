//! The bounds that the design sets on a session's row.

use super::*;
use crate::conformance::{NOW, commit, session, start, with_user};
use reseal_core::session::{CookieState, Ended, Rotation};
use reseal_core::{Acr, Amr, EndReason, KeyId, Session, Strength};

#[tokio::test]
async fn a_row_has_300_bytes_at_most_whatever_is_in_it() {
    let folder = folder();
    let store = open(folder.path(), Access::Serve);
    let user = with_user(&store, 0).await;
    let strength = Strength { acr: Acr::Aal2, amr: Amr::from_bits(u32::MAX), authenticated_at: NOW };
    let fullest = |i| Session {
        version: u32::MAX,
        key_id: KeyId(u32::MAX),
        strength,
        cookie: Some(CookieState {
            generation: u32::MAX,
            raised_at: NOW,
            confirmed: true,
            previous: strength,
        }),
        binding: Some([0xff; 32]),
        user_agent: Some("x".repeat(Session::USER_AGENT_MAX)),
        ip: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
        ended: Some(Ended { at: NOW, reason: EndReason::PasswordChanged }),
        rotation: Rotation {
            used: u64::MAX / 2,
            used_nonce: [0xff; 16],
            branch: u32::MAX,
            window_at: NOW,
            window_from: u64::MAX / 2,
            prev_window_at: NOW,
            prev_window_from: u64::MAX / 2,
        },
        ..session(i, &user)
    };
    commit(&store, (0..500).map(|i| start(&fullest(i)))).await.unwrap();
    assert!(payload(folder.path()) <= 300, "fullest: {}", payload(folder.path()));
    drop(store);

    let folder = super::folder();
    let store = open(folder.path(), Access::Serve);
    let user = with_user(&store, 0).await;
    commit(&store, (0..500).map(|i| start(&session(i, &user)))).await.unwrap();
    assert!(payload(folder.path()) <= 150, "as after login: {}", payload(folder.path()));
}

/// Bytes of a row, its header included.
fn payload(folder: &Path) -> i64 {
    let sql = "SELECT sum(payload) / sum(ncell) FROM dbstat WHERE name = 'sessions' AND pagetype = 'leaf'";
    raw(folder).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn no_list_and_no_look_up_reads_a_whole_table() {
    let folder = folder();
    drop(open(folder.path(), Access::Serve));
    let conn = raw(folder.path());
    let queries = [
        "SELECT n FROM sessions WHERE id = ?1",
        "SELECT n FROM sessions WHERE user = ?1 AND ended = 0 AND id > ?2 ORDER BY id",
        "SELECT n FROM sessions WHERE client = ?1 AND ended = 0 LIMIT ?2",
        "SELECT min(client) FROM sessions WHERE client > ?1",
        "SELECT n FROM sessions WHERE sweep_day < ?1 ORDER BY sweep_day LIMIT ?2",
        "SELECT n FROM users WHERE id > ?1 ORDER BY id",
        "SELECT n FROM users WHERE username_key = ?1",
        "SELECT n FROM users WHERE version IS NULL",
        "SELECT id FROM challenges WHERE expires_at <= ?1 ORDER BY expires_at",
        "SELECT seq FROM events WHERE until <= ?1 ORDER BY until",
        "SELECT seq FROM events WHERE seq > ?1 ORDER BY seq",
        "SELECT max(i) FROM timeline WHERE session = ?1",
    ];
    for sql in queries {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get("detail")).map(Result::unwrap).collect();
        let plan = plan.join("; ");
        assert!(plan.contains("SEARCH") || plan.contains("users_deleted"), "{sql}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}
