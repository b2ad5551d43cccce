//! Clients: registered, changed, given new secrets and deleted.

use crate::common::{admin, clients_changed, ended, service_token, show_session};
use crate::support::{APP_ORIGIN, Credential, SERVICE, TestAuthority};
use http::StatusCode;
use reseal_core::EndReason;
use reseal_server::manage::clients::ClientPatch;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn a_client_is_registered_and_its_secret_is_shown_once() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let body = json!({
        "client_id": "shop", "name": "Shop", "confidential": true, "policy": "app", "audience": ["orders"],
        "scope": "read reseal:feed", "claims": ["roles", "attributes.plan"], "origins": ["https://shop.test"],
        "introspect": true,
    });
    let created = authority.post("/v1/admin/clients", &admin, body.clone()).await;
    created.expect(StatusCode::CREATED);
    assert!(created.header("location").unwrap().ends_with("/v1/admin/clients/shop"));
    let secret = created.body["client_secret"].as_str().unwrap().to_owned();
    assert_eq!(created.body["algorithm"], "ES256");
    for path in ["/v1/admin/clients/shop", "/v1/admin/clients"] {
        let shown = authority.get(path, &admin).await;
        shown.expect(StatusCode::OK);
        assert!(!shown.body.to_string().contains("client_secret"), "{}", shown.body);
    }
    let grant = |secret: String| {
        let authority = &authority;
        async move {
            let pairs =
                [("grant_type", "client_credentials"), ("client_id", "shop"), ("client_secret", &*secret)];
            authority.form("/oauth/token", &pairs).await
        }
    };
    let token = grant(secret.clone()).await;
    assert_eq!(token.claims()["scope"], "read reseal:feed");
    authority.post("/v1/admin/clients", &admin, body).await.expect_error(409, "conflict");

    authority.advance(1);
    let admin_later = service_token(&authority, None).await;
    let rotated = authority.post("/v1/admin/clients/shop/secret", &admin_later, Value::Null).await;
    rotated.expect(StatusCode::OK);
    let fresh = rotated.body["client_secret"].as_str().unwrap().to_owned();
    assert_ne!(secret, fresh);
    grant(secret).await.expect_error(401, "invalid_client");
    grant(fresh).await.expect(StatusCode::OK);
    assert_eq!(clients_changed(&authority).await, ["shop"]);
    authority
        .post("/v1/admin/clients/sliding/secret", &admin_later, Value::Null)
        .await
        .expect_error(409, "conflict");
}

#[tokio::test]
async fn a_new_secret_voids_the_tokens_got_with_the_old() {
    let authority = TestAuthority::start().await;
    let stolen = admin(&authority).await;
    authority.advance(1);
    let path = format!("/v1/admin/clients/{SERVICE}/secret");
    authority.post(&path, &stolen, Value::Null).await.expect(StatusCode::OK);
    authority.get("/v1/admin/users", &stolen).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn a_client_gets_a_random_id_when_it_brings_none() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let created = authority.post("/v1/admin/clients", &admin, json!({ "name": "N", "policy": "web" })).await;
    created.expect(StatusCode::CREATED);
    let id = created.body["client_id"].as_str().unwrap();
    assert_eq!(id.len(), 22);
    assert!(created.body.get("client_secret").is_none() && created.body["confidential"] == false);
    authority.user("alice").await;
    authority.login(id, "alice").await;
}

