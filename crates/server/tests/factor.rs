//! The second step of a login over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use http::{Method, StatusCode, header};
use reseal_core::UserId;
use reseal_core::client::SecretHash;
use reseal_core::user::UserPatch;
use serde_json::{Value, json};
use support::{
    Answer, Credential, NUMBER, PASSWORD, SERVICE, SERVICE_SECRET, START, TestAuthority, other_than, request,
};

const FACTOR: &str = "/v1/session/factor";
const RESEND: &str = "/v1/session/factor/resend";

/// A user with the phone as second factor, and his recovery codes. No message is less than 30 s old.
async fn with_second_factor(authority: &TestAuthority) -> (UserId, Vec<String>) {
    let id = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await;
    let on = authority.turn_on_phone(&login.credential()).await;
    let codes = serde_json::from_value(on.body["recovery_codes"].clone()).unwrap();
    authority.advance(60);
    (id, codes)
}

/// The password step; the challenge.
async fn challenge(authority: &TestAuthority, client_id: &str) -> Value {
    let answer = authority.try_login(client_id, "alice").await;
    answer.expect_error(403, "second_factor_required");
    answer.body["challenge"].clone()
}

fn by_phone(challenge: &Value, code: &str) -> Value {
    json!({ "challenge": challenge, "factor": "phone", "code": code })
}

fn by_recovery_code(challenge: &Value, code: &str) -> Value {
    json!({ "challenge": challenge, "factor": "recovery_code", "code": code })
}

async fn answer(authority: &TestAuthority, body: Value) -> Answer {
    authority.post(FACTOR, &Credential::None, body).await
}

/// Whether any of the million codes is the challenge's.
async fn some_code_opens(authority: &TestAuthority, challenge: &Value) -> bool {
    let id = SecretHash::of(challenge.as_str().unwrap());
    let stored = authority.app.store.challenge(&id).await.unwrap().unwrap();
    let ring = &authority.app.keys.load().ring;
    (0..1_000_000)
        .any(|n| ring.code_hash(stored.key_id, &id.0, &format!("{n:06}")).unwrap() == stored.code_hash.0)
}

fn count(answers: &[Answer], status: u16, code: &str) -> usize {
    answers.iter().filter(|a| a.status.as_u16() == status && a.error() == code).count()
}

