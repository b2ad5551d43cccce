//! `reseal policies check`.

use crate::support::{Folder, Server};
use serde_json::json;

#[test]
fn policies_in_force_are_told_in_words() {
    let folder = Folder::new();
    folder.write(
        "reseal.toml",
        "[policies.short]\nkind = \"sliding\"\naccess_ttl = \"90s\"\nmax_ttl = \"1h\"\n",
    );
    let said = folder.run("policies check").ok();
    assert!(said.contains("a token of 1 min 30 s that renews itself after 45 s"), "{said}");
    assert!(said.contains("there is no data folder reseal-data"), "{said}");
    let told = folder.run("policies check --json").json();
    let names: Vec<_> = told["policies"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert!(names.contains(&json!("short")) && names.contains(&json!("nist-aal3")));
    assert_eq!(told["sessions"], json!(null));
    assert!(!folder.path("reseal-data").exists());
}

#[test]
fn a_contradiction_is_refused_with_its_line() {
    let folder = Folder::new();
    let text =
        "[policies.web]\nkind = \"sliding\"\naccess_ttl = \"2h\"\nidle_ttl = \"1h\"\nmax_ttl = \"12h\"\n";
    folder.write("reseal.toml", text);
    folder.run("policies check").fails(1, "reseal.toml:3: ");
    folder.write("reseal.toml", "[policies.web]\nkind = \"slidding\"\n");
    folder.run("policies check").fails(1, "reseal.toml:2: ");
}

#[test]
fn a_client_whose_policy_is_gone_is_named_before_the_start_refuses_it() {
    let folder = Folder::new();
    folder.write("reseal.toml", "[policies.special]\nkind = \"fixed\"\naccess_ttl = \"5m\"\n");
    folder.run("clients add kiosk --policy special").ok();
    folder.run("policies check").ok();
    folder.write("reseal.toml", "issuer = \"http://127.0.0.1:4000\"\n");
    folder.run("serve --listen 127.0.0.1:0").fails(1, "client kiosk uses policy special");
    let ran = folder.run("policies check").fails(1, "client kiosk uses policy special");
    assert!(ran.out.contains("sliding"), "those in force are listed all the same: {ran:?}");
    let ran = folder.run("policies check --json").fails(1, "client kiosk uses policy special");
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["missing"], json!([{ "client_id": "kiosk", "policy": "special" }]));
    folder.run("doctor").fails(1, "");
}

#[test]
fn sessions_that_a_change_would_end_are_counted_and_live_on() {
    let server = Server::start_dev();
    let web = server.login("sliding");
    server.login("fixed");
    server.login("refresh");
    server.advance(600);
    let check = |text: &str| {
        std::fs::write(server.data().with_file_name("next.toml"), text).unwrap();
        server.run("policies check --config next.toml --json").json()["sessions"].clone()
    };
    assert_eq!(check("")["would_end"], json!(0));
    let told = check("[policies.web]\nkind = \"sliding\"\naccess_ttl = \"5m\"\nmax_ttl = \"12h\"\n");
    assert_eq!((&told["live"], &told["would_end"]), (&json!(3), &json!(1)));
    assert_eq!(told["by_policy"], json!([{ "policy": "web", "reason": "idle_timeout", "sessions": 1 }]));
    let told = check("[policies.app]\nkind = \"cookie\"\nidle_ttl = \"1h\"\nmax_ttl = \"12h\"\n");
    assert_eq!(told["by_policy"], json!([{ "policy": "app", "reason": "revoked", "sessions": 1 }]));
    assert_eq!(server.session_status(&web), 200);
    assert_eq!(server.run("sessions list --json").lines().len(), 3);
}
