//! The second step of the hosted login, without any script.

use crate::common::{GET, bearer, field, gateway, lives, look, page, signed_in, submit, verify};
use crate::support::{Answer, Credential, PASSWORD, TestAuthority, claims, other_than};
use http::StatusCode;

/// Alice with a phone, and her recovery codes. No message is less than a minute old.
async fn with_phone() -> (TestAuthority, Vec<String>) {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let on = authority.turn_on_phone(&Credential::Cookie(cookie)).await;
    authority.advance(60);
    let codes = serde_json::from_value(on.body["recovery_codes"].clone()).unwrap();
    (authority, codes)
}

async fn password_step(authority: &TestAuthority) -> Answer {
    let fields = [("username", "alice"), ("password", PASSWORD), ("return_to", "/bank?x=1"), ("acr", "aal2")];
    submit(authority, "/login", None, &fields).await
}

#[track_caller]
fn challenge(answer: &Answer) -> String {
    field(page(answer), "challenge").expect("no challenge on the page").to_owned()
}

#[tokio::test]
async fn the_code_of_the_message_lets_in() {
    let (authority, _) = with_phone().await;
    let asked = password_step(&authority).await;
    asked.expect(StatusCode::OK);
    let html = page(&asked);
    assert!(html.contains("••• 23") && html.contains("autocomplete=\"one-time-code\""));
    assert!(asked.cookie().is_none());
    let challenge = challenge(&asked);
    let (code, kept) = (authority.outbox.code(), field(html, "return_to").unwrap().replace("&#38;", "&"));
    let fields = [("challenge", &*challenge), ("code", &code), ("return_to", &kept), ("acr", "aal2")];
    let answer = submit(&authority, "/login/factor", None, &fields).await;
    answer.expect(StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), Some("/bank?x=1"));
    let token = claims(bearer(&verify(&authority, &answer.cookie().unwrap(), &[GET]).await));
    assert_eq!((&token["acr"], &token["amr"]), (&"aal2".into(), &serde_json::json!(["pwd", "sms", "mfa"])));
    let again = submit(&authority, "/login/factor", None, &fields).await;
    again.expect(StatusCode::BAD_REQUEST);
    assert!(page(&again).contains("name=\"password\""), "a challenge is good once; back to the start");
}

#[tokio::test]
async fn a_recovery_code_lets_in_once() {
    let (authority, codes) = with_phone().await;
    let challenge_of = async || challenge(&password_step(&authority).await);
    let typed = codes[0].to_uppercase();
    let old = challenge_of().await;
    let fields = [("challenge", &*old), ("code", ""), ("recovery_code", &typed)];
    let answer = submit(&authority, "/login/factor", None, &fields).await;
    answer.expect(StatusCode::SEE_OTHER);
    assert!(lives(&authority, &answer.cookie().unwrap()).await);
    let next = challenge_of().await;
    let again =
        submit(&authority, "/login/factor", None, &[("challenge", &*next), ("recovery_code", &typed)]).await;
    again.expect(StatusCode::BAD_REQUEST);
    assert!(page(&again).contains("4 tries are left"));
}

