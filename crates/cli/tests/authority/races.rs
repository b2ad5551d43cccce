//! Two things at once: the safe side wins.

use crate::server::{Ask as _, Server, rounds};
use serde_json::json;
use std::sync::Barrier;

#[test]
fn no_login_that_began_before_a_password_change_survives_it() {
    let server = Server::start();
    let mut password = server.dev["user"]["password"].as_str().unwrap().to_owned();
    let username = server.dev["user"]["username"].as_str().unwrap().to_owned();
    for round in 0..rounds(6, 60) {
        let credentials =
            json!({ "client_id": server.client_id("sliding"), "username": username, "password": password });
        let owner = server.post("/v1/session").json(&credentials).reply().text("access_token");
        let next = format!("the {round}th good password");
        let body = json!({ "current_password": password, "new_password": next });
        let barrier = Barrier::new(4);
        let logins = std::thread::scope(|s| {
            let login = || {
                barrier.wait();
                server.post("/v1/session").json(&credentials).reply()
            };
            let logins = [s.spawn(login), s.spawn(login), s.spawn(login)];
            barrier.wait();
            let changed = server.put("/v1/me/password").bearer_auth(&owner).json(&body).reply();
            assert_eq!(changed.status, 200, "{}", changed.body);
            logins.map(|l| l.join().unwrap())
        });
        for login in logins {
            match login.status {
                201 => server.session(&login.text("access_token")).refused(
                    401,
                    "invalid_token",
                    Some("password_changed"),
                ),
                401 => login.refused(401, "invalid_credentials", None),
                _ => panic!("{} {}", login.status, login.body),
            }
        }
        assert_eq!(server.session(&owner).status, 200);
        password = next;
    }
}

#[test]
fn a_touch_that_races_a_second_factor_does_not_undo_it() {
    let server = Server::start();
    let origin = server.url.clone();
    for _ in 0..rounds(5, 50) {
        let first = server.login("cookie").cookie();
        let body = json!({ "phone_number": "+4915112345678" });
        let with =
            |path: &str, cookie: &str| server.post(path).header("cookie", cookie).header("origin", &origin);
        let begun = with("/v1/me/phone", &first).json(&body).reply();
        assert_eq!(begun.status, 202, "{}", begun.body);
        // A touch is due from now on, and the code is still good.
        let code = json!({ "challenge": begun.body["challenge"], "code": server.newest_code() });
        let barrier = Barrier::new(4);
        let raised = std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    barrier.wait();
                    let touched = with("/v1/session/renew", &first).reply();
                    assert_eq!(touched.status, 200, "{}", touched.body);
                    assert!(
                        touched.body["session"]["acr"] == "aal1",
                        "the old value stays weak: {}",
                        touched.body
                    );
                });
            }
            barrier.wait();
            with("/v1/me/phone/verify", &first).json(&code).reply()
        });
        assert_eq!(raised.status, 200, "{}", raised.body);
        let second = raised.cookie();
        assert_ne!(second, first, "a change of privilege changes the value");
        let seen = server.get("/v1/session").header("cookie", &second).reply();
        assert_eq!(seen.body["acr"], "aal2", "{}", seen.body);
        // The new value was used: the old one is done, the session lives.
        server.get("/v1/session").header("cookie", &first).reply().refused(
            401,
            "invalid_token",
            Some("superseded"),
        );
        let off = server.delete("/v1/me/phone").header("cookie", &second).header("origin", &origin).reply();
        assert!(matches!(off.status, 200 | 204), "{}", off.body);
        // The next round's message must not meet today's limit.
        server.advance(86_400);
    }
}

#[test]
fn a_hundred_renewals_at_once_with_one_token_all_succeed() {
    let server = Server::start();
    let token = server.login("sliding").text("access_token");
    server.advance(601);
    let statuses: Vec<u16> = std::thread::scope(|s| {
        let renew = || server.post("/v1/session/renew").bearer_auth(&token).reply();
        let tasks: Vec<_> = (0..100).map(|_| s.spawn(renew)).collect();
        tasks
            .into_iter()
            .map(|t| t.join().unwrap())
            .map(|r| if r.body["renewed"] == true { r.status } else { 0 })
            .collect()
    });
    assert!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
}
