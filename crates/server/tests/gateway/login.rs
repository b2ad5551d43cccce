//! The sign-in page, without any script.

use crate::common::{
    CLIENT, GET, bearer, field, gateway, gateway_with, lives, look, page, signed_in, submit, verify,
};
use crate::support::{Answer, Credential, PASSWORD, TestAuthority, claims};
use http::StatusCode;
use reseal_core::user::UserPatch;

async fn sign_in(authority: &TestAuthority, more: &[(&str, &str)]) -> Answer {
    let mut fields = vec![("username", "alice"), ("password", PASSWORD)];
    fields.extend_from_slice(more);
    submit(authority, "/login", None, &fields).await
}

#[tokio::test]
async fn a_person_signs_in_and_goes_where_he_was_going() {
    let authority = gateway().await;
    let shown = look(&authority, "/login?return_to=%2Fnotes%3Fa%3D1%26b%3D2", None, &[]).await;
    shown.expect(StatusCode::OK);
    let html = page(&shown);
    assert_eq!(field(html, "return_to"), Some("/notes?a=1&#38;b=2"));
    assert!(
        html.contains("<form method=\"post\" action=\"/login\">")
            && html.contains("autocomplete=\"current-password\"")
    );
    assert!(shown.cookie().is_none());

    let answer = sign_in(&authority, &[("return_to", "/notes?a=1&b=2")]).await;
    answer.expect(StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), Some("/notes?a=1&b=2"));
    let cookie = answer.cookie().unwrap();
    let token = claims(bearer(&verify(&authority, &cookie, &[GET]).await));
    assert_eq!((&token["client_id"], &token["acr"]), (&CLIENT.into(), &"aal1".into()));
    assert_eq!(sign_in(&authority, &[]).await.header("location"), Some("/"));
}

#[tokio::test]
async fn what_was_typed_stays_other_than_the_password() {
    let authority = gateway().await;
    let fields = [
        ("username", "al<ice>\"'&"),
        ("password", "s3cret-typed"),
        ("return_to", "/x"),
        ("acr", "aal2"),
        ("max_age", "60"),
    ];
    let answer = submit(&authority, "/login", None, &fields).await;
    answer.expect(StatusCode::UNAUTHORIZED);
    let html = page(&answer);
    assert!(html.contains("Wrong username or password.") && html.contains("role=\"alert\""));
    assert_eq!(field(html, "username"), Some("al&#60;ice&#62;&#34;&#39;&#38;"));
    assert!(!html.contains("s3cret-typed") && answer.cookie().is_none());
    let kept = ["return_to", "acr", "max_age"].map(|name| field(html, name));
    assert_eq!(kept, [Some("/x"), Some("aal2"), Some("60")]);
    let unknown = submit(&authority, "/login", None, &[("username", "nobody"), ("password", "x")]).await;
    let wrong = submit(&authority, "/login", None, &[("username", "alice"), ("password", "x")]).await;
    assert_eq!(page(&unknown).replace("nobody", "alice"), page(&wrong), "nobody learns which names exist");
}

#[tokio::test]
async fn nobody_is_sent_where_the_list_does_not_lead() {
    let authority = gateway().await;
    for (asked, location) in [
        ("https://app.test/x?y", "https://app.test/x?y"),
        ("https://other.test/in/x", "https://other.test/in/x"),
        ("/x", "/x"),
    ] {
        assert_eq!(sign_in(&authority, &[("return_to", asked)]).await.header("location"), Some(location));
    }
    for refused in [
        "//evil.test",
        "/\\evil.test",
        "https://evil.test/",
        "https://app.test@evil.test/",
        "https://other.test/",
        "http://app.test/",
        "javascript:alert(1)",
        "\"><script>alert(1)</script>",
        "evil.test",
    ] {
        let posted = sign_in(&authority, &[("return_to", refused)]).await;
        posted.expect(StatusCode::BAD_REQUEST);
        assert!(posted.cookie().is_none() && posted.header("location").is_none(), "{refused}");
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", refused).finish();
        let shown = look(&authority, &format!("/login?{query}"), None, &[]).await;
        shown.expect(StatusCode::BAD_REQUEST);
        for html in [page(&posted), page(&shown)] {
            assert!(html.contains("a place that this site does not know"));
            assert!(!html.contains("evil") && !html.contains("alert"), "{html}");
        }
    }
    let shown = look(&authority, "/login?return_to=https://app.test/a?b=1&c=2", None, &[]).await;
    assert_eq!(
        field(page(&shown), "return_to"),
        Some("https://app.test/a?b=1&#38;c=2"),
        "as proxies write it"
    );
}

