//! Development mode over HTTP: the whole run, from an empty folder to its next start.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use reqwest::{Client, Method, Response, StatusCode};
use reseal_server::config::Config;
use reseal_server::random::Random;
use reseal_server::serve::{self, Options};
use reseal_server::start::{self, StartError};
use reseal_store::Access;
use reseal_store::Store as _;
use serde_json::{Value, json};
use std::path::Path;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    config.store.data = folder.to_owned();
    config
}

struct Dev {
    url: String,
    text: String,
    file: Value,
    http: Client,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), StartError>>,
}

impl Dev {
    async fn start(folder: &Path) -> Self {
        Self::with(config(folder)).await
    }

    async fn with(config: Config) -> Self {
        let folder = config.store.data.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, start) = oneshot::channel();
        let stopped = async move { stopped.await.unwrap_or(()) };
        let run = serve::serve(Options { config, dev: true }, stopped, move |s| {
            // What scripts rely on: the file is there, whole, before the first line of output.
            let file: Value =
                serde_json::from_slice(&std::fs::read(folder.join("dev.json")).unwrap()).unwrap();
            started.send((address_of(s), s.text.clone(), file)).unwrap();
        });
        let done = tokio::spawn(run);
        let Ok((address, text, file)) = start.await else { panic!("{:?}", done.await) };
        let url = format!("http://{address}");
        Self { url, text, file, http: Client::new(), stop, done }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.call(Method::GET, path, headers, Value::Null).await
    }

    async fn login(&self, kind: &str) -> Response {
        let body = json!({
            "client_id": self.file["clients"][kind]["client_id"],
            "username": self.file["user"]["username"],
            "password": self.file["user"]["password"],
        });
        let answer = self.call(Method::POST, "/v1/session", &[], body).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{kind}");
        answer
    }

    async fn advance(&self, seconds: i64) -> Response {
        self.call(Method::POST, "/dev/clock", &[], json!({ "advance": seconds })).await
    }

    async fn service_token(&self) -> String {
        let service = &self.file["clients"]["service"];
        let (id, secret) =
            (service["client_id"].as_str().unwrap(), service["client_secret"].as_str().unwrap());
        let request = self.http.post(format!("{}/oauth/token", self.url)).basic_auth(id, Some(secret));
        let answer = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        token(&answer.json().await.unwrap())
    }
}

fn token(body: &Value) -> String {
    body["access_token"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn json_of(answer: Response) -> Value {
    answer.json().await.unwrap()
}

/// Where the authority listens.
fn address_of(started: &serve::Started) -> std::net::SocketAddr {
    started.urls[0].strip_prefix("http://").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_empty_folder_becomes_an_authority_that_says_how_to_log_in() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("reseal-data");
    let dev = Dev::start(&folder).await;
    assert_eq!(dev.text.lines().next(), Some(format!("listening on {}", dev.url).as_str()));
    assert!(dev.text.contains("curl") && dev.text.contains(dev.file["user"]["password"].as_str().unwrap()));
    assert_eq!(dev.file["issuer"], dev.url);
    let mut names: Vec<&String> = dev.file["clients"].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["cookie", "fixed", "refresh", "service", "sliding"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.join("dev.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    dev.stop().await;
}

#[tokio::test]
async fn the_user_logs_in_under_all_four_policies() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    for kind in ["sliding", "fixed", "refresh"] {
        let body = json_of(dev.login(kind).await).await;
        assert_eq!(body["session"]["kind"], kind);
        let me = json_of(dev.get("/v1/me", &[("authorization", &bearer(&token(&body)))]).await).await;
        assert_eq!(me["phone_number"], Value::Null);
        assert!(me["roles"].as_array().is_some_and(|r| !r.is_empty()), "{me}");
    }
    let answer = dev.login("cookie").await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.starts_with("reseal=rsl_sc_") && !cookie.contains("Secure"),
        "plain HTTP on loopback: {cookie}"
    );
    dev.stop().await;
}

#[tokio::test]
async fn the_service_client_administers_and_introspects() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let admin = dev.service_token().await;
    let users = dev.get("/v1/admin/users", &[("authorization", &bearer(&admin))]).await;
    assert_eq!(users.status(), StatusCode::OK);
    assert_eq!(json_of(users).await["items"][0]["username"], dev.file["user"]["username"]);
    let user = token(&json_of(dev.login("refresh").await).await);
    let service = &dev.file["clients"]["service"];
    let answer = dev
        .http
        .post(format!("{}/oauth/introspect", dev.url))
        .basic_auth(service["client_id"].as_str().unwrap(), service["client_secret"].as_str())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={user}"))
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(answer).await["active"], true);
    dev.stop().await;
}