#[tokio::test]
async fn a_login_with_second_factor_sends_a_code_and_the_code_lets_in() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let asked = authority.try_login("sliding", "alice").await;
    asked.expect_error(403, "second_factor_required");
    assert_eq!(
        asked.body["factors"],
        json!([{ "factor": "phone", "hint": "••• 23" }, { "factor": "recovery_code" }])
    );
    assert_eq!(asked.body["expires_in"], 300);
    assert_eq!(asked.header("cache-control"), Some("no-store"));
    assert!(asked.body["access_token"].is_null() && asked.cookie().is_none());
    let (to, text) = authority.outbox.newest();
    assert_eq!(to, NUMBER);
    assert!(text.contains("sign in to The sliding app"), "{text}");

    authority.advance(20);
    let code = authority.outbox.code();
    let login = answer(&authority, by_phone(&asked.body["challenge"], &code)).await;
    login.expect(StatusCode::CREATED);
    let claims = login.claims();
    assert_eq!(claims["acr"], "aal2");
    assert_eq!(claims["amr"], json!(["pwd", "sms", "mfa"]));
    assert_eq!(claims["phone_number"], NUMBER);
    assert_eq!(claims["auth_time"], START.secs() + 80);
    assert_eq!(authority.timeline(login.sid()).await, ["started", "factor_passed"]);
    authority.get("/v1/session", &login.credential()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn every_kind_of_client_gets_its_credential_in_the_second_step() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    for client_id in ["sliding", "fixed", "refresh", "cookie"] {
        let challenge = challenge(&authority, client_id).await;
        let login = answer(&authority, by_phone(&challenge, &authority.outbox.code())).await;
        login.expect(StatusCode::CREATED);
        assert_eq!(login.body["session"]["kind"], client_id);
        assert_eq!(login.body["session"]["acr"], "aal2");
        assert_eq!(login.body["refresh_token"].is_string(), client_id == "refresh");
        assert_eq!(login.cookie().is_some(), client_id == "cookie");
        authority.get("/v1/me", &login.credential()).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_code_is_good_once() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let body = by_phone(&challenge(&authority, "sliding").await, &authority.outbox.code());
    answer(&authority, body.clone()).await.expect(StatusCode::CREATED);
    answer(&authority, body).await.expect_error(400, "invalid_challenge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_right_codes_at_once_one_lets_in() {
    let authority = TestAuthority::start().await;
    let (alice, _) = with_second_factor(&authority).await;
    let body = by_phone(&challenge(&authority, "refresh").await, &authority.outbox.code());
    let requests = (0..50).map(|_| request(Method::POST, FACTOR, &Credential::None, &body));
    let answers = authority.send_all(requests).await;
    assert_eq!(count(&answers, 201, ""), 1);
    assert_eq!(count(&answers, 400, "invalid_challenge"), 49);
    let sessions = authority.app.store.sessions_of_user(alice, None, 100).await.unwrap();
    assert_eq!(sessions.len(), 2, "the one that turned it on, and one login");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_wrong_codes_at_once_five_count_and_the_right_one_comes_too_late() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    let code = authority.outbox.code();
    let wrong = by_phone(&challenge, &other_than(&code));
    let requests = (0..20).map(|_| request(Method::POST, FACTOR, &Credential::None, &wrong));
    let answers = authority.send_all(requests).await;
    let mut left: Vec<u64> = answers.iter().filter_map(|a| a.body["tries_left"].as_u64()).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert_eq!(count(&answers, 400, "invalid_code"), 5);
    assert_eq!(count(&answers, 400, "invalid_challenge"), 15);
    answer(&authority, by_phone(&challenge, &code)).await.expect_error(400, "invalid_challenge");
}

#[tokio::test]
async fn four_wrong_codes_leave_one_try() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    let code = authority.outbox.code();
    for (wrong, left) in [(other_than(&code).as_str(), 4), ("", 3), ("12345", 2), ("not a code", 1)] {
        let refused = answer(&authority, by_phone(&challenge, wrong)).await;
        refused.expect_error(400, "invalid_code");
        assert_eq!(refused.body["tries_left"], left);
    }
    let spaced = format!(" {} {}", &code[..3], &code[3..]);
    answer(&authority, by_phone(&challenge, &spaced)).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_code_dies_after_five_minutes() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let early = challenge(&authority, "sliding").await;
    let early_code = authority.outbox.code();
    authority.advance(1);
    let late = challenge(&authority, "sliding").await;
    let late_code = authority.outbox.code();
    authority.advance(299);
    answer(&authority, by_phone(&early, &early_code)).await.expect_error(400, "invalid_challenge");
    answer(&authority, by_phone(&late, &late_code)).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_code_is_sent_again_after_half_a_minute_and_twice_at_most() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    let first = authority.outbox.code();
    let again = json!({ "challenge": challenge });
    let resend = || authority.post(RESEND, &Credential::None, again.clone());

    authority.advance(10);
    let early = resend().await;
    early.expect_error(429, "too_many_requests");
    assert_eq!(early.header("retry-after"), Some("20"));
    authority.advance(20);
    let sent = resend().await;
    sent.expect(StatusCode::ACCEPTED);
    assert_eq!(sent.body, json!({ "challenge": challenge, "expires_in": 270 }));
    let second = authority.outbox.code();
    if first != second {
        answer(&authority, by_phone(&challenge, &first)).await.expect_error(400, "invalid_code");
    }
    authority.advance(30);
    resend().await.expect(StatusCode::ACCEPTED);
    authority.advance(30);
    let messages = authority.outbox.len();
    let over = resend().await;
    over.expect_error(429, "too_many_requests");
    assert_eq!(over.header("retry-after"), Some("210"));
    assert_eq!(authority.outbox.len(), messages);
    let newest = authority.outbox.code();
    answer(&authority, by_phone(&challenge, &newest)).await.expect(StatusCode::CREATED);
    resend().await.expect_error(400, "invalid_challenge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_resends_at_once_send_one_message() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let again = json!({ "challenge": challenge(&authority, "sliding").await });
    authority.advance(30);
    let messages = authority.outbox.len();
    let answers =
        authority.send_all((0..20).map(|_| request(Method::POST, RESEND, &Credential::None, &again))).await;
    assert_eq!(count(&answers, 202, ""), 1);
    assert_eq!(count(&answers, 429, "too_many_requests"), 19);
    assert_eq!(authority.outbox.len(), messages + 1);
}

#[tokio::test]
async fn a_new_code_gives_no_new_tries() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    for _ in 0..4 {
        answer(&authority, by_phone(&challenge, "")).await.expect_error(400, "invalid_code");
    }
    authority.advance(30);
    authority
        .post(RESEND, &Credential::None, json!({ "challenge": challenge }))
        .await
        .expect(StatusCode::ACCEPTED);
    let last = answer(&authority, by_phone(&challenge, "")).await;
    assert_eq!(last.body["tries_left"], 0);
    let code = authority.outbox.code();
    answer(&authority, by_phone(&challenge, &code)).await.expect_error(400, "invalid_challenge");
}

#[tokio::test]
async fn past_the_daily_limit_only_a_recovery_code_helps() {
    let authority = TestAuthority::start().await;
    let (_, codes) = with_second_factor(&authority).await;
    let mut answers = Vec::new();
    for _ in 0..25 {
        answers.push(authority.try_login("sliding", "alice").await);
    }
    assert_eq!(authority.outbox.len(), 20, "messages for one user in a day");
    let limited = answers.last().unwrap();
    limited.expect_error(429, "too_many_requests");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 3600);
    assert_eq!(limited.body["factors"], json!([{ "factor": "recovery_code" }]));
    let asked = answers.iter().find(|a| a.error() == "second_factor_required").unwrap();
    assert!(some_code_opens(&authority, &asked.body["challenge"]).await);
    let challenge = &limited.body["challenge"];
    assert!(!some_code_opens(&authority, challenge).await, "nobody got a code, so there is none to guess");
    answer(&authority, by_phone(challenge, "000000")).await.expect_error(400, "invalid_code");
    authority.advance(30);
    let again = json!({ "challenge": challenge });
    authority.post(RESEND, &Credential::None, again).await.expect_error(429, "too_many_requests");
    answer(&authority, by_recovery_code(challenge, &codes[0])).await.expect(StatusCode::CREATED);

    authority.advance(86_400);
    authority.try_login("sliding", "alice").await.expect_error(403, "second_factor_required");
}

