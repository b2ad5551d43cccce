//! `reseal doctor` and `reseal backup`, and data folders that are not as they should be.

use crate::support::{Folder, Ran, Server, reseal};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

fn level(report: &Value, check: &str) -> String {
    let found = report["checks"].as_array().unwrap().iter().find(|c| c["check"] == check);
    found.unwrap_or_else(|| panic!("{check} in {report}"))["level"].as_str().unwrap().to_owned()
}

fn report(ran: Ran) -> (i32, Value) {
    (ran.code, serde_json::from_str(&ran.out).unwrap())
}

#[test]
fn the_doctor_finds_a_served_folder_well() {
    let server = Server::start_dev();
    server.login("refresh");
    let (code, said) = report(server.run("doctor --json"));
    assert_eq!((code, &said["ok"]), (0, &Value::Bool(true)), "{said}");
    for check in
        ["configuration", "folder", "files", "server", "database", "integrity", "clock", "policies", "keys"]
    {
        assert_eq!(level(&said, check), "ok", "{said}");
    }
    assert!(server.run("doctor").ok().contains("running (process "));
}

#[test]
fn the_doctor_opens_what_serve_would_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("reseal.toml");
    let check = |text: &str, name: &str| {
        std::fs::write(&config, text).unwrap();
        let data = folder.path().join("data");
        let mut doctor = reseal();
        doctor.args(["doctor", "--json", "--data"]).arg(&data).arg("--config").arg(&config);
        let (code, said) = report(Ran::of(&mut doctor));
        assert_eq!(code, 1);
        let checks = said["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("{name} is missing: {said}"))
    };
    let texts = check("[sms]\nkind = \"dev\"\n", "text messages");
    assert_eq!(texts["level"], "fail");
    let passwords = check("[users]\nbreached_passwords_file = \"/nowhere/list\"\n", "passwords");
    assert!(passwords["text"].as_str().unwrap().contains("/nowhere/list"), "{passwords}");
}

#[test]
fn the_doctor_says_what_is_wrong_and_fails() {
    let (_, folder) = Server::start_dev().stop();
    let data = folder.path().join("data");
    let doctor = || report(Ran::of(reseal().args(["doctor", "--json", "--data"]).arg(&data)));
    let chmod = |name: &str, mode| {
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "server")), (0, "ok".to_owned()), "{said}");

    chmod("", 0o755);
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "folder")), (0, "warn".to_owned()), "{said}");
    chmod("", 0o700);

    chmod("reseal.db", 0o644);
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "files")), (1, "fail".to_owned()), "{said}");
    chmod("reseal.db", 0o600);

    chmod("master.key", 0o644);
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "master key")), (1, "fail".to_owned()), "{said}");
    assert!(said.to_string().contains("chmod 600"), "{said}");
    chmod("master.key", 0o600);

    std::fs::write(data.join("master.key"), "A".repeat(43)).unwrap();
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "master key")), (1, "fail".to_owned()), "{said}");
    assert!(said.to_string().contains("another master key"), "{said}");

    std::fs::write(data.join("reseal.db"), "no database").unwrap();
    let (code, said) = doctor();
    assert_eq!((code, level(&said, "database")), (1, "fail".to_owned()), "{said}");
}

#[test]
fn the_doctor_sees_a_broken_configuration_and_a_missing_folder() {
    let folder = Folder::new();
    let (code, said) = report(folder.run("doctor --json"));
    assert_eq!((code, level(&said, "folder")), (1, "fail".to_owned()), "{said}");
    folder.write("reseal.toml", "nonsense = 1\n");
    let (code, said) = report(folder.run("doctor --json"));
    assert_eq!((code, level(&said, "configuration")), (1, "fail".to_owned()), "{said}");
}

#[test]
fn a_backup_of_a_running_server_opens_again() {
    let server = Server::start_dev();
    server.run("users add ada --no-password").ok();
    let told = server.run("backup copy.db --json").json();
    assert!(told["bytes"].as_u64().unwrap() > 0);
    server.run("backup copy.db").fails(1, "exists already");
    server.run("backup no/such/copy.db").fails(1, "no/such");
    server.run("users add late --no-password").ok();
    let (_, folder) = server.stop();
    let copy = folder.path().join("copy.db");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);

    let restored = folder.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::copy(&copy, restored.join("reseal.db")).unwrap();
    let run = |arguments: &str| Ran::of(reseal().args(arguments.split(' ')).arg("--data").arg(&restored));
    run("users show ada").ok();
    run("users show late").fails(1, "there is no user");
    run("doctor").fails(1, "");
    std::fs::copy(folder.path().join("data/master.key"), restored.join("master.key")).unwrap();
    std::fs::set_permissions(&restored, std::fs::Permissions::from_mode(0o700)).unwrap();
    run("doctor").ok();
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("reseal-data")).unwrap();
    folder.write("reseal-data/reseal.db", "somebody's notes");
    for command in ["users list", "users add ada --no-password", "doctor", "backup b.db"] {
        let ran = folder.run(command);
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(format!("{}{}", ran.err, ran.out).contains("not a database of Reseal"), "{command}: {ran:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.path("reseal-data/reseal.db")).unwrap(), "somebody's notes");
}

#[test]
fn a_data_folder_that_is_a_file_is_told_as_such() {
    let folder = Folder::new();
    folder.write("data", "x");
    folder.run("users add ada --no-password --data data").fails(1, "data: this is a file, not a folder");
    folder.run("serve --dev --listen 127.0.0.1:0 --data data").fails(1, "data: this is a file, not a folder");
    assert_eq!(std::fs::read(folder.path("data")).unwrap(), b"x");
}

#[test]
fn an_error_says_its_cause_once() {
    let folder = Folder::new();
    let text = "issuer = \"http://127.0.0.1:4000\"\n[users]\nbreached_passwords_file = \"nowhere\"\n";
    folder.write("reseal.toml", text);
    let ran = folder.run("serve --listen 127.0.0.1:0").fails(1, "users.breached_passwords_file: nowhere: ");
    assert_eq!(ran.err.matches("nowhere").count(), 1, "{ran:?}");
}

#[test]
fn a_folder_that_cannot_be_looked_into_is_not_an_empty_one() {
    let folder = Folder::new();
    folder.write("file", "x");
    // As without the right to enter it, which whoever runs this test may have all the same.
    let ran = folder.run("users list --data file").fails(1, "file/reseal.db: Not a directory");
    assert!(!ran.err.contains("there is no database"), "{ran:?}");
}

#[test]
fn what_is_damaged_says_where_to_look() {
    let folder = Folder::new();
    let line = |i| format!("{{\"username\":\"user{i}\",\"name\":\"{}\"}}\n", "x".repeat(200));
    let users: String = (0..100).map(line).collect();
    folder.run_with_input("users import -", users).ok();
    let database = folder.path("reseal-data/reseal.db");
    let mut bytes = std::fs::read(&database).unwrap();
    // Only where many rows are: what a start reads is whole.
    for page in bytes.chunks_mut(4096).filter(|page| page.windows(100).any(|w| w == [b'x'; 100])) {
        page[8..100].fill(0xa5);
    }
    std::fs::write(&database, bytes).unwrap();
    folder.run("users list").fails(1, "`reseal doctor` says how much is damaged");
    folder.run("doctor").fails(1, "");
}
