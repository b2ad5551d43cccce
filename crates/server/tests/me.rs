//! My record, my phone and my password over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use http::{Method, StatusCode, header};
use reseal_core::user::UserPatch;
use serde_json::{Value, json};
use support::{
    Answer, Credential, NUMBER, OTHER_NUMBER, PASSWORD, START, TestAuthority, other_than, request,
};

const NEW_PASSWORD: &str = "quite another passphrase";

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut all: Vec<u16> = answers.iter().map(|a| a.status.as_u16()).collect();
    all.sort_unstable();
    all
}

/// The first step of the phone flow: challenge and code.
async fn start_phone(authority: &TestAuthority, with: &Credential, number: &str) -> (Value, String) {
    let started = authority.post("/v1/me/phone", with, json!({ "phone_number": number })).await;
    started.expect(StatusCode::ACCEPTED);
    (started.body["challenge"].clone(), authority.outbox.code())
}

fn answer(challenge: &Value, code: &str) -> Value {
    json!({ "challenge": challenge, "code": code })
}

// The record

#[tokio::test]
async fn my_record_has_its_revision_as_etag() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    for client_id in ["sliding", "cookie"] {
        let me = authority.get("/v1/me", &authority.login(client_id, "alice").await.credential()).await;
        me.expect(StatusCode::OK);
        assert_eq!((me.header("etag"), me.header("cache-control")), (Some("\"1\""), Some("no-store")));
        assert_eq!(
            me.body,
            json!({
                "sub": alice.to_string(), "username": "alice", "name": "Alice Example", "email": "alice@example.com",
                "phone_number": null, "phone_number_verified": false, "roles": ["member"], "attributes": {},
                "revision": 1, "created_at": START.secs(), "updated_at": START.secs(),
            })
        );
    }
    authority.get("/v1/me", &Credential::None).await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_change_shows_in_the_same_answer_and_in_the_next_renewal_of_another_device() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let phone = authority.login("refresh", "alice").await;
    let laptop = authority.login("sliding", "alice").await;
    authority.advance(5);
    let changed = authority.patch("/v1/me", &phone.credential(), json!({ "name": "Alice Cooper" })).await;
    changed.expect(StatusCode::OK);
    assert_eq!(changed.header("etag"), Some("\"2\""));
    assert_eq!(changed.body["user"]["name"], "Alice Cooper");
    assert_eq!((&changed.claims()["name"], &changed.claims()["rev"]), (&"Alice Cooper".into(), &2.into()));
    assert_eq!(changed.claims()["sid"], phone.claims()["sid"]);
    assert!(changed.body["refresh_token"].is_null(), "the one held stays good");
    assert_eq!(authority.events().await, ["claims-changed"]);
    assert_eq!(authority.timeline(phone.sid()).await, ["started", "resealed"]);

    let renewed = authority.post("/v1/session/renew", &laptop.credential(), Value::Null).await;
    assert_eq!((&renewed.body["renewed"], &renewed.claims()["name"]), (&true.into(), &"Alice Cooper".into()));
    assert_eq!(authority.refresh("refresh", &phone).await.claims()["name"], "Alice Cooper");
}

#[tokio::test]
async fn a_resealed_token_lives_no_longer_than_the_one_it_replaces_unless_it_slides() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    for (client_id, gained) in [("refresh", 0), ("fixed", 0)] {
        let login = authority.login(client_id, "alice").await;
        authority.advance(100);
        let name = json!({ "name": format!("Alice of {client_id}") });
        let changed = authority.patch("/v1/me", &login.credential(), name).await;
        let (old, new) = (login.claims(), changed.claims());
        assert_eq!(new["exp"].as_i64().unwrap() - old["exp"].as_i64().unwrap(), gained, "{client_id}");
        assert_eq!(new["iat"].as_i64().unwrap() - old["iat"].as_i64().unwrap(), 100);
        assert_eq!(changed.body["expires_in"], new["exp"].as_i64().unwrap() - new["iat"].as_i64().unwrap());
    }
}