#[tokio::test]
async fn when_no_message_can_be_sent_a_recovery_code_still_lets_in() {
    let authority = TestAuthority::start().await;
    let (_, codes) = with_second_factor(&authority).await;
    authority.outbox.fail(true);
    let unsent = authority.try_login("sliding", "alice").await;
    unsent.expect_error(503, "temporarily_unavailable");
    assert_eq!(unsent.header("retry-after"), Some("30"));
    assert_eq!(unsent.body["factors"], json!([{ "factor": "recovery_code" }]));
    let other = authority.try_login("sliding", "alice").await;
    answer(&authority, by_recovery_code(&unsent.body["challenge"], &codes[0]))
        .await
        .expect(StatusCode::CREATED);

    authority.outbox.fail(false);
    authority.advance(30);
    let again = json!({ "challenge": other.body["challenge"] });
    authority.post(RESEND, &Credential::None, again).await.expect(StatusCode::ACCEPTED);
    let code = authority.outbox.code();
    answer(&authority, by_phone(&other.body["challenge"], &code)).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_recovery_code_is_good_once_however_it_is_typed() {
    let authority = TestAuthority::start().await;
    let (alice, codes) = with_second_factor(&authority).await;
    assert_eq!(codes.len(), 10);
    let before = authority.record(alice).await;
    let typed = codes[3].to_uppercase().replace('-', " ");
    let login = answer(&authority, by_recovery_code(&challenge(&authority, "sliding").await, &typed)).await;
    login.expect(StatusCode::CREATED);
    assert_eq!(login.claims()["amr"], json!(["pwd", "mfa", "otp"]));
    assert_eq!(login.claims()["acr"], "aal2");
    let after = authority.record(alice).await;
    assert_eq!(
        (after.revision, after.auth_epoch),
        (before.revision, before.auth_epoch),
        "claims did not change"
    );

    let again = challenge(&authority, "sliding").await;
    answer(&authority, by_recovery_code(&again, &codes[3])).await.expect_error(400, "invalid_code");
    answer(&authority, by_phone(&again, &codes[4])).await.expect_error(400, "invalid_code");
    answer(&authority, by_recovery_code(&again, &codes[4])).await.expect(StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recovery_codes_used_at_once_are_all_spent_and_each_only_once() {
    let authority = TestAuthority::start().await;
    let (alice, codes) = with_second_factor(&authority).await;
    // Two logins per code, on challenges of their own.
    let mut requests = Vec::new();
    for code in codes[..4].iter().chain(&codes[..4]) {
        let body = by_recovery_code(&challenge(&authority, "refresh").await, code);
        requests.push(request(Method::POST, FACTOR, &Credential::None, &body));
    }
    let answers = authority.send_all(requests).await;
    assert_eq!(count(&answers, 201, ""), 4);
    assert_eq!(count(&answers, 400, "invalid_code"), 4);
    let (_, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert_eq!(secrets.recovery_codes.len(), 6, "none came back");
}

#[tokio::test]
async fn a_recovery_code_spent_while_another_login_is_under_way_does_not_come_back() {
    let authority = TestAuthority::start().await;
    let (alice, codes) = with_second_factor(&authority).await;
    let slow = by_recovery_code(&challenge(&authority, "sliding").await, &codes[0]);
    let fast = by_recovery_code(&challenge(&authority, "sliding").await, &codes[1]);
    let mut held = authority.gate.hold_next_commit();
    let slow = authority.spawn(request(Method::POST, FACTOR, &Credential::None, &slow));
    held.reached().await;
    answer(&authority, fast).await.expect(StatusCode::CREATED);
    held.release();
    slow.await.unwrap().expect(StatusCode::CREATED);
    let (_, secrets) = authority.app.store.user_secrets(alice).await.unwrap().unwrap();
    assert_eq!(secrets.recovery_codes.len(), 8);
    for spent in &codes[..2] {
        let again = by_recovery_code(&challenge(&authority, "sliding").await, spent);
        answer(&authority, again).await.expect_error(400, "invalid_code");
    }
}

#[tokio::test]
async fn a_right_code_that_loses_to_a_wrong_one_is_judged_again() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    let right = by_phone(&challenge, &authority.outbox.code());
    let mut held = authority.gate.hold_next_commit();
    let slow = authority.spawn(request(Method::POST, FACTOR, &Credential::None, &right));
    held.reached().await;
    answer(&authority, by_phone(&challenge, "")).await.expect_error(400, "invalid_code");
    held.release();
    slow.await.unwrap().expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_right_code_that_loses_to_five_wrong_ones_comes_too_late() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    let right = by_phone(&challenge, &authority.outbox.code());
    let mut held = authority.gate.hold_next_commit();
    let slow = authority.spawn(request(Method::POST, FACTOR, &Credential::None, &right));
    held.reached().await;
    for _ in 0..5 {
        answer(&authority, by_phone(&challenge, "")).await.expect_error(400, "invalid_code");
    }
    held.release();
    slow.await.unwrap().expect_error(400, "invalid_challenge");
}

#[tokio::test]
async fn a_login_that_began_before_the_password_changed_starts_nothing() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let session = authority.login("refresh", "alice").await;
    let on = authority.turn_on_phone(&session.credential()).await;
    let challenge = challenge(&authority, "sliding").await;
    let code = authority.outbox.code();
    let change = json!({ "current_password": PASSWORD, "new_password": "quite another passphrase" });
    authority.put("/v1/me/password", &on.credential(), change).await.expect(StatusCode::OK);
    answer(&authority, by_phone(&challenge, &code)).await.expect_error(400, "invalid_challenge");
    let again = json!({ "challenge": challenge });
    authority.advance(30);
    authority.post(RESEND, &Credential::None, again).await.expect_error(400, "invalid_challenge");
}

#[tokio::test]
async fn a_challenge_is_void_once_the_factor_is_reset_or_the_user_disabled() {
    let authority = TestAuthority::start().await;
    let (alice, codes) = with_second_factor(&authority).await;
    let reset = UserPatch { phone_number: Some(None), ..UserPatch::default() };
    for patch in [UserPatch { disabled: Some(true), ..UserPatch::default() }, reset] {
        let challenge = challenge(&authority, "sliding").await;
        let code = authority.outbox.code();
        authority.patch_user(alice, patch).await;
        answer(&authority, by_phone(&challenge, &code)).await.expect_error(400, "invalid_challenge");
        answer(&authority, by_recovery_code(&challenge, &codes[0]))
            .await
            .expect_error(400, "invalid_challenge");
        let record = authority.record(alice).await;
        if record.disabled {
            authority.patch_user(alice, UserPatch { disabled: Some(false), ..UserPatch::default() }).await;
        }
    }
}

#[tokio::test]
async fn challenges_of_the_two_purposes_do_not_mix() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let login = challenge(&authority, "sliding").await;
    let session = answer(&authority, by_phone(&login, &authority.outbox.code())).await.credential();
    let started = authority.post("/v1/me/phone", &session, json!({ "phone_number": NUMBER })).await;
    started.expect(StatusCode::ACCEPTED);
    let phone = &started.body["challenge"];
    let code = authority.outbox.code();
    answer(&authority, by_phone(phone, &code)).await.expect_error(400, "invalid_challenge");
    authority
        .post(RESEND, &Credential::None, json!({ "challenge": phone }))
        .await
        .expect_error(400, "invalid_challenge");

    let login = challenge(&authority, "sliding").await;
    let body = json!({ "challenge": login, "code": authority.outbox.code() });
    authority.post("/v1/me/phone/verify", &session, body).await.expect_error(400, "invalid_challenge");
}

#[tokio::test]
async fn a_confidential_client_authenticates_in_the_second_step_too() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let secret = Credential::Basic(SERVICE.to_owned(), SERVICE_SECRET.to_owned());
    let body = json!({ "client_id": SERVICE, "username": "alice", "password": PASSWORD });
    let asked = authority.post("/v1/session", &secret, body).await;
    asked.expect_error(403, "second_factor_required");
    let challenge = &asked.body["challenge"];
    let code = authority.outbox.code();
    let mut body = by_phone(challenge, &code);
    answer(&authority, body.clone()).await.expect_error(401, "invalid_client");
    let again = json!({ "challenge": challenge });
    authority.post(RESEND, &Credential::None, again).await.expect_error(401, "invalid_client");
    body["client_id"] = "sliding".into();
    answer(&authority, body.clone()).await.expect_error(400, "invalid_challenge");
    body["client_id"] = SERVICE.into();
    body["client_secret"] = "wrong".into();
    answer(&authority, body.clone()).await.expect_error(401, "invalid_client");
    body["client_secret"] = SERVICE_SECRET.into();
    let login = answer(&authority, body).await;
    login.expect(StatusCode::CREATED);
    assert_eq!(login.claims()["client_id"], SERVICE);
}

