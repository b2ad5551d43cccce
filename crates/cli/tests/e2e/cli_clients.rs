//! `reseal clients`.

use crate::support::{Folder, Server, eventually};
use serde_json::json;

#[test]
fn a_client_is_registered_changed_and_deleted() {
    let folder = Folder::new();
    let added = folder
        .run_args(&[
            "clients",
            "add",
            "shop",
            "--policy",
            "browser",
            "--origin",
            "https://shop.example",
            "--claims",
            "name,roles",
            "--audience",
            "https://api.example",
            "--scope",
            "read write",
            "--json",
        ])
        .json();
    assert_eq!(added["claims"], json!(["name", "roles"]));
    assert_eq!((&added["confidential"], &added["scope"]), (&json!(false), &json!("read write")));
    assert!(added.get("client_secret").is_none());
    assert_eq!(folder.run("clients show shop --json").json(), added);
    let changed =
        folder.run("clients set shop --policy web --no-origins --claims name --disable --json").json();
    assert_eq!((&changed["policy"], &changed["origins"]), (&json!("web"), &json!([])));
    assert_eq!((&changed["claims"], &changed["disabled"]), (&json!(["name"]), &json!(true)));
    assert_eq!(changed["scope"], "read write");
    assert!(folder.run("clients list").ok().contains("disabled"));
    folder.run("clients delete shop").fails(2, "--yes");
    folder.run("clients delete shop --yes").ok();
    assert_eq!(folder.run("clients list --json").ok(), "");
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let folder = Folder::new();
    folder.run("clients add shop --policy nonsense").fails(1, "there are app, browser");
    folder.run("clients add shop --scope reseal:admin").fails(1, "confidential");
    folder.run("clients add shop --claims password").fails(2, "password");
    folder.run("clients add shop --origin https://shop.example/path").fails(1, "origins");
    folder.run("clients add a/b").fails(2, "client id");
    folder.run("clients add shop --algorithm HS256").fails(2, "HS256");
    folder.run("clients add shop").ok();
    folder.run("clients add shop").fails(1, "client id is taken");
    folder.run("clients set shop").fails(2, "nothing to set");
    folder.run("clients show nobody").fails(1, "there is no client nobody");
    folder.run("clients rotate-secret shop").fails(1, "a public client has no secret");
}

#[test]
fn a_secret_is_shown_once_works_and_is_void_once_it_is_rotated() {
    let server = Server::start_dev();
    let added = server.run("clients add backend --confidential --json").json();
    let token = |secret: &str| {
        let form = [("grant_type", "client_credentials")];
        let request = reqwest::blocking::Client::new().post(format!("{}/oauth/token", server.url));
        request.basic_auth("backend", Some(secret)).form(&form).send().unwrap().status().as_u16()
    };
    let first = added["client_secret"].as_str().unwrap();
    assert!(first.starts_with("rsl_cs_"));
    assert_eq!(token(first), 200);
    assert!(!server.run("clients show backend").ok().contains("rsl_cs_"));
    let rotated = server.run("clients rotate-secret backend --json").json();
    let second = rotated["client_secret"].as_str().unwrap();
    // The server sees changes of other processes within a second.
    assert!(eventually(|| token(first) == 401));
    assert_eq!((token(first), token(second)), (401, 200));
}

#[test]
fn deleting_a_client_ends_its_sessions() {
    let server = Server::start_dev();
    let (gone, stays) = (server.login("sliding"), server.login("refresh"));
    let client = server.client("sliding");
    server.run(&format!("clients delete {client} --yes")).ok();
    assert_eq!((server.session_status(&gone), server.session_status(&stays)), (401, 200));
}
