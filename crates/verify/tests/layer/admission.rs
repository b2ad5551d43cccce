//! Who is let through, and what the others are told.

use crate::support::{NOW, World, ask, ask_with, service};
use axum::routing::get;
use axum::{Router, response::Response};
use bytes::Bytes;
use reseal_core::EndReason;
use reseal_verify::{OnFeedLost, RequireLayer, Requirements, Verifier, VerifyLayer};
use serde_json::json;
use std::convert::Infallible;
use tower::{Layer as _, ServiceExt as _};

#[tokio::test]
async fn a_good_token_is_let_through() {
    let world = World::new().await;
    let app = service().layer(world.layer());
    let reply = ask(&app, "/", Some(&world.token(&json!({})))).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["claims"]["name"], "Ada");
    assert_eq!(reply.renewed(), None);
    assert!(world.calls().is_empty(), "nothing is asked of the authority");
}

#[tokio::test]
async fn everyone_else_is_told_why() {
    let world = World::new().await;
    let app = service().layer(world.layer().realm("notes").scope("notes:read"));
    let none = ask(&app, "/", None).await;
    assert_eq!(none.refusal(), (401, "unauthorized", None));
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"notes\""));
    assert_eq!(none.header("cache-control"), Some("no-store"));

    let other_scheme = ask_with(&app, "/", &["Basic YTpi"]).await;
    assert_eq!(other_scheme.header("www-authenticate"), Some("Bearer realm=\"notes\""));

    let token = world.token(&json!({}));
    let twice = format!("Bearer {token}");
    for values in [&["Bearer"][..], &["Bearer a b"], &[&twice, &twice]] {
        let malformed = ask_with(&app, "/", values).await;
        assert_eq!(malformed.refusal(), (400, "invalid_request", None));
        let challenge = malformed.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"notes\", error=\"invalid_request\""), "{challenge}");
    }

    let expired = ask(&app, "/", Some(&world.token(&json!({ "exp": NOW - 60 })))).await;
    assert_eq!(expired.refusal(), (401, "invalid_token", None));
    assert_eq!(
        expired.header("www-authenticate"),
        Some(
            "Bearer realm=\"notes\", error=\"invalid_token\", error_description=\"The access token has expired.\""
        )
    );

    let narrow = ask(&app, "/", Some(&world.token(&json!({ "scope": "profile" })))).await;
    assert_eq!(narrow.refusal(), (403, "insufficient_scope", None));
    assert_eq!(
        narrow.header("www-authenticate"),
        Some("Bearer realm=\"notes\", error=\"insufficient_scope\", scope=\"notes:read\"")
    );
}

#[tokio::test]
async fn a_token_in_the_url_is_none() {
    let world = World::new().await;
    let app = service().layer(world.layer());
    let path = format!("/?access_token={}", world.token(&json!({})));
    assert_eq!(ask(&app, &path, None).await.refusal(), (401, "unauthorized", None));
}

#[tokio::test]
async fn where_a_token_is_optional_a_bad_one_is_refused_all_the_same() {
    let world = World::new().await;
    let app = service().layer(world.layer().optional());
    let anonymous = ask(&app, "/", None).await;
    assert_eq!((anonymous.status, &anonymous.body["claims"]), (200, &json!(null)));
    assert_eq!(ask_with(&app, "/", &["Basic YTpi"]).await.status, 200);
    assert_eq!(ask(&app, "/", Some("a.b.c")).await.refusal(), (401, "invalid_token", None));
    assert_eq!(ask_with(&app, "/", &["Bearer a", "Bearer b"]).await.status, 400);
}

