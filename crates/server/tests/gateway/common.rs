use crate::support::{Answer, Credential, TestAuthority};
use axum::body::Body;
use http::{Method, Request, header};
use reseal_server::config::Config;

/// Names and values.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The client of the hosted pages.
pub const CLIENT: &str = "cookie";
/// As a browser sends it with a form of the same page.
pub const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");
/// As nginx says it.
pub const GET: (&str, &str) = ("x-original-method", "GET");
pub const POST: (&str, &str) = ("x-original-method", "POST");

/// An authority with hosted pages, and Alice.
pub async fn gateway() -> TestAuthority {
    gateway_with(|_| {}).await
}

pub async fn gateway_with(configure: impl FnOnce(&mut Config)) -> TestAuthority {
    let authority = TestAuthority::with(|config| {
        config.gateway.client_id = Some(CLIENT.parse().unwrap());
        config.gateway.return_to = vec!["https://app.test".to_owned(), "https://other.test/in/".to_owned()];
        configure(config);
    })
    .await;
    authority.user("alice").await;
    authority
}

/// Alice's session cookie.
pub async fn signed_in(authority: &TestAuthority) -> String {
    authority.login(CLIENT, "alice").await.cookie().unwrap()
}

/// A GET with this cookie and these headers.
pub async fn look(
    authority: &TestAuthority,
    path: &str,
    cookie: Option<&str>,
    headers: &[(&str, &str)],
) -> Answer {
    authority.send(request(Method::GET, path, cookie, headers).body(Body::empty()).unwrap()).await
}

/// What a proxy asks.
pub async fn verify(authority: &TestAuthority, cookie: &str, headers: &[(&str, &str)]) -> Answer {
    look(authority, "/gateway/verify", Some(cookie), headers).await
}

/// A form that was sent from a page of the same origin.
pub async fn submit(
    authority: &TestAuthority,
    path: &str,
    cookie: Option<&str>,
    fields: &[(&str, &str)],
) -> Answer {
    submit_from(authority, path, cookie, (fields, &[SAME_ORIGIN])).await
}

/// A form with other headers.
pub async fn submit_from(
    authority: &TestAuthority,
    path: &str,
    cookie: Option<&str>,
    (fields, headers): (Pairs<'_>, Pairs<'_>),
) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = request(Method::POST, path, cookie, headers)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body));
    authority.send(request.unwrap()).await
}

pub fn request(
    method: Method,
    path: &str,
    cookie: Option<&str>,
    headers: &[(&str, &str)],
) -> http::request::Builder {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, format!("theme=dark; __Host-reseal={cookie}"));
    }
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value))
}

/// The page's text.
#[track_caller]
pub fn page(answer: &Answer) -> &str {
    assert!(answer.header("content-type").unwrap().starts_with("text/html"), "{:?}", answer.headers);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let policy = answer.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    answer.body.as_str().unwrap()
}

/// The value of a field of the page, as it is in the HTML.
pub fn field<'a>(html: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = html.split_once(&format!("name=\"{name}\" value=\""))?;
    after.split('"').next()
}

/// The access token that the app gets.
#[track_caller]
pub fn bearer(answer: &Answer) -> &str {
    answer.expect(http::StatusCode::OK);
    answer.header("authorization").unwrap().strip_prefix("Bearer ").unwrap()
}

/// Whether the session of the cookie lives.
pub async fn lives(authority: &TestAuthority, cookie: &str) -> bool {
    let answer = authority.get("/v1/session", &Credential::Cookie(cookie.to_owned())).await;
    answer.status == http::StatusCode::OK
}
