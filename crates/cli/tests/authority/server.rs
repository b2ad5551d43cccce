//! A running authority in development mode, and the calls that the tests make.

use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The authority, ended by its id when dropped.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    _folder: Option<tempfile::TempDir>,
    /// Where the store is, if not in the folder.
    store: Option<String>,
    pub(crate) url: String,
    /// What `dev.json` says.
    pub(crate) dev: Value,
}

impl Server {
    /// Starts one on a new folder and a free port, with the configuration if there is one.
    pub(crate) fn start_with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reseal.toml");
        std::fs::write(&file, config).unwrap();
        let data = folder.path().join("data");
        let mut server = Self::spawn(&data, "127.0.0.1:0", &file);
        server._folder = Some(folder);
        server
    }

    /// Starts one with the built-in configuration.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    fn spawn(data: &Path, listen: &str, config: &Path) -> Self {
        Self::spawn_on(None, data, listen, config)
    }

    fn spawn_on(store: Option<&str>, data: &Path, listen: &str, config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
        match store {
            Some(url) => command.env("RESEAL_STORE_URL", url),
            None => command.env_remove("RESEAL_STORE_URL"),
        };
        let mut child = command
            .args(["serve", "--dev", "--listen", listen, "--data"])
            .arg(data)
            .arg("--config")
            .arg(config)
            .env_remove("RESEAL_MASTER_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("the first line").to_owned();
        let dev = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
        Self { child, data: data.to_owned(), _folder: None, store: store.map(str::to_owned), url, dev }
    }

    /// `kill -9`, and a new start on the same folder and port.
    pub(crate) fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// `kill -9`.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A new start on the same folder and port.
    pub(crate) fn restart(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        let config = self.data.with_file_name("reseal.toml");
        let mut next = Self::spawn_on(self.store.as_deref(), &self.data, &listen, &config);
        std::mem::swap(&mut self.child, &mut next.child);
        self.dev = next.dev.clone();
    }

    /// A new start on the same port, on another store: the folder keeps what belongs to it alone.
    pub(crate) fn restart_on(&mut self, store: &str) {
        self.store = Some(store.to_owned());
        self.restart();
    }

    /// A server on a port that stays the same over restarts.
    pub(crate) fn start_on_fixed_port() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reseal.toml");
        std::fs::write(&file, "").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self::spawn(&folder.path().join("data"), &format!("127.0.0.1:{port}"), &file);
        server._folder = Some(folder);
        server
    }

    /// Runs `reseal` on the data folder, which must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let ran = Command::new(env!("CARGO_BIN_EXE_reseal"))
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .env_remove("RESEAL_MASTER_KEY")
            .env_remove("RESEAL_STORE_URL")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// `client_id` of the development client of that kind.
    pub(crate) fn client_id(&self, kind: &str) -> &str {
        self.dev["clients"][kind]["client_id"].as_str().unwrap()
    }

    /// Moves the authority's clock forward.
    pub(crate) fn advance(&self, seconds: u64) {
        let reply = self.post("/dev/clock").json(&json!({ "advance": seconds })).reply();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        http().get(format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        http().post(format!("{}{path}", self.url))
    }

    pub(crate) fn patch(&self, path: &str) -> RequestBuilder {
        http().patch(format!("{}{path}", self.url))
    }

    pub(crate) fn put(&self, path: &str) -> RequestBuilder {
        http().put(format!("{}{path}", self.url))
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        http().delete(format!("{}{path}", self.url))
    }

    /// The body of a login of the development user.
    pub(crate) fn credentials(&self, kind: &str) -> Value {
        let user = &self.dev["user"];
        json!({ "client_id": self.client_id(kind), "username": user["username"], "password": user["password"] })
    }

    /// A login that must succeed.
    pub(crate) fn login(&self, kind: &str) -> Reply {
        let reply = self.post("/v1/session").json(&self.credentials(kind)).reply();
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply
    }

    /// A refresh.
    pub(crate) fn refresh(&self, refresh_token: &str) -> Reply {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client_id("refresh")),
            ("refresh_token", refresh_token),
        ];
        self.post("/oauth/token").form(&form).reply()
    }

    /// A token of the service client with that scope.
    pub(crate) fn service_token(&self, scope: &str) -> String {
        let service = &self.dev["clients"]["service"];
        let (id, secret) =
            (service["client_id"].as_str().unwrap(), service["client_secret"].as_str().unwrap());
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        self.post("/oauth/token").basic_auth(id, Some(secret)).form(&form).reply().text("access_token")
    }

    /// The session of a bearer.
    pub(crate) fn session(&self, access_token: &str) -> Reply {
        self.get("/v1/session").bearer_auth(access_token).reply()
    }

    /// The code of the newest text message.
    pub(crate) fn newest_code(&self) -> String {
        let outbox = self.get("/dev/outbox").reply();
        let text = outbox.body.as_array().unwrap().last().unwrap()["text"].as_str().unwrap().to_owned();
        let runs: Vec<&str> =
            text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() == 6).collect();
        assert_eq!(runs.len(), 1, "{text}");
        runs[0].to_owned()
    }

    /// Turns the phone on as second factor through the real flow; the answer to the last step.
    pub(crate) fn turn_on_phone(&self, access_token: &str, number: &str) -> Reply {
        let body = json!({ "phone_number": number });
        let begun = self.post("/v1/me/phone").bearer_auth(access_token).json(&body).reply();
        assert_eq!(begun.status, 202, "{}", begun.body);
        let body = json!({ "challenge": begun.body["challenge"], "code": self.newest_code() });
        let done = self.post("/v1/me/phone/verify").bearer_auth(access_token).json(&body).reply();
        assert_eq!(done.status, 200, "{}", done.body);
        done
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn http() -> Client {
    // Building one is costly; they share their connections.
    static CLIENT: std::sync::OnceLock<Client> = std::sync::OnceLock::new();
    CLIENT
        .get_or_init(|| Client::builder().timeout(Duration::from_secs(30)).no_proxy().build().unwrap())
        .clone()
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    fn read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes()?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Self { status, headers, body })
    }

    /// A member of the body that is a text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {}", self.body)).to_owned()
    }

    /// The claims of the access token in the body.
    pub(crate) fn claims(&self) -> Value {
        claims(&self.text("access_token"))
    }

    /// The cookie that the answer sets, as it is sent back.
    pub(crate) fn cookie(&self) -> String {
        let set: Vec<_> = self.headers.get_all("set-cookie").iter().collect();
        assert_eq!(set.len(), 1, "{set:?}");
        set[0].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    /// Asserts a refusal and its reason.
    pub(crate) fn refused(&self, status: u16, error: &str, reason: Option<&str>) {
        let seen = (self.status, self.body["error"].as_str(), self.body["reason"].as_str());
        assert_eq!(seen, (status, Some(error), reason), "{}", self.body);
    }
}

/// The claims of an access token, unverified.
pub(crate) fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

/// Sends a request.
pub(crate) trait Ask {
    /// The answer; panics when there is none.
    fn reply(self) -> Reply;
    /// The answer, if there is one.
    fn try_reply(self) -> Option<Reply>;
}

impl Ask for RequestBuilder {
    fn reply(self) -> Reply {
        Reply::read(self.send().unwrap()).unwrap()
    }

    fn try_reply(self) -> Option<Reply> {
        self.send().ok().and_then(|r| Reply::read(r).ok())
    }
}

/// `short` rounds, or `long` ones when the full counts are asked for.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("RESEAL_LONG").is_some() { long } else { short }
}