#[tokio::test]
async fn a_weak_or_old_login_is_asked_to_step_up() {
    let world = World::new().await;
    let app = service().layer(world.layer().sliding(false).acr("aal2").max_age(300));
    let strong = world.token(&json!({ "acr": "aal2" }));
    assert_eq!(ask(&app, "/", Some(&strong)).await.status, 200);
    world.clock.set(NOW + 300);
    assert_eq!(ask(&app, "/", Some(&strong)).await.status, 200, "at the very age");
    world.clock.set(NOW + 301);
    let challenge = "Bearer error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
    for token in [strong, world.token(&json!({})), world.token(&json!({ "auth_time": null }))] {
        let reply = ask(&app, "/", Some(&token)).await;
        assert_eq!(reply.refusal(), (401, "insufficient_user_authentication", None));
        assert_eq!(reply.header("www-authenticate"), Some(challenge));
        assert_eq!((&reply.body["acr_values"], &reply.body["max_age"]), (&json!("aal2"), &json!(300)));
    }
}

#[tokio::test]
async fn more_is_asked_on_some_routes() {
    let world = World::new().await;
    let to_write = RequireLayer::new(Requirements::new().scope("notes:write").acr("aal2 aal3"));
    let inner = Router::new().route("/write", get(|| async {})).route_layer(to_write.clone());
    let app = service().merge(inner).layer(world.layer().realm("notes"));
    let reader = world.token(&json!({}));
    assert_eq!(ask(&app, "/", Some(&reader)).await.status, 200);
    let refused = ask(&app, "/write", Some(&reader)).await;
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Bearer realm=\"notes\", error=\"insufficient_scope\", scope=\"notes:write\"")
    );
    let writer = world.token(&json!({ "scope": "notes:read notes:write", "acr": "aal3" }));
    assert_eq!(ask(&app, "/write", Some(&writer)).await.status, 200);
    // Anonymous, or without the layer around it: closed.
    for app in [
        Router::new()
            .route("/write", get(|| async {}))
            .layer(to_write.clone())
            .layer(world.layer().optional()),
        Router::new().route("/write", get(|| async {})).layer(to_write),
    ] {
        assert_eq!(ask(&app, "/write", None).await.refusal(), (401, "unauthorized", None));
    }
}

#[tokio::test]
async fn a_session_that_ended_says_why() {
    let world = World::new().await;
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    assert_eq!(ask(&app, "/", Some(&token)).await.status, 200);
    world.session_ended(EndReason::PasswordChanged);
    let reply = ask(&app, "/", Some(&token)).await;
    assert_eq!(reply.refusal(), (401, "invalid_token", Some("password_changed")));
}

#[tokio::test]
async fn a_feed_that_is_lost_is_503_and_no_challenge() {
    let world = World::new().await;
    let verifier = Verifier::builder(&world.issuer)
        .audience(crate::support::AUDIENCE)
        .client("notes-api", "secret")
        .feed(OnFeedLost::Refuse)
        .clock(std::sync::Arc::<reseal_verify::ManualClock>::clone(&world.clock))
        .build()
        .await
        .unwrap();
    let app = service().layer(VerifyLayer::new(verifier));
    let reply = ask(&app, "/", Some(&world.token(&json!({})))).await;
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", None));
    assert_eq!((reply.header("retry-after"), reply.header("www-authenticate")), (Some("1"), None));
}

/// No axum in it: any service of `http`'s types whose body can be made from bytes.
#[tokio::test]
async fn it_works_around_any_http_service() {
    let world = World::new().await;
    let inner = tower::service_fn(|_: http::Request<()>| async {
        Ok::<_, Infallible>(http::Response::new(Bytes::from_static(b"inner")))
    });
    let service = world.layer().layer(inner);
    let refused = service.clone().oneshot(http::Request::new(())).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.body().starts_with(b"{"));
    let mut request = http::Request::new(());
    let value = format!("Bearer {}", world.token(&json!({}))).parse().unwrap();
    request.headers_mut().insert("authorization", value);
    assert_eq!(service.oneshot(request).await.unwrap().into_body(), "inner");
    let _: fn(reseal_verify::Refusal) -> Response = axum::response::IntoResponse::into_response;
}
