//! Keys: listed, rotated and withdrawn.

use crate::common::{admin, events, show_session};
use crate::support::{Answer, Credential, TestAuthority};
use http::StatusCode;
use reseal_core::event::EventKind;
use reseal_server::jobs;
use serde_json::Value;

async fn published(authority: &TestAuthority) -> Vec<String> {
    let jwks = authority.get("/jwks.json", &Credential::None).await;
    let keys = jwks.body["keys"].as_array().unwrap().iter();
    keys.map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

/// The `kid` of an answer's access token.
fn kid(answer: &Answer) -> String {
    use base64::Engine as _;
    let token = answer.body["access_token"].as_str().unwrap();
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn states(answer: &Answer) -> Vec<(String, String)> {
    let keys = answer.body["items"].as_array().unwrap().iter().filter(|k| k["use"] == "signing");
    keys.map(|k| (k["kid"].as_str().unwrap().to_owned(), k["state"].as_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn keys_are_listed_without_their_secrets() {
    let authority = TestAuthority::start().await;
    let listed = authority.get("/v1/admin/keys", &admin(&authority).await).await;
    listed.expect(StatusCode::OK);
    let items = listed.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{}", listed.body);
    for key in items {
        assert_eq!(key["state"], "active");
        assert!(key.get("sealed").is_none() && key.get("d").is_none() && key.get("k").is_none());
    }
}

#[tokio::test]
async fn a_rotation_publishes_before_it_signs_and_refuses_no_valid_token() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let old = kid(&held);
    let rotated = authority.post("/v1/admin/keys/rotate", &admin(&authority).await, Value::Null).await;
    rotated.expect(StatusCode::OK);
    let next = states(&rotated).into_iter().find(|(_, state)| state == "next").unwrap().0;
    assert_eq!(published(&authority).await.len(), 2, "the next one is published at once");
    let again = authority.post("/v1/admin/keys/rotate", &admin(&authority).await, Value::Null).await;
    assert_eq!(states(&again).len(), 2, "one is waiting already");

    // A login every five minutes for three hours; each token is good for its whole life of twenty.
    let (mut tokens, mut signers) = (Vec::new(), Vec::new());
    for step in 0..36 {
        let session = authority.login("sliding", "alice").await;
        signers.push(kid(&session));
        assert!(published(&authority).await.contains(&kid(&session)), "a signer is published");
        tokens.push((step, session));
        tokens.retain(|(since, _)| step - since < 4);
        for (_, session) in &tokens {
            show_session(&authority, &session.credential()).await.expect(StatusCode::OK);
            assert!(published(&authority).await.contains(&kid(session)), "verifiers find its key");
        }
        authority.advance(300);
        jobs::ensure_keys(&authority.app).await.unwrap();
    }
    let handover = signers.iter().position(|kid| *kid == next).unwrap();
    assert_eq!(handover, 12, "it signs once the key sets of an hour ago are gone");
    assert!(signers[..handover].iter().all(|kid| *kid == old));
    assert!(signers[handover..].iter().all(|kid| *kid == next));
    authority.refresh("refresh", &held).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_withdrawn_key_is_trusted_by_nobody_and_another_signs_at_once() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let leaked = kid(&held);
    let token = admin(&authority).await;
    let path = format!("/v1/admin/keys/{leaked}/withdraw");
    let withdrawn = authority.post(&path, &token, Value::Null).await;
    withdrawn.expect(StatusCode::OK);
    assert!(states(&withdrawn).contains(&(leaked.clone(), "withdrawn".to_owned())));
    assert!(!published(&authority).await.contains(&leaked));
    show_session(&authority, &held.credential()).await.expect_error(401, "invalid_token");
    authority.get("/v1/admin/keys", &token).await.expect_error(401, "invalid_token");
    let logged = events(&authority, |kind| match kind {
        EventKind::KeysChanged { withdrawn } => Some(withdrawn),
        _ => None,
    })
    .await;
    assert_eq!(logged, [vec![leaked.clone()]]);

    // The session lives: its refresh token is not made with that key.
    let renewed = authority.refresh("refresh", &held).await;
    renewed.expect(StatusCode::OK);
    assert_ne!(kid(&renewed), leaked);
    assert!(published(&authority).await.contains(&kid(&renewed)));
    show_session(&authority, &renewed.credential()).await.expect(StatusCode::OK);

    let again = authority.post(&path, &admin(&authority).await, Value::Null).await;
    again.expect(StatusCode::OK);
    assert_eq!(authority.events().await.iter().filter(|e| **e == "keys-changed").count(), 1);
    jobs::ensure_keys(&authority.app).await.unwrap();
    assert!(!published(&authority).await.contains(&leaked), "the rotation job does not bring it back");
}
