//! The authorities of a cluster and the proxy before them.

use crate::http::{Reply, ask};
use crate::proxies;
use reseal_test_servers::{Folder, HaProxy, Nginx, Port, Process, until};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Each node is given the same one. It protects nothing: 32 bytes, the same in every test.
const MASTER_KEY: &str = "bWFzdGVyIGtleSBvZiBhIGNsdXN0ZXIgaW4gdGVzdHM";

/// What stands before the nodes.
pub(crate) enum Before {
    HaProxy(HaProxy),
    Nginx(Nginx),
}

/// Authorities in production mode, stopped when dropped.
pub(crate) struct Nodes {
    folder: Folder,
    ports: Vec<Port>,
    processes: Vec<Mutex<Option<Process>>>,
    before: Before,
    service: Value,
}

/// What the nodes differ in.
pub(crate) struct Setup {
    /// `[store]` and whatever else the configuration of each node shall have.
    pub(crate) config: Vec<String>,
    pub(crate) proxy: Kind,
}

/// Which proxy.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    HaProxy,
    Nginx,
}

impl Nodes {
    /// Starts one authority per configuration, with a client `app` for refresh sessions.
    pub(crate) fn start(setup: &Setup) -> Self {
        let ports: Vec<Port> = setup.config.iter().map(|_| Port::free()).collect();
        let backends: Vec<_> = ports.iter().map(Port::addr).collect();
        let before = match setup.proxy {
            Kind::HaProxy => Before::HaProxy(HaProxy::with(|port| proxies::haproxy(&backends, port))),
            Kind::Nginx => Before::Nginx(Nginx::with(|port| proxies::nginx(&backends, port))),
        };
        let mut nodes = Self {
            folder: Folder::new("authorities"),
            processes: ports.iter().map(|_| Mutex::default()).collect(),
            ports,
            before,
            service: Value::Null,
        };
        for (i, config) in setup.config.iter().enumerate() {
            let text = format!("issuer = \"{}\"\n{config}", nodes.url());
            std::fs::write(nodes.config(i), text).unwrap();
        }
        nodes.run("clients add app --policy app");
        let scope = ["--scope", "reseal:admin reseal:feed"];
        nodes.service = nodes.run_with("clients add backend --confidential --json", &scope, "");
        for i in 0..nodes.ports.len() {
            nodes.begin(i);
        }
        for i in 0..nodes.ports.len() {
            nodes.until_ready(i);
        }
        // /health is not for the public.
        let metadata = format!("{}/.well-known/oauth-authorization-server", nodes.url());
        until("the proxy has found one", || good(&metadata).then_some(()));
        nodes
    }

    /// The proxy's URL, which is the issuer.
    pub(crate) fn url(&self) -> String {
        match &self.before {
            Before::HaProxy(proxy) => proxy.url(),
            Before::Nginx(proxy) => proxy.url(),
        }
    }

    /// The URL of one node.
    pub(crate) fn url_of(&self, node: usize) -> String {
        format!("http://{}", self.ports[node].addr())
    }

    pub(crate) fn count(&self) -> usize {
        self.ports.len()
    }

    /// A command line of `reseal`, which must succeed.
    pub(crate) fn run(&self, line: &str) -> Value {
        self.run_with(line, &[], "")
    }

    pub(crate) fn run_with(&self, line: &str, more: &[&str], input: &str) -> Value {
        let mut command = self.reseal(line, 0);
        command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    /// Id and secret of the service client.
    pub(crate) fn service(&self) -> (String, String) {
        let text = |name: &str| self.service[name].as_str().unwrap().to_owned();
        (text("client_id"), text("client_secret"))
    }

    /// A token of the service client.
    pub(crate) fn service_token(&self, scope: &str) -> Option<String> {
        let (id, secret) = self.service();
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        let request = |http: &reqwest::Client| {
            let url = format!("{}/oauth/token", self.url());
            http.post(url).basic_auth(&id, Some(&secret)).form(&form)
        };
        let reply = ask(request)?;
        (reply.status == 200).then(|| reply.text("access_token"))
    }

    /// A new user; its `sub`.
    pub(crate) fn add_user(&self, name: &str, admin: &str) -> String {
        let request = |http: &reqwest::Client| {
            let body = json!({ "username": name });
            http.post(format!("{}/v1/admin/users", self.url())).bearer_auth(admin).json(&body)
        };
        let reply: Reply = ask(request).unwrap();
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.text("sub")
    }

    /// `kill -9` of a node.
    pub(crate) fn kill(&self, node: usize) {
        self.processes[node].lock().unwrap().take().unwrap().kill();
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) fn stop(&self, node: usize) {
        self.processes[node].lock().unwrap().take().unwrap().terminate();
    }

    /// Starts a node that was killed or stopped; returns when it is ready.
    pub(crate) fn restart(&self, node: usize) {
        self.begin(node);
        self.until_ready(node);
    }

    /// The end of each node's log, for a test that failed.
    pub(crate) fn logs(&self) -> String {
        let log = |node| {
            let text = std::fs::read_to_string(self.folder.path().join(format!("{node}.log")));
            let text = text.unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- node {node}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        (0..self.count()).map(log).collect()
    }

    fn begin(&self, node: usize) {
        let listen = self.ports[node].addr().to_string();
        let mut command = self.reseal("serve --listen", node);
        command.arg(listen).stdin(Stdio::null());
        let process = Process::start(command, &self.folder.path().join(format!("{node}.log")));
        *self.processes[node].lock().unwrap() = Some(process);
    }

    fn until_ready(&self, node: usize) {
        let url = self.url_of(node);
        let mut process = self.processes[node].lock().unwrap();
        process.as_mut().unwrap().until_ready("an authority is ready", || ready(&url));
    }

    fn reseal(&self, line: &str, node: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
        command.args(line.split(' ')).current_dir(self.folder.path()).env("RESEAL_MASTER_KEY", MASTER_KEY);
        command
            .env("RESEAL_CONFIG", self.config(node))
            .env_remove("RESEAL_STORE_URL")
            .env_remove("RESEAL_DATA");
        command
    }

    fn config(&self, node: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("{node}.toml"))
    }
}

fn ready(url: &str) -> bool {
    good(&format!("{url}/health/ready"))
}

fn good(url: &str) -> bool {
    ask(|http| http.get(url)).is_some_and(|reply| reply.status == 200)
}
