//! What the wire promises in its details: headers of refusals, what a caller may see, how parameters are read.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request, StatusCode, header};
use reseal_core::keys::KeyUse;
use reseal_core::user::UserSecrets;
use reseal_core::{KeyId, Session};
use reseal_jose::Algorithm;
use reseal_server::keys::Keys;
use reseal_server::manage::clients::ClientPatch;
use reseal_server::master::MasterKey;
use reseal_server::start::master_key_file;
use reseal_store::{Commit, Write};
use serde_json::{Value, json};
use support::{APP_ORIGIN, Answer, Credential, PASSWORD, SERVICE, SERVICE_SECRET, TestAuthority, request};

#[tokio::test]
async fn every_401_says_how_to_authenticate() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let wrong = json!({ "client_id": "sliding", "username": "alice", "password": "wrong" });
    let wrong = authority.post("/v1/session", &Credential::None, wrong).await;
    wrong.expect_error(401, "invalid_credentials");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"), "no token was sent");

    let pairs = [("grant_type", "client_credentials"), ("client_id", SERVICE), ("client_secret", "wrong")];
    let in_body = authority.form("/oauth/token", &pairs).await;
    in_body.expect_error(401, "invalid_client");
    assert_eq!(in_body.header("www-authenticate"), Some("Bearer"));
    let basic = Credential::Basic(SERVICE.to_owned(), "wrong".to_owned());
    let body = json!({ "client_id": SERVICE, "username": "alice", "password": PASSWORD });
    let by_basic = authority.post("/v1/session", &basic, body).await;
    by_basic.expect_error(401, "invalid_client");
    assert!(by_basic.header("www-authenticate").unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_bearer_does_not_see_when_the_owner_renewed_after_him() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let stolen = authority.login("refresh", "alice").await;
    authority.advance(60);
    let renewed = authority.refresh("refresh", &stolen).await;
    renewed.expect(StatusCode::OK);
    let deadline = |answer: &Answer| answer.body["session"]["idle_expires_at"].as_i64().unwrap();
    assert_eq!(deadline(&renewed), deadline(&stolen) + 60);

    let seen = authority.get("/v1/session", &stolen.credential()).await;
    seen.expect(StatusCode::OK);
    assert_eq!(seen.body["idle_expires_at"], deadline(&stolen), "as of the token's own iat");
    assert!(
        seen.body["generation"].is_null(),
        "it numbers the refresh token of an answer, and there is none"
    );
    let listed = authority.get("/v1/sessions", &stolen.credential()).await;
    let current = &listed.body["items"][0];
    assert_eq!(current["idle_expires_at"], deadline(&stolen));
    assert_eq!(current["renewed_at"], stolen.claims()["iat"]);
    assert!(current["generation"].is_null());

    let own = authority.get("/v1/session", &renewed.credential()).await;
    assert_eq!(own.body["idle_expires_at"], deadline(&renewed));
    assert_eq!(renewed.body["session"]["generation"], 2);
}

#[tokio::test]
async fn cookies_of_others_do_not_hide_ours_whatever_they_are_made_of() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let cookie = authority.login("cookie", "alice").await.cookie().unwrap();
    let text = format!("theme=dünkel; __Host-reseal={cookie}; x=\u{e9}");
    let asking =
        |value: &[u8]| Request::get("/v1/session").header(header::COOKIE, value).body(Body::empty()).unwrap();
    authority.send(asking(text.as_bytes())).await.expect(StatusCode::OK);
    let planted = [text.as_bytes(), b"; __Host-reseal=\xff"].concat();
    authority.send(asking(&planted)).await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn pages_of_one_client_do_not_read_the_sessions_of_another() {
    const OTHER: &str = "https://other.test";
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let patch = ClientPatch { origins: Some(vec![OTHER.to_owned()]), ..ClientPatch::default() };
    let manage = authority.app.manage(authority.app.clock.now());
    manage.patch_client(&"sliding".parse().unwrap(), &patch).await.unwrap();
    authority.app.clients_changed().await;
    let mine = authority.login("cookie", "alice").await.credential();
    let asking = |path: &str, origin: &str| {
        let mut request = request(Method::GET, path, &mine, &Value::Null);
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        request
    };
    for path in ["/v1/me", "/v1/session", "/v1/sessions"] {
        authority.send(asking(path, APP_ORIGIN)).await.expect(StatusCode::OK);
        authority.send(asking(path, OTHER)).await.expect_error(403, "cross_site_request");
        let mut navigation = asking(path, OTHER);
        navigation.headers_mut().remove(header::ORIGIN);
        authority.send(navigation).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_parameter_without_a_value_counts_as_left_out() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let login = authority.login("refresh", "alice").await;
    let token = login.body["refresh_token"].as_str().unwrap();
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", "refresh"),
        ("client_secret", ""),
        ("refresh_token", token),
        ("access_token", ""),
        ("scope", ""),
    ];
    let answer = authority.form("/oauth/token", &pairs).await;
    answer.expect(StatusCode::OK);
    assert_eq!(answer.body["scope"], "read write", "not the empty scope");

    let pairs = [("grant_type", "refresh_token"), ("client_id", "refresh"), ("refresh_token", "")];
    authority.form("/oauth/token", &pairs).await.expect_error(400, "invalid_request");
    let pairs = [("grant_type", "client_credentials"), ("client_id", ""), ("client_secret", "")];
    authority.form("/oauth/token", &pairs).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn a_credential_made_on_another_node_finds_its_key() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let login = authority.login("cookie", "alice").await;
    let session = renamed_key(&authority, &login).await;
    let (store, now) = (&*authority.app.store, authority.app.clock.now());
    let master = MasterKey::load(&master_key_file(&authority.app.config)).unwrap();
    let schedule = *authority.app.keys.schedule();
    let other = Keys::open(store, master, schedule, &authority.app.random, now).await.unwrap();
    other.rotate(store, &authority.app.random, &[Algorithm::Es256], (now, true)).await.unwrap();
    let ring = &other.load().ring;
    assert!(ring.contains(session.key_id) && !authority.app.keys.load().ring.contains(session.key_id));

    let text = ring.session_cookie_text(&session).unwrap().unwrap();
    let mine = Credential::Cookie(text.reveal().to_owned());
    authority.get("/v1/session", &mine).await.expect(StatusCode::OK);
}

