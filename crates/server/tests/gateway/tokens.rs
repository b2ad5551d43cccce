//! One signature per session and half-life, and never a token that says what is no longer so.

use crate::common::{CLIENT, GET, bearer, gateway, request, signed_in, verify};
use crate::support::{Credential, claims};
use axum::body::Body;
use http::{Method, StatusCode};
use reseal_core::Client;
use reseal_core::claims::Projection;
use reseal_core::user::UserPatch;
use reseal_store::{Commit, Write};
use serde_json::json;

#[tokio::test]
async fn a_token_is_signed_once_per_half_of_its_life() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let ask = async || bearer(&verify(&authority, &cookie, &[GET]).await).to_owned();
    let first = ask().await;
    authority.advance(149);
    assert_eq!(ask().await, first);
    authority.advance(1);
    let second = ask().await;
    assert_ne!(second, first);
    assert_eq!(claims(&second)["iat"].as_i64().unwrap(), authority.app.clock.now().secs());
    authority.advance(149);
    assert_eq!(ask().await, second);
    let metrics = authority.get("/metrics", &Credential::None).await.body;
    let text = metrics.as_str().unwrap();
    assert!(text.contains("reseal_gateway_tokens_total{result=\"hit\"} 2"), "{text}");
    assert!(text.contains("reseal_gateway_tokens_total{result=\"miss\"} 2"), "{text}");
    authority.app.gateway.sweep(authority.app.clock.now());
    assert!(authority.app.gateway.token_bytes() > 500);
    authority.advance(151);
    authority.app.gateway.sweep(authority.app.clock.now());
    assert_eq!(authority.app.gateway.token_bytes(), 0, "what is dead is forgotten");
}

#[tokio::test]
async fn many_requests_at_once_get_one_token() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let ask = || request(Method::GET, "/gateway/verify", Some(&cookie), &[GET]).body(Body::empty()).unwrap();
    let answers = authority.send_all((0..50).map(|_| ask())).await;
    let first = bearer(&answers[0]);
    assert!(answers.iter().all(|answer| bearer(answer) == first));
    // Past both half-lives: one touch of the row, one signature.
    authority.advance(8 * 86_400);
    let answers = authority.send_all((0..50).map(|_| ask())).await;
    let second = bearer(&answers[0]);
    assert!(second != first && answers.iter().all(|answer| bearer(answer) == second));
}

#[tokio::test]
async fn a_changed_record_is_in_the_very_next_token() {
    let authority = gateway().await;
    let (user, _) = authority.app.store.user_by_username("alice").await.unwrap().unwrap();
    let cookie = signed_in(&authority).await;
    assert_eq!(verify(&authority, &cookie, &[GET]).await.header("x-auth-roles"), Some("member"));
    authority.patch_user(user.id, UserPatch { roles: Some(Vec::new()), ..UserPatch::default() }).await;
    let demoted = verify(&authority, &cookie, &[GET]).await;
    assert_eq!(demoted.header("x-auth-roles"), None);
    let token = claims(bearer(&demoted));
    assert_eq!((&token["roles"], &token["rev"]), (&json!([]), &2.into()));

    let on = authority.turn_on_phone(&Credential::Cookie(cookie)).await;
    let answer = verify(&authority, &on.cookie().unwrap(), &[GET]).await;
    assert_eq!(claims(bearer(&answer))["phone_number"], crate::support::NUMBER);
}

#[tokio::test]
async fn a_changed_client_is_in_the_very_next_token() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    authority.advance(2);
    let app = &authority.app;
    let client = app.store.client(&CLIENT.parse().unwrap()).await.unwrap().unwrap();
    let changed = Client {
        claims: Projection::parse(["roles"]).unwrap(),
        scope: "read".parse().unwrap(),
        audience: vec!["https://new.test".to_owned()],
        version: client.version + 1,
        updated_at: app.clock.now(),
        ..client
    };
    app.store.commit(Commit::of([Write::SwapClient(Box::new(changed))])).await.unwrap();
    app.clients_changed().await;
    let answer = verify(&authority, &cookie, &[GET]).await;
    let token = claims(bearer(&answer));
    assert_eq!((&token["scope"], &token["aud"][1]), (&"read".into(), &"https://new.test".into()));
    assert!(token["name"].is_null() && answer.header("x-auth-name").is_none());
    assert_eq!(answer.header("x-auth-email"), None);
    assert_eq!(answer.header("x-auth-roles"), Some("member"));
    // A verifier that knows of the change cannot tell a token of that very second from an older one.
    authority.advance(1);
    let next = verify(&authority, &cookie, &[GET]).await;
    assert_ne!(bearer(&next), bearer(&answer));
    authority.advance(1);
    assert_eq!(bearer(&verify(&authority, &cookie, &[GET]).await), bearer(&next));
}

#[tokio::test]
async fn a_withdrawn_key_signs_no_token_that_is_given_out_again() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let first = bearer(&verify(&authority, &cookie, &[GET]).await).to_owned();
    let kid = |token: &str| {
        use base64::Engine as _;
        let header = token.split('.').next().unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let (app, withdrawn) = (&authority.app, kid(&first));
    let now = app.clock.now();
    assert!(
        app.keys.withdraw(&*app.store, &app.random, &withdrawn, (now, app.event_until(now))).await.unwrap()
    );
    let second = bearer(&verify(&authority, &cookie, &[GET]).await).to_owned();
    assert_ne!(kid(&second), withdrawn);
}

#[tokio::test]
async fn a_token_never_outlives_its_session_and_near_the_end_one_is_enough() {
    let authority = gateway().await;
    let login = authority.login(CLIENT, "alice").await;
    let (cookie, end) = (login.cookie().unwrap(), login.body["session"]["expires_at"].as_i64().unwrap());
    for _ in 0..12 {
        authority.advance(7 * 86_400);
        verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    }
    authority.advance(6 * 86_400 - 100);
    let answer = verify(&authority, &cookie, &[GET]).await;
    assert_eq!(claims(bearer(&answer))["exp"], end);
    authority.advance(99);
    assert_eq!(
        bearer(&verify(&authority, &cookie, &[GET]).await),
        bearer(&answer),
        "a new one would end then too"
    );
    authority.advance(1);
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::UNAUTHORIZED);
}
