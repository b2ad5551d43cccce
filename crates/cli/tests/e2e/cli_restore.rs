//! `reseal restore`: a backup comes back, and nothing that ended since lives again.

use crate::support::{Folder, Ran, Server, eventually, reseal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

fn in_data(data: &Path, arguments: &str) -> Ran {
    Ran::of(reseal().args(arguments.split(' ')).arg("--data").arg(data))
}

fn revision(data: &Path, user: &str) -> u64 {
    in_data(data, &format!("users show {user} --json")).json()["revision"].as_u64().unwrap()
}

fn open_sessions(data: &Path) -> Vec<Value> {
    in_data(data, "sessions list --json").lines()
}

/// The databases that were set aside.
fn aside(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
    let is_aside = |path: &PathBuf| path.to_string_lossy().contains("reseal.db.before-restore-");
    files.filter(is_aside).collect()
}

#[test]
fn everybody_signs_in_again_and_what_was_there_is_kept() {
    let server = Server::start_dev();
    server.run("users add ada --no-password").ok();
    let login = server.login("refresh");
    server.run("backup copy.db").ok();
    server.run("users add late --no-password").ok();
    let copy = server.data().with_file_name("copy.db");
    server.run(&format!("restore {} --yes", copy.display())).fails(1, "is serving this folder already");
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    let before = revision(&data, "ada");

    let restore = format!("restore {}", copy.display());
    in_data(&data, &restore).fails(2, "signs everybody out. Add --yes");
    let told = in_data(&data, &format!("{restore} --yes --json")).json();
    assert_eq!((&told["sessions_ended"], &told["users"]), (&json!(1), &json!(2)), "{told}");
    assert!(told["keys_withdrawn"].as_u64().unwrap() >= 1, "{told}");

    in_data(&data, "users show late").fails(1, "there is no user");
    assert_eq!(open_sessions(&data), [Value::Null; 0]);
    let session = login["session"]["id"].as_str().unwrap();
    assert!(in_data(&data, &format!("sessions show {session}")).ok().contains("revoked"));
    assert_eq!(revision(&data, "ada"), before + (1 << 32));
    assert!(!data.join("restoring").exists());
    let [aside] = &aside(&data)[..] else { panic!("{:?}", std::fs::read_dir(&data)) };
    assert_eq!(told["set_aside"].as_str().unwrap(), aside.to_str().unwrap());

    // Served again: the old credentials are void, and the reason is told.
    let server = Server::start_dev_in(folder);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client("refresh")),
        ("refresh_token", login["refresh_token"].as_str().unwrap()),
    ];
    let refused = server.form("/oauth/token", &form);
    assert_eq!((&refused["error"], &refused["reason"]), (&json!("invalid_grant"), &json!("revoked")));
    let again = server.login("refresh");
    assert_eq!(server.session_status(&again), 200);
    server.run("doctor").ok();
    // And what was set aside can be put back.
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    in_data(&data, &format!("restore {} --yes", aside.display())).ok();
    in_data(&data, "users show late").ok();
}

/// The number of the key that its refresh token was made with.
fn ring_key(login: &Value) -> u32 {
    use base64::Engine as _;
    let text = login["refresh_token"].as_str().unwrap().strip_prefix("rsl_rt_").unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    u32::from_be_bytes(bytes[1..5].try_into().unwrap())
}

/// Refresh tokens and cookies are made with keys that change, too. Of one that is lost with all that came after the
/// backup, nobody could ever say whether a token is good: its holder must not be told to come again.
#[test]
fn what_was_made_with_keys_since_the_backup_is_refused() {
    let server = Server::start_dev();
    server.run("backup copy.db").ok();
    let copy = server.data().with_file_name("copy.db");
    for _ in 0..2 {
        server.run("keys rotate").ok();
        server.advance(2 * 3600);
    }
    let mut refresh = Value::Null;
    assert!(eventually(|| {
        refresh = server.login("refresh");
        ring_key(&refresh) == 3
    }));
    let user = &server.dev["user"];
    let (name, password) = (user["username"].as_str().unwrap(), user["password"].as_str().unwrap());
    let cookie = server.login_as("cookie", name, password);
    let cookie = cookie.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    in_data(&data, &format!("restore {} --yes", copy.display())).ok();
    in_data(&data, "doctor --quick").ok();

    let server = Server::start_dev_in(folder);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client("refresh")),
        ("refresh_token", refresh["refresh_token"].as_str().unwrap()),
    ];
    assert_eq!(server.form("/oauth/token", &form)["error"], "invalid_grant");
    let shown = server.get("/v1/session").header("cookie", cookie).send().unwrap();
    assert_eq!(shown.status().as_u16(), 401);
    assert_eq!(server.session_status(&server.login("refresh")), 200);
}

