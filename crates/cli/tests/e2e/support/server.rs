//! A served authority in development mode.

use super::command::{Ran, reseal, send_signal};
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// `reseal serve --dev` on a free port; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Kept open, so that the start-up text has a reader.
    _stdout: BufReader<ChildStdout>,
    /// The URL it listens on.
    pub(crate) url: String,
    /// What `dev.json` says.
    pub(crate) dev: Value,
    folder: TempDir,
    http: Client,
}

impl Server {
    /// Starts one on a new data folder.
    pub(crate) fn start_dev() -> Self {
        Self::start_dev_in(tempfile::tempdir().unwrap())
    }

    /// Starts one on the data folder `data` in this folder.
    pub(crate) fn start_dev_in(folder: TempDir) -> Self {
        let mut child = reseal()
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let url =
            first.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{first:?}")).to_owned();
        // dev.json is complete before the first line of output.
        let dev = std::fs::read(folder.path().join("data/dev.json")).unwrap();
        let dev = serde_json::from_slice(&dev).unwrap();
        let http = Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { child, _stdout: stdout, url, dev, folder, http }
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command on its data folder; arguments with spaces between.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = reseal();
        command.current_dir(self.folder.path()).args(arguments.split(' ')).arg("--data").arg(self.data());
        command
    }

    /// Runs a command on its data folder.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// The `client_id` of the client of that kind of policy.
    pub(crate) fn client(&self, kind: &str) -> &str {
        self.dev["clients"][kind]["client_id"].as_str().unwrap()
    }

    /// A GET request.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    /// A POST request with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).json(body)
    }

    /// The answer to a POST request with a form, good or bad.
    pub(crate) fn form(&self, path: &str, form: &[(&str, &str)]) -> Value {
        self.http.post(format!("{}{path}", self.url)).form(form).send().unwrap().json().unwrap()
    }

    /// Logs the development user in through the client of that kind.
    pub(crate) fn login(&self, kind: &str) -> Value {
        let user = &self.dev["user"];
        self.login_as(kind, user["username"].as_str().unwrap(), user["password"].as_str().unwrap())
            .error_for_status()
            .unwrap()
            .json()
            .unwrap()
    }

    /// Tries to log somebody in.
    pub(crate) fn login_as(&self, kind: &str, username: &str, password: &str) -> Response {
        let body = json!({ "client_id": self.client(kind), "username": username, "password": password });
        self.post("/v1/session", &body).send().unwrap()
    }

    /// The status of `GET /v1/session` with an access token.
    pub(crate) fn session_status(&self, login: &Value) -> u16 {
        let token = login["access_token"].as_str().unwrap();
        self.get("/v1/session").bearer_auth(token).send().unwrap().status().as_u16()
    }

    /// Moves the authority's clock forward.
    pub(crate) fn advance(&self, seconds: u64) {
        let answer = self.post("/dev/clock", &json!({ "advance": seconds })).send().unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Stops it in order; its exit code, and the folder in which `data` is its data folder.
    pub(crate) fn stop(mut self) -> (i32, TempDir) {
        send_signal(&self.child, "TERM");
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (code, folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