#[tokio::test]
async fn later_starts_keep_everything_but_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let first = Dev::start(folder.path()).await;
    let (file, url) = (first.file.clone(), first.url.clone());
    let held = json_of(first.login("refresh").await).await;
    let now = json_of(first.advance(3600).await).await["now"].as_i64().unwrap();
    first.stop().await;

    let second = Dev::start(folder.path()).await;
    assert_ne!(second.url, url);
    assert_eq!(second.file["issuer"], second.url);
    assert_eq!((&second.file["user"], &second.file["clients"]), (&file["user"], &file["clients"]));
    second.login("sliding").await;
    second.service_token().await;
    let body = format!(
        "grant_type=refresh_token&client_id=refresh&refresh_token={}",
        held["refresh_token"].as_str().unwrap()
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let request =
        second.http.post(format!("{}/oauth/token", second.url)).header(form[0].0, form[0].1).body(body);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "the session lives");
    let moved = json_of(second.advance(0).await).await;
    assert_eq!(moved["offset"], 3600, "the clock goes on where it was");
    assert!(moved["now"].as_i64().unwrap() >= now);
    second.stop().await;
}

#[tokio::test]
async fn a_lost_file_is_made_again_with_secrets_that_work() {
    let folder = tempfile::tempdir().unwrap();
    let first = Dev::start(folder.path()).await;
    let old = first.file.clone();
    first.stop().await;
    std::fs::remove_file(folder.path().join("dev.json")).unwrap();
    let second = Dev::start(folder.path()).await;
    assert_ne!(second.file["user"]["password"], old["user"]["password"]);
    second.login("fixed").await;
    second.service_token().await;
    second.stop().await;

    std::fs::write(folder.path().join("dev.json"), "{").unwrap();
    let options = Options { config: config(folder.path()), dev: true };
    let error = serve::serve(options, async {}, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("dev.json") && error.contains("delete it"), "{error}");
}

#[tokio::test]
async fn the_two_modes_refuse_each_others_folders() {
    let folder = tempfile::tempdir().unwrap();
    Dev::start(folder.path()).await.stop().await;
    let mut plain = config(folder.path());
    plain.issuer = Some("http://localhost:4000".to_owned());
    let refused = serve::serve(Options { config: plain.clone(), dev: false }, async {}, |_| {}).await;
    assert!(matches!(refused, Err(StartError::DevelopmentStore(_))), "{refused:?}");

    let folder = tempfile::tempdir().unwrap();
    plain.store.data = folder.path().to_owned();
    serve::serve(Options { config: plain, dev: false }, async {}, |_| {}).await.unwrap();
    let refused = serve::serve(Options { config: config(folder.path()), dev: true }, async {}, |_| {}).await;
    assert!(matches!(refused, Err(StartError::ProductionStore(_))), "{refused:?}");
    assert!(!folder.path().join("dev.json").exists());
}

