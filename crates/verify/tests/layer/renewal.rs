//! Sliding, and what happens to tokens whose claims have changed.

use crate::support::{NOW, World, ask, renewed, service};
use reseal_core::EndReason;
use reseal_verify::OnStale;
use serde_json::json;

const OTHER_SID: &str = "BBBBBBBBBBBBBBBBBBBBBA";
const OTHER_SUB: &str = "01920000-0000-7000-8000-000000000002";

#[tokio::test]
async fn fifty_parallel_requests_past_the_half_life_are_one_call_and_fifty_answers() {
    let world = World::new().await;
    let newer =
        world.token(&json!({ "iat": NOW + 601, "exp": NOW + 1801, "renew_at": NOW + 1201, "name": "Grace" }));
    let answer = renewed(&newer);
    world.authority(move |_| answer.clone());
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    world.pass_half_life();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (app, token) = (app.clone(), token.clone());
            tokio::spawn(async move { ask(&app, "/", Some(&token)).await })
        })
        .collect();
    for reply in asked {
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.renewed(), Some(&*newer));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("Renewed-Access-Token"));
        assert_eq!(reply.body["claims"]["name"], "Grace", "the service sees the new claims");
        assert_eq!(reply.body["authorization"], format!("Bearer {newer}"), "and the new token");
    }
    let late = ask(&app, "/", Some(&token)).await;
    assert_eq!(late.renewed(), Some(&*newer));
    assert_eq!(world.calls(), [token]);
    assert_eq!(ask(&app, "/", Some(&newer)).await.renewed(), None, "nothing to do for the new one");
}

#[tokio::test]
async fn a_newer_token_survives_errors_and_refusals() {
    let world = World::new().await;
    let newer = world.token(&json!({ "iat": NOW + 601, "renew_at": NOW + 1201 }));
    let answer = renewed(&newer);
    world.authority(move |_| answer.clone());
    let token = world.token(&json!({}));
    world.pass_half_life();
    let layer = world.layer();
    let failed = ask(&service().layer(layer.clone()), "/fails", Some(&token)).await;
    assert_eq!((failed.status, failed.renewed()), (409, Some(&*newer)));
    assert_eq!(failed.header("cache-control"), Some("no-store"));
    let exposed: Vec<_> = failed.headers.get_all("access-control-expose-headers").iter().collect();
    assert_eq!(exposed, ["ETag", "Renewed-Access-Token"]);
    let refused = ask(&service().layer(layer.scope("notes:write")), "/", Some(&token)).await;
    assert_eq!((refused.status, refused.renewed()), (403, Some(&*newer)));
}

#[tokio::test]
async fn a_token_that_is_still_good_goes_on_when_the_authority_does_not_help() {
    for answer in [
        (503, json!({ "error": "temporarily_unavailable" })),
        (200, json!({ "renewed": false, "renew_at": NOW + 700 })),
        (200, json!({ "renewed": false, "renew_at": null })),
        (200, json!("nonsense")),
        (500, json!({})),
        renewed("no.such.token"),
    ] {
        let world = World::new().await;
        let text = answer.to_string();
        world.authority(move |_| answer.clone());
        let app = service().layer(world.layer());
        let token = world.token(&json!({}));
        world.pass_half_life();
        let reply = ask(&app, "/", Some(&token)).await;
        assert_eq!((reply.status, reply.renewed()), (200, None), "{text}");
        assert_eq!(world.calls().len(), 1, "{text}");
    }
}

trait ToText {
    fn to_string(&self) -> String;
}

impl ToText for (u16, serde_json::Value) {
    fn to_string(&self) -> String {
        format!("{} {}", self.0, self.1)
    }
}

#[tokio::test]
async fn nobody_ever_becomes_somebody_else() {
    for foreign in [json!({ "sid": OTHER_SID }), json!({ "sub": OTHER_SUB }), json!({ "sid": null })] {
        let world = World::new().await;
        let mut claims = foreign.clone();
        claims["rev"] = json!(2);
        let answer = renewed(&world.token(&claims));
        world.authority(move |_| answer.clone());
        let app = service().layer(world.layer());
        let token = world.token(&json!({}));
        world.pass_half_life();
        let reply = ask(&app, "/", Some(&token)).await;
        assert_eq!((reply.status, reply.renewed()), (200, None), "{foreign}: the old one is still good");
        assert_eq!(reply.body["claims"]["sub"], crate::support::SUB);
        world.claims_changed(2);
        let reply = ask(&app, "/", Some(&token)).await;
        assert_eq!((reply.status, reply.renewed()), (503, None), "{foreign}: and now there is none");
    }
}

#[tokio::test]
async fn a_session_that_is_over_at_the_authority_is_over() {
    let world = World::new().await;
    world.authority(|_| (401, json!({ "error": "invalid_token", "reason": "signed_out" })));
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    world.pass_half_life();
    let reply = ask(&app, "/", Some(&token)).await;
    assert_eq!(reply.refusal(), (401, "invalid_token", Some("signed_out")));
}

