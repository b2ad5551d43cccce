//! `reseal sessions`.

use crate::support::{Folder, Server};
use serde_json::{Value, json};

fn id(login: &Value) -> &str {
    login["session"]["id"].as_str().unwrap()
}

#[test]
fn live_sessions_are_listed_by_user_and_client() {
    let server = Server::start_dev();
    let (web, app) = (server.login("sliding"), server.login("refresh"));
    server.run("users add ada --no-password").ok();
    let all = server.run("sessions list --json").lines();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|s| s["username"] == "demo" && s.get("ended_at").is_none()));
    assert_eq!(server.run("sessions list --user ada --json").ok(), "");
    let of_client =
        server.run(&format!("sessions list --client {} --json", server.client("sliding"))).lines();
    assert_eq!(of_client.len(), 1);
    assert_eq!(of_client[0]["id"], id(&web));
    let table = server.run("sessions list").ok();
    assert!(table.contains(id(&web)) && table.contains(id(&app)) && table.contains("ends in"), "{table}");
    assert_eq!(server.run("sessions list --json --limit 1").lines().len(), 1);
}

#[test]
fn a_session_is_shown_with_its_timeline_in_words() {
    let server = Server::start_dev();
    let login = server.login("refresh");
    let shown = server.run(&format!("sessions show {}", id(&login)));
    let shown = shown.ok();
    assert!(shown.contains("signed in") && shown.contains("demo") && shown.contains("refresh"), "{shown}");
    server.run(&format!("sessions end {}", id(&login))).ok();
    let record = server.run(&format!("sessions show {} --json", id(&login))).json();
    assert_eq!(record["end_reason"], "revoked");
    let events: Vec<&str> =
        record["timeline"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "ended"]);
    server.run("sessions show AAAAAAAAAAAAAAAAAAAAAA").fails(1, "there is no session");
    // An id may begin with a dash.
    server.run("sessions show -AAAAAAAAAAAAAAAAAAAAA").fails(1, "there is no session");
    server.run("sessions end -AAAAAAAAAAAAAAAAAAAAA --json").fails(1, "there is no session");
    server.run("sessions show nonsense").fails(2, "session id");
}

#[test]
fn sessions_end_by_id_by_user_by_client_and_all() {
    let server = Server::start_dev();
    let ended =
        |arguments: &str| server.run(&format!("sessions end {arguments} --json")).json()["ended"].clone();
    let (one, two) = (server.login("refresh"), server.login("refresh"));
    assert_eq!(ended(id(&one)), json!(1));
    assert_eq!(ended(id(&one)), json!(0), "nothing ends twice");
    assert_eq!((server.session_status(&one), server.session_status(&two)), (401, 200));

    let web = server.login("sliding");
    server.run("sessions end --client sliding").fails(2, "--yes");
    assert_eq!(ended(&format!("--client {} --yes", server.client("sliding"))), json!(1));
    assert_eq!((server.session_status(&web), server.session_status(&two)), (401, 200));

    assert_eq!(ended("--user demo"), json!(1));
    assert_eq!(server.session_status(&two), 401);

    let (three, four) = (server.login("refresh"), server.login("sliding"));
    server.run("sessions end --all").fails(2, "--yes");
    assert_eq!(ended("--all --yes"), json!(2));
    assert_eq!((server.session_status(&three), server.session_status(&four)), (401, 401));

    let listed = server.run("sessions list --user demo --ended --json").lines();
    assert_eq!(listed.len(), 5);
    assert!(listed.iter().all(|s| s["end_reason"] == "revoked"));
    server.run("sessions list --ended").fails(2, "--user");
    server.run("sessions end").fails(2, "required");
    server.run("sessions end --all --user demo").fails(2, "cannot be used with");
}

#[test]
fn a_session_that_ran_out_is_not_live() {
    let server = Server::start_dev();
    let login = server.login("sliding");
    server.advance(21 * 60);
    assert_eq!(server.run("sessions list --json").ok(), "");
    let listed = server.run("sessions list --user demo --ended --json").lines();
    assert_eq!((&listed[0]["id"], &listed[0]["end_reason"]), (&json!(id(&login)), &json!("idle_timeout")));
}

#[test]
fn there_is_nothing_to_list_without_a_data_folder() {
    let folder = Folder::new();
    folder.run("sessions list").fails(1, "reseal serve");
    folder.run("sessions end --all --yes").fails(1, "no data folder");
    assert!(!folder.path("reseal-data").exists(), "a mistyped name leaves no folder behind");
}