#[tokio::test]
async fn too_many_failures_wait() {
    let authority = gateway_with(|config| config.login.burst = 2.try_into().unwrap()).await;
    let wrong = [("username", "alice"), ("password", "wrong"), ("return_to", "/x")];
    for _ in 0..2 {
        submit(&authority, "/login", None, &wrong).await.expect(StatusCode::UNAUTHORIZED);
    }
    let limited = submit(&authority, "/login", None, &wrong).await;
    limited.expect(StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    let html = page(&limited);
    assert!(
        html.contains("Too many failed logins") && html.contains("You can try again in 8 min."),
        "{html}"
    );
    assert_eq!((field(html, "username"), field(html, "return_to")), (Some("alice"), Some("/x")));
    // The limit is one and the same for the page and for the API.
    authority.try_login(CLIENT, "alice").await.expect_error(429, "too_many_requests");
}

#[tokio::test]
async fn every_login_is_a_new_session_and_ends_the_one_before() {
    let authority = gateway().await;
    let old = signed_in(&authority).await;
    let fields = [("username", "alice"), ("password", PASSWORD)];
    let new = submit(&authority, "/login", Some(&old), &fields).await.cookie().unwrap();
    assert_ne!(new, old);
    let over = verify(&authority, &old, &[GET]).await;
    over.expect_error(401, "invalid_token");
    assert_eq!(over.body["reason"], "signed_out");
    assert!(lives(&authority, &new).await);
    let planted = submit(&authority, "/login", Some("rsl_sc_planted"), &fields).await.cookie().unwrap();
    assert!(lives(&authority, &planted).await && lives(&authority, &new).await);
    submit(&authority, "/login", Some(&new), &[("username", "alice"), ("password", "no")]).await;
    assert!(lives(&authority, &new).await, "a failed login ends nothing");
}

#[tokio::test]
async fn who_is_signed_in_goes_on_at_once_unless_more_is_asked() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let open = async |query: &str| look(&authority, &format!("/login?{query}"), Some(&cookie), &[]).await;
    for query in
        ["return_to=/x", "return_to=/x&acr=aal1", "return_to=/x&max_age=300", "prompt=none&return_to=/x"]
    {
        let answer = open(query).await;
        answer.expect(StatusCode::SEE_OTHER);
        assert_eq!(answer.header("location"), Some("/x"), "{query}");
        assert!(answer.cookie().is_none());
    }
    assert_eq!(open("").await.header("location"), Some("/"));
    open("return_to=https://evil.test/").await.expect(StatusCode::BAD_REQUEST);

    let again = open("prompt=login&return_to=/x").await;
    again.expect(StatusCode::OK);
    assert!(page(&again).contains("change to another account"));
    assert_eq!(field(page(&again), "username"), Some("alice"));
    authority.advance(301);
    let confirm = open("max_age=300&return_to=/x").await;
    confirm.expect(StatusCode::OK);
    assert!(page(&confirm).contains("confirm that it is you"));
    assert_eq!(field(page(&confirm), "max_age"), Some("300"));
    let fields = [("username", "alice"), ("password", PASSWORD), ("max_age", "300"), ("return_to", "/x")];
    assert_eq!(submit(&authority, "/login", Some(&cookie), &fields).await.header("location"), Some("/x"));
}