#[tokio::test]
async fn a_service_gets_the_users_token_resealed_after_it_changed_the_record() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    for client_id in ["refresh", "fixed"] {
        let login = authority.login(client_id, "alice").await;
        let credential = login.credential();
        let renew = || authority.post("/v1/session/renew", &credential, Value::Null);
        assert_eq!(renew().await.body["renewed"], false, "{client_id}: nothing has changed yet");
        authority.advance(100);
        let name = format!("Alice of {client_id}");
        authority
            .patch_user(alice, UserPatch { name: Some(Some(name.clone())), ..UserPatch::default() })
            .await;
        let resealed = renew().await;
        assert_eq!((&resealed.body["renewed"], &resealed.claims()["name"]), (&true.into(), &name.into()));
        assert_eq!(resealed.claims()["exp"], login.claims()["exp"], "{client_id}: no time is gained");
        assert!(resealed.body["refresh_token"].is_null(), "a refresh token only rotates");
        if client_id == "refresh" {
            authority.refresh(client_id, &login).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_change_that_changes_nothing_bumps_nothing() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("cookie", "alice").await.credential();
    for body in [json!({}), json!({ "name": "Alice Example" })] {
        let same = authority.patch("/v1/me", &login, body).await;
        same.expect(StatusCode::OK);
        assert_eq!((same.header("etag"), &same.body["user"]["revision"]), (Some("\"1\""), &1.into()));
    }
    assert_eq!(authority.record(alice).await.version, 1);
    assert!(authority.events().await.is_empty());
}

#[tokio::test]
async fn only_what_the_configuration_lists_can_be_written() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    for member in [
        "email",
        "roles",
        "phone_number",
        "phone_number_verified",
        "username",
        "disabled",
        "attributes",
        "nick",
    ] {
        let value = if member == "attributes" { json!({ "plan": "gold" }) } else { json!("x") };
        let refused = authority.patch("/v1/me", &login, json!({ "name": "New", member: value })).await;
        refused.expect_error(403, "not_writable");
    }
    assert_eq!(authority.record(alice).await.revision, 1, "not even the name was written");

    let authority = TestAuthority::with(|config| {
        config.users.user_writable = vec!["email".to_owned(), "attributes.color".to_owned()];
    })
    .await;
    authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    let body = json!({ "email": null, "attributes": { "color": { "r": 1 } } });
    let changed = authority.patch("/v1/me", &login, body).await;
    changed.expect(StatusCode::OK);
    assert_eq!(changed.claims()["attributes"], json!({ "plan": null, "color": { "r": 1 } }));
    assert_eq!(changed.claims()["email"], Value::Null);
    for refused in [json!({ "name": "New" }), json!({ "attributes": { "plan": 1 } })] {
        authority.patch("/v1/me", &login, refused).await.expect_error(403, "not_writable");
    }
    let removed = authority.patch("/v1/me", &login, json!({ "attributes": { "color": null } })).await;
    assert_eq!(removed.body["user"]["attributes"], json!({}));
}

#[tokio::test]
async fn a_value_that_no_record_may_have_is_refused_by_name() {
    let authority = TestAuthority::with(|c| c.users.user_writable.push("email".to_owned())).await;
    authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    for (body, member) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x".repeat(300) }), "name"),
        (json!({ "email": "nobody" }), "email"),
    ] {
        let refused = authority.patch("/v1/me", &login, body).await;
        refused.expect_error(400, "invalid_request");
        assert!(refused.body["error_description"].as_str().unwrap().starts_with(member));
    }
    authority.patch("/v1/me", &login, json!({ "name": 7 })).await.expect_error(400, "invalid_request");
    authority.patch("/v1/me", &login, json!([])).await.expect_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_different_attributes_at_once_lose_nothing() {
    let names: Vec<String> = (0..16).map(|n| format!("a{n}")).collect();
    let writable = names.iter().map(|n| format!("attributes.{n}")).collect();
    let authority = TestAuthority::with(|c| c.users.user_writable = writable).await;
    let alice = authority.user("alice").await;
    let login = authority.login("refresh", "alice").await.credential();
    let requests = names.iter().map(|name| {
        request(Method::PATCH, "/v1/me", &login, &json!({ "attributes": { name.as_str(): name } }))
    });
    let answers = authority.send_all(requests).await;
    assert_eq!(statuses(&answers), [200; 16]);
    let record = authority.record(alice).await;
    assert_eq!(record.attributes.keys().count(), 16, "{:?}", record.attributes);
    assert_eq!(record.revision, 17, "one per change");
    assert_eq!(authority.events().await.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn if_match_lets_only_the_revision_it_names_be_changed() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    let change = |name: &str, tag: &'static str| {
        let mut request = request(Method::PATCH, "/v1/me", &login, &json!({ "name": name }));
        request.headers_mut().insert(header::IF_MATCH, header::HeaderValue::from_static(tag));
        request
    };
    authority.send(change("One", "\"2\"")).await.expect_error(412, "precondition_failed");
    let answers = authority.send_all((0..8).map(|n| change(&format!("Name {n}"), "\"1\""))).await;
    assert_eq!(statuses(&answers), [200, 412, 412, 412, 412, 412, 412, 412]);
    assert_eq!(authority.record(alice).await.revision, 2);
    authority.send(change("Any", "*")).await.expect(StatusCode::OK);
    authority.send(change("Bad", "2")).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn a_session_that_ends_between_reading_and_writing_changes_nothing() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    let mut held = authority.gate.hold_next_commit();
    let change = request(Method::PATCH, "/v1/me", &login, &json!({ "name": "Changed" }));
    let change = authority.spawn(change);
    held.reached().await;
    authority.delete("/v1/session", &login).await.expect(StatusCode::NO_CONTENT);
    held.release();
    let over = change.await.unwrap();
    over.expect_error(401, "invalid_token");
    assert_eq!(over.body["reason"], "signed_out");
    assert_eq!(authority.record(alice).await.revision, 1);
}

