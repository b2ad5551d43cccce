//! The four policies, each from login to its end, and the reason told.

use crate::server::{Ask as _, Server, claims};
use serde_json::{Value, json};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn renew(server: &Server, token: &str) -> crate::server::Reply {
    server.post("/v1/session/renew").bearer_auth(token).reply()
}

#[test]
fn a_sliding_token_renews_only_after_half_its_life_and_not_once_expired() {
    let server = Server::start();
    let login = server.login("sliding");
    let first = login.text("access_token");
    assert_eq!(login.body["token_type"], "Bearer");
    assert_eq!(login.body["expires_in"], 20 * MINUTE);
    assert!(login.body.get("refresh_token").is_none());
    assert_eq!(login.headers["cache-control"], "no-store");

    let early = renew(&server, &first);
    assert_eq!(early.body["renewed"], false);
    assert_eq!(early.body["renew_at"], claims(&first)["renew_at"]);

    server.advance(10 * MINUTE);
    let renewed = renew(&server, &first);
    assert_eq!(renewed.body["renewed"], true, "{}", renewed.body);
    let second = renewed.text("access_token");
    assert!(claims(&second)["exp"].as_i64() > claims(&first)["exp"].as_i64());
    assert_eq!(claims(&second)["sid"], claims(&first)["sid"]);
    // Another tab with the old token gets a good new one too.
    assert_eq!(renew(&server, &first).body["renewed"], true);

    server.advance(10 * MINUTE);
    renew(&server, &first).refused(401, "invalid_token", None);
    assert_eq!(renew(&server, &second).body["renewed"], true);
}

#[test]
fn an_unused_sliding_session_ends_and_says_so() {
    let server = Server::start();
    let token = server.login("sliding").text("access_token");
    server.advance(20 * MINUTE);
    server.session(&token).refused(401, "invalid_token", Some("idle_timeout"));
    renew(&server, &token).refused(401, "invalid_token", Some("idle_timeout"));
}

#[test]
fn sliding_never_passes_the_absolute_end() {
    let server = Server::start();
    let login = server.login("sliding");
    let end = login.body["session"]["expires_at"].as_i64().unwrap();
    let mut token = login.text("access_token");
    for _ in 0..(12 * HOUR / (15 * MINUTE)) - 1 {
        server.advance(15 * MINUTE);
        let renewed = renew(&server, &token);
        assert_eq!(renewed.body["renewed"], true, "{}", renewed.body);
        token = renewed.text("access_token");
        assert!(claims(&token)["exp"].as_i64().unwrap() <= end);
    }
    assert_eq!(claims(&token)["exp"].as_i64().unwrap(), end);
    server.advance(15 * MINUTE);
    server.session(&token).refused(401, "invalid_token", Some("max_lifetime"));
}

#[test]
fn a_fixed_token_lives_to_its_end_and_does_not_renew() {
    let server = Server::start();
    let login = server.login("fixed");
    let token = login.text("access_token");
    assert_eq!(login.body["expires_in"], 7 * DAY);
    assert!(login.body["session"].get("idle_expires_at").is_none());
    server.advance(7 * DAY - HOUR);
    let answer = renew(&server, &token);
    assert_eq!(
        (answer.status, &answer.body["renewed"], &answer.body["renew_at"]),
        (200, &json!(false), &Value::Null)
    );
    assert_eq!(server.session(&token).status, 200);
    server.advance(HOUR);
    server.session(&token).refused(401, "invalid_token", Some("max_lifetime"));
}

#[test]
fn a_refresh_answers_as_rfc_6749_says() {
    let server = Server::start();
    let login = server.login("refresh");
    assert_eq!(login.body["session"]["generation"], 1);
    server.advance(5 * MINUTE);
    server.session(&login.text("access_token")).refused(401, "invalid_token", None);

    let answer = server.refresh(&login.text("refresh_token"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 5 * MINUTE);
    assert_eq!(answer.body["session"]["generation"], 2);
    assert!(answer.text("refresh_token").starts_with("rsl_rt_"));
    assert_eq!(server.session(&answer.text("access_token")).status, 200);
}

#[test]
fn a_refresh_session_ends_when_idle_and_when_old() {
    let server = Server::start();
    let idle = server.login("refresh").text("refresh_token");
    server.advance(14 * DAY);
    server.refresh(&idle).refused(400, "invalid_grant", Some("idle_timeout"));

    let mut token = server.login("refresh").text("refresh_token");
    for _ in 0..8 {
        server.advance(10 * DAY);
        token = server.refresh(&token).text("refresh_token");
    }
    server.advance(10 * DAY);
    server.refresh(&token).refused(400, "invalid_grant", Some("max_lifetime"));
}

#[test]
fn the_old_access_token_sent_along_must_be_of_the_same_session() {
    let server = Server::start();
    let (mine, other) = (server.login("refresh"), server.login("refresh"));
    let send = |access: &str| {
        let (id, refresh) = (server.client_id("refresh"), mine.text("refresh_token"));
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", id),
            ("refresh_token", refresh.as_str()),
            ("access_token", access),
        ];
        server.post("/oauth/token").form(&form).reply()
    };
    send(&other.text("access_token")).refused(400, "invalid_grant", None);
    // Nothing was spent, an expired one of the same session is fine, and one that cannot be read is ignored.
    server.advance(6 * MINUTE);
    assert_eq!(send(&mine.text("access_token")).status, 200);
    assert_eq!(send("not a token").status, 200);
}

