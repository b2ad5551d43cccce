//! The extractors of axum, behind a layer and without one.

use crate::support::{NOW, World, ask};
use axum::Router;
use axum::extract::FromRef;
use axum::routing::get;
use reseal_verify::{Authenticated, Refusal, Requirements, StandardClaims, Verified, Verifier};
use serde::Deserialize;
use serde_json::json;

#[derive(Clone)]
struct Shop {
    verifier: Verifier,
}

impl FromRef<Shop> for Verifier {
    fn from_ref(shop: &Shop) -> Self {
        shop.verifier.clone()
    }
}

#[derive(Deserialize)]
struct Plan {
    plan: String,
}

fn routes(world: &World) -> Router {
    Router::new()
        .route("/name", get(async |user: Authenticated| user.claims.name.unwrap_or_default()))
        .route(
            "/maybe",
            get(async |user: Option<Authenticated>| {
                user.map_or("nobody".to_owned(), |u| u.token().subject().to_owned())
            }),
        )
        .route("/plan", get(async |Authenticated { claims: Plan { plan }, .. }: Authenticated<Plan>| plan))
        .route(
            "/strict",
            get(async |user: Authenticated| {
                user.require_scope("notes:read")?;
                user.require(&Requirements::new().scope("notes:read"))?;
                user.require_acr("aal2")?;
                user.require_max_age(300)?;
                Ok::<_, Refusal>("done")
            }),
        )
        .route("/verified", get(async |verified: Verified| verified.token().subject().to_owned()))
        .with_state(Shop { verifier: world.verifier.clone() })
}

#[tokio::test]
async fn they_work_behind_a_layer_and_without_one() {
    let world = World::new().await;
    let token = world.token(&json!({ "plan": "gold" }));
    for app in [routes(&world), routes(&world).layer(world.layer().optional())] {
        assert_eq!(ask(&app, "/name", Some(&token)).await.status, 200);
        assert_eq!(ask(&app, "/plan", Some(&token)).await.status, 200);
        assert_eq!(ask(&app, "/maybe", None).await.status, 200);
        assert_eq!(ask(&app, "/maybe", Some(&token)).await.status, 200);
        assert_eq!(ask(&app, "/maybe", Some("a.b.c")).await.refusal(), (401, "invalid_token", None));
        assert_eq!(ask(&app, "/name", None).await.refusal(), (401, "unauthorized", None));
    }
}

#[tokio::test]
async fn without_a_layer_a_stale_token_is_refused() {
    let world = World::new().await;
    let app = routes(&world);
    let token = world.token(&json!({}));
    world.claims_changed(2);
    assert_eq!(
        ask(&app, "/name", Some(&token)).await.refusal(),
        (401, "invalid_token", Some("claims_changed"))
    );
    assert_eq!(ask(&app, "/verified", Some(&token)).await.refusal(), (401, "unauthorized", None));
}

#[tokio::test]
async fn claims_that_do_not_fit_are_our_fault_and_quote_nothing() {
    let world = World::new().await;
    let app = routes(&world);
    for claims in [json!({}), json!({ "plan": ["very secret"] })] {
        let reply = ask(&app, "/plan", Some(&world.token(&claims))).await;
        assert_eq!(reply.refusal(), (500, "server_error", None));
        assert_eq!(reply.header("www-authenticate"), None, "a new login would not help");
        assert!(!reply.body.to_string().contains("very secret"));
    }
}

#[tokio::test]
async fn handlers_can_ask_for_more() {
    let world = World::new().await;
    let app = routes(&world).layer(world.layer().realm("notes").sliding(false));
    let weak = ask(&app, "/strict", Some(&world.token(&json!({})))).await;
    assert_eq!(
        weak.header("www-authenticate"),
        Some("Bearer realm=\"notes\", error=\"insufficient_user_authentication\", acr_values=\"aal2\"")
    );
    let strong = world.token(&json!({ "acr": "aal2" }));
    assert_eq!(ask(&app, "/strict", Some(&strong)).await.status, 200);
    world.clock.set(NOW + 301);
    let old = ask(&app, "/strict", Some(&strong)).await;
    assert_eq!(
        old.header("www-authenticate"),
        Some("Bearer realm=\"notes\", error=\"insufficient_user_authentication\", max_age=\"300\"")
    );
    let other = ask(&app, "/strict", Some(&world.token(&json!({ "scope": "" })))).await;
    assert_eq!(other.status, 403);
}

#[test]
fn the_usual_claims_may_all_be_missing() {
    assert_eq!(serde_json::from_str::<StandardClaims>("{}").unwrap(), StandardClaims::default());
    let text =
        r#"{"sub":"x","name":"Ada","phone_number":null,"phone_number_verified":true,"roles":["admin"]}"#;
    let claims: StandardClaims = serde_json::from_str(text).unwrap();
    assert!(claims.phone_number_verified && claims.has_role("admin") && claims.phone_number.is_none());
}
