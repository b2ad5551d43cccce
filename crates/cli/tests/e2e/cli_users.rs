//! `reseal users`, but for the import.

use crate::support::{Folder, Server};
use serde_json::json;

#[test]
fn a_user_is_added_shown_changed_and_deleted() {
    let folder = Folder::new();
    let added = folder
        .run_args(&[
            "users",
            "add",
            "ada",
            "--name",
            "Ada Lovelace",
            "--email",
            "ada@example.com",
            "--role",
            "staff",
            "--role",
            "admin",
            "--attribute",
            "plan=gold",
            "--attribute",
            "seats=5",
            "--no-password",
            "--json",
        ])
        .json();
    assert_eq!(added["roles"], json!(["admin", "staff"]));
    assert_eq!(added["attributes"], json!({ "plan": "gold", "seats": 5 }));
    assert_eq!(folder.run("users show ada --json").json(), added);
    let sub = added["sub"].as_str().unwrap();
    assert_eq!(folder.run(&format!("users show {sub} --json")).json(), added);

    let changed = folder
        .run("users set ada --add-role auditor --remove-role admin --no-email --remove-attribute plan --json")
        .json();
    assert_eq!(changed["roles"], json!(["auditor", "staff"]));
    assert_eq!(changed["email"], json!(null));
    assert_eq!(changed["attributes"], json!({ "seats": 5 }));
    assert_eq!(changed["name"], "Ada Lovelace");
    assert_eq!(changed["revision"], json!(2), "one change, however many members");

    assert_eq!(folder.run("users disable ada --json").json()["disabled"], json!(true));
    assert_eq!(folder.run("users enable ada --json").json()["disabled"], json!(false));
    assert!(folder.run("users list").ok().contains("Ada Lovelace"));
    assert_eq!(folder.run("users list --json").lines().len(), 1);

    folder.run("users delete ada").fails(2, "--yes");
    folder.run("users delete ada --yes").ok();
    folder.run("users show ada").fails(1, "there is no user \"ada\"");
    assert_eq!(folder.run("users list --json").ok(), "");
}

#[test]
fn names_are_taken_once_and_records_are_checked() {
    let folder = Folder::new();
    folder.run("users add ada --no-password").ok();
    folder.run("users add ADA --no-password").fails(1, "username is taken");
    folder.run("users add bob --no-password --email nonsense").fails(1, "email");
    folder.run("users add bob --no-password --phone 12345").fails(2, "country code");
    folder.run("users add bob --no-password --phone-verified").fails(2, "--phone");
    folder.run("users set ada").fails(2, "nothing to set");
    folder.run("users set nobody --name x").fails(1, "there is no user");
    folder.run("users add bob").fails(2, "--password-stdin");
}

#[test]
fn passwords_come_from_standard_input_or_are_made_and_never_from_arguments() {
    let server = Server::start_dev();
    let login = |name: &str, password: &str| server.login_as("refresh", name, password).status().as_u16();
    let with_input = |arguments: &str, input: &str| {
        crate::support::Ran::with_input(&mut server.command(arguments), input.as_bytes())
    };

    with_input("users add ada --password-stdin", "correct horse battery\n").ok();
    assert_eq!(login("ada", "correct horse battery"), 201);
    with_input("users add bob --password-stdin", "password1\n").fails(1, "common");
    with_input("users add bob --password-stdin", "\n").fails(1, "no password");

    let made = server.run("users add bob --generate-password --json").json();
    assert_eq!(login("bob", made["password"].as_str().unwrap()), 201);
    let made = server.run("users set-password bob --generate-password --json").json();
    assert_eq!(login("bob", made["password"].as_str().unwrap()), 201);

    let printed = server.run("users set-password bob --generate-password").ok();
    assert_eq!(login("bob", printed.trim()), 201, "standard output is the password and nothing else");
    with_input("users set-password ada --password-stdin", "another long one\r\nand more").ok();
    assert_eq!(login("ada", "another long one"), 201);
    assert_eq!(login("ada", "correct horse battery"), 401);
    assert!(server.run("users add eve --password secret").code == 2);
}

#[test]
fn a_running_server_obeys_at_once() {
    let server = Server::start_dev();
    let (first, second) = (server.login("refresh"), server.login("refresh"));
    assert_eq!(server.session_status(&first), 200);
    server.run("users disable demo").ok();
    assert_eq!(server.session_status(&first), 401);
    assert_eq!(server.session_status(&second), 401);
    server.run("users enable demo").ok();
    assert_eq!(server.session_status(&first), 401, "nothing revives a session");
    let third = server.login("refresh");
    server.run("users set-password demo --generate-password").ok();
    assert_eq!(server.session_status(&third), 401);
}

#[test]
fn factors_are_reset() {
    let server = Server::start_dev();
    server.run("users set demo --phone +4915112345678 --phone-verified true").ok();
    let password = server.dev["user"]["password"].as_str().unwrap();
    assert_eq!(server.login_as("refresh", "demo", password).status().as_u16(), 403);
    let record = server.run("users reset-factors demo --json").json();
    assert_eq!((&record["phone_number"], &record["phone_number_verified"]), (&json!(null), &json!(false)));
    assert_eq!(server.login_as("refresh", "demo", password).status().as_u16(), 201);
}

#[test]
fn a_list_is_cut_with_a_word_and_whole_for_scripts() {
    let folder = Folder::new();
    let users: String = (0..205).map(|n| format!("{{\"username\":\"user{n}\"}}\n")).collect();
    folder.run_with_input("users import -", users).ok();
    let ran = folder.run("users list");
    assert_eq!(ran.out.lines().count(), 201);
    assert!(ran.err.contains("only the first 200"), "{}", ran.err);
    assert_eq!(folder.run("users list --limit 0").ok().lines().count(), 206);
    assert_eq!(folder.run("users list --json").lines().len(), 205);
    assert_eq!(folder.run("users list --json --limit 3").lines().len(), 3);
}
