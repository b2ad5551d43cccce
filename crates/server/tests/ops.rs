//! Operations over the real routes: errors in one form, limits, headers, CORS, health, metrics, logs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::routing::{get, post};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use reseal_server::authority::App;
use reseal_server::ops;
use serde_json::{Value, json};
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use support::{APP_ORIGIN, Credential, SERVICE, SERVICE_SECRET, TestAuthority};
use tower::ServiceExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

fn get_request(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::get(path);
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).body(Body::empty()).unwrap()
}

async fn text(router: &Router, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
}

/// A body in chunks of one byte, of a length that nobody announced; it may never end.
struct Chunks {
    left: usize,
    ends: bool,
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.left.checked_sub(1), self.ends) {
            (Some(left), _) => {
                self.left = left;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
            }
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }
}

/// The layers of the authority around routes of the test.
fn around(app: &App, routes: Router<App>) -> Router {
    ops::layers(routes, app)
}

#[tokio::test]
async fn what_is_not_there_is_told_in_our_form() {
    let authority = TestAuthority::start().await;
    authority.get("/nothing/here", &Credential::None).await.expect_error(404, "not_found");
    let answer = authority.put("/oauth/token", &Credential::None, json!({})).await;
    answer.expect_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    let options = Request::options("/v1/session").body(Body::empty()).unwrap();
    authority.send(options).await.expect_error(405, "method_not_allowed");
}

#[tokio::test]
async fn what_axum_refuses_is_told_in_our_form() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let alice = authority.login("sliding", "alice").await.credential();
    // Not UTF-8 once decoded: the path parameter is refused before the handler.
    authority.delete("/v1/sessions/%ff", &alice).await.expect_error(400, "invalid_request");
    authority.get("/v1/sessions?limit=x", &alice).await.expect_error(400, "invalid_request");
    authority.get("/v1/sessions?colour=red", &alice).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn bodies_are_bounded_whatever_they_claim() {
    let authority = TestAuthority::with(|c| c.server.max_body_bytes = 1024).await;
    let login = |length: Option<usize>, body: Body| {
        let request = Request::post("/v1/session").header(header::CONTENT_TYPE, "application/json");
        let request = length.into_iter().fold(request, |r, n| r.header(header::CONTENT_LENGTH, n));
        request.body(body).unwrap()
    };
    let large = "x".repeat(1025);
    authority.send(login(Some(1025), large.clone().into())).await.expect_error(413, "payload_too_large");
    let unannounced = Body::new(Chunks { left: 1025, ends: true });
    authority.send(login(None, unannounced)).await.expect_error(413, "payload_too_large");
    authority.send(login(None, "x".repeat(1024).into())).await.expect_error(400, "invalid_request");
    // Also where the handler would not have read it.
    let body = Request::delete("/v1/session").body(Body::from(large)).unwrap();
    authority.send(body).await.expect_error(413, "payload_too_large");
}

#[tokio::test]
async fn headers_are_bounded() {
    let authority = TestAuthority::with(|c| c.server.max_header_bytes = 8192).await;
    let large = "x".repeat(8192);
    let answer = authority.send(get_request("/health/live", &[("x-large", &large)])).await;
    answer.expect_error(431, "headers_too_large");
    authority.send(get_request("/health/live", &[("x-large", &large[..4096])])).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let authority = TestAuthority::start().await;
    async fn broken() -> &'static str {
        panic!("the secret is 42")
    }
    let router = around(&authority.app, Router::new().route("/broken", get(broken)).merge(support_metrics()));
    let (status, headers, body) = text(&router, get_request("/broken", &[])).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("server_error") && !body.contains("42"), "{body}");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let (_, _, metrics) = text(&router, get_request("/metrics", &[])).await;
    assert!(metrics.contains("reseal_panics_total 1"), "{metrics}");
}

