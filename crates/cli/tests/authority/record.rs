//! The payload: change the record, and see the token change in this and in every other session.

use crate::server::{Ask as _, Server, claims};
use serde_json::{Value, json};

const NUMBER: &str = "+4915112345678";

#[test]
fn the_phone_number_is_in_the_token_of_the_same_answer_and_at_the_other_devices_next_renewal() {
    let server = Server::start();
    let (here, elsewhere) = (server.login("sliding"), server.login("refresh"));
    assert_eq!(here.claims()["phone_number"], Value::Null);
    let before = here.claims()["rev"].as_u64().unwrap();

    let on = server.turn_on_phone(&here.text("access_token"), NUMBER);
    let now = on.claims();
    assert_eq!((&now["phone_number"], &now["phone_number_verified"]), (&json!(NUMBER), &json!(true)));
    assert_eq!(now["rev"].as_u64().unwrap(), before + 1, "one change, one revision");
    assert_eq!((&now["acr"], &now["amr"]), (&json!("aal2"), &json!(["pwd", "sms", "mfa"])));
    assert_eq!(now["sid"], here.claims()["sid"]);
    assert!(on.body.get("refresh_token").is_none());
    assert_eq!(on.body["recovery_codes"].as_array().unwrap().len(), 10);

    let other = server.refresh(&elsewhere.text("refresh_token"));
    assert_eq!(other.claims()["phone_number"], NUMBER);
    assert_eq!(other.claims()["acr"], "aal1", "another device did not pass the factor");
}

#[test]
fn a_step_up_gives_nothing_to_a_token_that_was_stolen_before_it() {
    let server = Server::start();
    let stolen = server.login("sliding").text("access_token");
    server.turn_on_phone(&stolen, NUMBER);
    let renewed = server.post("/v1/session/renew").bearer_auth(&stolen).reply();
    assert_eq!(renewed.body["renewed"], true, "its claims are stale, so it renews at once");
    assert_eq!(renewed.claims()["acr"], "aal1");
    assert_eq!(renewed.claims()["phone_number"], NUMBER);
}

#[test]
fn with_the_factor_on_a_login_needs_the_code_or_a_recovery_code() {
    let server = Server::start();
    let on = server.turn_on_phone(&server.login("sliding").text("access_token"), NUMBER);
    let recovery = on.body["recovery_codes"][0].as_str().unwrap().to_owned();
    let begin = || {
        let reply = server.post("/v1/session").json(&server.credentials("refresh")).reply();
        reply.refused(403, "second_factor_required", None);
        assert_eq!(reply.body["factors"][0]["factor"], "phone");
        assert_eq!(reply.body["factors"][1]["factor"], "recovery_code");
        assert!(!reply.body["factors"][0]["hint"].as_str().unwrap().contains("12345"), "{}", reply.body);
        reply.text("challenge")
    };
    let answer = |challenge: &str, factor: &str, code: &str| {
        let body = json!({ "challenge": challenge, "factor": factor, "code": code });
        server.post("/v1/session/factor").json(&body).reply()
    };

    let challenge = begin();
    let code = server.newest_code();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    answer(&challenge, "phone", wrong).refused(400, "invalid_code", None);
    let login = answer(&challenge, "phone", &code);
    assert_eq!(login.status, 201, "{}", login.body);
    assert_eq!(
        (&login.claims()["acr"], &login.claims()["amr"]),
        (&json!("aal2"), &json!(["pwd", "sms", "mfa"]))
    );
    answer(&challenge, "phone", &code).refused(400, "invalid_challenge", None);

    let challenge = begin();
    assert_eq!(answer(&challenge, "recovery_code", &recovery).status, 201);
    let challenge = begin();
    answer(&challenge, "recovery_code", &recovery).refused(400, "invalid_code", None);
}

#[test]
fn a_code_dies_after_five_tries_and_after_five_minutes() {
    let server = Server::start();
    server.turn_on_phone(&server.login("sliding").text("access_token"), NUMBER);
    let begin = || server.post("/v1/session").json(&server.credentials("refresh")).reply().text("challenge");
    let answer = |challenge: &str, code: &str| {
        let body = json!({ "challenge": challenge, "factor": "phone", "code": code });
        server.post("/v1/session/factor").json(&body).reply()
    };
    let challenge = begin();
    let code = server.newest_code();
    let wrong = if code == "123456" { "654321" } else { "123456" };
    for _ in 0..5 {
        answer(&challenge, wrong).refused(400, "invalid_code", None);
    }
    answer(&challenge, &code).refused(400, "invalid_challenge", None);

    let challenge = begin();
    let code = server.newest_code();
    server.advance(300);
    answer(&challenge, &code).refused(400, "invalid_challenge", None);
}