#[tokio::test]
async fn a_client_that_contradicts_the_rules_is_refused() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    for (member, value) in [
        ("client_id", json!("a b")),
        ("name", json!("")),
        ("policy", json!("nonesuch")),
        ("policy", json!("a b")),
        ("audience", json!(["a b"])),
        ("audience", json!(vec!["x"; 300])),
        ("scope", json!("a\"b")),
        ("scope", json!("reseal:admin")),
        ("scope", json!("reseal:root")),
        ("claims", json!(["password"])),
        ("origins", json!(["https://a.test/path"])),
        ("origins", json!(["*"])),
        ("algorithm", json!("HS256")),
        ("algorithm", json!("none")),
        ("introspect", json!(true)),
        ("color", json!("red")),
    ] {
        let mut body = json!({ "client_id": "new", "name": "New", "policy": "web" });
        body[member] = value.clone();
        authority.post("/v1/admin/clients", &admin, body).await.expect_error(400, "invalid_request");
        if member != "client_id" {
            let patch = authority.patch("/v1/admin/clients/sliding", &admin, json!({ member: value })).await;
            patch.expect_error(400, "invalid_request");
        }
    }
    authority.get("/v1/admin/clients/new", &admin).await.expect_error(404, "not_found");
    let body = json!({ "client_id": "new", "name": "New", "policy": "web", "confidential": true, "scope": "reseal:root" });
    authority.post("/v1/admin/clients", &admin, body).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn narrowing_a_client_is_logged_once_and_holds_at_the_next_renewal() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    assert_eq!(held.claims()["scope"], "read write");
    let patch = |body: Value| authority.patch("/v1/admin/clients/refresh", &admin, body);

    let widened = patch(json!({ "scope": "read write print", "name": "Renamed" })).await;
    widened.expect(StatusCode::OK);
    assert_eq!(clients_changed(&authority).await, Vec::<String>::new(), "giving is no news for verifiers");
    let narrowed = patch(json!({ "scope": "read" })).await;
    assert_eq!((&narrowed.body["scope"], &narrowed.body["name"]), (&json!("read"), &json!("Renamed")));
    patch(json!({ "scope": "read" })).await.expect(StatusCode::OK);
    assert_eq!(clients_changed(&authority).await, ["refresh"]);

    let renewed = authority.refresh("refresh", &held).await;
    renewed.expect(StatusCode::OK);
    assert_eq!(renewed.claims()["scope"], "read");
}

#[tokio::test]
async fn concurrent_patches_of_a_client_lose_nothing() {
    let authority = Arc::new(TestAuthority::start().await);
    let admin = admin(&authority).await;
    let bodies = [
        json!({ "name": "Renamed" }),
        json!({ "scope": "read" }),
        json!({ "audience": ["orders"] }),
        json!({ "claims": ["roles"] }),
        json!({ "origins": ["https://new.test"] }),
        json!({ "algorithm": "EdDSA" }),
    ];
    let writers: Vec<_> = bodies
        .iter()
        .cloned()
        .map(|body| {
            let (authority, admin) = (Arc::clone(&authority), admin.clone());
            tokio::spawn(async move { authority.patch("/v1/admin/clients/sliding", &admin, body).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().expect(StatusCode::OK);
    }
    let shown = authority.get("/v1/admin/clients/sliding", &admin).await;
    for body in bodies {
        for (member, value) in body.as_object().unwrap() {
            assert_eq!(&shown.body[member], value);
        }
    }
}

#[tokio::test]
async fn a_disabled_client_gets_nothing() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let patch = |body: Value| authority.patch("/v1/admin/clients/refresh", &admin, body);
    patch(json!({ "disabled": true })).await.expect(StatusCode::OK);
    assert_eq!(clients_changed(&authority).await, ["refresh"]);
    authority.try_login("refresh", "alice").await.expect_error(401, "invalid_client");
    authority.refresh("refresh", &held).await.expect_error(401, "invalid_client");
    show_session(&authority, &held.credential()).await.expect_error(401, "invalid_token");
    patch(json!({ "disabled": false })).await.expect(StatusCode::OK);
    authority.login("refresh", "alice").await;
}

#[tokio::test]
async fn a_deleted_client_takes_its_sessions_along_for_ever() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    let other = authority.login("sliding", "alice").await;
    authority.delete("/v1/admin/clients/refresh", &admin).await.expect(StatusCode::NO_CONTENT);
    authority.get("/v1/admin/clients/refresh", &admin).await.expect_error(404, "not_found");
    authority.delete("/v1/admin/clients/refresh", &admin).await.expect_error(404, "not_found");
    authority.refresh("refresh", &held).await.expect_error(401, "invalid_client");
    show_session(&authority, &other.credential()).await.expect(StatusCode::OK);
    assert_eq!(ended(&authority).await, [(held.sid(), EndReason::Revoked)]);
    assert!(clients_changed(&authority).await.iter().all(|id| id == "refresh"));

    // Whoever gets the name next does not get the sessions.
    let body = json!({ "client_id": "refresh", "name": "Heir", "policy": "app", "scope": "read write" });
    authority.post("/v1/admin/clients", &admin, body).await.expect(StatusCode::CREATED);
    let revived = authority.refresh("refresh", &held).await;
    revived.expect_error(400, "invalid_grant");
    assert_eq!(revived.body["reason"], "revoked");
}

#[tokio::test]
async fn origins_are_known_from_the_moment_a_client_lists_them() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    let app = &authority.app;
    assert!(app.knows_origin(APP_ORIGIN) && app.knows_origin("https://auth.test"));
    assert!(!app.knows_origin("https://shop.test") && !app.knows_origin("https://auth.test.evil"));
    assert!(!app.knows_origin("") && !app.knows_origin("null"));

    let body =
        json!({ "client_id": "shop", "name": "Shop", "policy": "web", "origins": ["https://shop.test"] });
    authority.post("/v1/admin/clients", &admin, body).await.expect(StatusCode::CREATED);
    assert!(app.knows_origin("https://shop.test"));
    let patch = |body: Value| authority.patch("/v1/admin/clients/shop", &admin, body);
    patch(json!({ "disabled": true })).await.expect(StatusCode::OK);
    assert!(!app.knows_origin("https://shop.test"));
    patch(json!({ "disabled": false })).await.expect(StatusCode::OK);
    assert!(app.knows_origin("https://shop.test"));
    authority.delete("/v1/admin/clients/shop", &admin).await.expect(StatusCode::NO_CONTENT);
    assert!(!app.knows_origin("https://shop.test") && app.knows_origin(APP_ORIGIN));
}

