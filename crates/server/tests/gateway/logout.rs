//! The sign-out page, without any script.

use crate::common::{GET, field, gateway, lives, look, page, signed_in, submit, verify};
use crate::support::Credential;
use http::StatusCode;

/// The browser is told to forget the cookie.
#[track_caller]
fn forgets(answer: &crate::support::Answer) {
    assert_eq!(answer.cookie().as_deref(), Some(""));
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(answer.header("clear-site-data"), Some("\"cache\", \"storage\""));
}

#[tokio::test]
async fn looking_ends_nothing_and_the_button_does() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let shown = look(&authority, "/logout?return_to=/bye", Some(&cookie), &[]).await;
    shown.expect(StatusCode::OK);
    let html = page(&shown);
    assert!(html.contains("<form method=\"post\" action=\"/logout\">") && html.contains("Alice Example"));
    assert!(html.contains("role=\"img\" aria-label=\"Signs out in 14 days if unused.\""), "{html}");
    assert!(
        html.contains("<time datetime=\"2027-01-29T08:00:00Z\">29 January 2027, 08:00 UTC</time>"),
        "{html}"
    );
    assert_eq!(field(html, "return_to"), Some("/bye"));
    assert!(lives(&authority, &cookie).await && shown.cookie().is_none());

    let out = submit(&authority, "/logout", Some(&cookie), &[("return_to", "/bye")]).await;
    out.expect(StatusCode::SEE_OTHER);
    assert_eq!(out.header("location"), Some("/bye"));
    forgets(&out);
    let refused = verify(&authority, &cookie, &[GET]).await;
    assert_eq!(refused.body["reason"], "signed_out");
}

#[tokio::test]
async fn without_a_session_it_works_too() {
    let authority = gateway().await;
    for cookie in [None, Some("rsl_sc_AAAA"), Some("")] {
        let out = submit(&authority, "/logout", cookie, &[]).await;
        out.expect(StatusCode::SEE_OTHER);
        assert_eq!(out.header("location"), Some("/logout?done"));
        forgets(&out);
        let shown = look(&authority, "/logout?done", cookie, &[]).await;
        shown.expect(StatusCode::OK);
        assert!(page(&shown).contains("You are signed out."));
    }
}

#[tokio::test]
async fn an_unknown_place_keeps_nobody_from_signing_out() {
    let authority = gateway().await;
    for bad in ["https://evil.test/", "//evil.test", "javascript:x"] {
        let cookie = signed_in(&authority).await;
        let shown = look(&authority, &format!("/logout?return_to={bad}"), Some(&cookie), &[]).await;
        shown.expect(StatusCode::OK);
        assert!(!page(&shown).contains("evil") && !page(&shown).contains("javascript:"));
        let out = submit(&authority, "/logout", Some(&cookie), &[("return_to", bad)]).await;
        assert_eq!(out.header("location"), Some("/logout?done"), "{bad}");
        assert!(!lives(&authority, &cookie).await);
    }
}

#[tokio::test]
async fn a_replaced_cookie_signs_out_as_well() {
    let authority = gateway().await;
    let old = signed_in(&authority).await;
    let new = authority.turn_on_phone(&Credential::Cookie(old.clone())).await.cookie().unwrap();
    assert!(lives(&authority, &new).await && !lives(&authority, &old).await);
    submit(&authority, "/logout", Some(&old), &[]).await.expect(StatusCode::SEE_OTHER);
    assert!(!lives(&authority, &new).await);
}
