//! Who is let through, and who is not.

use crate::common::{
    CLIENT, GET, POST, SAME_ORIGIN, bearer, gateway, gateway_with, lives, look, signed_in, verify,
};
use crate::support::{APP_ORIGIN, Credential, ISSUER, TestAuthority, claims};
use http::StatusCode;
use reseal_core::user::UserPatch;
use reseal_store::{Commit, Write};
use serde_json::json;

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_cookie_becomes_a_token_for_the_app() {
    let authority = gateway().await;
    let login = authority.login(CLIENT, "alice").await;
    let cookie = login.cookie().unwrap();
    let answer = verify(&authority, &cookie, &[GET]).await;
    let token = claims(bearer(&answer));
    assert_eq!(token["aud"], json!([ISSUER, "https://api.test"]));
    assert_eq!(token["sid"], login.sid().to_string());
    assert_eq!((&token["client_id"], &token["acr"]), (&CLIENT.into(), &"aal1".into()));
    assert_eq!(token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap(), 300);
    assert!(token["renew_at"].is_null(), "nobody renews it by presenting it");
    authority.app.verify_access_token(bearer(&answer), authority.app.clock.now(), false).unwrap();

    let header = |name| answer.header(name).map(str::to_owned);
    assert_eq!(header("x-auth-subject").unwrap(), token["sub"]);
    assert_eq!(header("x-auth-session").unwrap(), token["sid"]);
    assert_eq!(header("x-auth-acr").as_deref(), Some("aal1"));
    assert_eq!(header("x-auth-name").as_deref(), Some("Alice Example"));
    assert_eq!(header("x-auth-email").as_deref(), Some("alice@example.com"));
    assert_eq!(header("x-auth-roles").as_deref(), Some("member"));
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert!(answer.cookie().is_none() && answer.body.is_null());
    assert_eq!(answer.header("location"), None);
}

