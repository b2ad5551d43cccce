//! Keys that several nodes change at once, and keys that one node does not know yet.

use crate::common::{Cluster, Node};
use crate::support::Credential;
use http::StatusCode;
use reseal_core::keys::{KeyRecord, KeyState, KeyUse};
use reseal_jose::Algorithm;
use reseal_server::clock::Clock;
use serde_json::Value;
use std::time::Duration;

async fn keys(node: &Node) -> Vec<KeyRecord> {
    node.app.store.keys().await.unwrap()
}

async fn rotate(node: &Node) {
    let at = (node.app.clock.now(), true);
    node.app.keys.rotate(&*node.app.store, &node.app.random, &[Algorithm::Es256], at).await.unwrap();
}

fn states(keys: &[KeyRecord], node: &Node, signing: bool) -> Vec<KeyState> {
    let now = node.app.clock.now();
    let of = keys.iter().filter(|k| matches!(k.key_use, KeyUse::Signing { .. }) == signing);
    let mut states: Vec<KeyState> = of.map(|k| k.state(now)).collect();
    states.sort_by_key(|s| s.as_str());
    states
}

#[tokio::test]
async fn two_nodes_that_rotate_at_once_end_with_one_key() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    // The first has decided what to make when the second makes it.
    let mut held = one.gate.hold_next_commit();
    let ((), ()) = tokio::join!(rotate(&one), async {
        held.reached().await;
        rotate(&other).await;
        held.release();
    });
    let all = keys(&one).await;
    for signing in [true, false] {
        assert_eq!(states(&all, &one, signing), [KeyState::Active, KeyState::Next]);
    }
    // Both sign with the same one, before and after the handover.
    for _ in 0..2 {
        let kid = |node: &Node| {
            let now = node.app.clock.now();
            node.app.keys.load().signing(Algorithm::Es256, now).unwrap().kid().to_owned()
        };
        assert_eq!(kid(&one), kid(&other));
        cluster.advance(one.app.keys.schedule().publish_before);
    }
}

#[tokio::test]
async fn a_withdrawal_that_meets_a_rotation_is_decided_on_what_is_there() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let now = cluster.clock.now();
    let kid = one.app.keys.load().signing(Algorithm::Es256, now).unwrap().kid().to_owned();
    let at = (now, one.app.event_until(now));
    let mut held = one.gate.hold_next_commit();
    let (withdrawn, ()) =
        tokio::join!(one.app.keys.withdraw(&*one.app.store, &one.app.random, &kid, at), async {
            held.reached().await;
            rotate(&other).await;
            held.release();
        });
    assert!(withdrawn.unwrap());
    // Decided on without the successor, it would have made a second one.
    let all = keys(&one).await;
    assert_eq!(states(&all, &one, true), [KeyState::Active, KeyState::Withdrawn]);
    other.app.be_current().await.unwrap();
    assert_eq!(one.events().await, ["keys-changed"]);
}

#[tokio::test]
async fn a_key_that_is_new_is_known_to_every_node_that_signs() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    let before = keys(&one).await.len();
    rotate(&one).await;
    assert_eq!(keys(&one).await.len(), before + 2);
    assert_eq!(other.app.keys.load().records().len(), before, "it was not told");
    cluster.advance(Duration::from_secs(3));
    other.login("sliding", "ada").await;
    assert_eq!(other.app.keys.load().records().len(), before + 2);
}

#[tokio::test]
async fn a_credential_of_a_key_that_a_node_does_not_know_yet_is_good_there() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    // Made and in use at once, as after a withdrawal or for a new algorithm.
    let now = cluster.clock.now();
    let kid = one.app.keys.load().signing(Algorithm::Es256, now).unwrap().kid().to_owned();
    let at = (now, one.app.event_until(now));
    assert!(one.app.keys.withdraw(&*one.app.store, &one.app.random, &kid, at).await.unwrap());
    let session = one.login("sliding", "ada").await;
    other.get("/v1/session", &session.credential()).await.expect(StatusCode::OK);

    // A ring key that took over, and a node that has not read the keys since it was made.
    let stale = cluster.node().await;
    rotate(&one).await;
    cluster.advance(one.app.keys.schedule().publish_before);
    one.app.keys.reload(&*one.app.store, cluster.clock.now()).await.unwrap();
    let (refresh, cookie) = (one.login("refresh", "ada").await, one.login("cookie", "ada").await);
    stale.gate.break_keys(true);
    let refused = stale.refresh("refresh", &refresh).await;
    refused.expect_error(503, "temporarily_unavailable");
    assert!(refused.header("retry-after").is_some());
    stale.get("/v1/session", &cookie.credential()).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    stale.gate.break_keys(false);
    // It looks for an unknown key once a second.
    let renewed = crate::support::until(async || {
        let answer = stale.refresh("refresh", &refresh).await;
        (answer.status != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await;
    renewed.expect(StatusCode::OK);
    stale.get("/v1/session", &cookie.credential()).await.expect(StatusCode::OK);
    assert!(matches!(&renewed.body["refresh_token"], Value::String(_)));
}

#[tokio::test]
async fn the_key_set_of_every_node_has_the_key_of_a_token_that_any_other_signed() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let now = cluster.clock.now();
    let kid = one.app.keys.load().signing(Algorithm::Es256, now).unwrap().kid().to_owned();
    let published = async || {
        let answer = other.get("/jwks.json", &Credential::None).await;
        answer.expect(StatusCode::OK);
        let kids: Vec<String> = answer.body["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|k| k["kid"].as_str().unwrap().to_owned())
            .collect();
        (kids, answer.header("cache-control").unwrap().to_owned())
    };
    assert_eq!(published().await, (vec![kid.clone()], "public, max-age=300".to_owned()));
    // Whoever reads the feed of one node comes for the new key to another one, which nobody told.
    let at = (now, one.app.event_until(now));
    assert!(one.app.keys.withdraw(&*one.app.store, &one.app.random, &kid, at).await.unwrap());
    let new = one.app.keys.load().signing(Algorithm::Es256, now).unwrap().kid().to_owned();
    assert_eq!(published().await.0, std::slice::from_ref(&new));
    // A node that is cut off gives what it has, and not for long.
    other.cut(true);
    assert_eq!(published().await, (vec![new], "public, max-age=10".to_owned()));
}

#[tokio::test]
async fn nodes_that_start_at_once_make_one_set_of_keys() {
    let cluster = Cluster::new().await;
    let nodes = tokio::join!(cluster.node(), cluster.node(), cluster.node());
    let all = keys(&nodes.0).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(states(&all, &nodes.0, true), [KeyState::Active]);
    for node in [&nodes.1, &nodes.2] {
        node.app.be_current().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_a_moment_behind_starts_beside_the_one_that_made_the_keys() {
    let cluster = Cluster::new().await;
    let behind = Clock::manual(cluster.clock.now());
    cluster.advance(Duration::from_millis(5));
    let one = cluster.node().await;
    let other = cluster.node_with(|_| {}, behind).await;
    assert_eq!(other.app.keys.load().ring.current(), one.app.keys.load().ring.current());
    cluster.advance(one.app.keys.schedule().publish_before);
    assert_eq!(keys(&one).await.len(), 2, "it made none of its own");
}