#[tokio::test]
async fn a_wrong_code_costs_a_try_and_the_last_one_leads_back() {
    let (authority, _) = with_phone().await;
    let challenge = challenge(&password_step(&authority).await);
    let wrong = other_than(&authority.outbox.code());
    let fields = [("challenge", &*challenge), ("code", &wrong), ("return_to", "/x"), ("acr", "aal2")];
    for left in ["4 tries are", "3 tries are", "2 tries are", "One try is"] {
        let answer = submit(&authority, "/login/factor", None, &fields).await;
        answer.expect(StatusCode::BAD_REQUEST);
        let html = page(&answer);
        assert!(html.contains(&format!("The code is wrong. {left} left.")), "{html}");
        let kept = ["challenge", "return_to", "acr"].map(|name| field(html, name));
        assert_eq!(kept, [Some(&*challenge), Some("/x"), Some("aal2")]);
        assert!(!html.contains(&wrong));
    }
    for _ in 0..3 {
        // Nothing typed costs no try.
        let empty =
            submit(&authority, "/login/factor", None, &[("challenge", &*challenge), ("code", " ")]).await;
        empty.expect(StatusCode::BAD_REQUEST);
    }
    let last = submit(&authority, "/login/factor", None, &fields).await;
    last.expect(StatusCode::BAD_REQUEST);
    let html = page(&last);
    assert!(html.contains("it was the last try") && html.contains("name=\"password\""), "{html}");
    assert_eq!(field(html, "return_to"), Some("/x"));
    let right = [("challenge", &*challenge), ("code", &*authority.outbox.code())];
    submit(&authority, "/login/factor", None, &right).await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn another_message_is_sent_but_not_at_once() {
    let (authority, _) = with_phone().await;
    let challenge = challenge(&password_step(&authority).await);
    let fields = [("challenge", &*challenge), ("return_to", "/x")];
    let early = submit(&authority, "/login/resend", None, &fields).await;
    early.expect(StatusCode::TOO_MANY_REQUESTS);
    assert!(page(&early).contains("You can try again in 30 s.") && early.header("retry-after") == Some("30"));
    authority.advance(30);
    let (old, sent) = (authority.outbox.code(), authority.outbox.len());
    let answer = submit(&authority, "/login/resend", None, &fields).await;
    answer.expect(StatusCode::OK);
    assert!(page(&answer).contains("A new code is on its way."));
    assert_eq!(authority.outbox.len(), sent + 1);
    let try_code = async |code: &str| {
        submit(&authority, "/login/factor", None, &[("challenge", &*challenge), ("code", code)]).await
    };
    if old != authority.outbox.code() {
        try_code(&old).await.expect(StatusCode::BAD_REQUEST);
    }
    try_code(&authority.outbox.code()).await.expect(StatusCode::SEE_OTHER);
    submit(&authority, "/login/resend", None, &fields).await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_a_message_the_recovery_code_is_left() {
    let (authority, codes) = with_phone().await;
    authority.outbox.fail(true);
    let unsent = password_step(&authority).await;
    unsent.expect(StatusCode::SERVICE_UNAVAILABLE);
    let html = page(&unsent);
    assert!(html.contains("could not be sent") && !html.contains("name=\"code\""), "{html}");
    let fields = [("challenge", &*challenge(&unsent)), ("recovery_code", &*codes[1])];
    submit(&authority, "/login/factor", None, &fields).await.expect(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_old_or_foreign_challenge_leads_back_to_the_password() {
    let (authority, _) = with_phone().await;
    let old = challenge(&password_step(&authority).await);
    authority.advance(300);
    let other = authority.try_login("sliding", "alice").await.body["challenge"].as_str().unwrap().to_owned();
    for (challenge, path) in [
        (&*old, "/login/factor"),
        (&*old, "/login/resend"),
        (&*other, "/login/factor"),
        (&*other, "/login/resend"),
        ("x", "/login/factor"),
        ("", "/login/resend"),
    ] {
        let fields = [("challenge", challenge), ("code", &*authority.outbox.code()), ("return_to", "/x")];
        let answer = submit(&authority, path, None, &fields).await;
        answer.expect(StatusCode::BAD_REQUEST);
        let html = page(&answer);
        assert!(html.contains("took too long") && html.contains("name=\"password\""), "{path} {html}");
        assert_eq!(field(html, "return_to"), Some("/x"));
        assert!(answer.cookie().is_none());
    }
}

#[tokio::test]
async fn the_second_step_replaces_the_session_too_and_asks_for_no_link() {
    let (authority, _) = with_phone().await;
    let first = challenge(&password_step(&authority).await);
    let code = authority.outbox.code();
    let cookie = submit(&authority, "/login/factor", None, &[("challenge", &*first), ("code", &code)])
        .await
        .cookie()
        .unwrap();
    authority.advance(60);
    let next = challenge(&password_step(&authority).await);
    let code = authority.outbox.code();
    let fields = [("challenge", &*next), ("code", &*code)];
    let new = submit(&authority, "/login/factor", Some(&cookie), &fields).await.cookie().unwrap();
    assert!(!lives(&authority, &cookie).await && lives(&authority, &new).await);
    let refused = [("challenge", &*next), ("code", &*code), ("return_to", "https://evil.test")];
    submit(&authority, "/login/factor", None, &refused).await.expect(StatusCode::BAD_REQUEST);
    for path in ["/login/factor", "/login/resend"] {
        look(&authority, path, None, &[]).await.expect_error(405, "method_not_allowed");
    }
}
