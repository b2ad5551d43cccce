//! What one node knows, all know: races, limits, codes and keys over several nodes of one database.

use crate::alone;
use crate::faults::rounds;
use crate::http::{Reply, ask, client, runtime};
use crate::nodes::Kind;
use crate::outbox::Outbox;
use crate::postgres::Cluster;
use reqwest::RequestBuilder;
use reseal_test_servers::{Postgres, until};
use serde_json::{Value, json};
use std::collections::HashSet;

const PASSWORD: &str = "a long and good password";

/// Sends them all at the same time; all are answered.
fn at_once(requests: impl IntoIterator<Item = RequestBuilder>) -> Vec<Reply> {
    runtime().block_on(async {
        let tasks: Vec<_> = requests.into_iter().map(|request| tokio::spawn(Reply::of(request))).collect();
        let mut replies = Vec::new();
        for task in tasks {
            replies.push(task.await.unwrap().expect("an answer"));
        }
        replies
    })
}

fn login(url: &str, username: &str, password: &str) -> RequestBuilder {
    let body = json!({ "client_id": "app", "username": username, "password": password });
    client().post(format!("{url}/v1/session")).json(&body)
}

fn renew(url: &str, token: &str) -> RequestBuilder {
    let form = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token)];
    client().post(format!("{url}/oauth/token")).form(&form)
}

#[test]
fn two_tabs_on_two_nodes_never_log_anyone_out_and_leave_one_lineage() {
    let _alone = alone();
    let database = Postgres::shared().database();
    let cluster = Cluster::start(database.server(), database.name(), Kind::HaProxy, "");
    let nodes = &cluster.nodes;
    nodes.run_with("users add ada --password-stdin", &[], PASSWORD);
    let mut token = ask(|_| login(&nodes.url(), "ada", PASSWORD)).unwrap().text("refresh_token");
    for round in 0..rounds(100, 1000) {
        let (one, other) = (nodes.url_of(round % 3), nodes.url_of((round + 1) % 3));
        let replies = at_once([renew(&one, &token), renew(&other, &token)]);
        for reply in &replies {
            assert_eq!(reply.status, 200, "round {round}: {}", reply.body);
            assert_eq!(reply.body["session"]["generation"].as_u64(), Some(2 + round as u64));
        }
        token = replies[0].text("refresh_token");
        assert_eq!(token, replies[1].text("refresh_token"), "round {round}: one lineage");
    }
}

