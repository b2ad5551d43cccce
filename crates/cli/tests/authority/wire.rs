//! Malformed requests get a 4xx with a code and a description, and security headers are everywhere.

use crate::server::{Ask as _, Reply, Server};
use reqwest::blocking::RequestBuilder;

fn is_a_good_refusal(reply: &Reply, what: &str) {
    assert!((400..500).contains(&reply.status), "{what}: {} {}", reply.status, reply.body);
    for member in ["error", "error_description"] {
        let text = reply.body[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{what}: {member} is missing in {}", reply.body);
    }
}

#[test]
fn whatever_is_malformed_gets_a_4xx_with_a_code_and_a_description() {
    let server = Server::start();
    let token = server.login("sliding").text("access_token");
    let admin = server.service_token("reseal:admin");
    let json = |r: RequestBuilder| r.header("content-type", "application/json");
    let bodies: [(&str, Vec<u8>); 9] = [
        ("nothing", Vec::new()),
        ("no JSON", b"{".to_vec()),
        ("not UTF-8", vec![0xff, 0xfe, b'{', b'}']),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("an unknown member", br#"{"surprise": 1}"#.to_vec()),
        ("a member twice", br#"{"client_id":"a","client_id":"b","username":"x","password":"y"}"#.to_vec()),
        ("deeply nested", [vec![b'['; 50_000], vec![b']'; 50_000]].concat()),
        ("too large", vec![b' '; 200_000]),
    ];
    for (what, body) in &bodies {
        for path in ["/v1/session", "/v1/session/factor", "/v1/session/factor/resend"] {
            is_a_good_refusal(
                &json(server.post(path)).body(body.clone()).reply(),
                &format!("POST {path}, {what}"),
            );
        }
        for path in ["/v1/me/phone", "/v1/me/phone/verify"] {
            let reply = json(server.post(path).bearer_auth(&token)).body(body.clone()).reply();
            is_a_good_refusal(&reply, &format!("POST {path}, {what}"));
        }
        for path in ["/v1/admin/users", "/v1/admin/clients"] {
            let reply = json(server.post(path).bearer_auth(&admin)).body(body.clone()).reply();
            is_a_good_refusal(&reply, &format!("POST {path}, {what}"));
        }
        let reply = json(server.put("/v1/me/password").bearer_auth(&token)).body(body.clone()).reply();
        is_a_good_refusal(&reply, &format!("PUT /v1/me/password, {what}"));
        for path in ["/oauth/token", "/oauth/revoke", "/oauth/introspect"] {
            let form = server.post(path).header("content-type", "application/x-www-form-urlencoded");
            is_a_good_refusal(&form.body(body.clone()).reply(), &format!("POST {path}, {what}"));
        }
    }
    let odd = [
        ("no such path", server.get("/v2/session")),
        ("another method", server.put("/oauth/token")),
        ("another type", server.post("/v1/session").header("content-type", "text/plain").body("{}")),
        ("a form where JSON is due", server.post("/v1/session").form(&[("username", "x")])),
        ("JSON where a form is due", json(server.post("/oauth/token")).body("{}")),
        ("no token", server.get("/v1/me")),
        ("another scheme", server.get("/v1/me").header("authorization", "Digest x")),
        ("an empty bearer", server.get("/v1/me").header("authorization", "Bearer ")),
        ("two headers", server.get("/v1/me").bearer_auth("a").header("authorization", "Bearer b")),
        ("a bad token", server.get("/v1/me").bearer_auth("a.b.c")),
        ("an unknown parameter", server.get("/v1/sessions?surprise=1").bearer_auth(&token)),
        ("a bad parameter", server.get("/v1/sessions?limit=-1").bearer_auth(&token)),
        ("a bad id", server.delete("/v1/sessions/%00%ff").bearer_auth(&token)),
        ("a foreign id", server.delete("/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA").bearer_auth(&token)),
        (
            "a parameter twice",
            server
                .post("/oauth/token")
                .header("content-type", "application/x-www-form-urlencoded")
                .body("grant_type=refresh_token&grant_type=refresh_token&client_id=refresh"),
        ),
        (
            "an unknown grant",
            server
                .post("/oauth/token")
                .form(&[("grant_type", "password"), ("client_id", server.client_id("refresh"))]),
        ),
        (
            "an unknown client",
            server.post("/oauth/token").form(&[("grant_type", "refresh_token"), ("client_id", "nobody")]),
        ),
        ("a session token at administration", server.get("/v1/admin/users").bearer_auth(&token)),
        ("a client's token at a session", server.get("/v1/session").bearer_auth(&admin)),
    ];
    for (what, request) in odd {
        is_a_good_refusal(&request.reply(), what);
    }
}

#[test]
fn a_challenge_names_an_error_only_if_a_token_was_sent() {
    let server = Server::start();
    let challenge = |reply: Reply| {
        assert_eq!(reply.status, 401);
        reply.headers["www-authenticate"].to_str().unwrap().to_owned()
    };
    assert_eq!(challenge(server.get("/v1/me").reply()), "Bearer");
    let sent = challenge(server.get("/v1/me").bearer_auth("a.b.c").reply());
    assert!(sent.starts_with("Bearer ") && sent.contains("error=\"invalid_token\""), "{sent}");
}

#[test]
fn every_answer_has_its_security_headers() {
    let server = Server::start();
    for path in ["/v1/me", "/jwks.json", "/nowhere", "/", "/health/ready"] {
        let reply = server.get(path).reply();
        let header = |name: &str| reply.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default();
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
}

#[test]
fn unknown_user_and_wrong_password_look_the_same() {
    let server = Server::start();
    let login = |username: &str, password: &str| {
        let body = serde_json::json!({ "client_id": server.client_id("sliding"), "username": username, "password": password });
        server.post("/v1/session").json(&body).reply()
    };
    let user = server.dev["user"]["username"].as_str().unwrap();
    let (wrong, unknown) = (login(user, "not the password"), login("nobody", "not the password"));
    wrong.refused(401, "invalid_credentials", None);
    assert_eq!((wrong.status, &wrong.body), (unknown.status, &unknown.body));
    let names =
        |r: &Reply| r.headers.keys().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&wrong), names(&unknown));
}