#[tokio::test]
async fn a_folder_that_commands_set_up_is_no_development_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let store = start::open_store(&config, &Random::new(), Access::Serve).await.unwrap();
    let policies = config.policies().unwrap();
    let random = Random::new();
    let now = reseal_server::clock::Clock::system().now();
    let manage = reseal_server::manage::Manage {
        store: &store,
        random: &random,
        now,
        event_until: now,
        policies: &policies,
    };
    let user = reseal_server::manage::users::NewUser { username: "real".to_owned(), ..Default::default() };
    manage.create_user(user).await.unwrap();
    store.close().await;
    let refused = serve::serve(Options { config: config.clone(), dev: true }, async {}, |_| {}).await;
    assert!(matches!(refused, Err(StartError::ProductionStore(_))), "{refused:?}");
    let store = start::open_store(&config, &Random::new(), Access::Serve).await.unwrap();
    assert_eq!(store.clients(None, 10).await.unwrap().len(), 0, "nothing was written");
}

#[tokio::test]
async fn addresses_that_others_reach_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let mut config = config(folder.path());
        config.server.listen = address.parse().unwrap();
        let refused = serve::serve(Options { config, dev: true }, async {}, |_| {}).await;
        assert!(matches!(refused, Err(StartError::NotLoopback(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.server.listen = taken.local_addr().unwrap().into();
    let error = serve::serve(Options { config, dev: true }, async {}, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("another program has this port") && error.contains("--listen"), "{error}");
}

#[tokio::test]
async fn foreign_hosts_get_nothing_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    for path in ["/", "/dev/outbox", "/dev/config.json", "/health/live", "/jwks.json"] {
        for host in ["evil.example", "evil.example:4000", "127.0.0.1.evil.example"] {
            let answer = dev.get(path, &[("host", host)]).await;
            assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{host}{path}");
            assert_eq!(json_of(answer).await["error"], "misdirected_request");
        }
        assert_eq!(dev.get(path, &[("host", "localhost:9")]).await.status(), StatusCode::OK, "{path}");
    }
    dev.stop().await;
}

#[tokio::test]
async fn any_page_of_this_machine_may_call_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let cookie = dev.login("cookie").await.headers()["set-cookie"].to_str().unwrap().to_owned();
    let cookie = cookie.split(';').next().unwrap();
    for origin in ["http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:5173", "http://localhost"]
    {
        let preflight = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = dev.call(Method::OPTIONS, "/v1/session/renew", &preflight, Value::Null).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{origin}");
        assert_eq!(answer.headers()["access-control-allow-origin"], origin);
        let renew = [("origin", origin), ("cookie", cookie)];
        let answer = dev.call(Method::POST, "/v1/session/renew", &renew, Value::Null).await;
        assert_eq!(answer.status(), StatusCode::OK, "{origin}");
    }
    for origin in ["http://evil.example", "https://localhost:3000", "http://localhost.evil.example:3000"] {
        let renew = [("origin", origin), ("cookie", cookie)];
        let answer = dev.call(Method::POST, "/v1/session/renew", &renew, Value::Null).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{origin}");
        assert!(answer.headers().get("access-control-allow-origin").is_none());
        assert!(answer.headers().get("set-cookie").is_none());
    }
    dev.stop().await;
}

#[tokio::test]
async fn the_code_is_in_the_outbox_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    assert_eq!(json_of(dev.get("/dev/outbox", &[]).await).await, json!([]));
    let auth = bearer(&token(&json_of(dev.login("refresh").await).await));
    let auth = [("authorization", auth.as_str())];
    let started =
        dev.call(Method::POST, "/v1/me/phone", &auth, json!({ "phone_number": "+12025550123" })).await;
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    let outbox = json_of(dev.get("/dev/outbox", &[]).await).await;
    let sent = &outbox[0];
    assert_eq!(sent["to"], "+12025550123");
    assert!(sent["at"].is_i64());
    let text = sent["text"].as_str().unwrap();
    let code = text.split(|c: char| !c.is_ascii_digit()).find(|run| run.len() == 6).unwrap();
    let challenge = json_of(started).await["challenge"].clone();
    let verify = json!({ "challenge": challenge, "code": code });
    let verified = dev.call(Method::POST, "/v1/me/phone/verify", &auth, verify).await;
    assert_eq!(verified.status(), StatusCode::OK);
    dev.stop().await;
}

