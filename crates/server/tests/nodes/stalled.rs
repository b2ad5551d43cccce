//! A node that does not know what others changed signs nothing.

use crate::common::Cluster;
use crate::support::{Credential, request};
use http::{Method, StatusCode};
use reseal_core::claims::Projection;
use reseal_server::jobs::read_log;
use reseal_server::manage::clients::ClientPatch;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_node_that_cannot_read_the_log_stops_signing_and_comes_back_by_itself() {
    let cluster = Cluster::new().await;
    let node = cluster.node().await;
    node.user("ada").await;
    let session = node.login("refresh", "ada").await;
    node.gate.break_log(true);
    // By what it read a moment ago it may go on.
    let renewed = node.refresh("refresh", &session).await;
    renewed.expect(StatusCode::OK);
    cluster.advance(Duration::from_secs(3));
    for answer in [node.try_login("refresh", "ada").await, node.refresh("refresh", &renewed).await] {
        answer.expect_error(503, "temporarily_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    node.gate.break_log(false);
    node.refresh("refresh", &renewed).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn requests_that_wait_for_a_store_that_fails_do_not_wait_for_each_other() {
    let cluster = Cluster::new().await;
    let node = cluster.node().await;
    node.gate.break_log(true);
    cluster.advance(Duration::from_secs(3));
    let before = node.gate.log_readings();
    // In a store that hangs, each reading takes as long as store.timeout.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let app = Arc::clone(&node.app);
            tokio::spawn(async move { app.be_current().await })
        })
        .collect();
    for request in waiting {
        request.await.unwrap().unwrap_err();
    }
    let readings = node.gate.log_readings() - before;
    assert!((1..=2).contains(&readings), "{readings}");
    // Whoever comes later looks again.
    node.gate.break_log(false);
    node.app.be_current().await.unwrap();
}

#[tokio::test]
async fn a_login_that_overlaps_the_change_of_its_client_gets_no_token_of_before() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    let mut held = other.gate.hold_next_commit();
    let body = json!({ "client_id": "sliding", "username": "ada", "password": crate::support::PASSWORD });
    let login = other.spawn(request(Method::POST, "/v1/session", &Credential::None, &body));
    held.reached().await;
    let narrowed =
        ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..ClientPatch::default() };
    one.app.manage(cluster.clock.now()).patch_client(&"sliding".parse().unwrap(), &narrowed).await.unwrap();
    read_log(&other.app).await.unwrap();
    held.release();
    login.await.unwrap().expect(StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_client_that_another_node_disabled_is_refused_after_a_lease_at_the_latest() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    let session = other.login("sliding", "ada").await;
    let disabled = ClientPatch { disabled: Some(true), ..ClientPatch::default() };
    one.app.manage(cluster.clock.now()).patch_client(&"sliding".parse().unwrap(), &disabled).await.unwrap();
    // No job runs in this test: the node finds out because its knowledge is too old.
    cluster.advance(Duration::from_secs(2));
    let answer = other.post("/v1/session/renew", &session.credential(), Value::Null).await;
    answer.expect(StatusCode::UNAUTHORIZED);
    other.try_login("sliding", "ada").await.expect_error(401, "invalid_client");
}