#[tokio::test]
async fn a_page_of_another_origin_can_neither_answer_nor_spend_tries() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "cookie").await;
    let code = authority.outbox.code();
    for path in [FACTOR, RESEND] {
        let body =
            if path == FACTOR { by_phone(&challenge, "000") } else { json!({ "challenge": challenge }) };
        let mut foreign = request(Method::POST, path, &Credential::None, &body);
        foreign.headers_mut().insert(header::ORIGIN, "https://evil.test".parse().unwrap());
        authority.send(foreign).await.expect_error(403, "cross_site_request");
    }
    let refused = answer(&authority, by_phone(&challenge, "000")).await;
    assert_eq!(refused.body["tries_left"], 4);
    answer(&authority, by_phone(&challenge, &code)).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn the_scope_that_the_login_asked_for_holds_after_the_second_step() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let body = json!({ "client_id": "refresh", "username": "alice", "password": PASSWORD, "scope": "read" });
    let asked = authority.post("/v1/session", &Credential::None, body).await;
    let challenge = asked.body["challenge"].as_str().unwrap();
    let code = authority.outbox.code();
    let (stripped, _) = challenge.split_once('.').expect("the scope travels in the challenge");
    answer(&authority, by_phone(&stripped.into(), &code)).await.expect_error(400, "invalid_challenge");
    let login = answer(&authority, by_phone(&challenge.into(), &code)).await;
    assert_eq!(login.claims()["scope"], "read");
}

