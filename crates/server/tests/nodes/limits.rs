//! Limits hold over all nodes together.

use crate::common::Cluster;
use crate::support::{Credential, NUMBER, request};
use http::{Method, StatusCode};
use reseal_core::user::UserPatch;
use serde_json::json;
use std::time::Duration;

fn guess(username: &str, password: &str) -> http::Request<axum::body::Body> {
    let body = json!({ "client_id": "sliding", "username": username, "password": password });
    request(Method::POST, "/v1/session", &Credential::None, &body)
}

#[tokio::test]
async fn parallel_guesses_over_three_nodes_share_one_allowance() {
    let cluster = Cluster::new().await;
    let nodes = [cluster.node().await, cluster.node().await, cluster.node().await];
    nodes[0].user("ada").await;
    let tries: Vec<_> =
        (0..45).map(|n| nodes[n % 3].spawn(guess("ada", &format!("wrong password {n}")))).collect();
    let mut told = 0;
    for attempt in tries {
        let answer = attempt.await.unwrap();
        match answer.status {
            StatusCode::UNAUTHORIZED => told += 1,
            StatusCode::TOO_MANY_REQUESTS => assert!(answer.header("retry-after").is_some()),
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(told, 10);
    for node in &nodes {
        // Nor does the right one tell anything now, wherever it is tried.
        node.try_login("sliding", "ada").await.expect(StatusCode::TOO_MANY_REQUESTS);
    }
    cluster.advance(Duration::from_secs(90));
    nodes[1].try_login("sliding", "ada").await.expect(StatusCode::CREATED);
    // The success emptied the counter, for all of them.
    for n in 0..9 {
        nodes[n % 3].send(guess("ada", "wrong")).await.expect(StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_store_does_not_tell_who_tried() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    one.send(guess("ada", "wrong")).await.expect(StatusCode::UNAUTHORIZED);
    let cells = || cluster.cells.0.lock().unwrap().clone();
    let before = cells();
    assert_eq!(before.len(), 3, "pair, address, account");
    other.send(guess("ada", "wrong")).await.expect(StatusCode::UNAUTHORIZED);
    let after = cells();
    assert!(after.len() == 3 && after.iter().all(|(key, value)| before[key] < *value), "the same cells");
}

#[tokio::test]
async fn while_the_store_is_away_logins_are_503() {
    let cluster = Cluster::new().await;
    let node = cluster.node().await;
    node.user("ada").await;
    node.cut(true);
    for password in ["wrong", crate::support::PASSWORD] {
        let answer = node.send(guess("ada", password)).await;
        answer.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.header("retry-after").is_some());
    }
    node.cut(false);
    node.login("sliding", "ada").await;
    assert_eq!(cluster.cells.0.lock().unwrap().len(), 1, "nothing was counted");
}

#[tokio::test]
async fn a_user_s_messages_of_a_day_are_counted_once_for_all_nodes() {
    let cluster = Cluster::new().await;
    let nodes = [cluster.node().await, cluster.node().await];
    let id = nodes[0].user("ada").await;
    let patch = UserPatch {
        phone_number: Some(Some(NUMBER.to_owned())),
        phone_number_verified: Some(true),
        ..UserPatch::default()
    };
    nodes[0].patch_user(id, patch).await;
    for n in 0..20 {
        nodes[n % 2].try_login("sliding", "ada").await.expect_error(403, "second_factor_required");
    }
    for node in &nodes {
        node.try_login("sliding", "ada").await.expect(StatusCode::TOO_MANY_REQUESTS);
    }
    cluster.advance(Duration::from_secs(86_400));
    nodes[1].try_login("sliding", "ada").await.expect_error(403, "second_factor_required");
}

#[tokio::test]
async fn a_code_that_one_node_sent_is_good_once_on_any_other() {
    let cluster = Cluster::new().await;
    let nodes = [cluster.node().await, cluster.node().await, cluster.node().await];
    let id = nodes[0].user("ada").await;
    let patch = UserPatch {
        phone_number: Some(Some(NUMBER.to_owned())),
        phone_number_verified: Some(true),
        ..UserPatch::default()
    };
    nodes[0].patch_user(id, patch).await;
    let begun = nodes[0].try_login("sliding", "ada").await;
    begun.expect_error(403, "second_factor_required");
    let challenge = begun.body["challenge"].clone();
    // Neither may one node send what another one sent a moment ago.
    let again = json!({ "challenge": challenge });
    let early = nodes[1].post("/v1/session/factor/resend", &Credential::None, again).await;
    early.expect(StatusCode::TOO_MANY_REQUESTS);
    let body = json!({ "challenge": challenge, "factor": "phone", "code": cluster.outbox.code() });
    let tries: Vec<_> = (0..6)
        .map(|n| nodes[n % 3].spawn(request(Method::POST, "/v1/session/factor", &Credential::None, &body)))
        .collect();
    let mut good = 0;
    for attempt in tries {
        let answer = attempt.await.unwrap();
        match answer.status {
            StatusCode::CREATED => good += 1,
            _ => answer.expect_error(400, "invalid_challenge"),
        }
    }
    assert_eq!(good, 1);
}
