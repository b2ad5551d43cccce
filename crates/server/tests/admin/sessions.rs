//! Sessions: started, shown and ended by an administrator.

use crate::common::{admin, ended, show_session, user_path};
use crate::support::{SERVICE, START, TestAuthority};
use http::StatusCode;
use reseal_core::policy::Policies;
use reseal_core::session::NewSession;
use reseal_core::user::UserPatch;
use reseal_core::{Acr, Amr, EndReason, Session, SessionId, Strength, UserId};
use reseal_server::manage::clients::ClientDeletion;
use reseal_server::manage::sessions::end_all_sessions;
use reseal_store::{Commit, StartSession, Write};
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_is_started_for_a_user_whom_the_caller_authenticated() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let path = format!("{}/sessions", user_path(alice));

    let started = authority.post(&path, &admin, json!({ "client_id": "refresh" })).await;
    started.expect(StatusCode::CREATED);
    let claims = started.claims();
    assert_eq!((claims["acr"].as_str(), &claims["amr"]), (Some("aal1"), &json!([])));
    assert_eq!(claims["auth_time"], START.secs());
    assert_eq!(
        (claims["sub"].as_str(), claims["client_id"].as_str()),
        (Some(&*alice.to_string()), Some("refresh"))
    );
    authority.refresh("refresh", &started).await.expect(StatusCode::OK);

    let body = json!({
        "client_id": "sliding", "acr": "aal2", "amr": ["pwd", "hwk", "mfa"], "auth_time": START.secs() - 60,
        "scope": "read", "ip": "203.0.113.9", "user_agent": "Tele\u{7}phone",
    });
    let started = authority.post(&path, &admin, body).await;
    started.expect(StatusCode::CREATED);
    let claims = started.claims();
    assert_eq!(
        (claims["acr"].as_str(), claims["auth_time"].as_i64()),
        (Some("aal2"), Some(START.secs() - 60))
    );
    assert_eq!((&claims["amr"], &claims["scope"]), (&json!(["pwd", "mfa", "hwk"]), &json!("read")));
    let device = authority.get("/v1/sessions", &started.credential()).await;
    let device =
        device.body["items"].as_array().unwrap().iter().find(|d| d["current"] == true).unwrap().clone();
    assert_eq!((&device["ip"], &device["user_agent"]), (&json!("203.0.113.9"), &json!("Telephone")));

    let started = authority.post(&path, &admin, json!({ "client_id": "cookie" })).await;
    started.expect(StatusCode::CREATED);
    assert!(started.body.get("access_token").is_none());
    show_session(&authority, &started.credential()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_not_started_on_a_wrong_word() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let path = format!("{}/sessions", user_path(alice));
    let start = |body: Value| authority.post(&path, &admin, body);

    for bad in [
        json!({}),
        json!({ "client_id": "nobody" }),
        json!({ "client_id": "a b" }),
        json!({ "client_id": "sliding", "auth_time": START.secs() + 1 }),
        json!({ "client_id": "sliding", "auth_time": -1 }),
        json!({ "client_id": "sliding", "amr": ["magic"] }),
        json!({ "client_id": "sliding", "acr": "aal3" }),
        json!({ "client_id": "sliding", "ip": "here" }),
        json!({ "client_id": "sliding", "color": "red" }),
    ] {
        start(bad).await.expect_error(400, "invalid_request");
    }
    start(json!({ "client_id": "sliding", "scope": "root" })).await.expect_error(400, "invalid_scope");

    // A confidential client other than the caller authenticates (design §8).
    let body = json!({ "name": "Other", "client_id": "other", "confidential": true, "policy": "app" });
    let other = authority.post("/v1/admin/clients", &admin, body).await;
    let secret = other.body["client_secret"].as_str().unwrap();
    start(json!({ "client_id": "other" })).await.expect_error(401, "invalid_client");
    start(json!({ "client_id": "other", "client_secret": "x" })).await.expect_error(401, "invalid_client");
    start(json!({ "client_id": "other", "client_secret": secret })).await.expect(StatusCode::CREATED);
    start(json!({ "client_id": SERVICE })).await.expect(StatusCode::CREATED);

    authority.patch_user(alice, UserPatch { disabled: Some(true), ..UserPatch::default() }).await;
    start(json!({ "client_id": "sliding" })).await.expect_error(409, "conflict");
    let nobody = "/v1/admin/users/00000000-0000-7000-8000-000000000000/sessions";
    authority.post(nobody, &admin, json!({ "client_id": "sliding" })).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn a_session_is_shown_with_its_timeline_and_its_end() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let first = authority.login("refresh", "alice").await;
    let second = authority.refresh("refresh", &first).await;
    second.expect(StatusCode::OK);
    authority.refresh("refresh", &second).await.expect(StatusCode::OK);
    let path = format!("/v1/admin/sessions/{}", first.sid());

    let shown = authority.get(&path, &admin).await;
    shown.expect(StatusCode::OK);
    assert_eq!(shown.body["id"], first.sid().to_string());
    assert_eq!(shown.body["user_id"], alice.to_string());
    assert_eq!((&shown.body["kind"], &shown.body["policy"]), (&json!("refresh"), &json!("app")));
    assert_eq!(shown.body["used"], 2);
    assert!(shown.body.get("ended_at").is_none());
    let line = &shown.body["timeline"][0];
    assert_eq!(
        (&line["event"], &line["at"], &line["ip"]),
        (&json!("started"), &json!(START.secs()), &json!("192.0.2.1"))
    );

    authority.advance(7);
    authority.delete(&path, &admin).await.expect(StatusCode::NO_CONTENT);
    authority.delete(&path, &admin).await.expect(StatusCode::NO_CONTENT);
    let shown = authority.get(&path, &admin).await;
    assert_eq!(
        (&shown.body["end_reason"], &shown.body["ended_at"]),
        (&json!("revoked"), &json!(START.secs() + 7))
    );
    let last = shown.body["timeline"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["event"], &last["reason"]), (&json!("ended"), &json!("revoked")));
    assert_eq!(ended(&authority).await, [(first.sid(), EndReason::Revoked)], "ended once");
}

