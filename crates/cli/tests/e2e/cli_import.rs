//! `reseal users import`.

use crate::support::{Folder, Ran, Server, send_signal};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const BCRYPT_PASSWORD: &str = "U*U";
const DJANGO: &str = "pbkdf2_sha256$1000$seasalt2$4PgsrPUPnvjKVwd5+wC9REXQa/iTIL6HoIhvhLQq7eQ=";
const DJANGO_PASSWORD: &str = "lettuce leaves";
const ARGON2ID: &str =
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
const ARGON2ID_PASSWORD: &str = "password";

fn summary(ran: Ran) -> (i32, Value) {
    let last = ran.out.lines().last().unwrap_or_else(|| panic!("{ran:?}"));
    (ran.code, serde_json::from_str(last).unwrap())
}

#[test]
fn users_log_in_with_the_passwords_they_had() {
    let server = Server::start_dev();
    let line = |name: &str, hash: &str| format!("{}\n", json!({ "username": name, "password_hash": hash }));
    let file = [line("ada", BCRYPT), line("bob", DJANGO), line("eve", ARGON2ID)].concat();
    let ran = Ran::with_input(&mut server.command("users import - --json"), file.as_bytes());
    assert_eq!(summary(ran).1["imported"], 3);
    for (name, password) in [("ada", BCRYPT_PASSWORD), ("bob", DJANGO_PASSWORD), ("eve", ARGON2ID_PASSWORD)] {
        for _ in 0..2 {
            // The second time with what the first one hashed anew.
            assert_eq!(server.login_as("refresh", name, password).status().as_u16(), 201, "{name}");
        }
        assert_eq!(server.login_as("refresh", name, "wrong password").status().as_u16(), 401, "{name}");
    }
}

#[test]
fn records_come_over_whole_from_both_formats() {
    let folder = Folder::new();
    let csv = "\u{feff}username,name,email,phone_number,phone_number_verified,roles,attributes.plan,disabled\r\n\
        ada,\"Lovelace, Ada\",ada@example.com,+49 151 12345678,true,admin;staff,gold,false\r\n\
        bob,,,,,,,true\r\n";
    folder.write("users.csv", csv);
    folder.run("users import users.csv").ok();
    let ada = folder.run("users show ada --json").json();
    assert_eq!(ada["name"], "Lovelace, Ada");
    assert_eq!(
        (&ada["phone_number"], &ada["phone_number_verified"]),
        (&json!("+4915112345678"), &json!(true))
    );
    assert_eq!((&ada["roles"], &ada["attributes"]), (&json!(["admin", "staff"]), &json!({ "plan": "gold" })));
    let bob = folder.run("users show bob --json").json();
    assert_eq!((&bob["disabled"], &bob["name"]), (&json!(true), &json!(null)));

    let sub = "0190d3f2-7c1a-7000-8000-000000000001";
    let eve = json!({ "username": "eve", "sub": sub, "attributes": { "seats": 5 }, "roles": ["b", "a"] });
    folder.run_with_input("users import -", format!("{eve}\n\n")).ok();
    let eve = folder.run(&format!("users show {sub} --json")).json();
    assert_eq!((&eve["attributes"], &eve["roles"]), (&json!({ "seats": 5 }), &json!(["a", "b"])));
}

#[test]
fn bad_lines_are_told_by_number_and_the_others_come_in() {
    let folder = Folder::new();
    let file = format!(
        "{}\nnonsense\n{}\n{}\n{}\n{}\n{}\n{}\n",
        json!({ "username": "ada" }),
        json!({ "username": "bob", "password_hash": "plain text" }),
        json!({ "username": "bob", "colour": "red" }),
        json!({ "username": "bob", "phone_number": "0151 12345" }),
        json!({ "username": "ADA", "name": "Another" }),
        "x".repeat(70_000),
        json!({ "username": "eve" }),
    );
    folder.write("users.ndjson", &file);
    let ran = folder.run("users import users.ndjson");
    assert_eq!(ran.code, 1, "{ran:?}");
    for number in 2..=7 {
        assert!(ran.err.contains(&format!("line {number}: ")), "{number} in {}", ran.err);
    }
    assert!(!ran.err.contains("plain text"), "a password is never shown: {}", ran.err);
    assert!(ran.out.contains("2 users imported") && ran.out.contains("6 bad lines"), "{}", ran.out);
    assert_eq!(folder.run("users list --json").lines().len(), 2);

    let (code, told) = summary(folder.run("users import users.ndjson --json"));
    assert_eq!((code, &told["already_there"], &told["bad"]), (1, &json!(2), &json!(6)));
    assert_eq!(folder.run("users import users.ndjson --json").out.lines().count(), 7);
}

#[test]
fn a_dry_run_changes_nothing_and_needs_no_data_folder() {
    let folder = Folder::new();
    folder.write("users.csv", "username\nada\nbob\nada\n\"\n");
    let (code, told) = summary(folder.run("users import users.csv --dry-run --json"));
    assert_eq!((code, &told["imported"], &told["bad"]), (1, &json!(2), &json!(2)));
    assert!(!folder.path("reseal-data").exists());
    folder.write("good.csv", "username\nada\n");
    folder.run("users import good.csv").ok();
    let (code, told) = summary(folder.run("users import good.csv --dry-run --json"));
    assert_eq!((code, &told["already_there"]), (0, &json!(1)));
}

