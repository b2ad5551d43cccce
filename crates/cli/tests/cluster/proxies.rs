//! The configurations of HAProxy and nginx that the repository offers (`deploy/`), with the addresses of a test.

use std::net::SocketAddr;
use std::path::Path;

/// `deploy/haproxy/haproxy.cfg`, in the clear and in the foreground.
pub(crate) fn haproxy(backends: &[SocketAddr], port: u16) -> String {
    let mut file = File::read("haproxy/haproxy.cfg");
    file.addresses(backends);
    // Each takes two open files, and a contributor's machine may allow few.
    file.replace("maxconn 20000", "maxconn 2000");
    file.replace("bind :443 ssl crt /etc/haproxy/certs/ alpn h2,http/1.1", &format!("bind 127.0.0.1:{port}"));
    for line in
        ["user haproxy", "group haproxy", "bind :80\n", "http-request deny deny_status 403 unless { ssl_fc }"]
    {
        file.replace(line, "");
    }
    file.0
}

/// `deploy/nginx/authorities.conf`, in the clear and in the foreground.
pub(crate) fn nginx(backends: &[SocketAddr], port: u16) -> String {
    let mut file = File::read("nginx/authorities.conf");
    file.addresses(backends);
    file.replace("listen 443 ssl http2;", &format!("listen 127.0.0.1:{port};"));
    file.replace("listen [::]:443 ssl http2;", "");
    file.0 = file
        .0
        .lines()
        .filter(|line| !line.trim_start().starts_with("ssl_"))
        .map(|line| format!("{line}\n"))
        .collect();
    // The server in the clear, which refuses.
    let refusing = file.0.rfind("server {").unwrap();
    assert!(file.0[refusing..].contains("return 403"));
    file.0.truncate(refusing);
    // As root its workers would be another user, who may not write to the folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user} daemon off; worker_processes 2; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
access_log off;
client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
{}
}}
",
        file.0
    )
}

struct File(String);

impl File {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
        Self(std::fs::read_to_string(path).unwrap())
    }

    /// What is not there can be replaced no longer: then this must follow.
    fn replace(&mut self, what: &str, by: &str) {
        assert!(self.0.contains(what), "{what} is in the file");
        self.0 = self.0.replace(what, by);
    }

    fn addresses(&mut self, backends: &[SocketAddr]) {
        assert_eq!(backends.len(), 3, "the files have three nodes");
        for (i, addr) in backends.iter().enumerate() {
            self.replace(&format!("10.0.0.1{}:4000", i + 1), &addr.to_string());
        }
    }
}
