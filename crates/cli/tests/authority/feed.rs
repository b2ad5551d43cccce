//! The feed of the real binary: what a verifier gets over `kill -9`, and from commands on the live folder.

use crate::server::{Ask as _, Server, rounds};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// A stream, read by a thread of its own until it ends.
pub(crate) struct Reading(Receiver<Message>);

impl Reading {
    pub(crate) fn open(server: &Server, last_id: Option<&str>) -> Self {
        let http = reqwest::blocking::Client::builder().timeout(None).no_proxy().build().unwrap();
        let mut request =
            http.get(format!("{}/v1/feed", server.url)).bearer_auth(server.service_token("reseal:feed"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let (mut name, mut id, mut data) = (None, None, None);
            for line in BufReader::new(response).lines() {
                let Ok(line) = line else { return };
                match line.split_once(": ") {
                    Some(("event", value)) => name = Some(value.to_owned()),
                    Some(("id", value)) => id = Some(value.to_owned()),
                    Some(("data", value)) => data = Some(serde_json::from_str(value).unwrap()),
                    _ => {
                        let message =
                            Message { name: name.take().unwrap(), id: id.take(), data: data.take().unwrap() };
                        if sender.send(message).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self(messages)
    }

    /// The next message that is no heartbeat.
    pub(crate) fn next(&self) -> Message {
        loop {
            let message = self.0.recv_timeout(PATIENCE).expect("nothing comes");
            if message.name != "heartbeat" {
                return message;
            }
        }
    }

    /// Everything up to `caught-up`.
    pub(crate) fn caught_up(&self) -> Vec<Message> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                message if message.name == "caught-up" => return before,
                message => before.push(message),
            }
        }
    }

    /// What comes until the connection breaks.
    pub(crate) fn rest(self) -> Vec<Message> {
        std::iter::from_fn(|| self.0.recv_timeout(PATIENCE).ok()).filter(|m| m.name != "heartbeat").collect()
    }
}

#[test]
fn over_kill_9_and_restart_no_change_is_missed_and_none_comes_twice() {
    let mut server = Server::start_on_fixed_port();
    let admin = server.service_token("reseal:admin");
    let sub = server.login("fixed").claims()["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}");
    let (mut seen, mut answered, mut last_id) = (Vec::<Message>::new(), HashSet::new(), None::<String>);
    let mut n = 0;
    for _ in 0..rounds(4, 30) {
        let reading = Reading::open(&server, last_id.as_deref());
        let change = |n: u64| {
            let body = json!({ "attributes": { "n": n } });
            let reply = server.patch(&path).bearer_auth(&admin).json(&body).try_reply()?;
            (reply.status == 200).then(|| reply.body["revision"].as_u64().unwrap())
        };
        seen.extend(reading.caught_up());
        for _ in 0..20 {
            n += 1;
            answered.insert(change(n).unwrap());
            seen.push(reading.next());
        }
        // Some that nobody has read when the server dies.
        for _ in 0..5 {
            n += 1;
            answered.insert(change(n).unwrap());
        }
        server.crash_and_restart();
        seen.extend(reading.rest());
        last_id = seen.last().and_then(|message| message.id.clone());
    }
    seen.extend(Reading::open(&server, last_id.as_deref()).caught_up());
    for (message, seq) in seen.iter().zip(1..) {
        assert_eq!((message.name.as_str(), message.data["seq"].as_u64()), ("claims-changed", Some(seq)));
    }
    let told: HashSet<u64> = seen.iter().map(|message| message.data["rev"].as_u64().unwrap()).collect();
    assert_eq!(told, answered, "each change that was answered, and no other");
    let all = Reading::open(&server, None).caught_up();
    assert_eq!(all.len(), seen.len(), "a new reader gets them all");
}

#[test]
fn what_a_command_does_on_the_live_folder_arrives() {
    let server = Server::start();
    let reading = Reading::open(&server, None);
    assert!(reading.caught_up().is_empty());
    let session = server.login("refresh");
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_reseal"))
            .args(arguments)
            .arg("--data")
            .arg(server.data())
            .env_remove("RESEAL_MASTER_KEY")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let sid = session.claims()["sid"].as_str().unwrap().to_owned();
    run(&["sessions", "end", &sid]);
    let ended = reading.next();
    assert_eq!((ended.name.as_str(), &ended.data["sid"]), ("session-ended", &json!(sid)));
    assert_eq!(ended.data["reason"], "revoked");
    run(&["users", "set", server.dev["user"]["username"].as_str().unwrap(), "--name", "Other"]);
    let changed = reading.next();
    assert_eq!((changed.name.as_str(), &changed.data["sub"]), ("claims-changed", &session.claims()["sub"]));
    // The next time it comes back it is where it was.
    let again = Reading::open(&server, changed.id.as_deref());
    assert!(again.caught_up().is_empty());
}

#[test]
fn a_clock_that_moves_on_ends_a_stream_with_its_token() {
    let server = Server::start();
    let reading = Reading::open(&server, None);
    reading.caught_up();
    server.advance(300);
    assert!(reading.rest().is_empty());
    Reading::open(&server, None).caught_up();
}

#[test]
fn a_reader_of_before_a_restore_is_told_to_start_over() {
    let mut server = Server::start_on_fixed_port();
    let backup = server.data().with_file_name("copy.db");
    server.run(&["backup", backup.to_str().unwrap()]);
    let login = server.login("sliding").text("access_token");
    assert_eq!(server.delete("/v1/session").bearer_auth(&login).reply().status, 204);
    let seen = Reading::open(&server, None).caught_up();
    let last = seen.last().unwrap().id.clone().unwrap();
    server.crash();
    server.run(&["restore", backup.to_str().unwrap(), "--yes"]);
    server.restart();
    let reading = Reading::open(&server, Some(&last));
    assert_eq!(reading.next().name, "start-over");
    let told = reading.caught_up();
    let keys =
        told.iter().find(|message| message.name == "keys-changed").expect("the keys of before are withdrawn");
    assert!(!keys.data["withdrawn"].as_array().unwrap().is_empty(), "{keys:?}");
    let epoch = |id: &str| id.split_once('.').unwrap().0.to_owned();
    assert_ne!(epoch(keys.id.as_deref().unwrap()), epoch(&last));
}
