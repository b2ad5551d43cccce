//! The pages before anybody uses them: not configured, configured wrongly, their files.

use crate::common::{GET, SAME_ORIGIN, gateway, gateway_with, look, page, submit, submit_from};
use crate::support::{SERVICE, TestAuthority};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use reseal_server::config::Config;

const PAGES: [&str; 2] = ["/login", "/logout"];

#[tokio::test]
async fn without_a_client_the_pages_say_what_to_configure() {
    let authority = TestAuthority::start().await;
    for path in PAGES {
        let answer = look(&authority, path, None, &[]).await;
        answer.expect(StatusCode::NOT_FOUND);
        assert!(page(&answer).contains("client_id in the section [gateway]"), "{}", answer.body);
    }
    for path in ["/login", "/login/factor", "/login/resend", "/logout"] {
        submit(&authority, path, None, &[("username", "x")]).await.expect(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_client_that_cannot_be_used_is_named_with_the_reason() {
    let with = async |id: &str| {
        let id = id.parse().unwrap();
        TestAuthority::with(|config: &mut Config| config.gateway.client_id = Some(id)).await
    };
    for (id, why) in [
        ("nobody", "is not registered, or disabled"),
        ("sliding", "has a policy that is not of kind cookie"),
        (SERVICE, "has a secret, and the page is for a public client"),
    ] {
        let authority = with(id).await;
        for path in PAGES {
            let answer = look(&authority, path, None, &[]).await;
            answer.expect(StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.header("retry-after").is_some());
            let text = page(&answer);
            assert!(text.contains(why) && text.contains(id), "{text}");
        }
        // What proxies ask does not need the pages.
        look(&authority, "/gateway/verify", None, &[GET]).await.expect_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn the_pages_show_the_apps_name_or_the_title() {
    let text = |answer: &crate::support::Answer| page(answer).to_owned();
    let authority = gateway().await;
    assert!(
        text(&look(&authority, "/login", None, &[]).await)
            .contains("<title>Sign in · The cookie app</title>")
    );
    let titled = gateway_with(|config| config.gateway.title = Some("Notes & <More>".to_owned())).await;
    let shown = text(&look(&titled, "/login", None, &[]).await);
    assert!(shown.contains("<title>Sign in · Notes &#38; &#60;More&#62;</title>"), "{shown}");
    assert!(!shown.contains("<More>"));
}

#[tokio::test]
async fn the_pages_files_are_served_and_kept() {
    let authority = gateway().await;
    for (name, kind) in [
        ("look.css", "text/css; charset=utf-8"),
        ("gateway.css", "text/css; charset=utf-8"),
        ("gateway.js", "text/javascript; charset=utf-8"),
        ("dial.js", "text/javascript; charset=utf-8"),
        ("words.js", "text/javascript; charset=utf-8"),
        ("seal.svg", "image/svg+xml"),
    ] {
        let path = format!("/gateway/assets/{name}");
        let first = look(&authority, &path, None, &[]).await;
        first.expect(StatusCode::OK);
        assert_eq!(first.header("content-type"), Some(kind));
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let etag = first.header("etag").unwrap();
        look(&authority, &path, None, &[("if-none-match", etag)]).await.expect(StatusCode::NOT_MODIFIED);
    }
    let none = look(&authority, "/gateway/assets/nothing.js", None, &[]).await;
    none.expect_error(404, "not_found");
}

#[tokio::test]
async fn what_is_no_form_is_answered_with_a_page() {
    let authority = gateway().await;
    let send = async |path: &str, kind: &str, body: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(SAME_ORIGIN.0, SAME_ORIGIN.1)
            .header("content-type", kind)
            .body(Body::from(body.to_owned()))
            .unwrap();
        authority.send(request).await
    };
    let form = "application/x-www-form-urlencoded";
    for (kind, body, status) in [
        (form, "", StatusCode::BAD_REQUEST),
        (form, "username=a", StatusCode::BAD_REQUEST),
        (form, "username=a&password=b&password=c", StatusCode::BAD_REQUEST),
        ("application/json", "{\"username\":\"a\",\"password\":\"b\"}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/plain", "username=a&password=b", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let answer = send("/login", kind, body).await;
        answer.expect(status);
        assert!(page(&answer).contains("Fill in every field."));
        let step = send("/login/factor", kind, body).await;
        step.expect(StatusCode::BAD_REQUEST);
        assert!(page(&step).contains("name=\"password\""), "back to the start");
    }
    let long = format!("username=a&password={}", "x".repeat(1025));
    send("/login", form, &long).await.expect(StatusCode::BAD_REQUEST);
    let huge = format!("username=a&password={}", "x".repeat(70_000));
    send("/login", form, &huge).await.expect_error(413, "payload_too_large");
}

#[tokio::test]
async fn forms_from_elsewhere_do_nothing() {
    let authority = gateway().await;
    let fields = [("username", "alice"), ("password", crate::support::PASSWORD)];
    let cookie = crate::common::signed_in(&authority).await;
    let own = ("origin", crate::support::APP_ORIGIN);
    for headers in [
        &[][..],
        &[("origin", "https://evil.test")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.test")],
        &[own, own],
    ] {
        for path in ["/login", "/login/factor", "/login/resend", "/logout"] {
            let answer = submit_from(&authority, path, Some(&cookie), (&fields, headers)).await;
            answer.expect(StatusCode::FORBIDDEN);
            assert!(page(&answer).contains("not sent from this site"), "{path} {headers:?}");
            assert!(answer.cookie().is_none() && answer.header("location").is_none());
        }
        assert!(crate::common::lives(&authority, &cookie).await, "{headers:?}");
    }
    for headers in [&[own][..], &[SAME_ORIGIN], &[("origin", crate::support::ISSUER)]] {
        let answer = submit_from(&authority, "/login", None, (&fields, headers)).await;
        answer.expect(StatusCode::SEE_OTHER);
    }
}