#[tokio::test]
async fn the_slower_of_two_changes_is_made_to_the_newest_record() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("cookie", "alice").await.credential();
    let mut held = authority.gate.hold_next_commit();
    let slow = authority.spawn(request(Method::PATCH, "/v1/me", &login, &json!({ "name": "Changed" })));
    held.reached().await;
    let roles = UserPatch { roles: Some(vec!["admin".to_owned()]), ..UserPatch::default() };
    authority.patch_user(alice, roles).await;
    held.release();
    let slow = slow.await.unwrap();
    slow.expect(StatusCode::OK);
    assert_eq!(
        (&slow.body["user"]["name"], &slow.body["user"]["roles"], slow.header("etag")),
        (&"Changed".into(), &json!(["admin"]), Some("\"3\""))
    );
}

// The phone

#[tokio::test]
async fn turning_on_the_phone_puts_it_into_this_token_at_once_and_into_others_at_their_renewal() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("refresh", "alice").await;
    let other = authority.login("sliding", "alice").await;
    assert_eq!(mine.claims()["phone_number"], Value::Null);
    authority.advance(30);

    let started = authority
        .post("/v1/me/phone", &mine.credential(), json!({ "phone_number": "+1 (202) 555-0123" }))
        .await;
    started.expect(StatusCode::ACCEPTED);
    assert_eq!(started.body["expires_in"], 300);
    let (to, text) = authority.outbox.newest();
    assert_eq!(to, NUMBER);
    assert!(text.contains("confirm this phone"), "{text}");
    let record = authority.record(alice).await;
    assert_eq!(
        (record.phone_number, record.revision),
        (None, 1),
        "nothing changes before the code comes back"
    );

    let body = answer(&started.body["challenge"], &authority.outbox.code());
    let on = authority.post("/v1/me/phone/verify", &mine.credential(), body.clone()).await;
    on.expect(StatusCode::OK);
    assert_eq!(on.header("cache-control"), Some("no-store"));
    assert!(on.body["refresh_token"].is_null());
    let claims = on.claims();
    assert_eq!((&claims["phone_number"], &claims["phone_number_verified"]), (&NUMBER.into(), &true.into()));
    assert_eq!((&claims["acr"], &claims["amr"]), (&"aal2".into(), &json!(["pwd", "sms", "mfa"])));
    assert_eq!((&claims["sid"], &claims["rev"]), (&mine.claims()["sid"], &2.into()));
    assert_eq!(claims["exp"], mine.claims()["exp"], "a resealed token gains no time");
    assert_eq!(on.body["recovery_codes"].as_array().unwrap().len(), 10);
    let (_, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert_eq!(secrets.recovery_codes.len(), 10);
    assert_eq!(authority.events().await, ["claims-changed"]);
    assert_eq!(authority.timeline(mine.sid()).await, ["started", "factor_passed", "resealed"]);
    authority
        .post("/v1/me/phone/verify", &mine.credential(), body)
        .await
        .expect_error(400, "invalid_challenge");

    let refreshed = authority.refresh("refresh", &mine).await;
    refreshed.expect(StatusCode::OK);
    assert_eq!(
        (&refreshed.claims()["phone_number"], &refreshed.claims()["acr"]),
        (&NUMBER.into(), &"aal2".into())
    );
    let renewed = authority.post("/v1/session/renew", &other.credential(), Value::Null).await;
    assert_eq!(renewed.claims()["phone_number"], NUMBER, "the other session stays, and learns of it");
    assert_eq!(renewed.claims()["acr"], "aal1");
    // An access token from before the step-up vouches for no more than it did.
    assert_eq!(authority.get("/v1/session", &mine.credential()).await.body["acr"], "aal1");
}

