//! Who may read the feed, and for how long.

use crate::common::{Reading, Running, log, token, until};
use crate::support::{Credential, PASSWORD, SERVICE, SERVICE_SECRET, TestAuthority, request};
use http::{Method, StatusCode};
use reseal_server::manage::Manage;
use reseal_server::manage::clients::ClientPatch;
use reseal_server::random::Random;
use reseal_server::start::open_store;
use reseal_store::Access;
use serde_json::{Value, json};

#[tokio::test]
async fn only_a_clients_own_token_of_the_scope_opens_it() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let session = authority.login("sliding", "alice").await.credential();
    let body = json!({ "client_id": SERVICE, "client_secret": SERVICE_SECRET, "username": "alice", "password": PASSWORD });
    let of_service = authority.post("/v1/session", &Credential::None, body).await.credential();
    let admin = token(&authority, "reseal:admin").await;
    let get = async |with: &Credential| authority.get("/v1/feed", with).await;

    let none = get(&Credential::None).await;
    none.expect_error(401, "unauthorized");
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    let nonsense = get(&Credential::Bearer("nonsense".into())).await;
    nonsense.expect_error(401, "invalid_token");
    assert_eq!(nonsense.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    for user in [session, of_service] {
        get(&user).await.expect_error(403, "client_token_required");
    }
    let narrow = get(&admin).await;
    narrow.expect_error(403, "insufficient_scope");
    let wanted = "Bearer error=\"insufficient_scope\", scope=\"reseal:feed\"";
    assert_eq!(narrow.header("www-authenticate"), Some(wanted));
    let expired = token(&authority, "reseal:feed").await;
    authority.advance(300);
    get(&expired).await.expect_error(401, "invalid_token");
    let post = authority.post("/v1/feed", &token(&authority, "reseal:feed").await, Value::Null).await;
    post.expect_error(405, "method_not_allowed");
    assert_eq!(authority.app.feed.readers(), 0);
}

#[tokio::test]
async fn its_answer_is_a_stream_that_nobody_keeps() {
    let authority = Running::start().await;
    let reading = Reading::open(&authority, None).await;
    let header = |name: &str| reading.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-accel-buffering"), "no");
    let metrics = |text: &str| text.contains("\nreseal_feed_readers 1\n");
    let response = authority.open(request(Method::GET, "/metrics", &Credential::None, &Value::Null)).await;
    let text = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(metrics(std::str::from_utf8(&text).unwrap()));
    drop(reading);
    assert_eq!(authority.app.feed.readers(), 0);
}

#[tokio::test]
async fn a_malformed_last_event_id_is_refused() {
    let authority = TestAuthority::start().await;
    let token = token(&authority, "reseal:feed").await;
    let epoch = "0".repeat(32);
    for bad in
        ["", "7", ".7", &format!("{epoch}.-1"), &format!("{epoch}."), "x.1", &format!("{epoch}.1 ")[..30]]
    {
        let mut asked = request(Method::GET, "/v1/feed", &token, &Value::Null);
        asked.headers_mut().insert("last-event-id", bad.parse().unwrap());
        authority.send(asked).await.expect_error(400, "invalid_request");
    }
    let mut twice = request(Method::GET, "/v1/feed", &token, &Value::Null);
    for seq in ["1", "2"] {
        twice.headers_mut().append("last-event-id", format!("{epoch}.{seq}").parse().unwrap());
    }
    authority.send(twice).await.expect_error(400, "invalid_request");
    assert_eq!(authority.app.feed.readers(), 0);
}

#[tokio::test]
async fn there_are_so_many_places_and_no_more() {
    let authority = Running::with(|config| config.feed.max_readers = 2).await;
    let token = token(&authority, "reseal:feed").await;
    let first = Reading::with(&authority, &token, None).await;
    let _second = Reading::with(&authority, &token, None).await;
    let refused = authority.get("/v1/feed", &token).await;
    refused.expect_error(503, "temporarily_unavailable");
    assert_eq!(
        (refused.body["reason"].as_str(), refused.header("retry-after")),
        (Some("too_many_readers"), Some("5"))
    );
    drop(first);
    Reading::with(&authority, &token, None).await.caught_up().await;
}

