//! The authority goes away and comes back.

use crate::service::{World, eventually};
use reqwest::Method;
use reseal_verify::OnFeedLost;
use serde_json::json;

#[tokio::test]
async fn requests_go_on_while_the_authority_is_away_and_it_catches_up_by_itself() {
    let mut world = World::start().await;
    let (token, other) = (world.authority.login().await, world.authority.login().await);
    assert_eq!(world.get("/notes", &token).await.status, 200);
    world.authority.kill();
    // As after 15 s of silence.
    world.verifier.freshness().lose();
    assert_eq!(world.get("/notes", &token).await.status, 200);
    // Past the half of its life nobody can renew it, and it is good until the end of it.
    world.advance_here(601);
    let reply = world.get("/notes", &token).await;
    assert_eq!((reply.status, reply.renewed()), (200, None));

    world.authority.restart();
    world.authority.advance(601).await;
    world.catch_up().await;
    eventually("it slides again", async || {
        let reply = world.get("/notes", &token).await;
        assert_eq!(reply.status, 200);
        reply.renewed().is_some()
    })
    .await;
    let gone = world.authority.ask(Method::DELETE, "/v1/session", Some(&other), None).await;
    assert_eq!(gone.0, 204);
    world.learns_that_it_is_over(&other).await;
    assert_eq!(world.get("/notes", &other).await.refusal(), (401, "invalid_token", Some("signed_out")));
}

#[tokio::test]
async fn stale_claims_are_never_used_while_the_authority_is_away() {
    let mut world = World::start().await;
    let token = world.authority.login().await;
    let sub = world.get("/me", &token).await.body["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}");
    world.authority.administer(Method::PATCH, &path, Some(json!({ "roles": ["admin"] }))).await;
    world.learns_that_it_is_stale(&token).await;
    world.authority.kill();
    let reply = world.get("/me", &token).await;
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", None));
    assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none());

    world.authority.restart();
    eventually("the new claims are there", async || {
        let me = world.get("/me", &token).await;
        assert!(matches!(me.status, 200 | 503), "{} {}", me.status, me.body);
        me.status == 200 && me.body["roles"] == json!(["admin"])
    })
    .await;
}

#[tokio::test]
async fn a_service_that_refuses_says_503_and_never_401() {
    let mut world = World::with(OnFeedLost::Refuse).await;
    let token = world.authority.login().await;
    assert_eq!(world.get("/notes", &token).await.status, 200);
    world.authority.kill();
    world.verifier.freshness().lose();
    assert_eq!(world.get("/notes", &token).await.refusal(), (503, "temporarily_unavailable", None));
    world.authority.restart();
    eventually("it is back", async || {
        let reply = world.get("/notes", &token).await;
        assert!(matches!(reply.status, 200 | 503), "{} {}", reply.status, reply.body);
        reply.status == 200
    })
    .await;
}
