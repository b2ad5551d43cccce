//! Users: their records, passwords and factors.

use crate::common::{admin, claims_changed, ended, show_session, user_path};
use crate::support::{Credential, NUMBER, PASSWORD, TestAuthority, request};
use http::{Method, StatusCode, header};
use reseal_core::{EndReason, UserId};
use reseal_server::password::Password;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn a_user_is_created_shown_found_and_deleted() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let body = json!({
        "username": "Bob", "password": PASSWORD, "name": "Bob", "email": "bob@example.com",
        "phone_number": "+1 202 555 0123", "roles": ["b", "a"], "attributes": { "plan": "gold" },
    });
    let created = authority.post("/v1/admin/users", &admin, body).await;
    created.expect(StatusCode::CREATED);
    assert_eq!(created.header("etag"), Some("\"1\""));
    let id: UserId = created.body["sub"].as_str().unwrap().parse().unwrap();
    assert!(created.header("location").unwrap().ends_with(&user_path(id)));
    assert_eq!(created.body["roles"], json!(["a", "b"]));
    assert_eq!(created.body["phone_number"], NUMBER);
    assert_eq!(created.body["phone_number_verified"], false);
    assert_eq!(created.body["disabled"], false);
    assert!(!created.body.to_string().contains("password"), "no secret is shown: {}", created.body);

    let shown = authority.get(&user_path(id), &admin).await;
    assert_eq!((shown.body, shown.status), (created.body.clone(), StatusCode::OK));
    let found = authority.get("/v1/admin/users?username=bOB", &admin).await;
    assert_eq!(found.body, json!({ "items": [created.body] }));
    let nobody = authority.get("/v1/admin/users?username=nobody", &admin).await;
    assert_eq!(nobody.body, json!({ "items": [] }));

    let session = authority.login("sliding", "bob").await;
    authority.delete(&user_path(id), &admin).await.expect(StatusCode::NO_CONTENT);
    authority.get(&user_path(id), &admin).await.expect_error(404, "not_found");
    authority.delete(&user_path(id), &admin).await.expect_error(404, "not_found");
    authority.try_login("sliding", "bob").await.expect_error(401, "invalid_credentials");
    show_session(&authority, &session.credential()).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(ended(&authority).await, [(session.sid(), EndReason::UserDisabled)]);
}