#[test]
fn a_cookie_slides_by_the_same_rule_and_scripts_cannot_read_it() {
    let server = Server::start();
    let login = server.login("cookie");
    let header = login.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(header.starts_with("reseal=rsl_sc_"), "{header}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", &format!("Max-Age={}", 14 * DAY)] {
        assert!(header.contains(part), "{header}");
    }
    assert!(login.body.get("access_token").is_none());
    let cookie = login.cookie();
    let renew = |cookie: &str| {
        server.post("/v1/session/renew").header("cookie", cookie).header("origin", &server.url).reply()
    };
    assert_eq!(renew(&cookie).body["renewed"], false);
    server.advance(7 * DAY);
    let renewed = renew(&cookie);
    assert_eq!(renewed.body["renewed"], true, "{}", renewed.body);
    assert_eq!(renewed.cookie(), cookie, "no privilege changed, so neither does the value");
    server.advance(13 * DAY);
    assert_eq!(server.get("/v1/session").header("cookie", &cookie).reply().status, 200);
    server.advance(2 * DAY);
    server.get("/v1/session").header("cookie", &cookie).reply().refused(
        401,
        "invalid_token",
        Some("idle_timeout"),
    );
}

#[test]
fn a_cross_site_request_with_the_cookie_changes_nothing() {
    let server = Server::start();
    let cookie = server.login("cookie").cookie();
    let sign_out = || server.delete("/v1/session").header("cookie", &cookie);
    let foreign = [
        sign_out(),
        sign_out().header("origin", "https://evil.example"),
        sign_out().header("sec-fetch-site", "cross-site"),
        sign_out().header("sec-fetch-site", "same-site").header("origin", "null"),
    ];
    for request in foreign {
        let reply = request.reply();
        reply.refused(403, "cross_site_request", None);
        assert!(reply.headers.get("set-cookie").is_none());
    }
    assert_eq!(server.get("/v1/session").header("cookie", &cookie).reply().status, 200);
    assert_eq!(sign_out().header("sec-fetch-site", "same-origin").reply().status, 204);
    server.get("/v1/session").header("cookie", &cookie).reply().refused(
        401,
        "invalid_token",
        Some("signed_out"),
    );
}

#[test]
fn a_planted_cookie_never_becomes_a_login() {
    let server = Server::start();
    let planted = server.login("cookie").cookie();
    let login = server
        .post("/v1/session")
        .header("cookie", &planted)
        .header("origin", &server.url)
        .json(&server.credentials("cookie"))
        .reply();
    assert_eq!(login.status, 201);
    assert_ne!(login.cookie(), planted);
    server.get("/v1/session").header("cookie", &planted).reply().refused(
        401,
        "invalid_token",
        Some("signed_out"),
    );
}

#[test]
fn every_other_end_is_told_too() {
    let server = Server::start();
    let admin = server.service_token("reseal:admin");
    let me = server.login("sliding").text("access_token");

    let signed_out = server.login("sliding").text("access_token");
    assert_eq!(server.delete("/v1/session").bearer_auth(&signed_out).reply().status, 204);
    server.session(&signed_out).refused(401, "invalid_token", Some("signed_out"));

    let login = server.login("refresh");
    let form = [("client_id", server.client_id("refresh")), ("token", &login.text("refresh_token"))];
    assert_eq!(server.post("/oauth/revoke").form(&form).reply().status, 200);
    server.refresh(&login.text("refresh_token")).refused(400, "invalid_grant", Some("signed_out"));

    let revoked = server.login("refresh");
    let path = format!("/v1/sessions/{}", claims(&revoked.text("access_token"))["sid"].as_str().unwrap());
    assert_eq!(server.delete(&path).bearer_auth(&me).reply().status, 204);
    server.refresh(&revoked.text("refresh_token")).refused(400, "invalid_grant", Some("revoked"));

    let other = server.login("refresh").text("refresh_token");
    let body = json!({ "current_password": server.dev["user"]["password"], "new_password": "correct horse battery" });
    let changed = server.put("/v1/me/password").bearer_auth(&me).json(&body).reply();
    assert_eq!(changed.status, 200, "{}", changed.body);
    server.refresh(&other).refused(400, "invalid_grant", Some("password_changed"));
    assert_eq!(server.session(&me).status, 200, "the one that changed it stays");

    let sub = claims(&me)["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}");
    let disabled = server.patch(&path).bearer_auth(&admin).json(&json!({ "disabled": true })).reply();
    assert_eq!(disabled.status, 200, "{}", disabled.body);
    server.session(&me).refused(401, "invalid_token", Some("user_disabled"));
}
