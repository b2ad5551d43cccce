//! HAProxy and nginx before several authorities.

use crate::home;
use crate::port::Port;
use crate::process::Process;
use crate::program::Program;
use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

/// HAProxy, ended and removed when dropped.
#[derive(Debug)]
pub struct HaProxy(Proxy);

impl HaProxy {
    /// Starts one before these. It asks each five times a second whether it is ready, and hands a request whose
    /// connection fails to another.
    ///
    /// # Panics
    /// When HAProxy is not installed or does not start.
    pub fn start(backends: &[SocketAddr]) -> Self {
        let servers = lines(backends, |i, addr| format!("    server node{i} {addr}\n"));
        Self::with(|port| {
            format!(
                "global
    maxconn 4000
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 30s
    timeout queue 5s
    retries 3
    option redispatch 1
    timeout check 5s
    retry-on conn-failure
    option forwardfor
frontend public
    bind 127.0.0.1:{port}
    default_backend authorities
backend authorities
    balance roundrobin
    option httpchk GET /health/ready
    default-server check inter 200ms fastinter 100ms downinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}"
            )
        })
    }

    /// Starts one with that configuration, which listens on the port of 127.0.0.1 that it is given.
    ///
    /// # Panics
    /// When HAProxy is not installed or does not start.
    pub fn with(configuration: impl FnOnce(u16) -> String) -> Self {
        Self(Proxy::start("haproxy", configuration))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.0.url()
    }
}

/// nginx, ended and removed when dropped.
#[derive(Debug)]
pub struct Nginx(Proxy);

impl Nginx {
    /// Starts one before these. A request whose connection fails goes to another.
    ///
    /// # Panics
    /// When nginx is not installed or does not start.
    pub fn start(backends: &[SocketAddr]) -> Self {
        let servers =
            lines(backends, |_, addr| format!("        server {addr} max_fails=1 fail_timeout=1s;\n"));
        // Its workers would otherwise be another user, who may not write here.
        let user = if home::other_user().is_some() { "user root;\n" } else { "" };
        Self::with(|port| {
            format!(
                "{user}daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream authorities {{
{servers}        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://authorities;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_connect_timeout 2s;
            proxy_read_timeout 30s;
            proxy_buffering off;
        }}
    }}
}}
"
            )
        })
    }

    /// Starts one with that configuration (`daemon off`), which listens on the port of 127.0.0.1 that it is given.
    ///
    /// # Panics
    /// When nginx is not installed or does not start.
    pub fn with(configuration: impl FnOnce(u16) -> String) -> Self {
        Self(Proxy::start("nginx", configuration))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.0.url()
    }
}

#[derive(Debug)]
struct Proxy {
    folder: PathBuf,
    port: Port,
    process: Option<Process>,
}

impl Proxy {
    fn start(name: &str, configuration: impl FnOnce(u16) -> String) -> Self {
        let (folder, port) = (home::folder(name), Port::free());
        let file = folder.join("configuration");
        std::fs::write(&file, configuration(port.number())).unwrap();
        let mut command = home::command(&Program::find(name, name), &folder, None);
        if name == "nginx" {
            command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
        } else {
            command.arg("-db").arg("-f").arg(&file);
        }
        let mut process = Process::start(command, &folder.join("log"));
        process.until_ready(name, || TcpStream::connect(port.addr()).is_ok());
        Self { folder, port, process: Some(process) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.port.addr())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end(Signal::TERM);
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn lines(backends: &[SocketAddr], line: impl Fn(usize, &SocketAddr) -> String) -> String {
    backends.iter().enumerate().map(|(i, addr)| line(i, addr)).collect()
}
