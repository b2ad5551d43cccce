//! Nodes go by the clock of their store.

use crate::common::Cluster;
use crate::support::Credential;
use http::StatusCode;
use reseal_server::clock::Clock;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn machine() -> i64 {
    Clock::system().now().millis()
}

#[tokio::test]
async fn a_node_shows_the_store_s_time() {
    let cluster = Cluster::new().await;
    // The store's clock is ahead of this machine by ten seconds, and stands still while it is looked at.
    let time = machine() + 10_000;
    cluster.time.store(time, Ordering::SeqCst);
    let node = cluster.node_with(|_| {}, Clock::system()).await;
    let behind = node.app.clock.machine_behind().expect("it follows");
    // This machine's clock went on since, however slowly it is.
    assert!((-600_000..=10_001).contains(&behind), "{behind}");
    assert!(node.app.clock.now().millis() >= time);
    let text = node.get("/metrics", &Credential::None).await.body.as_str().unwrap().to_owned();
    assert!(text.contains("reseal_clock_behind_seconds "), "{text}");
}

#[tokio::test]
async fn a_machine_whose_clock_is_far_off_is_not_ready() {
    let cluster = Cluster::new().await;
    let hour = 3_600_000;
    cluster.time.store(machine(), Ordering::SeqCst);
    // It makes the keys, at a time at which they are good.
    drop(cluster.node_with(|_| {}, Clock::system()).await);
    cluster.time.store(machine() + hour, Ordering::SeqCst);
    let node = cluster.node_with(|_| {}, Clock::system()).await;
    let refused = node.get("/health/ready", &Credential::None).await;
    refused.expect_error(503, "temporarily_unavailable");
    assert_eq!(refused.body["reason"], "clock");
    assert!(refused.header("retry-after").is_some());
    // It goes by the store's all the same: the other nodes do.
    assert!(node.app.clock.now().millis() >= machine() + hour - 600_000);

    cluster.time.store(machine(), Ordering::SeqCst);
    node.app.clock.follow(&*node.app.store).await.unwrap();
    assert!(node.app.clock.now().millis() >= machine() + hour - 600_000, "a running node does not jump back");
    // Nor does it judge sessions an hour ahead of the other nodes: it is to be started again.
    node.get("/health/ready", &Credential::None).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    let again = cluster.node_with(|_| {}, Clock::system()).await;
    again.get("/health/ready", &Credential::None).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_store_whose_clock_cannot_be_read_changes_nothing() {
    let cluster = Cluster::new().await;
    cluster.time.store(machine(), Ordering::SeqCst);
    let node = cluster.node_with(|_| {}, Clock::system()).await;
    node.user("ada").await;
    node.cut(true);
    let before = node.app.clock.now();
    assert!(node.app.clock.follow(&*node.app.store).await.is_err());
    assert!(node.app.clock.now() >= before && node.app.clock.agrees());
    node.cut(false);
    node.login("sliding", "ada").await.expect(StatusCode::CREATED);
    tokio::time::timeout(Duration::from_secs(60), node.app.clock.follow(&*node.app.store))
        .await
        .unwrap()
        .unwrap();
}
