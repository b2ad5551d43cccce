//! `reseal keys`.

use crate::support::{Folder, Server, eventually};
use serde_json::Value;

fn signing(keys: &[Value], state: &str) -> Vec<String> {
    let wanted = keys.iter().filter(|k| k["use"] == "signing" && k["state"] == state);
    wanted.map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rotation_publishes_the_next_key_and_refuses_no_token() {
    let server = Server::start_dev();
    let login = server.login("refresh");
    let before = server.run("keys list --json").lines();
    assert_eq!((signing(&before, "active").len(), signing(&before, "next").len()), (1, 0));
    let after = server.run("keys rotate --json").lines();
    assert_eq!(signing(&after, "active"), signing(&before, "active"));
    assert_eq!(signing(&after, "next").len(), 1);
    // The server learns of it within a minute, and a verifier may cache for an hour what it was told before.
    for next in after.iter().filter(|k| k["state"] == "next") {
        let published = next["active_from"].as_i64().unwrap() - next["created_at"].as_i64().unwrap();
        assert!(published >= 3600 + 60, "{next}");
    }
    assert_eq!(after.iter().filter(|k| k["use"] == "ring").count(), 2);
    assert_eq!(server.session_status(&login), 200);
    let again = server.run("keys rotate --json").lines();
    assert_eq!(signing(&again, "next"), signing(&after, "next"), "one waits already");
    assert!(server.run("keys list").ok().contains("signs in"));
}

#[test]
fn a_withdrawn_key_verifies_nothing_and_another_signs() {
    let server = Server::start_dev();
    let login = server.login("refresh");
    let kid = signing(&server.run("keys list --json").lines(), "active").remove(0);
    server.run(&format!("keys withdraw {kid}")).fails(2, "--yes");
    let keys = server.run(&format!("keys withdraw {kid} --yes --json")).lines();
    assert_eq!(signing(&keys, "withdrawn"), [kid]);
    assert_eq!(signing(&keys, "active").len(), 1);
    assert!(eventually(|| server.session_status(&login) == 401));
    let fresh = server.login("refresh");
    assert_eq!(server.session_status(&fresh), 200);
    server.run("keys withdraw --yes nonsense").fails(1, "there is no signing key");
}

#[test]
fn a_lost_master_key_stops_everything_with_what_to_do_and_a_reset_begins_anew() {
    let server = Server::start_dev();
    server.login("refresh");
    server.run("keys reset").fails(2, "--end-all-sessions");
    server.run("keys reset --end-all-sessions --yes").fails(1, "is serving this folder");
    let (code, folder) = server.stop();
    assert_eq!(code, 0);
    std::fs::remove_file(folder.path().join("data/master.key")).unwrap();
    let run = |arguments: &str| {
        let mut command = crate::support::reseal();
        crate::support::Ran::of(command.current_dir(folder.path()).args(arguments.split(' ')))
    };
    run("keys rotate --data data").fails(1, "keys reset --end-all-sessions");
    run("serve --dev --listen 127.0.0.1:0 --data data").fails(1, "keys reset --end-all-sessions");
    run("doctor --data data --json").fails(1, "");
    let ran = run("keys reset --end-all-sessions --yes --data data");
    assert!(ran.err.contains("1 session ended"), "{ran:?}");
    ran.ok();
    run("doctor --data data").ok();
    let server = Server::start_dev_in(folder);
    let login = server.login("refresh");
    assert_eq!(server.session_status(&login), 200);
}

#[test]
fn there_are_no_keys_before_the_first_start() {
    let folder = Folder::new();
    folder.run("users add ada --no-password").ok();
    assert_eq!(folder.run("keys list --json").ok(), "");
    let cookie = "rsl_sc_AQAAAAFveGihMIpKUndPHfEmYapEAAAAAQAAAAAAAAAAAAAAAAAAAAA";
    for command in ["keys rotate", &format!("token inspect --data reseal-data {cookie}")] {
        let ran = folder.run(command).fails(1, "the first start of `reseal serve` makes them");
        assert!(!ran.err.contains("lost"), "nothing is lost: {ran:?}");
    }
}
