//! `reseal serve` where others reach it: TLS with curl, Unix sockets, systemd's sockets and notifications.

use crate::support::{Folder, Ran, eventually, reseal, send_signal};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A certificate for the host that holds until the end of that year, as its own root; and its key.
fn write_pair(folder: &Folder, host: &str, until: i32) {
    let (certificate, key) = pair(host, until);
    folder.write("key.pem", key);
    folder.write("cert.pem", certificate);
}

fn pair(host: &str, until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 12, 31);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder in which `serve` is a real authority with this in its `[server]` section.
fn folder_with(server: &str) -> Folder {
    let folder = Folder::new();
    folder.write("reseal.toml", format!("issuer = \"https://auth.example\"\n[server]\n{server}"));
    folder
}

/// `serve` as a process; killed when dropped. Its log is in the folder's file `log`.
struct Serving {
    child: Child,
    /// What it printed: one line for each place that it listens at.
    places: Vec<String>,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Serving {
    fn start(folder: &Folder, places: usize) -> Self {
        Self::of(&mut folder.command("serve"), folder, places)
    }

    fn of(command: &mut Command, folder: &Folder, places: usize) -> Self {
        let log = std::fs::File::create(folder.path("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let place = line.trim_end().strip_prefix("listening on ");
            place.unwrap_or_else(|| panic!("{line:?}: {}", log_of(folder))).to_owned()
        };
        let places = (0..places).map(|_| next()).collect();
        Self { child, places, _stdout: stdout }
    }

    fn port(&self) -> &str {
        self.places[0].rsplit_once(':').unwrap().1
    }

    fn stop(mut self) -> Option<i32> {
        send_signal(&self.child, "TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path("log")).unwrap_or_default()
}

/// curl, which believes the folder's certificate and takes the host for this machine.
fn curl(folder: &Folder, serving: &Serving, host: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]).arg(folder.path("cert.pem"));
    command.arg("--resolve").arg(format!("{host}:{}:127.0.0.1", serving.port())).args(arguments);
    Ran::of(command.arg(format!("https://{host}:{}/health/ready", serving.port())))
}

const PROTOCOL: [&str; 2] = ["--write-out", " %{http_version}"];

fn get(stream: &mut (impl std::io::Read + std::io::Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: auth.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn over_unix(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    get(&mut stream, "/health/ready")
}

const TLS: &str = "listen = '127.0.0.1:0'\n[server.tls]\ncertificate = 'cert.pem'\nkey = 'key.pem'\n";

#[test]
fn curl_speaks_both_protocols_over_tls() {
    let folder = folder_with(TLS);
    write_pair(&folder, "auth.example", 2999);
    let serving = Serving::start(&folder, 1);
    assert!(serving.places[0].starts_with("https://127.0.0.1:"), "{:?}", serving.places);
    for (option, version) in [("--http1.1", " 1.1"), ("--http2", " 2")] {
        let said = curl(&folder, &serving, "auth.example", &[&[option], &PROTOCOL[..]].concat()).ok();
        assert!(said.ends_with(version), "{said}");
    }
    let head = curl(&folder, &serving, "auth.example", &["--head", "--http2"]).ok().to_lowercase();
    assert!(head.contains("strict-transport-security: max-age=31536000; includesubdomains"), "{head}");
    curl(&folder, &serving, "auth.example", &["--tls-max", "1.2"]).ok();
    // 35: no handshake. 1.1 has to be allowed on curl's side, or it would not even ask.
    let old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    curl(&folder, &serving, "auth.example", &old).fails(35, "");
    let found = folder.run("doctor").ok();
    assert!(found.contains("cert.pem holds for") && !found.contains("is not for"), "{found}");
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_new_certificate_is_taken_over_while_connections_live() {
    let folder = folder_with(&format!("{TLS}reload_every = '1s'\n"));
    write_pair(&folder, "old.example", 2999);
    let serving = Serving::start(&folder, 1);
    let old = std::fs::read(folder.path("cert.pem")).unwrap();
    // A connection that began with the old certificate.
    let http = reqwest::blocking::Client::builder()
        .timeout(Duration::from_secs(60))
        .resolve("old.example", ([127, 0, 0, 1], 0).into())
        .tls_certs_only([reqwest::Certificate::from_pem(&old).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://old.example:{}/health/live", serving.port());
    assert_eq!(http.get(&url).send().unwrap().text().unwrap(), r#"{"status":"live"}"#);

    // The certificate alone is no pair: the old one stays.
    let (certificate, key) = pair("new.example", 2999);
    folder.write("cert.pem", &certificate);
    assert!(
        eventually(|| log_of(&folder).contains("the certificate that was in use stays")),
        "{}",
        log_of(&folder)
    );
    folder.write("old.pem", &old);
    let believes_old = ["--cacert".to_owned(), folder.path("old.pem").display().to_string()];
    let believes_old: Vec<&str> = believes_old.iter().map(String::as_str).collect();
    curl(&folder, &serving, "old.example", &believes_old).ok();
    folder.write("key.pem", &key);
    assert!(eventually(|| curl(&folder, &serving, "new.example", &[]).code == 0), "{}", log_of(&folder));
    curl(&folder, &serving, "old.example", &believes_old).fails(60, "");
    assert_eq!(http.get(&url).send().unwrap().status().as_u16(), 200, "the connection goes on");
    assert_eq!(
        log_of(&folder).matches("the certificate that was in use stays").count(),
        1,
        "{}",
        log_of(&folder)
    );
}

#[test]
fn sighup_looks_at_the_certificate_at_once() {
    let folder = folder_with(&format!("{TLS}reload_every = '1d'\n"));
    write_pair(&folder, "old.example", 2999);
    let serving = Serving::start(&folder, 1);
    write_pair(&folder, "new.example", 2999);
    curl(&folder, &serving, "new.example", &[]).fails(60, "");
    send_signal(&serving.child, "HUP");
    assert!(eventually(|| curl(&folder, &serving, "new.example", &[]).code == 0), "{}", log_of(&folder));
    // Another one, over nothing new, ends nothing.
    send_signal(&serving.child, "HUP");
    curl(&folder, &serving, "new.example", &[]).ok();
}

#[test]
fn a_pair_that_cannot_be_used_stops_the_start() {
    let folder = folder_with(TLS);
    folder.run("serve").fails(1, "server.tls: cert.pem: ");
    write_pair(&folder, "auth.example", 2999);
    folder.write("key.pem", pair("auth.example", 2999).1);
    folder.run("serve").fails(1, "key.pem is not the key of cert.pem");
    folder.write("key.pem", "");
    folder.run("serve").fails(1, "server.tls.key: key.pem: there is no private key in it");
    folder.write("reseal.toml", format!("issuer = \"http://127.0.0.1:4000\"\n[server]\n{TLS}"));
    folder.run("serve").fails(1, "with TLS the issuer is https");
}

#[test]
fn an_expired_certificate_is_told_in_log_and_metrics() {
    let folder = folder_with(TLS);
    write_pair(&folder, "elsewhere.example", 2021);
    let serving = Serving::start(&folder, 1);
    assert!(eventually(|| log_of(&folder).contains("the certificate has expired")), "{}", log_of(&folder));
    assert!(log_of(&folder).contains("the certificate is not for the issuer's host"), "{}", log_of(&folder));
    curl(&folder, &serving, "elsewhere.example", &[]).fails(60, "expired");
    let found = folder.run("doctor").fails(1, "").out;
    assert!(found.contains("cert.pem has expired") && found.contains("is not for auth.example"), "{found}");
    let metrics = format!("https://127.0.0.1:{}/metrics", serving.port());
    let text =
        Ran::of(Command::new("curl").args(["--silent", "--insecure", "--max-time", "60", &metrics])).ok();
    // 31 December 2021.
    assert!(text.contains("\nreseal_tls_certificate_expires_at 1640908800\n"), "{text}");
}

#[test]
fn a_unix_socket_beside_an_address() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder_with("listen = ['unix:reseal.sock', '127.0.0.1:0']\nsocket_mode = '0600'\n");
    let path = folder.path("reseal.sock");
    let serving = Serving::start(&folder, 2);
    assert!(serving.places[0].starts_with("http://127.0.0.1:"), "{:?}", serving.places);
    assert_eq!(serving.places[1], "unix:reseal.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(over_unix(&path).starts_with("HTTP/1.1 200 "));
    let health = reqwest::blocking::get(format!("{}/health/ready", serving.places[0])).unwrap();
    assert_eq!(health.status().as_u16(), 200);

    // A second one takes nobody's place.
    let other = folder_with("");
    let listen = format!("serve --listen unix:{}", path.display());
    other.run(&listen).fails(1, "another process listens there");
    assert!(over_unix(&path).starts_with("HTTP/1.1 200 "));

    // One that was killed leaves its socket behind, and the next replaces it.
    send_signal(&serving.child, "KILL");
    drop(serving);
    assert!(path.exists());
    let serving = Serving::start(&folder, 2);
    assert!(over_unix(&path).starts_with("HTTP/1.1 200 "));
    assert_eq!(serving.stop(), Some(0));
    assert!(!path.exists(), "it goes with its process");
    folder.write("reseal.sock", "a file");
    folder.run("serve").fails(1, "a file that is no socket has this name");
}

#[test]
fn sockets_that_systemd_passes_on() {
    let folder = folder_with("listen = 'systemd'\n");
    folder.run("serve").fails(1, "systemd passed no socket on");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = folder.path("passed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    // As systemd does it: the sockets are 3 and 4, and LISTEN_PID is the process itself. They come in as standard
    // input and standard error of a shell, which this process can hand over.
    let script = "exec 3<&0 4<&2 </dev/null 2>>log; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" serve";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_reseal")]).current_dir(folder.path(""));
    shell.stdin(std::os::fd::OwnedFd::from(tcp.try_clone().unwrap()));
    shell.stderr(std::os::fd::OwnedFd::from(unix.try_clone().unwrap()));
    let mut child = shell.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap_or_else(|| panic!("{}", log_of(&folder))).unwrap();
    assert_eq!(next(), format!("listening on http://{address}"));
    assert_eq!(next(), format!("listening on unix:{}", path.display()));
    let health = reqwest::blocking::get(format!("http://{address}/health/ready")).unwrap();
    assert_eq!(health.status().as_u16(), 200);
    assert!(over_unix(&path).starts_with("HTTP/1.1 200 "));
    send_signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(path.exists(), "the file is systemd's");

    // Those of another process are left alone.
    let mut command = folder.command("serve");
    command.envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]);
    Ran::of(&mut command).fails(1, "systemd passed no socket on");
}

#[test]
fn the_service_manager_is_told() {
    let folder = folder_with("listen = 'unix:reseal.sock'\n");
    let manager = UnixDatagram::bind(folder.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = folder.command("serve");
    command.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "200000");
    let mut serving = Serving::of(&mut command, &folder, 1);
    let mut buffer = [0; 1024];
    let mut next = |kind: &str| {
        for _ in 0..1000 {
            let n = manager.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..n].to_vec()).unwrap();
            if text.starts_with(kind) {
                return text;
            }
            assert!(text == "WATCHDOG=1", "{text} before {kind}");
        }
        panic!("no {kind}");
    };
    assert_eq!(next("READY=1"), "READY=1\nSTATUS=listening on unix:reseal.sock");
    assert!(
        over_unix(&folder.path("reseal.sock")).starts_with("HTTP/1.1 200 "),
        "ready means that it answers"
    );
    next("WATCHDOG=1");
    next("WATCHDOG=1");
    send_signal(&serving.child, "HUP");
    let reloading = next("RELOADING=1");
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    next("READY=1");
    send_signal(&serving.child, "TERM");
    next("STOPPING=1");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_listened_at_says_what_to_do() {
    let folder = folder_with("listen = ['127.0.0.1:0', 'unix:no/such/folder.sock']\n");
    folder.run("serve").fails(1, "RuntimeDirectory=");
    folder.run("serve --listen nowhere").fails(2, "no place to listen at");
    folder.write("reseal.toml", "[server]\nlisten = []\n");
    folder.run("serve").fails(1, "between 1 and 16 places");
    let mut unix_only = reseal();
    unix_only.current_dir(folder.path("")).args(["serve", "--dev", "--listen", "unix:dev.sock"]);
    Ran::of(&mut unix_only).fails(1, "development mode needs an address");
    assert!(!folder.path("dev.sock").exists());
}
