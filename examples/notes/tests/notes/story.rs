//! The binary, as the README runs it.

use crate::authority::{Authority, PHONE, start};
use crate::service::{Reply, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::{Child, Command};

struct Notes(Child, String);

impl Notes {
    async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Reply {
        Reply::of(&self.1, method, path, token, body).await
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_day_with_the_notes() {
    let authority = Authority::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notes"));
    command
        .env("NOTES_ISSUER", &authority.url)
        .env("NOTES_CLIENT_FILE", authority.data().join("notes-api.json"))
        .env("NOTES_LISTEN", "127.0.0.1:0");
    let (child, url) = start(&mut command);
    let notes = Notes(child, url);
    eventually("the feed is live", async || {
        let health = notes.ask(Method::GET, "/health", "", None).await;
        health.body["feed"]["caught_up"] == true
    })
    .await;

    let nobody = notes.ask(Method::GET, "/notes", "", None).await;
    assert_eq!(nobody.refusal(), (401, "unauthorized", None));
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer realm=\"notes\""));

    let token = authority.login().await;
    let written = notes.ask(Method::POST, "/notes", &token, Some(json!({ "text": "milk" }))).await;
    assert_eq!(written.status, 201, "{}", written.body);
    let listed = notes.ask(Method::GET, "/notes", &token, None).await;
    assert_eq!(listed.body, json!([{ "id": 1, "text": "milk" }]));

    // A token for somebody else: the development client has no audience but the authority.
    let user: Value =
        serde_json::from_slice(&std::fs::read(authority.data().join("dev.json")).unwrap()).unwrap();
    let login = json!({ "client_id": "sliding", "username": user["user"]["username"], "password": user["user"]["password"] });
    let other = authority.ask(Method::POST, "/v1/session", None, Some(login)).await.1;
    let refused = notes.ask(Method::GET, "/notes", other["access_token"].as_str().unwrap(), None).await;
    assert_eq!(refused.refusal(), (401, "invalid_token", None));

    // The phone is turned on elsewhere: the token that is held here shows it as soon as the news has come.
    let laptop = authority.login().await;
    authority.turn_on_phone(&laptop).await;
    eventually("the phone number shows", async || {
        let me = notes.ask(Method::GET, "/me", &token, None).await;
        if me.status == 503 {
            // A machine so slow that the renewal took too long.
            return false;
        }
        assert_eq!(me.status, 200, "{}", me.body);
        let shows = me.body["phone_number"] == PHONE;
        assert_eq!(shows, me.renewed().is_some(), "never the one without the other");
        shows
    })
    .await;

    let gone = authority.ask(Method::DELETE, "/v1/session", Some(&token), None).await;
    assert_eq!(gone.0, 204);
    eventually("the sign-out is seen", async || {
        let reply = notes.ask(Method::GET, "/notes", &token, None).await;
        if reply.status == 200 {
            return false;
        }
        assert_eq!(reply.refusal(), (401, "invalid_token", Some("signed_out")));
        true
    })
    .await;
}
