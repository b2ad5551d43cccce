//! `reseal serve` as a process.

use crate::support::{Folder, Ran, Server, reseal};
use serde_json::json;

#[test]
fn development_mode_needs_nothing_and_keeps_its_secrets() {
    let server = Server::start_dev();
    assert_eq!(server.get("/health/ready").send().unwrap().status().as_u16(), 200);
    let login = server.login("refresh");
    let (user, clients) = (server.dev["user"].clone(), server.dev["clients"].clone());
    let (code, folder) = server.stop();
    assert_eq!(code, 0);
    let again = Server::start_dev_in(folder);
    assert_eq!((&again.dev["user"], &again.dev["clients"]), (&user, &clients));
    let refreshed = [
        ("grant_type", "refresh_token"),
        ("client_id", again.client("refresh")),
        ("refresh_token", login["refresh_token"].as_str().unwrap()),
    ];
    let request =
        reqwest::blocking::Client::new().post(format!("{}/oauth/token", again.url)).form(&refreshed);
    assert_eq!(request.send().unwrap().status().as_u16(), 200, "sessions outlive a restart");
}

#[test]
fn each_mode_refuses_the_folder_of_the_other() {
    let (_, folder) = Server::start_dev().stop();
    std::fs::write(folder.path().join("reseal.toml"), "issuer = \"http://127.0.0.1:4000\"\n").unwrap();
    let serve = |arguments: &str| {
        Ran::of(reseal().current_dir(folder.path()).arg("serve").args(arguments.split(' ')))
    };
    serve("--data data --listen 127.0.0.1:0").fails(1, "made by `serve --dev`");
    let made = Folder::new();
    made.run("users add ada --no-password").ok();
    made.run("serve --dev --listen 127.0.0.1:0 --data reseal-data")
        .fails(1, "development mode touches no other");
}

#[test]
fn two_servers_never_share_a_folder() {
    let server = Server::start_dev();
    server.run("serve --dev --listen 127.0.0.1:0").fails(1, "is serving this folder already");
    assert_eq!(server.get("/health/ready").send().unwrap().status().as_u16(), 200, "the first is unharmed");
}

#[test]
fn what_stops_the_start_says_what_to_do() {
    let folder = Folder::new();
    folder.run("serve").fails(1, "issuer is not set");
    folder.run("serve --dev --listen 0.0.0.0:0").fails(1, "127.0.0.1");
    let server = Server::start_dev();
    let taken = server.url.strip_prefix("http://").unwrap();
    folder.run(&format!("serve --dev --listen {taken}")).fails(1, "another program has this port");
    folder.write("reseal.toml", "issuer = \"https://a.example\"\n[server]\nlissten = 1\n");
    folder.run("serve").fails(1, "reseal.toml:3: ");
    folder.run("serve --config missing.toml").fails(2, "missing.toml");
    let mut command = folder.command("serve --dev --listen 127.0.0.1:0 --data reseal-data");
    Ran::of(command.env("RESEAL_MASTER_KEY", "hunter2")).fails(1, "RESEAL_MASTER_KEY is not a master key");
}

#[test]
fn a_production_start_needs_only_an_issuer() {
    let folder = Folder::new();
    folder.write("reseal.toml", "issuer = \"https://auth.example\"\n[server]\nlisten = \"127.0.0.1:0\"\n");
    folder.run("users add ada --no-password").ok();
    folder.run("clients add app").ok();
    let mut command = folder.command("serve");
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut first = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
    let url = first.trim_end().strip_prefix("listening on ").unwrap();
    let metadata = reqwest::blocking::get(format!("{url}/.well-known/oauth-authorization-server")).unwrap();
    assert_eq!(metadata.json::<serde_json::Value>().unwrap()["issuer"], json!("https://auth.example"));
    assert_eq!(reqwest::blocking::get(format!("{url}/dev/outbox")).unwrap().status().as_u16(), 404);
    assert_eq!(folder.run("keys list --json").lines().len(), 2);
    crate::support::send_signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