#[tokio::test]
async fn the_second_factor_gives_the_cookie_a_new_value() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let old = authority.login("cookie", "alice").await;
    let on = authority.turn_on_phone(&old.credential()).await;
    assert!(on.body["access_token"].is_null());
    assert_eq!(on.body["session"]["acr"], "aal2");
    assert_eq!(on.body["recovery_codes"].as_array().unwrap().len(), 10);
    let new = on.credential();
    assert_ne!(on.cookie(), old.cookie());
    // Until the new one is used the old one answers, at its old level.
    assert_eq!(authority.get("/v1/session", &old.credential()).await.body["acr"], "aal1");
    assert_eq!(authority.get("/v1/session", &new).await.body["acr"], "aal2");
    let superseded = authority.get("/v1/session", &old.credential()).await;
    superseded.expect_error(401, "invalid_token");
    assert_eq!(superseded.body["reason"], "superseded");
    authority.get("/v1/session", &new).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_cookie_that_was_replaced_a_while_ago_changes_no_privileges() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let old = authority.login("cookie", "alice").await.credential();
    let new = authority.turn_on_phone(&old).await.credential();
    authority.advance(30);
    authority.get("/v1/me", &old).await.expect(StatusCode::OK);
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let refused = authority.put("/v1/me/password", &old, body).await;
    refused.expect_error(401, "invalid_token");
    assert_eq!(refused.body["reason"], "superseded");
    let refused = authority.post("/v1/me/phone", &old, json!({ "phone_number": OTHER_NUMBER })).await;
    assert_eq!(refused.body["reason"], "superseded");
    assert_eq!(authority.get("/v1/session", &new).await.body["acr"], "aal2", "the session lives");
}

#[tokio::test]
async fn a_wrong_code_counts_and_only_the_session_that_asked_may_answer() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    authority.user("bob").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let (challenge, code) = start_phone(&authority, &mine, NUMBER).await;
    for stranger in [("sliding", "alice"), ("sliding", "bob")] {
        let stranger = authority.login(stranger.0, stranger.1).await.credential();
        let refused = authority.post("/v1/me/phone/verify", &stranger, answer(&challenge, &code)).await;
        refused.expect_error(400, "invalid_challenge");
    }
    let wrong = answer(&challenge, &other_than(&code));
    for left in (1..5).rev() {
        let refused = authority.post("/v1/me/phone/verify", &mine, wrong.clone()).await;
        refused.expect_error(400, "invalid_code");
        assert_eq!(refused.body["tries_left"], left);
    }
    authority.post("/v1/me/phone/verify", &mine, answer(&challenge, &code)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_code_for_the_phone_dies_after_five_minutes() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let (challenge, code) = start_phone(&authority, &mine, NUMBER).await;
    authority.advance(300);
    let late = authority.post("/v1/me/phone/verify", &mine, answer(&challenge, &code)).await;
    late.expect_error(400, "invalid_challenge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_at_once_get_five_tries_and_right_codes_at_once_work_once() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("refresh", "alice").await.credential();
    let verify = |body: &Value| request(Method::POST, "/v1/me/phone/verify", &mine, body);

    let (challenge, code) = start_phone(&authority, &mine, NUMBER).await;
    let wrong = answer(&challenge, &other_than(&code));
    let answers = authority.send_all((0..20).map(|_| verify(&wrong))).await;
    assert_eq!(answers.iter().filter(|a| a.error() == "invalid_code").count(), 5);
    assert_eq!(answers.iter().filter(|a| a.error() == "invalid_challenge").count(), 15);
    authority.send(verify(&answer(&challenge, &code))).await.expect_error(400, "invalid_challenge");

    let (challenge, code) = start_phone(&authority, &mine, NUMBER).await;
    let right = answer(&challenge, &code);
    let answers = authority.send_all((0..50).map(|_| verify(&right))).await;
    assert_eq!(answers.iter().filter(|a| a.status == StatusCode::OK).count(), 1);
    assert_eq!(answers.iter().filter(|a| a.error() == "invalid_challenge").count(), 49);
}

#[tokio::test]
async fn a_number_must_be_one_that_can_exist() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    for bad in ["", "12345", "0151 12345678", "+999123456", "+1 202 555 012", "call me"] {
        let refused = authority.post("/v1/me/phone", &mine, json!({ "phone_number": bad })).await;
        refused.expect_error(400, "invalid_phone_number");
    }
    assert_eq!(authority.outbox.len(), 0);
}

