//! `reseal serve --dev`, and what the tests ask of it.

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const PHONE: &str = "+4915112345678";

/// The authority; killed when dropped.
pub(crate) struct Authority {
    child: Child,
    folder: TempDir,
    pub(crate) url: String,
    dev: Value,
}

impl Authority {
    /// Starts one on a new folder, with the clients of `setup.sh`.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A port that stays the same over restarts; nobody else asks for one of that number meanwhile.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (child, url, dev) = spawn(&folder.path().join("data"), &format!("127.0.0.1:{port}"));
        let authority = Self { child, folder, url, dev };
        let setup = Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/setup.sh"))
            .env("RESEAL", reseal())
            .env("DATA", authority.data())
            .output()
            .unwrap();
        assert!(setup.status.success(), "{setup:?}");
        authority
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A new start on the same folder and port.
    pub(crate) fn restart(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        (self.child, self.url, self.dev) = spawn(&self.data(), &listen);
    }

    /// Runs a command on its folder; arguments with spaces between.
    pub(crate) fn command(&self, arguments: &str) {
        let mut command = Command::new(reseal());
        command.args(arguments.split(' ')).arg("--data").arg(self.data());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// The credentials of the service.
    pub(crate) fn service_client(&self) -> (String, String) {
        let file = std::fs::read(self.data().join("notes-api.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        (text(&file, "client_id"), text(&file, "client_secret"))
    }

    /// An access token of the development user for the notes.
    pub(crate) async fn login(&self) -> String {
        let user = &self.dev["user"];
        let body =
            json!({ "client_id": "notes-web", "username": user["username"], "password": user["password"] });
        let answer = self.ask(Method::POST, "/v1/session", None, Some(body)).await;
        assert_eq!(answer.0, 201, "{}", answer.1);
        text(&answer.1, "access_token")
    }

    /// The same with the second factor.
    pub(crate) async fn login_with_code(&self) -> String {
        let user = &self.dev["user"];
        let body =
            json!({ "client_id": "notes-web", "username": user["username"], "password": user["password"] });
        let first = self.ask(Method::POST, "/v1/session", None, Some(body)).await;
        assert_eq!(first.0, 403, "{}", first.1);
        let body = json!({ "challenge": first.1["challenge"], "factor": "phone", "code": self.code().await });
        let second = self.ask(Method::POST, "/v1/session/factor", None, Some(body)).await;
        assert_eq!(second.0, 201, "{}", second.1);
        text(&second.1, "access_token")
    }

    /// The code of the newest text message.
    async fn code(&self) -> String {
        let outbox = self.ask(Method::GET, "/dev/outbox", None, None).await.1;
        let sms = text(outbox.as_array().unwrap().last().unwrap(), "text");
        sms.split(|c: char| !c.is_ascii_digit()).find(|run| run.len() == 6).unwrap().to_owned()
    }

    /// A call: status and body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request: RequestBuilder = http().request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// A call that must succeed, with the token of an administrator.
    pub(crate) async fn administer(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let service = &self.dev["clients"]["service"];
        let (id, secret) = (text(service, "client_id"), text(service, "client_secret"));
        let form = "grant_type=client_credentials&scope=reseal:admin";
        let response = http()
            .post(format!("{}/oauth/token", self.url))
            .basic_auth(id, Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let token: Value = response.send().await.unwrap().json().await.unwrap();
        let answer = self.ask(method, path, Some(&text(&token, "access_token")), body).await;
        assert!(answer.0 < 300, "{} {}", answer.0, answer.1);
        answer.1
    }

    /// Turns the phone on as second factor with this token; the resealed token of the answer.
    pub(crate) async fn turn_on_phone(&self, token: &str) -> String {
        let body = json!({ "phone_number": PHONE });
        let begun = self.ask(Method::POST, "/v1/me/phone", Some(token), Some(body)).await;
        assert_eq!(begun.0, 202, "{}", begun.1);
        let body = json!({ "challenge": begun.1["challenge"], "code": self.code().await });
        let done = self.ask(Method::POST, "/v1/me/phone/verify", Some(token), Some(body)).await;
        assert_eq!(done.0, 200, "{}", done.1);
        text(&done.1, "access_token")
    }

    /// Moves its clock.
    pub(crate) async fn advance(&self, seconds: i64) {
        let moved = self.ask(Method::POST, "/dev/clock", None, Some(json!({ "advance": seconds }))).await;
        assert_eq!(moved.0, 200, "{}", moved.1);
    }

    /// How many renewals it has answered.
    pub(crate) async fn renewals(&self) -> u64 {
        let metrics = http().get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let lines = metrics.lines().filter(|line| line.starts_with("reseal_renewals_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(data: &Path, listen: &str) -> (Child, String, Value) {
    let mut command = Command::new(reseal());
    command.args(["serve", "--dev", "--listen", listen, "--data"]).arg(data);
    let (child, url) = start(&mut command);
    let dev = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    (child, url, dev)
}

/// Starts a server that says on its first line where it listens.
pub(crate) fn start(command: &mut Command) -> (Child, String) {
    for variable in ["RESEAL_CONFIG", "RESEAL_DATA", "RESEAL_MASTER_KEY", "RESEAL_LOG"] {
        command.env_remove(variable);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
    (child, url)
}

/// The binary of this build: beside the tests. Where only this package was built, it is built now.
fn reseal() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_notes"))
            .with_file_name(format!("reseal{}", std::env::consts::EXE_SUFFIX));
        if !path.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--package", "reseal"]);
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
        path
    })
}

pub(crate) fn http() -> Client {
    Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap()
}

/// A member that is a text.
#[track_caller]
pub(crate) fn text(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {of}")).to_owned()
}