#[test]
fn guesses_on_three_nodes_are_counted_together() {
    let _alone = alone();
    let database = Postgres::shared().database();
    let outbox = Outbox::start();
    // One guess more in an hour: none while the test runs, however slow the machine.
    let config = format!("{}[login]\nwindow = \"10h\"\n", outbox.config());
    let cluster = Cluster::start(database.server(), database.name(), Kind::HaProxy, &config);
    let nodes = &cluster.nodes;
    let urls: Vec<String> = (0..nodes.count()).map(|node| nodes.url_of(node)).collect();
    let anywhere = |i: usize| &urls[i % urls.len()];

    // Passwords: `login.burst` is 10.
    nodes.run_with("users add ada --password-stdin", &[], PASSWORD);
    let replies = at_once((0..30).map(|i| login(anywhere(i), "ada", &format!("guess number {i}"))));
    let judged = replies.iter().filter(|reply| reply.status == 401).count();
    assert_eq!(judged, 10, "{replies:?}");
    for reply in replies.iter().filter(|reply| reply.status != 401) {
        assert_eq!(reply.status, 429, "{}", reply.body);
    }
    // From then on nobody learns there whether a password is right, from any of them.
    for node in 0..3 {
        let reply = ask(|_| login(anywhere(node), "ada", PASSWORD)).unwrap();
        assert_eq!(reply.status, 429, "node {node}: {}", reply.body);
    }

    // Codes: five tries for one challenge, wherever they are made.
    nodes.run_with("users add bob --phone +4915112345678 --phone-verified --password-stdin", &[], PASSWORD);
    let challenge = || {
        let reply = ask(|_| login(anywhere(0), "bob", PASSWORD)).unwrap();
        assert_eq!(reply.body["error"], "second_factor_required", "{}", reply.body);
        (reply.text("challenge"), outbox.next_code())
    };
    let factor = |node: usize, challenge: &str, code: &str| {
        let body = json!({ "challenge": challenge, "factor": "phone", "code": code });
        client().post(format!("{}/v1/session/factor", anywhere(node))).json(&body)
    };
    let (held, code) = challenge();
    let wrong = |i: u32| format!("{:06}", (code.parse::<u32>().unwrap() + 1 + i) % 1_000_000);
    let replies = at_once((0..15).map(|i| factor(i as usize, &held, &wrong(i))));
    assert!(replies.iter().all(|reply| matches!(reply.status, 400 | 401 | 409 | 429 | 503)), "{replies:?}");
    until("the tries are used up", || {
        let reply = ask(|_| factor(1, &held, &wrong(99)))?;
        (reply.status != 503).then_some(())
    });
    for node in 0..3 {
        let reply = ask(|_| factor(node, &held, &code)).unwrap();
        assert!(
            matches!(reply.status, 400 | 401),
            "a code that was tried too often is good for nothing: {}",
            reply.body
        );
    }
    // A code that was sent by one node is taken by another, once.
    let (held, code) = challenge();
    let replies = at_once((0..6).map(|i| factor(i + 1, &held, &code)));
    let taken = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(taken, 1, "{replies:?}");
}

#[test]
fn what_one_node_signs_all_know_while_keys_are_rotated_and_withdrawn() {
    let _alone = alone();
    let database = Postgres::shared().database();
    let cluster = Cluster::start(database.server(), database.name(), Kind::HaProxy, "");
    let nodes = &cluster.nodes;
    nodes.run_with("users add ada --password-stdin", &[], PASSWORD);
    let admin = nodes.service_token("reseal:admin").unwrap();
    let everywhere = || {
        for node in 0..3 {
            let reply = ask(|_| login(&nodes.url_of(node), "ada", PASSWORD)).unwrap();
            let (access, refresh) = (reply.text("access_token"), reply.text("refresh_token"));
            for other in 0..3 {
                let url = format!("{}/v1/session", nodes.url_of(other));
                let seen = ask(|http| http.get(url).bearer_auth(&access)).unwrap();
                assert_eq!(seen.status, 200, "signed by {node}, shown to {other}: {}", seen.body);
            }
            let renewed = ask(|_| renew(&nodes.url_of((node + 1) % 3), &refresh)).unwrap();
            assert_eq!(renewed.status, 200, "{}", renewed.body);
        }
    };
    let kids = |node: usize| -> HashSet<String> {
        let set = ask(|http| http.get(format!("{}/jwks.json", nodes.url_of(node)))).unwrap();
        set.body["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    everywhere();
    let old = kids(0);
    // Asked of all at once, they make one new key of each kind.
    let rotate = |node: usize| {
        client().post(format!("{}/v1/admin/keys/rotate", nodes.url_of(node))).bearer_auth(&admin)
    };
    for reply in at_once((0..3).map(rotate)) {
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    for node in 0..3 {
        until("every node publishes the same keys", || (kids(node).len() == old.len() + 1).then_some(()));
        assert_eq!(kids(node), kids(0));
    }
    everywhere();
    let withdrawn = old.iter().next().unwrap();
    let url = format!("{}/v1/admin/keys/{withdrawn}/withdraw", nodes.url_of(2));
    let reply = ask(|http| http.post(url).bearer_auth(&admin)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    for node in 0..3 {
        until("no node publishes it", || (!kids(node).contains(withdrawn)).then_some(()));
    }
    everywhere();
    drop::<Value>(reply.body);
}
