//! Who may administrate.

use crate::common::{admin, service_token, user_path};
use crate::support::{Credential, PASSWORD, SERVICE, SERVICE_SECRET, TestAuthority};
use http::{Method, StatusCode};
use reseal_core::{SessionId, UserId};
use reseal_server::manage::clients::ClientPatch;
use serde_json::{Value, json};

/// Every call of the API, with ids that exist.
fn calls(user: UserId, sid: SessionId) -> Vec<(Method, String)> {
    let user = user_path(user);
    vec![
        (Method::GET, "/v1/admin/users".into()),
        (Method::POST, "/v1/admin/users".into()),
        (Method::GET, user.clone()),
        (Method::PATCH, user.clone()),
        (Method::DELETE, user.clone()),
        (Method::DELETE, format!("{user}/factors")),
        (Method::GET, format!("{user}/sessions")),
        (Method::POST, format!("{user}/sessions")),
        (Method::DELETE, format!("{user}/sessions")),
        (Method::GET, format!("/v1/admin/sessions/{sid}")),
        (Method::DELETE, format!("/v1/admin/sessions/{sid}")),
        (Method::DELETE, "/v1/admin/sessions".into()),
        (Method::GET, "/v1/admin/clients".into()),
        (Method::POST, "/v1/admin/clients".into()),
        (Method::GET, "/v1/admin/clients/cookie".into()),
        (Method::PATCH, "/v1/admin/clients/cookie".into()),
        (Method::DELETE, "/v1/admin/clients/cookie".into()),
        (Method::POST, format!("/v1/admin/clients/{SERVICE}/secret")),
        (Method::GET, "/v1/admin/keys".into()),
        (Method::POST, "/v1/admin/keys/rotate".into()),
        (Method::POST, "/v1/admin/keys/some-kid/withdraw".into()),
    ]
}

#[tokio::test]
async fn no_call_is_answered_without_a_clients_own_token_of_the_scope() {
    let authority = TestAuthority::start().await;
    let alice = authority.user("alice").await;
    let session = authority.login("sliding", "alice").await;
    let cookie = authority.login("cookie", "alice").await;
    // Through the client that may administrate, a user gets its whole scope: and still may not.
    let body = json!({ "client_id": SERVICE, "client_secret": SERVICE_SECRET, "username": "alice", "password": PASSWORD });
    let of_service = authority.post("/v1/session", &Credential::None, body).await;
    of_service.expect(StatusCode::CREATED);
    let narrow = service_token(&authority, Some("read")).await;
    let before = (authority.record(alice).await, authority.events().await);

    for (method, path) in calls(alice, session.sid()) {
        let call = |with: Credential| {
            let (authority, method, path) = (&authority, method.clone(), path.clone());
            async move {
                let body = if method == Method::GET { Value::Null } else { json!({}) };
                let answer = authority.call(method, &path, &with, body).await;
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
                answer
            }
        };
        call(Credential::None).await.expect_error(401, "unauthorized");
        call(cookie.credential()).await.expect_error(401, "unauthorized");
        call(Credential::Bearer("nonsense".into())).await.expect_error(401, "invalid_token");
        call(session.credential()).await.expect_error(403, "client_token_required");
        call(of_service.credential()).await.expect_error(403, "client_token_required");
        call(narrow.clone()).await.expect_error(403, "insufficient_scope");
    }
    assert_eq!(
        (authority.record(alice).await, authority.events().await),
        before,
        "a refused call leaves no trace"
    );
}

#[tokio::test]
async fn an_administrators_token_holds_only_while_its_client_does() {
    let authority = TestAuthority::start().await;
    let expired = admin(&authority).await;
    authority.advance(300);
    authority.get("/v1/admin/keys", &expired).await.expect_error(401, "invalid_token");

    let token = admin(&authority).await;
    let manage = || authority.app.manage(authority.app.clock.now());
    let service = SERVICE.parse().unwrap();
    authority.advance(1);
    let narrower = ClientPatch { scope: Some("read".parse().unwrap()), ..ClientPatch::default() };
    manage().patch_client(&service, &narrower).await.unwrap();
    authority.app.clients_changed().await;
    authority.get("/v1/admin/keys", &token).await.expect_error(401, "invalid_token");
    authority.get("/v1/admin/keys", &admin(&authority).await).await.expect_error(403, "insufficient_scope");

    let disabled = ClientPatch { disabled: Some(true), ..ClientPatch::default() };
    let token = admin(&authority).await;
    manage().patch_client(&service, &disabled).await.unwrap();
    authority.app.clients_changed().await;
    authority.get("/v1/admin/keys", &token).await.expect_error(401, "invalid_token");
}