#[tokio::test]
async fn users_come_in_pages_that_miss_none() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(authority.user(&format!("user{n}")).await.to_string());
    }
    made.sort();
    let (mut seen, mut path) = (Vec::new(), "/v1/admin/users?limit=2".to_owned());
    loop {
        let page = authority.get(&path, &admin).await;
        page.expect(StatusCode::OK);
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|user| user["sub"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/admin/users?limit=2&after={next}");
    }
    assert_eq!(seen, made);
    for bad in ["limit=0", "limit=201", "limit=x", "after=x", "color=red"] {
        let answer = authority.get(&format!("/v1/admin/users?{bad}"), &admin).await;
        answer.expect_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_first_password_is_checked_and_an_imported_hash_works() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let create = |body: Value| authority.post("/v1/admin/users", &admin, body);

    create(json!({ "username": "weak", "password": "short" })).await.expect(StatusCode::BAD_REQUEST);
    let both = json!({ "username": "both", "password": PASSWORD, "password_hash": "x" });
    create(both).await.expect_error(400, "invalid_request");
    let no_hash = json!({ "username": "plain", "password_hash": "plain text" });
    create(no_hash).await.expect_error(400, "invalid_request");
    for username in ["weak", "both", "plain"] {
        let found = authority.get(&format!("/v1/admin/users?username={username}"), &admin).await;
        assert_eq!(found.body["items"], json!([]), "a refused creation creates nobody");
    }

    let password: Password = serde_json::from_value(PASSWORD.into()).unwrap();
    let hash = authority.app.hasher.hash(password).await.unwrap().to_string();
    create(json!({ "username": "moved", "password_hash": hash })).await.expect(StatusCode::CREATED);
    authority.login("sliding", "moved").await;

    create(json!({ "username": "none" })).await.expect(StatusCode::CREATED);
    authority.try_login("sliding", "none").await.expect_error(401, "invalid_credentials");

    create(json!({ "username": "MOVED" })).await.expect_error(409, "conflict");
    for bad in [
        json!({}),
        json!({ "username": "" }),
        json!({ "username": "x", "color": "red" }),
        json!({ "username": "x", "email": "nowhere" }),
        json!({ "username": "x", "phone_number": "12" }),
        json!({ "username": "x", "roles": [""] }),
        json!({ "username": "x", "attributes": { "a b": 1 } }),
        json!({ "username": "x", "attributes": { "a": "y".repeat(5000) } }),
        json!([]),
    ] {
        create(bad).await.expect_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn an_administrator_cannot_choose_a_password_later() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    for body in [json!({ "password": "another long password" }), json!({ "password_hash": "x" })] {
        authority.patch(&user_path(alice), &admin, body).await.expect_error(400, "invalid_request");
    }
    authority.login("sliding", "alice").await;
}

#[tokio::test]
async fn a_demotion_is_logged_once_and_seen_at_the_next_renewal() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let phone = authority.login("refresh", "alice").await;
    let browser = authority.login("sliding", "alice").await;
    assert_eq!(phone.claims()["roles"], json!(["member"]));

    let body = json!({ "roles": [], "name": "Alice B.", "attributes": { "plan": "free" } });
    let changed = authority.patch(&user_path(alice), &admin, body.clone()).await;
    changed.expect(StatusCode::OK);
    assert_eq!((changed.header("etag"), &changed.body["revision"]), (Some("\"2\""), &json!(2)));
    assert_eq!(claims_changed(&authority).await, [2], "one event however much changed");

    let again = authority.patch(&user_path(alice), &admin, body).await;
    assert_eq!(again.body["revision"], 2, "what changes nothing raises nothing");
    assert_eq!(claims_changed(&authority).await, [2]);

    let renewed = authority.refresh("refresh", &phone).await;
    renewed.expect(StatusCode::OK);
    for claims in [
        renewed.claims(),
        authority.post("/v1/session/renew", &browser.credential(), Value::Null).await.claims(),
    ] {
        assert_eq!((&claims["roles"], &claims["rev"]), (&json!([]), &json!(2)));
        assert_eq!(claims["attributes"]["plan"], "free");
    }
    assert_eq!(ended(&authority).await, [], "a change of claims ends nothing");
}

#[tokio::test]
async fn null_clears_and_attributes_merge() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let path = user_path(alice);
    let patch = |body: Value| authority.patch(&path, &admin, body);
    patch(json!({ "attributes": { "plan": "gold", "color": "red" } })).await.expect(StatusCode::OK);
    let changed = patch(json!({ "name": null, "attributes": { "color": null, "size": 3 } })).await;
    assert_eq!(changed.body["attributes"], json!({ "plan": "gold", "size": 3 }));
    assert_eq!(changed.body["name"], Value::Null);
    assert_eq!(changed.body["email"], "alice@example.com", "what is not named stays");
    for bad in
        [json!({ "username": "x" }), json!({ "revision": 9 }), json!({ "roles": "admin" }), json!(null)]
    {
        assert_eq!(patch(bad).await.status.as_u16() / 100, 4);
    }
}

