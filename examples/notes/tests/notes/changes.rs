//! What is changed at the authority is seen by the very next request.

use crate::authority::PHONE;
use crate::service::World;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_new_phone_number_shows_in_the_very_next_request() {
    let world = World::start().await;
    let (phone, laptop) = (world.authority.login().await, world.authority.login().await);
    assert_eq!(world.get("/me", &laptop).await.body["phone_number"], json!(null));
    world.authority.turn_on_phone(&phone).await;
    world.learns_that_it_is_stale(&laptop).await;
    let me = world.get("/me", &laptop).await;
    assert_eq!((&me.body["phone_number"], &me.body["acr"]), (&json!(PHONE), &json!("aal1")));
    let newer = me.renewed().unwrap();
    let me = world.get("/me", &newer).await;
    assert_eq!((&me.body["phone_number"], me.renewed()), (&json!(PHONE), None));
}

#[tokio::test]
async fn a_demoted_administrator_is_none_in_the_very_next_request() {
    let world = World::start().await;
    world.authority.command("users set demo --role admin");
    let token = world.authority.login().await;
    world.write("mine", &token).await;
    let all = world.get("/notes/all", &token).await;
    assert_eq!(all.status, 200, "{}", all.body);

    let sub = world.get("/me", &token).await.body["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}");
    world.authority.administer(Method::PATCH, &path, Some(json!({ "roles": [] }))).await;
    world.learns_that_it_is_stale(&token).await;
    let refused = world.get("/notes/all", &token).await;
    assert_eq!(refused.refusal(), (403, "forbidden", None));
    assert!(refused.renewed().is_some(), "with the new claims in hand");
}

#[tokio::test]
async fn a_client_that_lost_a_right_has_lost_it_in_the_very_next_request() {
    let world = World::start().await;
    let token = world.authority.login().await;
    assert_eq!(world.write("first", &token).await.status, 201);
    let narrower = json!({ "scope": "notes:read" });
    world.authority.administer(Method::PATCH, "/v1/admin/clients/notes-web", Some(narrower)).await;
    world.learns_that_it_is_stale(&token).await;
    let refused = world.write("second", &token).await;
    assert_eq!(refused.refusal(), (403, "insufficient_scope", None));
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Bearer realm=\"notes\", error=\"insufficient_scope\", scope=\"notes:write\"")
    );
    // What is left works at once, within the very second of the change, and is signed out nowhere.
    let newer = refused.renewed().unwrap();
    for token in [&token, &newer] {
        let read = world.get("/notes", token).await;
        assert_eq!((read.status, read.body.as_array().unwrap().len()), (200, 1), "{}", read.body);
    }
}

#[tokio::test]
async fn a_session_that_was_ended_elsewhere_says_why() {
    let world = World::start().await;
    let (here, elsewhere) = (world.authority.login().await, world.authority.login().await);
    assert_eq!(world.get("/notes", &here).await.status, 200);
    let ended =
        world.authority.ask(Method::DELETE, "/v1/sessions?except=current", Some(&elsewhere), None).await;
    assert!(ended.0 < 300, "{ended:?}");
    world.learns_that_it_is_over(&here).await;
    let reply = world.get("/notes", &here).await;
    assert_eq!(reply.refusal(), (401, "invalid_token", Some("revoked")));
    assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    assert_eq!(world.get("/notes", &elsewhere).await.status, 200);
}

#[tokio::test]
async fn deleting_everything_needs_a_second_factor_and_a_recent_login() {
    let world = World::start().await;
    let weak = world.authority.login().await;
    world.write("milk", &weak).await;
    let refused = world.ask(Method::DELETE, "/notes", &weak, None).await;
    assert_eq!(refused.refusal(), (401, "insufficient_user_authentication", None));
    let challenge = "Bearer realm=\"notes\", error=\"insufficient_user_authentication\", \
                     acr_values=\"aal2\", max_age=\"300\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));

    let strong = world.authority.turn_on_phone(&weak).await;
    world.advance(301).await;
    let old = world.ask(Method::DELETE, "/notes", &strong, None).await;
    assert_eq!((old.status, old.header("www-authenticate")), (401, Some(challenge)));
    assert_eq!(world.get("/notes", &strong).await.body.as_array().unwrap().len(), 1);

    // The login that was asked for: with the code, and now.
    let fresh = world.authority.login_with_code().await;
    assert_eq!(world.ask(Method::DELETE, "/notes", &fresh, None).await.status, 204);
    assert_eq!(world.get("/notes", &fresh).await.body, json!([]));
}