/// The session of a login, now made with the ring key that comes after those there are.
async fn renamed_key(authority: &TestAuthority, login: &Answer) -> Session {
    let found = authority.app.store.session(login.sid()).await.unwrap().unwrap().session;
    let number = |key: &KeyUse| match key {
        KeyUse::Ring { id } => id.0,
        KeyUse::Signing { .. } => 0,
    };
    let keys = authority.app.store.keys().await.unwrap();
    let next = keys.iter().map(|k| number(&k.key_use)).max().unwrap() + 1;
    let session = Session { key_id: KeyId(next), version: found.version + 1, ..found };
    let write = Write::SwapSession(Box::new(session.clone()));
    authority.app.store.commit(Commit::of([write])).await.unwrap();
    session
}

#[tokio::test]
async fn a_credential_of_a_key_that_is_nowhere_is_never_called_invalid() {
    let authority = TestAuthority::start().await;
    let made = |prefix: &str, rest: usize| {
        let bytes = [&[1, 0, 0, 0, 77][..], &vec![0; rest]].concat();
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    let (token, cookie) = (made("rsl_rt_", 56), made("rsl_sc_", 36));
    let unavailable = "temporarily_unavailable";
    authority.get("/v1/session", &Credential::Cookie(cookie)).await.expect_error(503, unavailable);
    let pairs = [("client_id", SERVICE), ("client_secret", SERVICE_SECRET), ("token", &token)];
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        authority.form(path, &pairs).await.expect_error(503, unavailable);
    }
}

#[tokio::test]
async fn a_login_that_waited_long_for_its_password_check_still_gets_its_token() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    // Rehashing commits before the session starts: there the login can be held.
    let old = "pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=".to_owned();
    let secrets = UserSecrets { password: Some(old), recovery_codes: Vec::new() };
    let write = Write::SwapSecrets { user: alice, version: 1, secrets };
    authority.app.store.commit(Commit::of([write])).await.unwrap();
    let body = json!({ "client_id": "sliding", "username": "alice", "password": "lètmein" });
    let mut held = authority.gate.hold_next_commit();
    let login = authority.spawn(request(Method::POST, "/v1/session", &Credential::None, &body));
    held.reached().await;
    authority.advance(11);
    held.release();
    let login = login.await.unwrap();
    login.expect(StatusCode::CREATED);
    assert_eq!(login.claims()["iat"], authority.app.clock.now().secs(), "the time of the decision");
}

#[tokio::test]
async fn a_password_change_that_took_long_is_answered_with_its_credential() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let mine = authority.login("sliding", "alice").await.credential();
    let body = json!({ "current_password": PASSWORD, "new_password": "an altogether other phrase" });
    let mut held = authority.gate.hold_next_commit();
    let change = authority.spawn(request(Method::PUT, "/v1/me/password", &mine, &body));
    held.reached().await;
    // Somebody else's change makes it decide again, later.
    let patch = reseal_core::user::UserPatch { roles: Some(vec![]), ..Default::default() };
    authority.patch_user(alice, patch).await;
    authority.advance(11);
    held.release();
    let change = change.await.unwrap();
    change.expect(StatusCode::OK);
    assert_eq!(change.claims()["iat"], authority.app.clock.now().secs());
}

#[tokio::test]
async fn a_clients_token_from_before_its_new_secret_is_not_active() {
    let authority = TestAuthority::start().await;
    let credentials = [("client_id", SERVICE), ("client_secret", SERVICE_SECRET)];
    let grant = [&[("grant_type", "client_credentials")][..], &credentials].concat();
    let own = authority.form("/oauth/token", &grant).await;
    let stolen = own.body["access_token"].as_str().unwrap();
    let is_active = async |secret: &str| {
        let pairs = [("client_id", SERVICE), ("client_secret", secret), ("token", stolen)];
        let answer = authority.form("/oauth/introspect", &pairs).await;
        answer.expect(StatusCode::OK);
        answer.body["active"].as_bool().unwrap()
    };
    assert!(is_active(SERVICE_SECRET).await);

    authority.advance(1);
    let path = format!("/v1/admin/clients/{SERVICE}/secret");
    let renewed = authority.post(&path, &own.credential(), Value::Null).await;
    renewed.expect(StatusCode::OK);
    assert!(!is_active(renewed.body["client_secret"].as_str().unwrap()).await);
}