#[tokio::test]
async fn a_session_that_ran_out_is_shown_as_over() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let session = authority.login("sliding", "alice").await;
    authority.advance(20 * 60);
    let path = format!("/v1/admin/sessions/{}", session.sid());
    let shown = authority.get(&path, &admin(&authority).await).await;
    assert_eq!(shown.body["end_reason"], "idle_timeout");
    assert_eq!(shown.body["ended_at"], shown.body["idle_expires_at"]);
}

#[tokio::test]
async fn the_sessions_of_a_user_are_listed_and_ended_without_touching_others() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    authority.user("bob").await;
    let mut mine = Vec::new();
    for client in ["sliding", "refresh", "cookie"] {
        mine.push(authority.login(client, "alice").await.sid());
    }
    mine.sort();
    let other = authority.login("sliding", "bob").await;
    let path = format!("{}/sessions", user_path(alice));

    let first = authority.get(&format!("{path}?limit=2"), &admin).await;
    let next = first.body["next"].as_str().unwrap();
    let second = authority.get(&format!("{path}?limit=2&after={next}"), &admin).await;
    assert!(second.body.get("next").is_none());
    let items =
        [first.body["items"].as_array().unwrap().clone(), second.body["items"].as_array().unwrap().clone()];
    let seen: Vec<String> = items.concat().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(seen, mine.iter().map(ToString::to_string).collect::<Vec<_>>());

    authority.delete(&path, &admin).await.expect(StatusCode::NO_CONTENT);
    show_session(&authority, &other.credential()).await.expect(StatusCode::OK);
    let listed = authority.get(&path, &admin).await;
    assert!(listed.body["items"].as_array().unwrap().iter().all(|s| s["end_reason"] == "revoked"));
    assert_eq!(ended(&authority).await.len(), 3);
    authority.login("sliding", "alice").await;
}