#[tokio::test]
async fn only_the_cookie_counts() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let token = authority.login("sliding", "alice").await.body["access_token"].as_str().unwrap().to_owned();
    let (stale, mine) = (format!("Bearer {token}"), ("authorization", "Basic nonsense"));
    verify(&authority, &cookie, &[GET, mine]).await.expect(StatusCode::OK);
    let with_other = verify(&authority, &cookie, &[GET, ("authorization", &stale)]).await;
    assert_eq!(claims(bearer(&with_other))["client_id"], CLIENT);
    for headers in [&[GET][..], &[GET, ("authorization", &stale)], &[]] {
        let refused = look(&authority, "/gateway/verify", None, headers).await;
        refused.expect_error(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(refused.header("authorization"), None);
        assert!(refused.cookie().is_none());
    }
    let middle = cookie.len() / 2;
    let other = if cookie.as_bytes()[middle] == b'A' { 'B' } else { 'A' };
    let altered = format!("{}{other}{}", &cookie[..middle], &cookie[middle + 1..]);
    for forged in ["", "x", "rsl_sc_AAAA", &cookie[..cookie.len() - 1], &altered] {
        let refused = verify(&authority, forged, &[GET]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{forged}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    let planted = [GET, ("cookie", "__Host-reseal=x")];
    assert_eq!(verify(&authority, &cookie, &planted).await.status, StatusCode::UNAUTHORIZED, "given twice");
}

#[tokio::test]
async fn what_changes_something_must_come_from_a_page_of_the_app() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let own = ("origin", APP_ORIGIN);
    let foreign = ("origin", "https://evil.test");
    let forwarded = ("x-forwarded-method", "POST");
    let upgrade = ("x-original-upgrade", "websocket");
    let none: &[(&str, &str)] = &[];
    for allowed in [
        &[GET][..],
        &[("x-original-method", "HEAD")],
        &[("x-forwarded-method", "GET")],
        &[GET, own],
        &[GET, ("sec-fetch-site", "cross-site")],
        &[POST, own],
        &[POST, ("origin", ISSUER)],
        &[POST, SAME_ORIGIN],
        &[forwarded, SAME_ORIGIN],
        &[own],
        &[SAME_ORIGIN],
        &[GET, upgrade, own],
        &[GET, upgrade, SAME_ORIGIN],
    ] {
        verify(&authority, &cookie, allowed).await.expect(StatusCode::OK);
    }
    for refused in [
        none,
        &[POST],
        &[forwarded],
        &[("x-original-method", "FROB")],
        &[("x-original-method", "get")],
        &[GET, forwarded],
        &[GET, GET],
        &[POST, foreign],
        &[GET, foreign],
        &[POST, ("sec-fetch-site", "cross-site")],
        &[POST, ("sec-fetch-site", "same-site")],
        &[POST, ("sec-fetch-site", "none")],
        &[POST, ("origin", "null")],
        &[POST, own, own],
        &[GET, upgrade],
        &[GET, upgrade, foreign],
        &[GET, ("upgrade", "websocket")],
        &[GET, upgrade, ("sec-fetch-site", "same-site")],
    ] {
        let answer = verify(&authority, &cookie, refused).await;
        answer.expect_error(403, "cross_site_request");
        assert!(answer.cookie().is_none() && answer.header("authorization").is_none(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_session_slides_with_one_write_per_half_life_and_a_refused_request_leaves_no_trace() {
    let authority = gateway().await;
    let login = authority.login(CLIENT, "alice").await;
    let cookie = login.cookie().unwrap();
    let renewed_at = async || {
        let read = authority.app.store.session(login.sid()).await.unwrap().unwrap();
        (read.session.renewed_at, read.session.version)
    };
    let first = renewed_at().await;
    authority.advance(7 * DAY - 1);
    assert!(verify(&authority, &cookie, &[GET]).await.cookie().is_none());
    assert_eq!(renewed_at().await, first);
    authority.advance(1);
    verify(&authority, &cookie, &[POST, ("origin", "https://evil.test")]).await.expect(StatusCode::FORBIDDEN);
    assert_eq!(renewed_at().await, first, "nothing was touched");
    let slid = verify(&authority, &cookie, &[GET]).await;
    assert_eq!(slid.cookie().as_ref(), Some(&cookie), "the same value, for longer");
    assert!(slid.header("set-cookie").unwrap().contains("Max-Age=1209600"));
    let second = renewed_at().await;
    assert_eq!(second, (authority.app.clock.now(), first.1 + 1));
    assert!(verify(&authority, &cookie, &[GET]).await.cookie().is_none());
    assert_eq!(renewed_at().await, second);
}

#[tokio::test]
async fn a_session_that_is_over_is_refused_at_once_and_its_owner_told_why() {
    let authority = gateway().await;
    let refused = async |cookie: &str, reason: &str| {
        let answer = verify(&authority, cookie, &[GET]).await;
        answer.expect_error(401, "invalid_token");
        assert_eq!(answer.body["reason"], reason);
        assert!(answer.header("authorization").is_none() && answer.cookie().is_none());
    };
    let cookie = signed_in(&authority).await;
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    let mine = Credential::Cookie(cookie.clone());
    authority.delete("/v1/session", &mine).await.expect(StatusCode::NO_CONTENT);
    refused(&cookie, "signed_out").await;

    let cookie = signed_in(&authority).await;
    authority.advance(14 * DAY);
    refused(&cookie, "idle_timeout").await;

    let cookie = signed_in(&authority).await;
    for _ in 0..12 {
        verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
        authority.advance(7 * DAY);
    }
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    authority.advance(6 * DAY);
    refused(&cookie, "max_lifetime").await;

    let cookie = signed_in(&authority).await;
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    let (user, _) = authority.app.store.user_by_username("alice").await.unwrap().unwrap();
    authority.patch_user(user.id, UserPatch { disabled: Some(true), ..UserPatch::default() }).await;
    refused(&cookie, "user_disabled").await;
}

#[tokio::test]
async fn a_disabled_clients_sessions_are_refused() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    verify(&authority, &cookie, &[GET]).await.expect(StatusCode::OK);
    let client = authority.app.store.client(&CLIENT.parse().unwrap()).await.unwrap().unwrap();
    let version = client.version;
    let disabled = reseal_core::Client { disabled: true, version: version + 1, ..client };
    authority.app.store.commit(Commit::of([Write::SwapClient(Box::new(disabled))])).await.unwrap();
    authority.app.clients_changed().await;
    let answer = verify(&authority, &cookie, &[GET]).await;
    answer.expect_error(401, "invalid_token");
    assert_eq!(answer.body["reason"], "revoked");
}

#[tokio::test]
async fn a_location_may_demand_a_stronger_or_a_newer_login() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let ask = async |query: &str, cookie: &str| {
        let headers = [GET, ("x-original-uri", "/bank?x=1&y=2")];
        look(&authority, &format!("/gateway/verify?{query}"), Some(cookie), &headers).await
    };
    let weak = ask("acr=aal2&max_age=300", &cookie).await;
    weak.expect_error(401, "insufficient_user_authentication");
    assert_eq!((&weak.body["acr_values"], &weak.body["max_age"]), (&"aal2".into(), &300.into()));
    let challenge = "Bearer error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
    assert_eq!(weak.header("www-authenticate"), Some(challenge));
    let link = "/login?acr=aal2&max_age=300&return_to=/bank%3Fx%3D1%26y%3D2";
    assert_eq!(weak.header("location"), Some(link), "the page that asks for as much");
    assert!(weak.header("authorization").is_none());

    ask("acr=aal1", &cookie).await.expect(StatusCode::OK);
    ask("max_age=300", &cookie).await.expect(StatusCode::OK);
    authority.advance(301);
    ask("max_age=300", &cookie).await.expect_error(401, "insufficient_user_authentication");
    for bad in ["acr=aal3", "acr=", "max_age=-1", "max_age=x", "acr=aal2&acr=aal1", "loa=2"] {
        ask(bad, &cookie).await.expect_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn after_a_step_up_the_new_cookie_is_strong_and_the_old_one_weak() {
    let authority = gateway().await;
    let old = signed_in(&authority).await;
    let on = authority.turn_on_phone(&Credential::Cookie(old.clone())).await;
    let new = on.cookie().unwrap();
    let acr = async |cookie: &str| {
        let answer = verify(&authority, cookie, &[GET]).await;
        (answer.header("x-auth-acr").unwrap_or_default().to_owned(), answer.cookie())
    };
    assert_eq!(acr(&old).await, ("aal1".to_owned(), Some(new.clone())), "the new one is sent again");
    assert_eq!(acr(&new).await, ("aal2".to_owned(), None));
    let superseded = verify(&authority, &old, &[GET]).await;
    superseded.expect_error(401, "invalid_token");
    assert_eq!(superseded.body["reason"], "superseded");
    let demanding = look(&authority, "/gateway/verify?acr=aal2", Some(&new), &[GET]).await;
    assert_eq!(claims(bearer(&demanding))["amr"], json!(["pwd", "sms", "mfa"]));
}

#[tokio::test]
async fn a_refusal_that_sends_a_cookie_sends_it_too() {
    let authority = gateway().await;
    let old = signed_in(&authority).await;
    let new = authority.turn_on_phone(&Credential::Cookie(old.clone())).await.cookie();
    let refused = look(&authority, "/gateway/verify?acr=aal2", Some(&old), &[GET]).await;
    refused.expect_error(401, "insufficient_user_authentication");
    assert_eq!(refused.cookie(), new);
}

#[tokio::test]
async fn an_app_may_ask_for_sessions_of_its_own_client_only() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let own = format!("/gateway/verify?client_id={CLIENT}");
    look(&authority, &own, Some(&cookie), &[GET]).await.expect(StatusCode::OK);
    let other = look(&authority, "/gateway/verify?client_id=shop", Some(&cookie), &[GET]).await;
    other.expect_error(401, "invalid_token");
    assert!(other.header("authorization").is_none());
}

#[tokio::test]
async fn without_hosted_pages_no_refusal_leads_to_one() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let uri = ("x-original-uri", "/x");
    let refused = look(&authority, "/gateway/verify", None, &[GET, uri]).await;
    refused.expect_error(401, "unauthorized");
    assert_eq!(refused.header("location"), None);
    let cookie = signed_in(&authority).await;
    verify(&authority, &cookie, &[GET, uri]).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn while_the_store_is_away_nobody_is_signed_out() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    authority.gate.break_sessions(true);
    let away = verify(&authority, &cookie, &[GET]).await;
    away.expect_error(503, "temporarily_unavailable");
    assert!(away.header("retry-after").is_some() && away.cookie().is_none());
    assert_eq!(away.header("location"), None);
    authority.gate.break_sessions(false);
    assert!(lives(&authority, &cookie).await);
}

#[tokio::test]
async fn odd_names_become_one_harmless_header_value() {
    let authority = gateway_with(|_| {}).await;
    let (user, _) = authority.app.store.user_by_username("alice").await.unwrap().unwrap();
    let cookie = signed_in(&authority).await;
    let patch = UserPatch {
        name: Some(Some("Zoë “100%” \u{2028}Ünal".to_owned())),
        email: Some(None),
        roles: Some(vec!["a,b".to_owned(), "größe".to_owned()]),
        ..UserPatch::default()
    };
    authority.patch_user(user.id, patch).await;
    let answer = verify(&authority, &cookie, &[GET]).await;
    assert_eq!(answer.header("x-auth-name"), Some("Zo%C3%AB %E2%80%9C100%25%E2%80%9D %E2%80%A8%C3%9Cnal"));
    assert_eq!(answer.header("x-auth-email"), None);
    assert_eq!(answer.header("x-auth-roles"), Some("a%2Cb,gr%C3%B6%C3%9Fe"));
    assert_eq!(claims(bearer(&answer))["name"], "Zoë “100%” \u{2028}Ünal");
}