#[tokio::test]
async fn a_browser_that_logs_in_again_leaves_its_old_session() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let old = authority.login("cookie", "alice").await;
    let on = authority.turn_on_phone(&old.credential()).await.credential();
    let challenge = challenge(&authority, "cookie").await;
    let login = authority.post(FACTOR, &on, by_phone(&challenge, &authority.outbox.code())).await;
    login.expect(StatusCode::CREATED);
    assert_ne!(login.sid(), old.sid());
    let over = authority.get("/v1/session", &on).await;
    over.expect_error(401, "invalid_token");
    assert_eq!(over.body["reason"], "signed_out");
    authority.get("/v1/session", &login.credential()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn malformed_answers_are_refused_and_cost_no_try() {
    let authority = TestAuthority::start().await;
    with_second_factor(&authority).await;
    let challenge = challenge(&authority, "sliding").await;
    for body in [
        json!({}),
        json!({ "challenge": challenge, "factor": "phone" }),
        json!({ "challenge": challenge, "factor": "guess", "code": "000000" }),
        json!({ "challenge": challenge, "factor": "phone", "code": 0 }),
        json!({ "challenge": challenge, "factor": "phone", "code": "000000", "extra": 1 }),
    ] {
        answer(&authority, body).await.expect_error(400, "invalid_request");
    }
    for unknown in ["", "rsl_ch_", "x".repeat(5000).as_str()] {
        answer(&authority, by_phone(&unknown.into(), "000000")).await.expect_error(400, "invalid_challenge");
    }
    let refused = answer(&authority, by_phone(&challenge, "")).await;
    assert_eq!(refused.body["tries_left"], 4);
}