#[test]
fn a_demotion_is_seen_at_the_next_renewal_and_bumps_the_revision_once() {
    let server = Server::start();
    let admin = server.service_token("reseal:admin");
    let login = server.login("refresh");
    let path = format!("/v1/admin/users/{}", login.claims()["sub"].as_str().unwrap());
    let set = |roles: Value| {
        let reply = server.patch(&path).bearer_auth(&admin).json(&json!({ "roles": roles })).reply();
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    set(json!(["admin", "reader"]));
    let promoted = server.refresh(&login.text("refresh_token"));
    assert_eq!(promoted.claims()["roles"], json!(["admin", "reader"]));
    set(json!(["reader"]));
    let demoted = server.refresh(&promoted.text("refresh_token"));
    assert_eq!(demoted.claims()["roles"], json!(["reader"]));
    assert_eq!(demoted.claims()["rev"].as_u64(), promoted.claims()["rev"].as_u64().map(|r| r + 1));
}

#[test]
fn one_may_write_ones_name_and_not_ones_roles() {
    let server = Server::start();
    let token = server.login("fixed").text("access_token");
    let patch = |body: Value| server.patch("/v1/me").bearer_auth(&token).json(&body).reply();
    let renamed = patch(json!({ "name": "Grace Hopper" }));
    assert_eq!(renamed.status, 200, "{}", renamed.body);
    assert_eq!(renamed.claims()["name"], "Grace Hopper");
    assert_eq!(renamed.claims()["exp"], claims(&token)["exp"], "a fixed token gains no time by it");
    for forbidden in [
        json!({ "roles": ["admin"] }),
        json!({ "phone_number": NUMBER }),
        json!({ "name": "x", "disabled": true }),
    ] {
        let reply = patch(forbidden);
        assert!(matches!(reply.status, 400 | 403), "{}", reply.body);
    }
    let me = server.get("/v1/me").bearer_auth(&token).reply();
    let record = me.body.get("user").unwrap_or(&me.body);
    assert_eq!((&record["name"], &record["phone_number"]), (&json!("Grace Hopper"), &Value::Null));
}

#[test]
fn concurrent_updates_of_different_members_lose_nothing() {
    let server = Server::start();
    let admin = server.service_token("reseal:admin");
    let login = server.login("refresh");
    let path = format!("/v1/admin/users/{}", login.claims()["sub"].as_str().unwrap());
    std::thread::scope(|s| {
        for n in 0..12 {
            let (server, admin, path) = (&server, &admin, &path);
            s.spawn(move || {
                let attributes = json!({ "attributes": { format!("a{n}"): n } });
                let reply = server.patch(path).bearer_auth(admin).json(&attributes).reply();
                assert_eq!(reply.status, 200, "{}", reply.body);
            });
        }
    });
    let user = server.get(&path).bearer_auth(&admin).reply();
    assert_eq!(user.body["attributes"].as_object().unwrap().len(), 12, "{}", user.body);
    let revision = user.body["revision"].as_u64().unwrap();
    let stale = server
        .patch(&path)
        .bearer_auth(&admin)
        .header("if-match", format!("\"{}\"", revision - 1))
        .json(&json!({ "name": "late" }))
        .reply();
    assert_eq!(stale.status, 412, "{}", stale.body);
}

#[test]
fn changing_the_phone_needs_a_recent_login_or_the_password() {
    let server = Server::start();
    let token = server.login("fixed").text("access_token");
    server.advance(301);
    let ask = |body: Value| server.post("/v1/me/phone").bearer_auth(&token).json(&body).reply();
    let stale = ask(json!({ "phone_number": NUMBER }));
    stale.refused(401, "insufficient_user_authentication", None);
    assert_eq!(stale.body["max_age"], 300);
    let challenge = stale.headers["www-authenticate"].to_str().unwrap().to_owned();
    assert!(
        challenge.contains("insufficient_user_authentication") && challenge.contains("max_age=\"300\""),
        "{challenge}"
    );
    let with_password = json!({ "phone_number": NUMBER, "current_password": server.dev["user"]["password"] });
    assert_eq!(ask(with_password).status, 202);
}
