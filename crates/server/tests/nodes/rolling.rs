//! Nodes of two configurations at once, and one that stops.

use crate::common::Cluster;
use crate::support::{Credential, client};
use http::StatusCode;
use reseal_core::keys::KeyUse;
use reseal_core::policy::PolicyConfig;
use reseal_core::{EndReason, PolicyKind, Timestamp};
use reseal_jose::Algorithm;
use reseal_server::config::Config;
use reseal_server::jobs;
use reseal_server::knowledge::LEASE;
use reseal_store::{Commit, EndFilter, EndSessions, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn web(access_ttl: &'static str) -> impl FnOnce(&mut Config) {
    move |config| {
        let policy = PolicyConfig {
            kind: PolicyKind::Sliding,
            access_ttl: access_ttl.parse().ok(),
            renew_after: None,
            idle_ttl: None,
            max_ttl: "30d".parse().ok(),
            grace: None,
            lost_response: None,
        };
        config.policies.insert("web".parse().unwrap(), policy);
    }
}

#[tokio::test]
async fn events_of_every_node_stay_as_long_as_tokens_of_any_other_live() {
    let cluster = Cluster::new().await;
    let old = cluster.node().await;
    old.user("ada").await;
    let until = |node: &crate::common::Node| node.app.event_until(cluster.clock.now());
    let short = until(&old);
    // When the new one has started, the old one knows before the first token: a lease has passed.
    let begun = Instant::now();
    let new = cluster.node_with(web("5d"), cluster.clock.clone()).await;
    assert!(begun.elapsed() >= LEASE);
    cluster.advance(Duration::from_secs(2));
    let session = new.login("sliding", "ada").await;
    let exp = session.claims()["exp"].as_i64().unwrap();
    old.app.be_current().await.unwrap();
    assert!(short.secs() < exp && exp < until(&old).secs());
    // Back to the old configuration alone: those tokens live on, and so do sessions that make such.
    cluster.advance(Duration::from_secs(86_400));
    let again = cluster.node().await;
    assert!(until(&again).secs() > exp);
    // When all such sessions are over, it is forgotten.
    cluster.advance(Duration::from_secs(31 * 86_400));
    jobs::catch_up(&again.app).await.unwrap();
    assert_eq!(until(&again).since(cluster.clock.now()), short.since(crate::support::START));
}

#[tokio::test]
async fn a_key_that_a_node_retires_stays_published_as_long_as_tokens_of_any_other_live() {
    let cluster = Cluster::new().await;
    let old = cluster.node().await;
    let new = cluster.node_with(web("30d"), cluster.clock.clone()).await;
    cluster.advance(Duration::from_secs(2));
    new.user("ada").await;
    let exp = new.login("sliding", "ada").await.claims()["exp"].as_i64().unwrap();
    old.app.be_current().await.unwrap();
    let at = (cluster.clock.now(), true);
    old.app.keys.rotate(&*old.app.store, &old.app.random, &[Algorithm::Es256], at).await.unwrap();
    let keys = old.app.store.keys().await.unwrap();
    let retired = keys.iter().find(|k| matches!(k.key_use, KeyUse::Signing { .. }) && k.retired_at.is_some());
    assert!(retired.unwrap().is_published(Timestamp::from_secs(exp)), "{retired:?}");
}

#[tokio::test]
async fn a_policy_that_nobody_uses_keeps_no_event_and_one_that_is_taken_up_does() {
    let cluster = Cluster::new().await;
    let node = cluster.node().await;
    node.user("ada").await;
    let stays = || node.app.event_until(cluster.clock.now()).since(cluster.clock.now());
    // No client uses the built-in policy of seven days.
    assert!(stays() < Duration::from_secs(3600), "{:?}", stays());
    let write = Write::CreateClient(Box::new(client("fixed", "remember")));
    cluster.store.commit(Commit::of([write])).await.unwrap();
    // Nobody told this node: it signs no such token before it is noted, and asks to come again.
    let early = node.try_login("fixed", "ada").await;
    early.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(early.header("retry-after").is_some());
    jobs::catch_up(&node.app).await.unwrap();
    assert!(stays() > Duration::from_secs(7 * 86_400));
    // Other nodes must know of it first.
    node.try_login("fixed", "ada").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    cluster.advance(Duration::from_secs(2));
    node.login("fixed", "ada").await;
}

#[tokio::test]
async fn two_configurations_do_not_end_each_other_s_sessions_for_ever() {
    let cluster = Cluster::new().await;
    let old = cluster.node().await;
    old.user("ada").await;
    let session = old.login("sliding", "ada").await;
    assert_eq!(jobs::end_tightened_once(&old.app).await.unwrap(), 0);
    let new = cluster.node_with(web("5d"), cluster.clock.clone()).await;
    assert_eq!(jobs::end_tightened_once(&new.app).await.unwrap(), 0);
    for node in [&old, &new] {
        node.get("/v1/session", &session.credential()).await.expect(StatusCode::OK);
    }
    // A look costs once per start with other policies, and nothing after.
    assert_eq!(jobs::end_tightened_once(&new.app).await.unwrap(), 0);
}

#[tokio::test]
async fn what_an_old_node_made_is_looked_at_when_the_last_of_them_has_gone() {
    let cluster = Cluster::new().await;
    let long = |config: &mut Config| {
        web("5d")(config);
        config.policies.get_mut(&"web".parse().unwrap()).unwrap().idle_ttl = "5d".parse().ok();
    };
    let (old, new) = (cluster.node_with(long, cluster.clock.clone()).await, cluster.node().await);
    let again = cluster.node().await;
    old.user("ada").await;
    for node in [&old, &new] {
        jobs::end_tightened_once(&node.app).await.unwrap();
        assert_eq!(jobs::end_tightened_since(&node.app).await.unwrap(), 0);
    }
    // After the look of the new one, by the old policies.
    let session = old.login("sliding", "ada").await;
    cluster.advance(Duration::from_secs(3600));
    for node in [&old, &new, &old, &new] {
        assert_eq!(jobs::end_tightened_since(&node.app).await.unwrap(), 0, "two at once do not fight");
    }
    cluster.advance(Duration::from_secs(301));
    assert_eq!(jobs::end_tightened_since(&new.app).await.unwrap(), 1);
    assert_eq!(new.events().await, ["session-ended"]);
    new.get("/v1/session", &session.credential()).await.expect(StatusCode::UNAUTHORIZED);
    for node in [&new, &again] {
        assert_eq!(jobs::end_tightened_since(&node.app).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_node_that_stops_is_not_ready_first_and_answers_on() {
    let cluster = Cluster::new().await;
    let second = |config: &mut Config| config.server.drain_time = "1s".parse().unwrap();
    let node = cluster.node_with(second, cluster.clock.clone()).await;
    node.user("ada").await;
    node.get("/health/ready", &Credential::None).await.expect(StatusCode::OK);
    let app = Arc::clone(&node.app);
    let draining = tokio::spawn(async move { app.drain().await });
    while !node.app.draining.load(std::sync::atomic::Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    let refused = node.get("/health/ready", &Credential::None).await;
    refused.expect_error(503, "temporarily_unavailable");
    assert_eq!(refused.body["reason"], "stopping");
    node.get("/health/live", &Credential::None).await.expect(StatusCode::OK);
    let answer = node.login("sliding", "ada").await;
    assert_eq!(answer.header("connection"), Some("close"));
    draining.await.unwrap();
}

#[tokio::test]
async fn what_one_node_ended_is_over_on_the_other_at_once() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let user = one.user("ada").await;
    let (token, cookie) = (one.login("sliding", "ada").await, other.login("cookie", "ada").await);
    let now = cluster.clock.now();
    let end = EndSessions {
        filter: EndFilter::User { user, except: None },
        reason: EndReason::Revoked,
        now,
        ip: None,
        event_until: one.app.event_until(now),
    };
    assert_eq!(one.app.store.end_sessions(end).await.unwrap(), 2);
    for node in [&one, &other] {
        for held in [&token, &cookie] {
            let answer = node.get("/v1/session", &held.credential()).await;
            answer.expect(StatusCode::UNAUTHORIZED);
            assert_eq!(answer.body["reason"], "revoked");
        }
    }
}