#[tokio::test]
async fn the_stream_ends_with_its_token_and_goes_on_with_a_new_one() {
    let authority = Running::start().await;
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;
    log(&authority.app, ["a".to_owned()]).await;
    reading.event().await;
    authority.advance(300);
    let last_id = reading.last_id.clone();
    assert_eq!(reading.end().await, []);
    log(&authority.app, ["b".to_owned()]).await;
    let mut again = Reading::open(&authority, last_id.as_deref()).await;
    let (missed, seq) = again.caught_up().await;
    assert_eq!((missed.len(), missed[0].seq(), seq), (1, 2, 2));
}

#[tokio::test]
async fn a_secret_that_is_renewed_or_a_key_that_is_withdrawn_ends_what_was_opened_with_it() {
    let authority = Running::start().await;
    let (admin, reading) = (token(&authority, "reseal:admin").await, Reading::open(&authority, None).await);
    // Tokens of the second of the change hold: `iat` knows no parts of a second.
    authority.advance(1);
    let renamed = ClientPatch { name: Some("Another".into()), ..ClientPatch::default() };
    authority
        .app
        .manage(authority.app.clock.now())
        .patch_client(&"sliding".parse().unwrap(), &renamed)
        .await
        .unwrap();
    authority.app.clients_changed().await;
    assert_eq!(authority.app.feed.readers(), 1, "the change of another client is none of its affair");
    let path = format!("/v1/admin/clients/{SERVICE}/secret");
    let renewed = authority.post(&path, &admin, Value::Null).await;
    renewed.expect(StatusCode::OK);
    reading.end().await;

    let secret = renewed.body["client_secret"].as_str().unwrap();
    let pairs = [("grant_type", "client_credentials"), ("client_id", SERVICE), ("client_secret", secret)];
    let new = authority.form("/oauth/token", &pairs).await.credential();
    let reading = Reading::with(&authority, &new, None).await;
    let keys = authority.get("/v1/admin/keys", &new).await;
    let signing = keys.body["items"].as_array().unwrap().iter().find(|key| key["use"] == "signing").unwrap();
    let kid = signing["kid"].as_str().unwrap();
    authority.post(&format!("/v1/admin/keys/{kid}/withdraw"), &new, Value::Null).await.expect(StatusCode::OK);
    reading.end().await;
}

#[tokio::test]
async fn a_client_that_a_command_disables_or_narrows_loses_its_stream() {
    let authority = Running::start().await;
    let config = &authority.app.config;
    let command = open_store(config, &Random::new(), Access::Tool).await.unwrap().shared();
    let (random, policies) = (Random::new(), config.policies().unwrap());
    let service = SERVICE.parse().unwrap();
    for patch in [
        ClientPatch { disabled: Some(true), ..ClientPatch::default() },
        ClientPatch { scope: Some("reseal:admin".parse().unwrap()), ..ClientPatch::default() },
    ] {
        let mut reading = Reading::open(&authority, None).await;
        reading.caught_up().await;
        authority.advance(1);
        let now = authority.app.clock.now();
        let event_until = authority.app.event_until(now);
        let manage = Manage { store: &*command, random: &random, now, event_until, policies: &policies };
        manage.patch_client(&service, &patch).await.unwrap();
        reading.end().await;
        let back = ClientPatch { disabled: Some(false), ..ClientPatch::default() };
        manage.patch_client(&service, &back).await.unwrap();
        authority.app.clients_changed().await;
    }
    until("nobody is left", || authority.app.feed.readers() == 0).await;
    authority
        .get("/v1/feed", &token(&authority, "reseal:admin").await)
        .await
        .expect_error(403, "insufficient_scope");
}