#[tokio::test]
async fn concurrent_patches_of_different_attributes_lose_nothing() {
    const WRITERS: usize = 24;
    let authority = Arc::new(TestAuthority::start().await);
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let (authority, admin) = (Arc::clone(&authority), admin.clone());
            tokio::spawn(async move {
                let body = json!({ "attributes": { format!("a{n}"): n } });
                authority.patch(&user_path(alice), &admin, body).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().expect(StatusCode::OK);
    }
    let record = authority.record(alice).await;
    assert_eq!(record.attributes.len(), WRITERS);
    assert_eq!(record.revision, 1 + WRITERS as u64);
    let logged = claims_changed(&authority).await;
    assert_eq!(logged, (2..=1 + WRITERS as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_strict_patches_of_one_revision_exactly_one_is_done() {
    let authority = Arc::new(TestAuthority::start().await);
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let body = json!({ "roles": [format!("role{n}")] });
            let mut patch = request(Method::PATCH, &user_path(alice), &admin, &body);
            patch.headers_mut().insert(header::IF_MATCH, "\"1\"".parse().unwrap());
            let authority = Arc::clone(&authority);
            tokio::spawn(async move { authority.send(patch).await })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        let answer = writer.await.unwrap();
        match answer.status {
            StatusCode::OK => done += 1,
            _ => answer.expect_error(412, "precondition_failed"),
        }
    }
    assert_eq!((done, authority.record(alice).await.revision), (1, 2));
}

#[tokio::test]
async fn disabling_ends_every_session_for_good() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    authority.user("bob").await;
    let phone = authority.login("refresh", "alice").await;
    let browser = authority.login("cookie", "alice").await;
    let other = authority.login("sliding", "bob").await;

    let disabled = authority.patch(&user_path(alice), &admin, json!({ "disabled": true })).await;
    disabled.expect(StatusCode::OK);
    assert_eq!(disabled.body["disabled"], true);
    let refused = authority.refresh("refresh", &phone).await;
    refused.expect_error(400, "invalid_grant");
    assert_eq!(refused.body["reason"], "user_disabled");
    show_session(&authority, &browser.credential()).await.expect_error(401, "invalid_token");
    authority.try_login("sliding", "alice").await.expect_error(401, "invalid_credentials");
    show_session(&authority, &other.credential()).await.expect(StatusCode::OK);

    let enabled = authority.patch(&user_path(alice), &admin, json!({ "disabled": false })).await;
    enabled.expect(StatusCode::OK);
    authority.login("sliding", "alice").await;
    authority.refresh("refresh", &phone).await.expect_error(400, "invalid_grant");
    let mut expected = [(phone.sid(), EndReason::UserDisabled), (browser.sid(), EndReason::UserDisabled)];
    expected.sort_by_key(|(sid, _)| *sid);
    let mut seen = ended(&authority).await;
    seen.sort_by_key(|(sid, _)| *sid);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn resetting_the_factor_takes_number_codes_and_logins_under_way() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let session = authority.login("sliding", "alice").await;
    authority.turn_on_phone(&session.credential()).await;
    let before = authority.record(alice).await;
    let under_way = authority.try_login("sliding", "alice").await;
    under_way.expect_error(403, "second_factor_required");
    let code = authority.outbox.code();

    authority.delete(&format!("{}/factors", user_path(alice)), &admin).await.expect(StatusCode::NO_CONTENT);
    let after = authority.record(alice).await;
    assert_eq!((after.phone_number, after.phone_number_verified), (None, false));
    assert!(after.revision == before.revision + 1 && after.auth_epoch > before.auth_epoch);
    let (_, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert!(secrets.recovery_codes.is_empty() && secrets.password.is_some());

    let body = json!({ "challenge": under_way.body["challenge"], "factor": "phone", "code": code });
    let late = authority.post("/v1/session/factor", &Credential::None, body).await;
    assert_eq!(late.status.as_u16() / 100, 4, "{}", late.body);
    authority.login("sliding", "alice").await;
    assert_eq!(ended(&authority).await, []);
}

#[tokio::test]
async fn losing_the_number_by_a_patch_takes_the_recovery_codes_along() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let alice = authority.user("alice").await;
    let session = authority.login("sliding", "alice").await;
    authority.turn_on_phone(&session.credential()).await;
    let codes =
        || async { authority.app.store.user_secrets(alice).await.unwrap().unwrap().1.recovery_codes.len() };
    assert!(codes().await > 0);
    authority.patch(&user_path(alice), &admin, json!({ "name": "A" })).await.expect(StatusCode::OK);
    assert!(codes().await > 0, "another change leaves them");
    authority.patch(&user_path(alice), &admin, json!({ "phone_number": null })).await.expect(StatusCode::OK);
    assert_eq!(codes().await, 0);
}

#[tokio::test]
async fn what_cannot_be_an_id_names_nothing() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    for path in [
        "/v1/admin/users/x",
        "/v1/admin/users/00000000-0000-7000-8000-000000000000",
        "/v1/admin/users/x/sessions",
        "/v1/admin/sessions/x",
        "/v1/admin/sessions/AAAAAAAAAAAAAAAAAAAAAA",
        "/v1/admin/clients/nobody",
        "/v1/admin/clients/a%20b",
    ] {
        authority.get(path, &admin).await.expect_error(404, "not_found");
    }
    for path in ["/v1/admin/users/x/factors", "/v1/admin/users/x/sessions", "/v1/admin/sessions/x"] {
        authority.delete(path, &admin).await.expect_error(404, "not_found");
    }
    authority
        .post("/v1/admin/keys/nothing/withdraw", &admin, Value::Null)
        .await
        .expect_error(404, "not_found");
}