#[tokio::test]
async fn when_no_message_can_be_sent_nothing_is_half_done() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    authority.outbox.fail(true);
    let unsent = authority.post("/v1/me/phone", &mine, json!({ "phone_number": NUMBER })).await;
    unsent.expect_error(503, "temporarily_unavailable");
    assert!(unsent.header("retry-after").is_some() && unsent.body["challenge"].is_null());
    assert_eq!(authority.record(alice).await.phone_number, None);
    authority.outbox.fail(false);
    authority.turn_on_phone(&mine).await;
}

#[tokio::test]
async fn a_number_gets_only_so_many_messages_in_a_day_whoever_asks() {
    let authority = TestAuthority::start().await;
    let mut limited = None;
    for n in 0..5 {
        let name = format!("user{n}");
        authority.user(&name).await;
        let mine = authority.login("sliding", &name).await.credential();
        for _ in 0..6 {
            let started = authority.post("/v1/me/phone", &mine, json!({ "phone_number": NUMBER })).await;
            if started.status != StatusCode::ACCEPTED {
                limited = Some(started);
            }
        }
    }
    assert_eq!(authority.outbox.len(), 20);
    let limited = limited.expect("nothing was limited");
    limited.expect_error(429, "too_many_requests");
    assert!(limited.header("retry-after").is_some());
}

