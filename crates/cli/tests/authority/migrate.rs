//! `reseal migrate` under load: from SQLite to PostgreSQL and back, and nobody is logged out.

use crate::feed::Reading;
use crate::server::{Ask as _, Server, rounds};
use reseal_test_servers::{Postgres, Redis, RedisOptions};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const CLIENTS: usize = 16;

/// A client that renews as fast as it is answered.
struct Client {
    token: String,
    generation: i64,
}

/// What all clients count.
#[derive(Default)]
struct Seen {
    refreshed: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl Client {
    fn run(mut self, url: &str, client_id: &str, seen: &Seen) -> Self {
        let http = reqwest::blocking::Client::builder();
        let http = http.timeout(std::time::Duration::from_secs(60)).no_proxy().build().unwrap();
        while !seen.stop.load(Ordering::Relaxed) {
            let form =
                [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", &self.token)];
            // No answer: the authority is being started anew.
            let Some(reply) = http.post(format!("{url}/oauth/token")).form(&form).try_reply() else {
                std::thread::yield_now();
                continue;
            };
            if reply.status == 503 {
                assert!(reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
                seen.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            assert_eq!(reply.status, 200, "logged out at generation {}: {}", self.generation, reply.body);
            let generation = reply.body["session"]["generation"].as_i64().unwrap();
            assert!(generation >= self.generation, "an acknowledged rotation was undone");
            (self.token, self.generation) = (reply.text("refresh_token"), generation);
            seen.refreshed.fetch_add(1, Ordering::Relaxed);
        }
        self
    }
}

#[test]
fn a_move_under_load_logs_nobody_out_and_the_feed_goes_on() {
    let postgres = Postgres::shared().database();
    let mut server = Server::start_on_fixed_port();
    let folder = format!("sqlite:{}", server.data().display());
    let admin = server.service_token("reseal:admin");
    let bearer = server.login("fixed");
    let sub = bearer.claims()["sub"].as_str().unwrap().to_owned();
    for i in 0..rounds(200, 3000) {
        let body = json!({ "username": format!("user{i}"), "password": format!("a long one, {i} of many") });
        if i < 20 {
            let made = server.post("/v1/admin/users").bearer_auth(&admin).json(&body).reply();
            assert_eq!(made.status, 201, "{}", made.body);
        }
        let start = json!({ "client_id": server.client_id("refresh") });
        let path = format!("/v1/admin/users/{sub}/sessions");
        assert_eq!(server.post(&path).bearer_auth(&admin).json(&start).reply().status, 201);
    }
    let change = |server: &Server, n: u64| {
        let body = json!({ "attributes": { "n": n } });
        let path = format!("/v1/admin/users/{sub}");
        server.patch(&path).bearer_auth(&admin).json(&body).reply()
    };
    assert_eq!(change(&server, 1).status, 200);
    let reading = Reading::open(&server, None);
    let last_id = reading.caught_up().pop().unwrap().id.unwrap();

    let seen = Seen::default();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client { token: server.login("refresh").text("refresh_token"), generation: 1 })
        .collect();
    let (url, client_id) = (server.url.clone(), server.client_id("refresh").to_owned());
    std::thread::scope(|scope| {
        let running: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(|| client.run(&url, &client_id, &seen))).collect();
        // Whatever fails below, the clients end.
        let _stop = StopWhenDropped(&seen);
        for (from, to) in [(folder.clone(), postgres.url()), (postgres.url(), format!("{folder}-back"))] {
            wait_for(&seen.refreshed, CLIENTS as u64 * 5);
            let report = migrate(&["--from", &from, "--to", &to, "--batch", "100", "--yes", "--json"]);
            let report: Value = serde_json::from_slice(&ok(report).stdout).unwrap();
            assert!(report["sessions"].as_u64().unwrap() > 200, "{report}");
            assert!(report["changes"].as_u64().unwrap() > 0, "nothing changed meanwhile: {report}");
            // The old authority reads, and writes nothing.
            assert_eq!(server.session(&bearer.text("access_token")).status, 200);
            assert_eq!(server.get("/health/ready").reply().status, 200);
            assert_eq!(change(&server, 2).status, 503);
            wait_for(&seen.refused, 1);
            server.crash();
            if to.starts_with("sqlite:") {
                // The folder's own files go along with it.
                let back = to.trim_start_matches("sqlite:");
                for file in ["master.key", "dev.json"] {
                    std::fs::copy(server.data().join(file), format!("{back}/{file}")).unwrap();
                }
            }
            refuses_to_serve(&from, server.data());
            server.restart_on(&to);
        }
        wait_for(&seen.refreshed, CLIENTS as u64 * 5);
        seen.stop.store(true, Ordering::Relaxed);
        for client in running {
            assert!(client.join().unwrap().generation > 10, "somebody was left behind");
        }
    });
    // Readers go on by the id they had, twice over.
    assert_eq!(change(&server, 3).status, 200);
    let told = Reading::open(&server, Some(&last_id)).caught_up();
    let names: Vec<&str> = told.iter().map(|message| &*message.name).collect();
    assert_eq!(names, ["claims-changed"], "{told:?}");
}

struct StopWhenDropped<'a>(&'a Seen);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until so many more were counted.
fn wait_for(counter: &AtomicU64, more: u64) {
    let before = counter.load(Ordering::Relaxed);
    for _ in 0..12_000 {
        if counter.load(Ordering::Relaxed) >= before + more {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("the clients stand still");
}

#[test]
fn a_move_that_stays_live_is_stopped_and_ended_by_a_second_command() {
    let postgres = Postgres::shared().database();
    let server = Server::start();
    let from = format!("sqlite:{}", server.data().display());
    let mut following = migrate_command(&["--from", &from, "--to", &postgres.url(), "--stay-live"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says when it follows.
    let mut told = std::io::BufReader::new(following.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended by itself");
    }
    let session = server.login("refresh");
    let ran = Command::new("kill").args(["-INT", &following.id().to_string()]).status().unwrap();
    assert!(ran.success() && following.wait().unwrap().success());
    // Nobody may serve the half of it, and the old one goes on.
    refuses_to_serve(&postgres.url(), server.data());
    assert_eq!(server.refresh(&session.text("refresh_token")).status, 200);
    let report = ok(migrate(&["--from", &from, "--to", &postgres.url(), "--yes", "--json"]));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(report["changes"].as_u64().unwrap() > 0, "{report}");
    // Once more is no mistake; somewhere else is.
    let again = ok(migrate(&["--from", &from, "--to", &postgres.url(), "--yes", "--json"]));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["done_before"], true);
    let other = Postgres::shared().database();
    fails(migrate(&["--from", &from, "--to", &other.url(), "--yes"]), "was moved to");
}

#[test]
fn an_aborted_move_leaves_the_store_as_it_was() {
    let postgres = Postgres::shared().database();
    let server = Server::start();
    let from = format!("sqlite:{}", server.data().display());
    ok(migrate(&["--from", &from, "--to", &postgres.url(), "--yes"]));
    assert_eq!(server.post("/v1/session").json(&server.credentials("refresh")).reply().status, 503);
    fails(migrate(&["--from", &from, "--abort"]), "may have been in use");
    ok(migrate(&["--from", &from, "--abort", "--yes"]));
    server.login("refresh");
    ok(migrate(&["--from", &from, "--abort"]));
}

#[test]
fn hot_sessions_are_written_back_from_redis_before_a_move() {
    let postgres = Postgres::shared().database();
    let redis = Redis::start(&RedisOptions::default());
    let config = format!(
        "[store]\nurl = {:?}\n[store.redis]\nurls = [{:?}]\nwait_replicas = 0\n",
        postgres.url(),
        redis.url()
    );
    let mut server = Server::start_with(&config);
    let mut held = server.login("refresh");
    redis.ask(&["FLUSHALL"]);
    for _ in 0..3 {
        held = server.refresh(&held.text("refresh_token"));
        assert_eq!(held.status, 200, "{}", held.body);
    }
    let metrics = server.get("/metrics").send().unwrap().text().unwrap();
    let missed = metrics.lines().find_map(|line| line.strip_prefix("reseal_redis_missed_total "));
    assert!(missed.is_some_and(|missed| missed != "0"), "{metrics}");
    server.crash();
    let file = server.data().with_file_name("reseal.toml");
    let back = server.data().with_file_name("back");
    let (file_name, to) = (file.display().to_string(), format!("sqlite:{}", back.display()));
    fails(migrate(&["--config", &file_name, "--to", &to, "--yes"]), "--write-back");
    ok(migrate(&["--config", &file_name, "--to", &to, "--yes", "--write-back"]));
    for name in ["master.key", "dev.json"] {
        std::fs::copy(server.data().join(name), back.join(name)).unwrap();
    }
    std::fs::write(&file, "").unwrap();
    server.restart_on(&to);
    // A store that loses nothing takes a token ahead of its row for stolen: so the row is the newest.
    let next = server.refresh(&held.text("refresh_token"));
    assert_eq!((next.status, next.body["session"]["generation"].as_i64()), (200, Some(5)), "{}", next.body);
}

#[test]
fn what_cannot_be_moved_is_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) =
        (format!("sqlite:{}/a", folder.path().display()), format!("sqlite:{}/b", folder.path().display()));
    fails(migrate(&["--from", &a, "--to", &a, "--yes"]), "the same store");
    fails(migrate(&["--from", &a, "--to", &b, "--yes"]), "there is no database");
    assert!(!folder.path().join("a").exists(), "a mistyped name leaves no folder behind");
    fails(migrate(&["--from", &a, "--yes"]), "--to");
    fails(migrate(&["--from", &a, "--to", "redis://127.0.0.1", "--yes"]), "Redis");
    let password = "postgres://reseal:very-secret@127.0.0.1:1/none";
    let refused = migrate(&["--from", &a, "--to", password]);
    assert_eq!(refused.status.code(), Some(2), "it asks first, and there is no terminal");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("very-secret"));
    let server = Server::start();
    let there = format!("sqlite:{}", server.data().display());
    fails(migrate(&["--from", &there, "--to", &there, "--yes"]), "the same store");
    let away = migrate(&["--from", &there, "--to", password, "--yes"]);
    assert!(!String::from_utf8_lossy(&away.stderr).contains("very-secret"));
    fails(away, "cannot be reached");
    server.login("refresh");
}

fn refuses_to_serve(store: &str, data: &std::path::Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--store", store, "--data"]).arg(data);
    let ran = command.env_remove("RESEAL_MASTER_KEY").stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && (told.contains("moved to") || told.contains("not complete")), "{told}");
}

fn migrate_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    for variable in ["RESEAL_CONFIG", "RESEAL_DATA", "RESEAL_STORE_URL", "RESEAL_MASTER_KEY"] {
        command.env_remove(variable);
    }
    command.arg("migrate").args(arguments);
    command
}

fn migrate(arguments: &[&str]) -> Output {
    migrate_command(arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn ok(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn fails(output: Output, saying: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(saying), "{saying:?} in {told}");
}
