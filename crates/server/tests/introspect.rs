//! Introspection (RFC 7662) for other servers: what an asker is told, and what it is not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use http::StatusCode;
use reseal_core::Client;
use reseal_core::client::SecretHash;
use reseal_core::user::UserPatch;
use reseal_store::{Commit, Write};
use serde_json::json;
use support::{Answer, ISSUER, SERVICE, SERVICE_SECRET, TestAuthority};

const SECRET: &str = "the secret of an asker";

/// A confidential client that may introspect and has these audiences.
async fn asker(authority: &TestAuthority, id: &str, audience: &[&str]) {
    let service = authority.app.client(&SERVICE.parse().unwrap()).await.unwrap().unwrap();
    let client = Client {
        id: id.parse().unwrap(),
        secret_hash: Some(SecretHash::of(SECRET)),
        audience: audience.iter().map(|a| (*a).to_owned()).collect(),
        introspect: true,
        ..(*service).clone()
    };
    let write = Write::CreateClient(Box::new(client));
    authority.app.store.commit(Commit::of([write])).await.unwrap();
}

async fn ask(authority: &TestAuthority, id: &str, secret: &str, token: &str) -> Answer {
    let pairs = [("client_id", id), ("client_secret", secret), ("token", token)];
    // What the tests put into forms needs no encoding, save for the spaces.
    let pairs = pairs.map(|(name, value)| (name, value.replace(' ', "+")));
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    authority.form("/oauth/introspect", &pairs).await
}

fn access(answer: &Answer) -> String {
    answer.body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_asker_learns_only_of_tokens_that_are_for_it() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let login = authority.login("sliding", "alice").await;
    let token = access(&login);
    let audience: Vec<String> = serde_json::from_value(login.claims()["aud"].clone()).unwrap();
    assert_eq!(audience[0], ISSUER);
    let named = audience[1].as_str();
    asker(&authority, "stock", &["https://stock.test"]).await;
    asker(&authority, "orders", &["https://orders.test", named]).await;
    asker(&authority, "prefix", &[&named[..named.len() - 1]]).await;
    asker(&authority, "gateway", &[]).await;

    for (id, active) in [("orders", true), ("gateway", true), ("stock", false), ("prefix", false)] {
        let answer = ask(&authority, id, SECRET, &token).await;
        answer.expect(StatusCode::OK);
        assert_eq!(answer.body["active"], active, "{id}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Nothing tells a good token for others from no token at all (RFC 7662 §4).
    let foreign = ask(&authority, "stock", SECRET, &token).await;
    let garbage = ask(&authority, "stock", SECRET, "not-a-token").await;
    assert_eq!((&foreign.body, foreign.status), (&garbage.body, garbage.status));
    assert_eq!(foreign.body, json!({ "active": false }));
}

#[tokio::test]
async fn an_asker_may_be_named_by_its_id() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    asker(&authority, "stock", &["https://stock.test"]).await;
    let mut sliding = (*authority.app.client(&"sliding".parse().unwrap()).await.unwrap().unwrap()).clone();
    (sliding.id, sliding.audience) = ("shop".parse().unwrap(), vec!["stock".to_owned()]);
    authority.app.store.commit(Commit::of([Write::CreateClient(Box::new(sliding))])).await.unwrap();
    let token = access(&authority.login("shop", "alice").await);
    assert_eq!(ask(&authority, "stock", SECRET, &token).await.body["active"], true);
}

#[tokio::test]
async fn only_confidential_clients_that_may_ask_are_answered() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let token = access(&authority.login("sliding", "alice").await);
    ask(&authority, SERVICE, "wrong", &token).await.expect_error(401, "invalid_client");
    ask(&authority, "nobody", SECRET, &token).await.expect_error(401, "invalid_client");
    let public = authority.form("/oauth/introspect", &[("client_id", "sliding"), ("token", &token)]).await;
    public.expect_error(401, "invalid_client");
    let nobody = authority.form("/oauth/introspect", &[("token", &token)]).await;
    nobody.expect_error(400, "invalid_request");

    let service = authority.app.client(&SERVICE.parse().unwrap()).await.unwrap().unwrap();
    let mut mute = (*service).clone();
    (mute.id, mute.introspect) = ("mute".parse().unwrap(), false);
    authority.app.store.commit(Commit::of([Write::CreateClient(Box::new(mute))])).await.unwrap();
    ask(&authority, "mute", SERVICE_SECRET, &token).await.expect_error(403, "access_denied");
}

#[tokio::test]
async fn the_answer_is_of_this_very_moment() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let login = authority.login("sliding", "alice").await;
    let token = access(&login);
    let told = async || ask(&authority, SERVICE, SERVICE_SECRET, &token).await.body;
    let before = told().await;
    let claims = login.claims();
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "sid", "client_id", "rev", "acr", "scope"] {
        assert_eq!(before[name], claims[name], "{name}");
    }
    assert_eq!((&before["token_type"], &before["current_rev"]), (&json!("Bearer"), &claims["rev"]));

    authority.patch_user(alice, UserPatch { roles: Some(vec![]), ..UserPatch::default() }).await;
    let changed = told().await;
    assert_eq!(changed["active"], true);
    assert!(changed["current_rev"].as_u64() > claims["rev"].as_u64(), "stale, and the asker can see it");

    authority.delete("/v1/session", &login.credential()).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(told().await, json!({ "active": false }));
}

#[tokio::test]
async fn an_expired_token_and_one_of_a_disabled_user_are_inactive() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    authority.user("bob").await;
    let (of_alice, of_bob) = (
        access(&authority.login("sliding", "alice").await),
        access(&authority.login("sliding", "bob").await),
    );
    let active =
        async |token: &str| ask(&authority, SERVICE, SERVICE_SECRET, token).await.body["active"].clone();
    authority.patch_user(alice, UserPatch { disabled: Some(true), ..UserPatch::default() }).await;
    assert_eq!((active(&of_alice).await, active(&of_bob).await), (json!(false), json!(true)));
    authority.advance(1199);
    assert_eq!(active(&of_bob).await, json!(true));
    authority.advance(1);
    assert_eq!(active(&of_bob).await, json!(false), "no leeway on its own tokens");
}

#[tokio::test]
async fn a_refresh_token_is_known_to_its_own_client_only() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let login = authority.login("refresh", "alice").await;
    let token = login.body["refresh_token"].as_str().unwrap();
    let answer = ask(&authority, SERVICE, SERVICE_SECRET, token).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &json!({ "active": false })));
    // Asking changes nothing.
    authority.refresh("refresh", &login).await.expect(StatusCode::OK);
}