#[tokio::test]
async fn all_sessions_of_everybody_end_at_one_word() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let mut sessions = Vec::new();
    for name in ["alice", "bob", "carol"] {
        authority.user(name).await;
        sessions.push(authority.login("sliding", name).await);
    }
    authority.delete("/v1/admin/sessions?after=x", &admin).await.expect_error(400, "invalid_request");
    authority.delete("/v1/admin/sessions", &admin).await.expect(StatusCode::NO_CONTENT);
    for session in &sessions {
        let answer = show_session(&authority, &session.credential()).await;
        answer.expect_error(401, "invalid_token");
        assert_eq!(answer.body["reason"], "revoked");
    }
    authority.delete("/v1/admin/sessions", &admin).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(ended(&authority).await.len(), 3);
    authority.login("sliding", "alice").await;
}

/// Starts many sessions of a user, in few transactions.
async fn start_many(authority: &TestAuthority, user: UserId, client_id: &str, many: usize) {
    let app = &authority.app;
    let policies = Policies::new([]).unwrap();
    let policy = policies.find(&"web".parse().unwrap()).unwrap();
    let start = || {
        let new = NewSession {
            id: SessionId::from_bytes(app.random.bytes()),
            nonce: app.random.bytes(),
            user_id: user,
            client_id: client_id.parse().unwrap(),
            scope: "read".parse().unwrap(),
            key_id: app.keys.load().ring.current(),
            strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: START },
            user_agent: None,
            ip: None,
        };
        let (session, _) = Session::start(new, policy, START);
        let start = StartSession { session, auth_epoch: 1, max_sessions: 0, event_until: START };
        Write::StartSession(Box::new(start))
    };
    let writes: Vec<Write> = (0..many).map(|_| start()).collect();
    for chunk in writes.chunks(500) {
        app.store.commit(Commit::of(chunk.to_vec())).await.unwrap();
    }
}

#[tokio::test]
async fn very_many_sessions_end_in_batches_that_report_progress() {
    const MANY: usize = 1001;
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    start_many(&authority, alice, "sliding", MANY).await;
    let app = &authority.app;
    let mut progress = Vec::new();
    let total = end_all_sessions(|| app.manage(app.clock.now()), |n| progress.push(n)).await.unwrap();
    assert_eq!((total, progress), (MANY, vec![500, 1000, MANY]));
    assert!(app.store.open_sessions(None, 1).await.unwrap().is_empty());
    assert_eq!(app.store.last_event().await.unwrap(), MANY as u64, "one event each");
}

#[tokio::test]
async fn one_request_ends_ten_thousand_sessions_and_says_how_to_go_on() {
    const MANY: usize = 10_001;
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    start_many(&authority, alice, "sliding", MANY).await;
    let admin = admin(&authority).await;
    let first = authority.delete("/v1/admin/sessions", &admin).await;
    first.expect(StatusCode::ACCEPTED);
    assert_eq!(first.body["ended"], 10_000);
    let next = first.body["next"].as_str().unwrap();
    let second = authority.delete(&format!("/v1/admin/sessions?after={next}"), &admin).await;
    second.expect(StatusCode::NO_CONTENT);
    assert!(authority.app.store.open_sessions(None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_with_very_many_sessions_is_dead_before_the_last_is_ended() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    start_many(&authority, alice, "refresh", 501).await;
    let other = authority.login("sliding", "alice").await;
    let app = &authority.app;
    let client = "refresh".parse().unwrap();
    let delete = || async { app.manage(app.clock.now()).delete_client(&client, 1).await.unwrap() };

    assert_eq!(delete().await, ClientDeletion::MoreSessions);
    app.clients_changed().await;
    authority.try_login("refresh", "alice").await.expect_error(401, "invalid_client");
    assert_eq!(delete().await, ClientDeletion::Done);
    assert!(app.store.client(&client).await.unwrap().is_none());
    let open = app.store.open_sessions(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|s| s.id).collect::<Vec<_>>(), [other.sid()]);
}