#[test]
fn what_is_no_list_of_users_is_refused_whole() {
    let folder = Folder::new();
    folder.run("users import missing.ndjson").fails(2, "missing.ndjson");
    folder.run("users import .").fails(2, "is a folder");
    assert!(!folder.path("reseal-data").exists(), "a wrong name makes no data folder");
    folder.write("users.csv", "ada,admin\n");
    folder.run("users import users.csv").fails(1, "column \"ada\" is not known");
    folder.run("users import users.csv --format xml").fails(2, "possible values");
}

#[test]
fn an_interrupted_import_goes_on_where_it_stopped() {
    const USERS: usize = 20_000;
    let folder = Folder::new();
    // A bad line well after the first batches tells when to interrupt.
    let lines: String = (1..=USERS)
        .map(|n| if n == 2_000 { "bad\n".to_owned() } else { format!("{{\"username\":\"user{n}\"}}\n") })
        .collect();
    folder.write("users.ndjson", lines);
    let mut command = folder.command("users import users.ndjson --json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"line\":2000"), "{line}");
    send_signal(&child, "INT");
    line.clear();
    out.read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(told["interrupted"], true, "{told}");
    let done = told["lines"].as_u64().unwrap();
    assert!((2_000..20_000).contains(&done), "{told}");
    assert_eq!(folder.run("users list --json").lines().len(), usize::try_from(done).unwrap() - 1);

    let ran = folder.run("users import users.ndjson --json");
    assert!(ran.err.contains("going on after line"), "{}", ran.err);
    let (code, told) = summary(ran);
    assert_eq!(
        (code, &told["lines"], &told["bad"]),
        (1, &json!(USERS), &json!(1)),
        "earlier bad lines count"
    );
    assert_eq!((&told["imported"], &told["already_there"]), (&json!(USERS - 1), &json!(0)));
    assert_eq!(folder.run("users list --json").lines().len(), USERS - 1);
}

#[test]
fn a_user_who_is_there_under_another_id_is_not_the_same() {
    let folder = Folder::new();
    let ids = ["0190d3f2-7c1a-7000-8000-000000000001", "0190d3f2-7c1a-7000-8000-000000000002"];
    let line = |id: &str| format!("{}\n", json!({ "username": "eve", "sub": id }));
    folder.run_with_input("users import -", line(ids[0])).ok();
    let again = summary(folder.run_with_input("users import - --json", line(ids[0])));
    assert_eq!((again.0, &again.1["already_there"]), (0, &json!(1)));
    let anyone = "{\"username\":\"eve\"}\n";
    assert_eq!(summary(folder.run_with_input("users import - --json", anyone)).1["already_there"], 1);
    // Whoever keeps ids has them elsewhere too: tokens with another `sub` would be another user's there.
    folder.run_with_input("users import -", line(ids[1])).fails(1, "line 1: sub: eve is there with another");
}

#[test]
fn a_line_is_an_object_and_no_list_of_values() {
    let folder = Folder::new();
    let lines = "[]\n[null,\"eve\"]\n\"eve\"\n7\nnull\n";
    let ran = folder.run_with_input("users import -", lines);
    assert_eq!(ran.err.matches("not a JSON object").count(), 5, "{ran:?}");
    assert!(ran.out.starts_with("0 users imported"), "{ran:?}");
}

#[test]
fn on_a_terminal_the_progress_makes_room_for_the_summary() {
    let folder = Folder::new();
    folder.write("users.ndjson", "{\"username\":\"eve\"}\n");
    let mut terminal = std::process::Command::new("script");
    let command = format!("{} users import users.ndjson", env!("CARGO_BIN_EXE_reseal"));
    let ran = Ran::of(terminal.args(["-qec", &command, "/dev/null"]).current_dir(folder.path(".")));
    assert!(ran.out.contains("lines"), "{ran:?}");
    assert!(ran.out.contains("\r\u{1b}[K1 user imported"), "{ran:?}");
}

#[test]
fn an_import_killed_while_it_looks_for_a_conflict_loses_nobody() {
    const USERS: usize = 400;
    let folder = Folder::new();
    let sub = "0190d3f2-7c1a-7000-8000-000000000001";
    // Two with one id, so that the batch is refused and its users are added one by one.
    let twice = (1..=2).map(|n| json!({ "username": format!("user{n}"), "sub": sub }));
    let rest = (3..=USERS).map(|n| json!({ "username": format!("user{n}") }));
    let lines: String = twice.chain(rest).map(|user| format!("{user}\n")).collect();
    folder.write("users.ndjson", lines);
    let mut command = folder.command("users import users.ndjson --json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"line\":2"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();

    let (_, told) = summary(folder.run("users import users.ndjson --json"));
    assert_eq!((&told["lines"], &told["bad"]), (&json!(USERS), &json!(1)), "{told}");
    assert_eq!(folder.run("users list --json").lines().len(), USERS - 1);
}