#[test]
fn sessions_and_keys_may_be_kept() {
    let server = Server::start_dev();
    let login = server.login("refresh");
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    let copy = folder.path().join("copy.db");
    in_data(&data, &format!("backup {}", copy.display())).ok();
    let before = revision(&data, "demo");
    let told = in_data(&data, &format!("restore {} --keep-sessions --yes --json", copy.display())).json();
    assert_eq!((&told["sessions_ended"], &told["keys_withdrawn"]), (&json!(0), &json!(0)), "{told}");
    assert_eq!(revision(&data, "demo"), before + (1 << 32), "verifiers may know a later one");
    let server = Server::start_dev_in(folder);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client("refresh")),
        ("refresh_token", login["refresh_token"].as_str().unwrap()),
    ];
    assert!(server.form("/oauth/token", &form)["access_token"].is_string());
}

#[test]
fn a_database_restored_by_other_means_is_made_fit_where_it_lies() {
    let server = Server::start_dev();
    server.login("refresh");
    server.run("restore --after-database-restore --yes").fails(1, "is serving this folder already");
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    in_data(&data, "restore copy.db --after-database-restore").fails(2, "cannot be used with");
    in_data(&data, "restore").fails(2, "required");
    let told = in_data(&data, "restore --after-database-restore --yes --json").json();
    assert_eq!((&told["sessions_ended"], &told["set_aside"]), (&json!(1), &Value::Null), "{told}");
    assert_eq!(open_sessions(&data), [Value::Null; 0]);
    assert!(aside(&data).is_empty());
}

#[test]
fn what_is_no_backup_is_told_and_nothing_is_touched() {
    let folder = Folder::new();
    folder.run("users add ada --no-password").ok();
    folder.write("notes.txt", "somebody's notes");
    folder.run("restore notes.txt --yes").fails(1, "notes.txt: this is not a database of Reseal");
    folder.run("restore missing.db --yes").fails(1, "missing.db: No such file");
    folder.run("restore missing.db --yes --data nowhere").fails(1, "missing.db: No such file");
    assert!(!folder.path("nowhere").exists());
    folder.run("restore reseal-data/reseal.db --yes").fails(1, "not a backup of it");
    folder.run("users show ada").ok();
    assert!(aside(&folder.path("reseal-data")).is_empty());
    // A database server has tools of its own.
    let elsewhere = "--store postgres://u:hunter2@localhost:1/d";
    let refused = folder.run(&format!("restore notes.txt --yes {elsewhere}")).fails(1, "pg_restore");
    assert!(!refused.err.contains("hunter2"), "{refused:?}");
    let refused = folder.run(&format!("backup b.db {elsewhere}")).fails(1, "pg_dump");
    assert!(!refused.err.contains("hunter2"), "{refused:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process is to be killed at any moment of its work")]
fn killed_at_any_moment_the_folder_holds_the_one_or_the_other_database_whole() {
    let folder = Folder::new();
    let line = |i| format!("{{\"username\":\"user{i}\",\"name\":\"{}\"}}\n", "x".repeat(200));
    let users: String = (0..3000).map(line).collect();
    folder.run_with_input("users import -", users).ok();
    folder.run("backup copy.db").ok();
    folder.run("users add late --no-password").ok();
    let data = folder.path("reseal-data");
    let original = folder.path("original.db");
    std::fs::copy(data.join("reseal.db"), &original).unwrap();
    assert!(!data.join("reseal.db-wal").exists(), "the copy is whole");

    let (mut old, mut new) = (0, 0);
    // From at once to later than it takes; where within its work it dies differs from run to run.
    let mut delay = Duration::from_millis(1);
    while new == 0 {
        let mut child = folder
            .command("restore copy.db --yes")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        let _ = child.kill();
        child.wait().unwrap();
        delay += delay / 4 + Duration::from_millis(2);
        // Whole, and one of the two.
        assert_eq!(folder.run("users show user2999 --json").json()["username"], "user2999");
        let has_late = folder.run("users show late").code == 0;
        if has_late {
            old += 1;
        } else {
            new += 1;
            assert!(revision(&data, "user0") > 1 << 32, "with all that must follow");
            let kept = aside(&data).into_iter().any(|path| {
                let other = folder.path("other");
                let _ = std::fs::remove_dir_all(&other);
                std::fs::create_dir(&other).unwrap();
                std::fs::copy(path, other.join("reseal.db")).unwrap();
                in_data(&other, "users show late").code == 0
            });
            assert!(kept, "what was there is set aside");
        }
    }
    assert!(old > 0);
    // The next one clears up.
    folder.run("restore copy.db --yes").ok();
    assert!(!data.join("restoring").exists());
    folder.run("doctor --json");
    folder.run("users show late").fails(1, "there is no user");
}