#[tokio::test]
async fn a_login_that_is_not_recent_needs_the_current_password() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    authority.advance(301);
    let number = json!({ "phone_number": NUMBER });
    for refused in [
        authority.post("/v1/me/phone", &mine, number.clone()).await,
        authority.delete("/v1/me/phone", &mine).await,
    ] {
        refused.expect_error(401, "insufficient_user_authentication");
        assert_eq!(refused.body["max_age"], 300);
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!(challenge, "Bearer error=\"insufficient_user_authentication\", max_age=\"300\"");
    }
    let with = |password: &str| json!({ "phone_number": NUMBER, "current_password": password });
    authority.post("/v1/me/phone", &mine, with("wrong")).await.expect_error(403, "invalid_credentials");
    authority.post("/v1/me/phone", &mine, with(PASSWORD)).await.expect(StatusCode::ACCEPTED);
    assert_eq!(authority.outbox.len(), 1);
    authority.get("/v1/session", &mine).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_current_password_cannot_be_guessed_without_limit() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("fixed", "alice").await.credential();
    let wrong = json!({ "current_password": "wrong", "new_password": NEW_PASSWORD });
    let mut answers = Vec::new();
    for _ in 0..30 {
        let refused = authority.put("/v1/me/password", &mine, wrong.clone()).await;
        let limited = refused.status == StatusCode::TOO_MANY_REQUESTS;
        answers.push(refused);
        if limited {
            break;
        }
    }
    let limited = answers.pop().unwrap();
    limited.expect_error(429, "too_many_requests");
    assert!(limited.header("retry-after").is_some());
    assert!(!answers.is_empty() && answers.iter().all(|a| a.error() == "invalid_credentials"));
    authority.get("/v1/session", &mine).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn turning_the_phone_off_takes_it_out_of_the_token_and_of_the_login() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let other = authority.login("refresh", "alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let on = authority.turn_on_phone(&mine).await.credential();
    let epoch = authority.record(alice).await.auth_epoch;
    let off = authority.delete("/v1/me/phone", &on).await;
    off.expect(StatusCode::NO_CONTENT);
    assert_eq!(off.header("cache-control"), Some("no-store"));
    let token = off.header("renewed-access-token").expect("the resealed token");
    let claims = support::claims(token);
    assert_eq!((&claims["phone_number"], &claims["phone_number_verified"]), (&Value::Null, &false.into()));
    authority.get("/v1/session", &Credential::Bearer(token.to_owned())).await.expect(StatusCode::OK);
    let (record, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert!(record.phone_number.is_none() && secrets.recovery_codes.is_empty());
    assert!(record.auth_epoch > epoch && secrets.password.is_some());
    authority.login("sliding", "alice").await;
    authority.refresh("refresh", &other).await.expect(StatusCode::OK);

    let revision = record.revision;
    authority.delete("/v1/me/phone", &on).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(authority.record(alice).await.revision, revision, "it was off already");
}

#[tokio::test]
async fn the_number_can_be_changed_and_the_same_one_proved_again() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await.credential();
    let first = authority.turn_on_phone(&login).await;
    let revision = authority.record(alice).await.revision;
    let again = authority.turn_on_phone(&first.credential()).await;
    assert_eq!(authority.record(alice).await.revision, revision, "its claims did not change");
    assert_ne!(again.body["recovery_codes"], first.body["recovery_codes"]);
    let (_, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert_eq!(secrets.recovery_codes.len(), 10, "only the newest codes are good");

    let (challenge, code) = start_phone(&authority, &again.credential(), OTHER_NUMBER).await;
    let changed = authority.post("/v1/me/phone/verify", &again.credential(), answer(&challenge, &code)).await;
    assert_eq!(changed.claims()["phone_number"], OTHER_NUMBER);
    authority.try_login("sliding", "alice").await.expect_error(403, "second_factor_required");
    assert_eq!(authority.outbox.newest().0, OTHER_NUMBER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_phones_at_once_one_is_on_and_the_other_challenge_is_void() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let one = authority.login("sliding", "alice").await.credential();
    let two = authority.login("refresh", "alice").await.credential();
    let (challenge_one, code_one) = start_phone(&authority, &one, NUMBER).await;
    let (challenge_two, code_two) = start_phone(&authority, &two, OTHER_NUMBER).await;
    let answers = authority
        .send_all([
            request(Method::POST, "/v1/me/phone/verify", &one, &answer(&challenge_one, &code_one)),
            request(Method::POST, "/v1/me/phone/verify", &two, &answer(&challenge_two, &code_two)),
        ])
        .await;
    assert_eq!(statuses(&answers), [200, 400]);
    let won = answers.iter().find(|a| a.status == StatusCode::OK).unwrap();
    let record = authority.record(alice).await;
    assert_eq!(record.phone_number.as_deref(), won.claims()["phone_number"].as_str());
    assert_eq!(record.revision, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_touch_that_races_a_second_factor_loses_neither() {
    let authority = TestAuthority::start().await;
    let half_life = 7 * 86_400;
    for round in 0..10 {
        let name = format!("user{round}");
        authority.user(&name).await;
        let cookie = authority.login("cookie", &name).await.credential();
        authority.advance(half_life);
        let body =
            json!({ "phone_number": format!("+120255501{:02}", 10 + round), "current_password": PASSWORD });
        let started = authority.post("/v1/me/phone", &cookie, body).await;
        started.expect(StatusCode::ACCEPTED);
        let body = answer(&started.body["challenge"], &authority.outbox.code());
        let mut requests = vec![request(Method::POST, "/v1/me/phone/verify", &cookie, &body)];
        requests.extend((0..6).map(|_| request(Method::POST, "/v1/session/renew", &cookie, &Value::Null)));
        let answers = authority.send_all(requests).await;
        assert_eq!(statuses(&answers), [200; 7]);
        assert!(
            answers[1..].iter().all(|a| a.body["session"]["acr"] == "aal1"),
            "the old value vouches for no more"
        );
        let seen = authority.get("/v1/session", &answers[0].credential()).await;
        seen.expect(StatusCode::OK);
        assert_eq!(seen.body["acr"], "aal2");
        let now = authority.app.clock.now().secs();
        assert_eq!(seen.body["idle_expires_at"], now + 14 * 86_400, "the touch was not undone");
    }
}

#[tokio::test]
async fn a_second_factor_decided_on_before_a_touch_keeps_both() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let cookie = authority.login("cookie", "alice").await.credential();
    authority.advance(7 * 86_400);
    let body = json!({ "phone_number": NUMBER, "current_password": PASSWORD });
    let started = authority.post("/v1/me/phone", &cookie, body).await;
    let body = answer(&started.body["challenge"], &authority.outbox.code());
    let mut held = authority.gate.hold_next_commit();
    let verify = authority.spawn(request(Method::POST, "/v1/me/phone/verify", &cookie, &body));
    held.reached().await;
    let touched = authority.post("/v1/session/renew", &cookie, Value::Null).await;
    assert_eq!((&touched.body["renewed"], &touched.body["session"]["acr"]), (&true.into(), &"aal1".into()));
    held.release();
    let on = verify.await.unwrap();
    on.expect(StatusCode::OK);
    let seen = authority.get("/v1/session", &on.credential()).await;
    assert_eq!(
        (&seen.body["acr"], &seen.body["idle_expires_at"]),
        (&"aal2".into(), &touched.body["session"]["idle_expires_at"])
    );
}

// The password

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_issues_this_one_anew() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let bob = authority.user("bob").await;
    let others = [authority.login("sliding", "alice").await, authority.login("cookie", "alice").await];
    let stranger = authority.login("sliding", "bob").await;
    let mine = authority.login("refresh", "alice").await;
    let before = authority.record(alice).await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let changed = authority.put("/v1/me/password", &mine.credential(), body).await;
    changed.expect(StatusCode::OK);
    assert_eq!(changed.sid(), mine.sid());
    for other in &others {
        let over = authority.get("/v1/session", &other.credential()).await;
        over.expect_error(401, "invalid_token");
        assert_eq!(over.body["reason"], "password_changed");
        assert_eq!(authority.timeline(other.sid()).await, ["started", "ended"]);
    }
    assert_eq!(authority.events().await, ["session-ended", "session-ended"]);
    authority.get("/v1/session", &changed.credential()).await.expect(StatusCode::OK);
    authority.refresh("refresh", &mine).await.expect(StatusCode::OK);
    authority.get("/v1/session", &stranger.credential()).await.expect(StatusCode::OK);
    let after = authority.record(alice).await;
    assert_eq!((after.revision, after.auth_epoch), (before.revision, before.auth_epoch + 1));
    assert_eq!(authority.record(bob).await.auth_epoch, 1);

    authority.try_login("sliding", "alice").await.expect_error(401, "invalid_credentials");
    let login = json!({ "client_id": "sliding", "username": "alice", "password": NEW_PASSWORD });
    authority.post("/v1/session", &Credential::None, login).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_new_password_gives_the_cookie_a_new_value() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let old = authority.login("cookie", "alice").await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let changed = authority.put("/v1/me/password", &old.credential(), body).await;
    changed.expect(StatusCode::OK);
    assert_ne!(changed.cookie().unwrap(), old.cookie().unwrap());
    authority.get("/v1/session", &changed.credential()).await.expect(StatusCode::OK);
    let superseded = authority.get("/v1/session", &old.credential()).await;
    assert_eq!(superseded.body["reason"], "superseded");
}

#[tokio::test]
async fn a_weak_or_wrong_password_changes_nothing() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    for weak in ["short", "password1234"] {
        let refused = authority.put("/v1/me/password", &mine, change(PASSWORD, weak)).await;
        refused.expect_error(400, "weak_password");
        assert!(refused.body["reason"].is_string());
    }
    let refused = authority.put("/v1/me/password", &mine, change("wrong", NEW_PASSWORD)).await;
    refused.expect_error(403, "invalid_credentials");
    assert!(refused.header("www-authenticate").is_none(), "nobody is signed out by a typing error");
    assert_eq!(authority.record(alice).await.auth_epoch, 1);
    authority.login("sliding", "alice").await;
    authority.get("/v1/session", &mine).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_that_races_a_password_change_does_not_survive_it() {
    let authority = TestAuthority::start().await;
    for round in 0..6 {
        let name = format!("user{round}");
        authority.user(&name).await;
        let mine = authority.login("sliding", &name).await.credential();
        let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        let login = json!({ "client_id": "refresh", "username": name, "password": PASSWORD });
        let mut requests = vec![request(Method::PUT, "/v1/me/password", &mine, &change)];
        requests.extend((0..3).map(|_| request(Method::POST, "/v1/session", &Credential::None, &login)));
        let answers = authority.send_all(requests).await;
        answers[0].expect(StatusCode::OK);
        for login in &answers[1..] {
            if login.status == StatusCode::CREATED {
                let over = authority.refresh("refresh", login).await;
                over.expect_error(400, "invalid_grant");
                assert_eq!(over.body["reason"], "password_changed");
            } else {
                login.expect_error(401, "invalid_credentials");
            }
        }
    }
}

#[tokio::test]
async fn a_login_whose_password_was_right_before_the_change_starts_no_session_after_it() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let login = json!({ "client_id": "refresh", "username": "alice", "password": PASSWORD });
    let mut held = authority.gate.hold_next_commit();
    let login = authority.spawn(request(Method::POST, "/v1/session", &Credential::None, &login));
    held.reached().await;
    let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    authority.put("/v1/me/password", &mine, change).await.expect(StatusCode::OK);
    held.release();
    login.await.unwrap().expect_error(401, "invalid_credentials");
    assert_eq!(authority.app.store.sessions_of_user(alice, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_session_that_starts_while_the_password_changes_is_ended_with_the_others() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let mut held = authority.gate.hold_next_commit();
    let change = authority.spawn(request(Method::PUT, "/v1/me/password", &mine, &body));
    held.reached().await;
    let other = authority.login("refresh", "alice").await;
    held.release();
    change.await.unwrap().expect(StatusCode::OK);
    let over = authority.refresh("refresh", &other).await;
    over.expect_error(400, "invalid_grant");
    assert_eq!(over.body["reason"], "password_changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_password_changes_at_once_one_wins_and_the_other_device_is_out() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let one = authority.login("sliding", "alice").await.credential();
    let two = authority.login("sliding", "alice").await.credential();
    let change = |new: &str| json!({ "current_password": PASSWORD, "new_password": new });
    let answers = authority
        .send_all([
            request(Method::PUT, "/v1/me/password", &one, &change("the first new passphrase")),
            request(Method::PUT, "/v1/me/password", &two, &change("the second new passphrase")),
        ])
        .await;
    assert_eq!(answers.iter().filter(|a| a.status == StatusCode::OK).count(), 1, "{:?}", statuses(&answers));
    let live = [authority.get("/v1/session", &one).await, authority.get("/v1/session", &two).await];
    assert_eq!(live.iter().filter(|a| a.status == StatusCode::OK).count(), 1);
}

// Who may call

#[tokio::test]
async fn a_disabled_user_and_a_clients_own_token_have_no_record_to_change() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    authority.patch_user(alice, UserPatch { disabled: Some(true), ..UserPatch::default() }).await;
    let over = authority.get("/v1/me", &mine).await;
    over.expect_error(401, "invalid_token");
    assert_eq!(over.body["reason"], "user_disabled");

    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_id", support::SERVICE),
        ("client_secret", support::SERVICE_SECRET),
    ];
    let own = authority.form("/oauth/token", &pairs).await.credential();
    authority.get("/v1/me", &own).await.expect_error(403, "no_session");
    authority.patch("/v1/me", &own, json!({ "name": "X" })).await.expect_error(403, "no_session");
}

#[tokio::test]
async fn a_cross_site_request_with_the_cookie_changes_nothing() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("cookie", "alice").await.credential();
    for (method, path, body) in [
        (Method::PATCH, "/v1/me", json!({ "name": "Mallory" })),
        (Method::POST, "/v1/me/phone", json!({ "phone_number": NUMBER })),
        (Method::DELETE, "/v1/me/phone", Value::Null),
        (
            Method::PUT,
            "/v1/me/password",
            json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD }),
        ),
    ] {
        let mut foreign = request(method, path, &mine, &body);
        foreign.headers_mut().insert(header::ORIGIN, "https://evil.test".parse().unwrap());
        let refused = authority.send(foreign).await;
        refused.expect_error(403, "cross_site_request");
        assert!(refused.cookie().is_none());
    }
    assert_eq!(authority.record(alice).await.version, 1);
    assert_eq!(authority.outbox.len(), 0);
}
