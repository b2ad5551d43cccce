//! Sliding: a newer token from half its life on, for one call.

use crate::service::World;
use reqwest::Method;
use std::sync::Arc;

/// Past the half of the 20 minutes of the policy `web`.
const HALF: i64 = 601;

#[tokio::test]
async fn fifty_parallel_requests_past_the_half_life_are_one_renewal_and_fifty_answers() {
    let world = Arc::new(World::start().await);
    let token = world.authority.login().await;
    assert_eq!(world.get("/notes", &token).await.renewed(), None, "too early");
    world.advance(HALF).await;
    let before = world.authority.renewals().await;
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.get("/notes", &token).await })
        })
        .collect();
    let mut newer = Vec::new();
    for reply in asked {
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        newer.push(reply.renewed().unwrap());
    }
    newer.dedup();
    assert_eq!(newer.len(), 1, "the same for all");
    assert_eq!(world.authority.renewals().await - before, 1, "one call");
    let late = world.get("/notes", &token).await;
    assert_eq!(late.renewed().as_ref(), newer.first(), "who comes late gets it, too");

    // The old one dies at its time (and the 5 s of leeway), the new one lives on.
    world.advance(HALF + 10).await;
    assert_eq!(world.get("/notes", &token).await.refusal(), (401, "invalid_token", None));
    let reply = world.get("/notes", &newer[0]).await;
    assert_eq!((reply.status, reply.renewed().is_some()), (200, true));
}

#[tokio::test]
async fn a_newer_token_survives_errors() {
    let world = World::start().await;
    let token = world.authority.login().await;
    world.advance(HALF).await;
    let missing = world.ask(Method::DELETE, "/notes/77", &token, None).await;
    assert_eq!((missing.status, missing.renewed().is_some()), (404, true));
    let step_up = world.ask(Method::DELETE, "/notes", &token, None).await;
    assert_eq!((step_up.status, step_up.renewed().is_some()), (401, true));
}