#[tokio::test]
async fn it_does_not_slide_when_told_not_to() {
    let world = World::new().await;
    let app = service().layer(world.layer().sliding(false));
    world.pass_half_life();
    assert_eq!(ask(&app, "/", Some(&world.token(&json!({})))).await.status, 200);
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_stale_token_goes_through_with_new_claims_or_not_at_all() {
    let world = World::new().await;
    let newer = world.token(&json!({ "rev": 2, "roles": [] }));
    let answer = renewed(&newer);
    world.authority(move |_| answer.clone());
    let app = service().layer(world.layer());
    let token = world.token(&json!({ "roles": ["admin"] }));
    assert_eq!(ask(&app, "/", Some(&token)).await.body["claims"]["roles"], json!(["admin"]));
    world.claims_changed(2);
    let reply = ask(&app, "/", Some(&token)).await;
    assert_eq!((reply.status, reply.renewed()), (200, Some(&*newer)));
    assert_eq!(reply.body["claims"]["roles"], json!([]));

    // Before anything can have been kept.
    for (answer, status, error, reason) in [
        ((503, json!({})), 503, "temporarily_unavailable", None),
        ((500, json!({})), 503, "temporarily_unavailable", None),
        ((200, json!({ "renewed": false, "renew_at": null })), 401, "invalid_token", Some("claims_changed")),
        ((401, json!({ "message": "no" })), 503, "temporarily_unavailable", None),
        (
            (401, json!({ "error": "invalid_token", "reason": "user_disabled" })),
            401,
            "invalid_token",
            Some("user_disabled"),
        ),
    ] {
        let world = World::new().await;
        let text = answer.1.to_string();
        world.authority(move |_| answer.clone());
        world.claims_changed(2);
        let reply = ask(&service().layer(world.layer()), "/", Some(&world.token(&json!({})))).await;
        assert_eq!(reply.refusal(), (status, error, reason), "{text}");
    }
}

#[tokio::test]
async fn a_stale_token_is_refused_when_told_so() {
    let world = World::new().await;
    world.claims_changed(2);
    let app = service().layer(world.layer().on_stale(OnStale::Refuse));
    let reply = ask(&app, "/", Some(&world.token(&json!({})))).await;
    assert_eq!(reply.refusal(), (401, "invalid_token", Some("claims_changed")));
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn fifty_stale_requests_are_one_call() {
    let world = World::new().await;
    let newer = world.token(&json!({ "rev": 2 }));
    let answer = renewed(&newer);
    world.authority(move |_| answer.clone());
    world.claims_changed(2);
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (app, token) = (app.clone(), token.clone());
            tokio::spawn(async move { ask(&app, "/", Some(&token)).await })
        })
        .collect();
    for reply in asked {
        assert_eq!(reply.await.unwrap().renewed(), Some(&*newer));
    }
    assert_eq!(world.calls().len(), 1);
}

/// The answer that was kept is older than the next change: it is not used, and a later call is made.
#[tokio::test]
async fn what_was_kept_is_not_used_after_the_next_change() {
    let world = World::new().await;
    let (second, third) = (world.token(&json!({ "rev": 2 })), world.token(&json!({ "rev": 3 })));
    let answers = [renewed(&second), renewed(&third)];
    world.authority(move |call| answers[usize::try_from(call).unwrap() - 1].clone());
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    world.claims_changed(2);
    assert_eq!(ask(&app, "/", Some(&token)).await.renewed(), Some(&*second));
    world.claims_changed(3);
    assert_eq!(ask(&app, "/", Some(&token)).await.renewed(), Some(&*third));
    assert_eq!(world.calls().len(), 2);
}

/// `iat` knows no parts of a second: a token of the second in which its client changed counts as older.
#[tokio::test]
async fn a_client_that_changed_this_very_second_locks_nobody_out() {
    let world = World::new().await;
    let newer = world.token(&json!({ "iat": NOW + 10, "scope": "notes:read" }));
    let answer = renewed(&newer);
    world.authority(move |_| answer.clone());
    world.clock.set(NOW + 10);
    world.client_changed(NOW + 11);
    let app = service().layer(world.layer());
    let token = world.token(&json!({ "scope": "notes:read notes:write" }));
    let reply = ask(&app, "/", Some(&token)).await;
    assert_eq!((reply.status, reply.renewed()), (200, Some(&*newer)), "asked for after the change");
    assert_eq!(reply.body["claims"]["scope"], "notes:read");
    assert_eq!(world.calls().len(), 1);
    // That answer is older than this request; it must be asked for again.
    assert_eq!(ask(&app, "/", Some(&token)).await.renewed(), Some(&*newer));
    assert_eq!(world.calls().len(), 2);
    // Its holder brings the new one within the same second: it is replaced as well.
    assert_eq!(ask(&app, "/", Some(&newer)).await.renewed(), Some(&*newer));
    // A change of the user is no such doubt.
    world.claims_changed(2);
    assert_eq!(ask(&app, "/", Some(&token)).await.status, 503);
}

#[tokio::test]
async fn an_authority_that_never_catches_up_is_not_asked_for_ever() {
    let world = World::new().await;
    let answer = renewed(&world.token(&json!({ "rev": 1, "jti": "again" })));
    world.authority(move |_| answer.clone());
    world.claims_changed(2);
    let reply = ask(&service().layer(world.layer()), "/", Some(&world.token(&json!({})))).await;
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", None));
    assert_eq!(world.calls().len(), 2);
}

#[tokio::test]
async fn a_change_during_the_renewal_is_seen() {
    let world = World::new().await;
    let (second, third) = (
        world.token(&json!({ "iat": NOW + 601, "renew_at": NOW + 1201 })),
        world.token(&json!({ "iat": NOW + 601, "renew_at": NOW + 1201, "rev": 2 })),
    );
    let answers = [renewed(&second), renewed(&third)];
    world.authority(move |call| answers[usize::try_from(call).unwrap() - 1].clone());
    let app = service().layer(world.layer());
    let token = world.token(&json!({}));
    world.pass_half_life();
    assert_eq!(ask(&app, "/", Some(&token)).await.renewed(), Some(&*second));
    world.claims_changed(2);
    assert_eq!(ask(&app, "/", Some(&token)).await.renewed(), Some(&*third));
    world.session_ended(EndReason::Revoked);
    let reply = ask(&app, "/", Some(&token)).await;
    assert_eq!(reply.refusal(), (401, "invalid_token", Some("revoked")));
}