#[tokio::test]
async fn the_clock_moves_forward_and_what_is_due_happens_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let held = token(&json_of(dev.login("sliding").await).await);
    let auth = bearer(&held);
    let auth = [("authorization", auth.as_str())];
    assert_eq!(dev.get("/v1/session", &auth).await.status(), StatusCode::OK);
    let moved = dev.advance(1201).await;
    assert_eq!(moved.status(), StatusCode::OK);
    let date = moved.headers()["date"].to_str().unwrap().to_owned();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap().as_second();
    let moved = json_of(moved).await;
    assert_eq!(moved["offset"], 1201);
    let now = moved["now"].as_i64().unwrap();
    assert!((now..now + 600).contains(&date), "clients go by the Date header");
    assert_eq!(dev.get("/v1/session", &auth).await.status(), StatusCode::UNAUTHORIZED, "20 minutes are over");

    let keys = |body: Value| body["keys"].as_array().unwrap().len();
    assert_eq!(keys(json_of(dev.get("/jwks.json", &[]).await).await), 1);
    dev.advance(90 * 86_400).await;
    assert_eq!(keys(json_of(dev.get("/jwks.json", &[]).await).await), 2, "the next key is published");
    assert_eq!(dev.get("/health/ready", &[]).await.status(), StatusCode::OK);
    dev.login("sliding").await;
    dev.advance(2 * 3600).await;
    dev.login("sliding").await;

    for bad in [-1, 20 * 366 * 86_400] {
        assert_eq!(dev.advance(bad).await.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let unknown = dev.call(Method::POST, "/dev/clock", &[], json!({ "advance": 1, "set": 5 })).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    // A form of a foreign page cannot move it.
    let form = dev.http.post(format!("{}/dev/clock", dev.url)).body("{\"advance\": 1}").send().await.unwrap();
    assert_eq!(form.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    dev.stop().await;
}

#[tokio::test]
async fn the_page_comes_with_a_policy_that_lets_nothing_else_in() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/seal.svg", "image/svg+xml"),
    ] {
        let answer = dev.get(path, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let headers = answer.headers().clone();
        assert_eq!(headers["content-type"], kind);
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(headers.contains_key("cross-origin-opener-policy"), path == "/");
        let etag = headers["etag"].to_str().unwrap();
        let again = dev.get(path, &[("if-none-match", etag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
    dev.stop().await;
}

#[tokio::test]
async fn only_the_page_itself_gets_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let config = json_of(dev.get("/dev/config.json", &[("sec-fetch-site", "same-origin")]).await).await;
    assert_eq!(config["user"], dev.file["user"]);
    assert_eq!(config["clients"]["cookie"]["client_id"], dev.file["clients"]["cookie"]["client_id"]);
    assert!(!config.to_string().contains(dev.file["clients"]["service"]["client_secret"].as_str().unwrap()));
    assert!(config["now"].is_i64());
    for site in ["cross-site", "same-site"] {
        let answer = dev.get("/dev/config.json", &[("sec-fetch-site", site)]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{site}");
    }
    dev.stop().await;
}

#[tokio::test]
async fn outside_of_development_mode_none_of_it_exists() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.issuer = Some("http://localhost:4000".to_owned());
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, start) = oneshot::channel();
    let stopped = async move { stopped.await.unwrap_or(()) };
    let run = serve::serve(Options { config, dev: false }, stopped, move |s| {
        started.send((address_of(s), s.text.clone())).unwrap();
    });
    let done = tokio::spawn(run);
    let (address, text) = start.await.unwrap();
    assert_eq!(text, format!("listening on http://{address}\n"));
    for path in ["/", "/page.js", "/dev/outbox", "/dev/config.json", "/dev/clock"] {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert!(!folder.path().join("dev.json").exists());
    stop.send(()).unwrap();
    done.await.unwrap().unwrap();
}