fn support_metrics() -> Router<App> {
    ops::metrics::routes().split_for_parts().0
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_503_and_a_body_that_does_a_408() {
    let authority = TestAuthority::with(|c| c.server.request_timeout = "1s".parse().unwrap()).await;
    let routes = Router::new()
        .route("/never", get(std::future::pending::<&'static str>))
        .route("/body", post(async |body: String| body));
    let router = around(&authority.app, routes);
    let slow = Body::new(Chunks { left: 3, ends: false });
    let body = Request::post("/body").body(slow).unwrap();
    let (never, body) = tokio::join!(text(&router, get_request("/never", &[])), text(&router, body));
    assert_eq!(never.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(never.1[header::RETRY_AFTER], "1");
    assert!(never.2.contains("temporarily_unavailable"), "{}", never.2);
    assert_eq!(body.0, StatusCode::REQUEST_TIMEOUT);
    assert!(body.2.contains("request_timeout"), "{}", body.2);
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let authority = TestAuthority::start().await;
    for path in ["/health/live", "/nothing", "/v1/me", "/jwks.json", "/oauth/token"] {
        let answer = authority.get(path, &Credential::None).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("cross-origin-resource-policy", "same-origin"),
            ("vary", "Origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(answer.header("cache-control").is_some(), "{path}");
        assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{path}");
    }
}

#[tokio::test]
async fn plain_http_promises_no_https() {
    let authority = TestAuthority::with(|c| c.issuer = Some("http://localhost:4000".to_owned())).await;
    let answer = authority.get("/health/live", &Credential::None).await;
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[tokio::test]
async fn browsers_may_call_from_listed_origins_only() {
    let authority = TestAuthority::start().await;
    let preflight = |origin: &str| {
        Request::options("/v1/session")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .body(Body::empty())
            .unwrap()
    };
    let allowed = authority.send(preflight(APP_ORIGIN)).await;
    allowed.expect(StatusCode::NO_CONTENT);
    assert_eq!(allowed.header("access-control-allow-origin"), Some(APP_ORIGIN));
    assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("PATCH"));

    let answer = authority.send(get_request("/v1/session", &[("origin", APP_ORIGIN)])).await;
    answer.expect_error(401, "unauthorized");
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP_ORIGIN), "errors are readable too");
    assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
    assert_eq!(answer.header("vary"), Some("Origin"));

    for foreign in ["https://evil.test", "null", "https://app.test.evil.test", "http://app.test"] {
        let refused = authority.send(preflight(foreign)).await;
        refused.expect_error(403, "origin_not_allowed");
        assert_eq!(refused.header("access-control-allow-origin"), None, "{foreign}");
        let answer = authority.send(get_request("/jwks.json", &[("origin", foreign)])).await;
        answer.expect(StatusCode::OK);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{foreign}");
    }
}

#[tokio::test]
async fn an_authority_is_ready_while_it_knows_the_log() {
    let authority = TestAuthority::start().await;
    let live = authority.get("/health/live", &Credential::None).await;
    assert_eq!((live.status, &live.body["status"]), (StatusCode::OK, &json!("live")));
    let ready = authority.get("/health/ready", &Credential::None).await;
    assert_eq!((ready.status, &ready.body["status"]), (StatusCode::OK, &json!("ready")));
    // Nobody reads the log in this test, and its knowledge grows old.
    authority.advance(60);
    let not_ready = authority.get("/health/ready", &Credential::None).await;
    not_ready.expect_error(503, "temporarily_unavailable");
    assert_eq!(not_ready.body["reason"], "event_log");
    assert!(not_ready.header("retry-after").is_some());
    reseal_server::jobs::read_log(&authority.app).await.unwrap();
    authority.get("/health/ready", &Credential::None).await.expect(StatusCode::OK);
}

async fn metrics(authority: &TestAuthority) -> String {
    let router = reseal_server::router::router(&authority.app);
    let (status, headers, body) = text(&router, get_request("/metrics", &[])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    body
}

#[tokio::test]
async fn metrics_count_what_happened_by_route_and_never_by_what_callers_choose() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("refresh", "alice").await;
    authority.refresh("refresh", &held).await.expect(StatusCode::OK);
    let body = json!({ "client_id": "refresh", "username": "alice", "password": "wrong" });
    authority.post("/v1/session", &Credential::None, body).await.expect_error(401, "invalid_credentials");
    let path = format!("/v1/sessions/{}", held.sid());
    authority.delete(&path, &held.credential()).await.expect(StatusCode::NO_CONTENT);
    authority.get("/chosen/by/the/caller", &Credential::None).await;
    let made_up = Request::builder().method("MADEUP").uri("/v1/session").body(Body::empty()).unwrap();
    authority.send(made_up).await;

    reseal_server::jobs::read_log(&authority.app).await.unwrap();
    let text = metrics(&authority).await;
    for line in [
        r#"reseal_logins_total{result="success"} 1"#,
        r#"reseal_logins_total{result="failure"} 1"#,
        r#"reseal_refreshes_total{outcome="advance"} 1"#,
        r#"reseal_sessions_started_total{kind="refresh"} 1"#,
        r#"reseal_sessions_ended_total{reason="revoked"} 1"#,
        r#"reseal_http_requests_total{route="/v1/session",method="POST",status="201"} 1"#,
        r#"reseal_http_requests_total{route="/v1/sessions/{id}",method="DELETE",status="204"} 1"#,
        r#"reseal_http_requests_total{route="-",method="GET",status="404"} 1"#,
        r#"reseal_http_requests_total{route="/v1/session",method="OTHER",status="405"} 1"#,
        r#"reseal_http_request_duration_seconds_count{route="/oauth/token",method="POST"} 1"#,
        "reseal_event_seq 1",
        "reseal_store_queue 0",
        concat!("reseal_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    for chosen in ["alice", "chosen", "MADEUP", &held.sid().to_string()] {
        assert!(!text.contains(chosen), "{chosen}");
    }
    if cfg!(target_os = "linux") {
        assert!(
            text.contains("process_resident_memory_bytes ") && text.contains("process_cpu_seconds_total ")
        );
    }
}

#[tokio::test]
async fn metrics_can_be_turned_off() {
    let authority = TestAuthority::with(|c| c.server.metrics = false).await;
    authority.get("/metrics", &Credential::None).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn the_description_covers_every_call_and_its_errors() {
    let authority = TestAuthority::start().await;
    let answer = authority.get("/openapi.json", &Credential::None).await;
    answer.expect(StatusCode::OK);
    let document = answer.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["license"]["identifier"], "MIT OR Apache-2.0");
    for scheme in ["bearer", "cookie", "client"] {
        assert!(document["components"]["securitySchemes"][scheme].is_object(), "{scheme}");
    }
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/oauth/token",
        "/oauth/revoke",
        "/oauth/introspect",
        "/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/v1/session",
        "/v1/session/factor",
        "/v1/session/factor/resend",
        "/v1/session/renew",
        "/v1/sessions",
        "/v1/sessions/{id}",
        "/v1/me",
        "/v1/me/phone",
        "/v1/me/phone/verify",
        "/v1/me/password",
        "/v1/admin/users",
        "/v1/admin/users/{id}",
        "/v1/admin/users/{id}/sessions",
        "/v1/admin/users/{id}/factors",
        "/v1/admin/sessions/{id}",
        "/v1/admin/clients",
        "/v1/admin/keys",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    for (path, item) in paths {
        assert!(!path.starts_with("/dev"), "development mode is not part of the API");
        for (method, operation) in item.as_object().unwrap() {
            let tag = &operation["tags"][0];
            assert!(tags.contains(&tag), "{method} {path} has tag {tag}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(s, _)| s.starts_with(['4', '5'])) {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ErrorBody", "{method} {path} {status}");
            }
            assert!(responses.contains_key("500") && responses.contains_key("431"), "{method} {path}");
        }
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn access(&self) -> Vec<Value> {
        let all = self.text();
        let parsed = all.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        parsed.filter(|l| l["target"] == ops::access::TARGET).collect()
    }

    fn record(&self) -> tracing::subscriber::DefaultGuard {
        let lines = self.clone();
        let layer =
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || lines.clone());
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }
}

#[tokio::test]
async fn the_access_log_says_who_called_what_and_nothing_secret() {
    let authority = TestAuthority::with(|c| c.server.access_log = true).await;
    let lines = Lines::default();
    let _recording = lines.record();
    authority.user("alice").await;
    let held = authority.login("cookie", "alice").await;
    authority.get("/v1/sessions?limit=50", &held.credential()).await.expect(StatusCode::OK);
    let pairs =
        [("grant_type", "client_credentials"), ("client_id", SERVICE), ("client_secret", SERVICE_SECRET)];
    authority.form("/oauth/token", &pairs).await.expect(StatusCode::OK);
    authority.get("/nothing?password=hunter2", &Credential::None).await;

    let access = lines.access();
    let seen: Vec<_> = access
        .iter()
        .map(|l| (l["method"].as_str().unwrap(), l["route"].as_str().unwrap(), l["status"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("POST", "/v1/session", 201),
        ("GET", "/v1/sessions", 200),
        ("POST", "/oauth/token", 200),
        ("GET", "-", 404),
    ];
    assert_eq!(seen, expected);
    let clients: Vec<_> = access.iter().map(|l| l["client_id"].as_str()).collect();
    assert_eq!(clients, [Some("cookie"), Some("cookie"), Some(SERVICE), None]);
    assert!(access.iter().all(|l| l["ip"] == "192.0.2.1" && l["ms"].is_number()));
    let all = lines.text();
    for secret in ["hunter2", "limit=50", support::PASSWORD, SERVICE_SECRET, &held.cookie().unwrap()] {
        assert!(!all.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn every_refusal_is_logged_with_its_code_and_address_and_no_credential() {
    let authority = TestAuthority::start().await;
    authority.user("alice").await;
    let held = authority.login("sliding", "alice").await;
    let Credential::Bearer(token) = held.credential() else { panic!("a token") };
    let lines = Lines::default();
    let _recording = lines.record();
    authority.get("/v1/admin/users", &Credential::Bearer(token.clone())).await.expect(StatusCode::FORBIDDEN);
    let forged = format!("{token}x");
    authority.get("/v1/me", &Credential::Bearer(forged)).await.expect(StatusCode::UNAUTHORIZED);
    authority.get("/v1/me", &Credential::None).await.expect(StatusCode::UNAUTHORIZED);

    let all = lines.text();
    let told: Vec<Value> = all.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect();
    let seen: Vec<_> = told
        .iter()
        .filter(|l| l["message"] == "refused" || l["message"] == "not authenticated")
        .map(|l| {
            let text = |name: &str| l[name].as_str().unwrap().to_owned();
            (text("route"), text("code"), text("ip"))
        })
        .collect();
    let line = |route: &str, code: &str| (route.to_owned(), code.to_owned(), "192.0.2.1".to_owned());
    assert_eq!(seen, [line("/v1/admin/users", "client_token_required"), line("/v1/me", "invalid_token")]);
    assert!(!all.contains(&token), "the token is in the log");
}

#[tokio::test]
async fn without_being_asked_there_is_no_access_log() {
    let authority = TestAuthority::start().await;
    let lines = Lines::default();
    let _recording = lines.record();
    authority.get("/health/live", &Credential::None).await;
    assert_eq!(lines.access(), Vec::<Value>::new());
}

#[tokio::test]
async fn log_lines_carry_the_trace_that_the_caller_names() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let authority = TestAuthority::with(|c| c.server.access_log = true).await;
    authority.user("alice").await;
    let held = authority.login("sliding", "alice").await;
    let Credential::Bearer(token) = held.credential() else { panic!("a token") };
    let lines = Lines::default();
    let _recording = lines.record();
    let sign_out = |parent: &str| {
        Request::delete("/v1/session")
            .header("traceparent", parent)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap()
    };
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    authority.send(sign_out(&parent)).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(lines.access()[0]["trace_id"], TRACE);
    let all = lines.text();
    let told = all.lines().find(|l| l.contains("signed out")).unwrap();
    assert!(told.contains(TRACE), "{told}");

    // What is no trace context is ignored.
    for bad in ["", "00-xyz-1-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
        authority.send(sign_out(bad)).await.expect_error(401, "invalid_token");
    }
    assert_eq!(lines.access()[3]["trace_id"], Value::Null);
}

#[tokio::test]
async fn a_head_request_is_answered_like_get_without_a_body() {
    let authority = TestAuthority::start().await;
    let answer = authority.call(Method::HEAD, "/jwks.json", &Credential::None, Value::Null).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Value::Null));
}