#[tokio::test]
async fn a_change_of_a_client_by_another_process_is_seen_at_the_next_look() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    authority.login("sliding", "alice").await;
    let app = &authority.app;
    // What the command line does: it writes into the store and tells nobody. Giving is no event.
    let patch = ClientPatch {
        origins: Some(vec!["https://new.test".into()]),
        scope: Some("read write print".parse().unwrap()),
        ..ClientPatch::default()
    };
    app.manage(app.clock.now()).patch_client(&"sliding".parse().unwrap(), &patch).await.unwrap();
    assert!(!app.knows_origin("https://new.test"));
    app.look_for_client_changes().await.unwrap();
    assert!(app.knows_origin("https://new.test"));
    assert_eq!(authority.login("sliding", "alice").await.claims()["scope"], "print read write");
}

#[tokio::test]
async fn the_first_client_of_an_algorithm_finds_a_key() {
    let authority = TestAuthority::start().await;
    let admin = admin(&authority).await;
    authority.user("alice").await;
    for algorithm in ["EdDSA", "RS256"] {
        let body = json!({ "client_id": algorithm, "name": "N", "policy": "web", "algorithm": algorithm });
        authority.post("/v1/admin/clients", &admin, body).await.expect(StatusCode::CREATED);
        let session = authority.login(algorithm, "alice").await;
        show_session(&authority, &session.credential()).await.expect(StatusCode::OK);
        let jwks = authority.get("/jwks.json", &Credential::None).await;
        let algs: Vec<&str> =
            jwks.body["keys"].as_array().unwrap().iter().map(|k| k["alg"].as_str().unwrap()).collect();
        assert!(algs.contains(&algorithm), "{algs:?}");
    }
}

#[tokio::test]
async fn a_token_of_before_its_client_lost_a_right_renews_at_once() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let login = authority.login("sliding", "alice").await;
    authority.advance(2);
    let early = authority.post("/v1/session/renew", &login.credential(), Value::Null).await;
    assert_eq!(early.body["renewed"], false);
    let admin = admin(&authority).await;
    let narrowed = authority.patch("/v1/admin/clients/sliding", &admin, json!({ "scope": "" })).await;
    narrowed.expect(StatusCode::OK);
    assert_eq!(clients_changed(&authority).await, ["sliding"]);
    let renewed = authority.post("/v1/session/renew", &login.credential(), Value::Null).await;
    assert_eq!((&renewed.body["renewed"], &renewed.claims()["scope"]), (&true.into(), &"".into()));
    authority.advance(1);
    let newest = authority.post("/v1/session/renew", &renewed.credential(), Value::Null).await;
    assert_eq!(newest.body["renewed"], true, "of the very second of the change: it may be older");
    let held = authority.post("/v1/session/renew", &newest.credential(), Value::Null).await;
    assert_eq!(held.body["renewed"], false, "and then no more");
}