#[tokio::test]
async fn without_a_second_factor_nobody_is_sent_round_in_circles() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    let answer = look(&authority, "/login?acr=aal2&return_to=/bank", Some(&cookie), &[]).await;
    answer.expect(StatusCode::FORBIDDEN);
    let html = page(&answer);
    assert!(html.contains("your account has none") && !html.contains("name=\"password\""), "{html}");
    assert!(html.contains("href=\"/login?acr=aal2&#38;return_to=/bank\""), "{html}");
    // Who signs in there is told the same, and not sent to a place that sends him back.
    let login = sign_in(&authority, &[("acr", "aal2"), ("return_to", "/bank")]).await;
    login.expect(StatusCode::SEE_OTHER);
    assert_eq!(login.header("location"), Some("/login?acr=aal2&return_to=/bank"));
    let cookie = login.cookie().unwrap();
    look(&authority, login.header("location").unwrap(), Some(&cookie), &[])
        .await
        .expect(StatusCode::FORBIDDEN);

    // With a factor the page asks for the login that uses it.
    authority.turn_on_phone(&Credential::Cookie(cookie)).await;
    let weak = authority.login_weak().await;
    let answer = look(&authority, "/login?acr=aal2&return_to=/bank", Some(&weak), &[]).await;
    answer.expect(StatusCode::OK);
    assert!(page(&answer).contains("This needs your second factor."));
}

#[tokio::test]
async fn the_page_says_why_the_session_is_over() {
    let authority = gateway().await;
    let (user, _) = authority.app.store.user_by_username("alice").await.unwrap().unwrap();
    let cookie = signed_in(&authority).await;
    let open = async |cookie: &str, query: &str| {
        page(&look(&authority, &format!("/login{query}"), Some(cookie), &[]).await).to_owned()
    };
    authority.advance(14 * 86_400);
    assert!(open(&cookie, "").await.contains("was not used for a long time"));
    let cookie = signed_in(&authority).await;
    let end = [(user.id, true), (user.id, false)];
    for (id, disabled) in end {
        authority.patch_user(id, UserPatch { disabled: Some(disabled), ..UserPatch::default() }).await;
    }
    assert!(open(&cookie, "").await.contains("This account is disabled."));
    for foreign in ["", "x", "rsl_sc_AAAA"] {
        let html = open(foreign, "?reason=You+must+call+0900&error=x").await;
        assert!(!html.contains("0900") && !html.contains("class=\"notice\""), "only the cookie is asked");
    }
}

#[tokio::test]
async fn a_session_of_another_client_is_no_sign_in_here() {
    let authority = gateway().await;
    let mut other = authority.app.store.client(&CLIENT.parse().unwrap()).await.unwrap().unwrap();
    other.id = "shop".parse().unwrap();
    let write = reseal_store::Write::CreateClient(Box::new(other));
    authority.app.store.commit(reseal_store::Commit::of([write])).await.unwrap();
    let cookie = authority.login("shop", "alice").await.cookie().unwrap();
    let answer = look(&authority, "/login?return_to=/x", Some(&cookie), &[]).await;
    answer.expect(StatusCode::OK);
    assert!(page(&answer).contains("name=\"password\""));
}

#[tokio::test]
async fn while_the_store_is_away_the_pages_say_so() {
    let authority = gateway().await;
    let cookie = signed_in(&authority).await;
    authority.gate.break_sessions(true);
    for path in ["/login", "/logout"] {
        let away = look(&authority, path, Some(&cookie), &[]).await;
        away.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert!(page(&away).contains("Try again"));
        assert!(away.cookie().is_none());
    }
    let out = submit(&authority, "/logout", Some(&cookie), &[]).await;
    out.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(out.cookie().is_none(), "nobody is told that he is signed out when he is not");
    authority.gate.break_sessions(false);
    assert!(lives(&authority, &cookie).await);
}

trait Weak {
    async fn login_weak(&self) -> String;
}

impl Weak for TestAuthority {
    /// The cookie of a session of the first level, of a user who has a second factor by now.
    async fn login_weak(&self) -> String {
        let (user, _) = self.app.store.user_by_username("alice").await.unwrap().unwrap();
        self.patch_user(user.id, UserPatch { phone_number: Some(None), ..UserPatch::default() }).await;
        let cookie = signed_in(self).await;
        let patch = UserPatch {
            phone_number: Some(Some(crate::support::NUMBER.to_owned())),
            phone_number_verified: Some(true),
            ..UserPatch::default()
        };
        self.patch_user(user.id, patch).await;
        cookie
    }
}
