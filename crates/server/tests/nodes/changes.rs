//! A change of a client reaches back over every token that any node made of the client as it was before, and no
//! further.

use crate::common::{Cluster, Node, PATIENCE};
use http::StatusCode;
use reseal_core::claims::Projection;
use reseal_core::event::EventKind;
use reseal_server::feed::log::{follow, read_log};
use reseal_server::manage::clients::ClientPatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

async fn narrow(node: &Node) {
    let now = node.app.clock.now();
    let patch = ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..ClientPatch::default() };
    node.app.manage(now).patch_client(&"sliding".parse().unwrap(), &patch).await.unwrap();
    node.app.clients_changed().await;
}

async fn told(node: &Node) -> Vec<i64> {
    let events = node.app.store.events_after(0, 1000).await.unwrap();
    let before = |kind: &EventKind| match kind {
        EventKind::ClientChanged { before, .. } => Some(*before),
        _ => None,
    };
    events.iter().filter_map(|logged| before(&logged.event.kind)).collect()
}

#[tokio::test]
async fn tokens_of_before_are_stale_and_those_of_after_are_good() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    one.user("ada").await;
    other.login("sliding", "ada").await;
    narrow(&one).await;
    let [before] = told(&one).await[..] else { panic!("told once") };
    // The other node has not heard of it, and goes on for as long as it may.
    cluster.advance(Duration::from_millis(900));
    let old = other.login("sliding", "ada").await.claims();
    assert!(old.get("email").is_some() && old["iat"].as_i64().unwrap() < before, "{old}");
    for node in [&one, &other] {
        read_log(&node.app).await.unwrap();
    }
    // The one that knows waits until nobody makes such tokens any more.
    let waiting = async { one.login("sliding", "ada").await.claims() };
    let clock = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.advance(Duration::from_secs(4));
    };
    let (new, ()) = tokio::join!(waiting, clock);
    assert!(new.get("email").is_none() && new["iat"].as_i64().unwrap() >= before, "{new}");
    let elsewhere = other.login("sliding", "ada").await.claims();
    assert!(elsewhere.get("email").is_none() && elsewhere["iat"].as_i64().unwrap() >= before, "{elsewhere}");
    // Nobody learned too late, so nobody told it again.
    assert_eq!(told(&one).await, [before]);
}

#[tokio::test]
async fn a_change_whose_commit_took_long_is_told_again_and_it_comes_to_rest() {
    let cluster = Cluster::new().await;
    let nodes = [cluster.node().await, cluster.node().await, cluster.node().await];
    let (stop, stopped) = watch::channel(false);
    let following: Vec<_> =
        nodes.iter().map(|n| tokio::spawn(follow(Arc::clone(&n.app), stopped.clone()))).collect();
    let patch = ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..ClientPatch::default() };
    let id = "sliding".parse().unwrap();
    let mut held = nodes[0].gate.hold_next_commit();
    let decided = cluster.clock.now();
    let manage = nodes[0].app.manage(decided);
    let (done, ()) = tokio::join!(manage.patch_client(&id, &patch), async {
        held.reached().await;
        cluster.advance(Duration::from_secs(10));
        held.release();
    });
    done.unwrap();
    let reached = async {
        loop {
            if told(&nodes[0]).await.iter().any(|before| *before > cluster.clock.now().secs()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("it is told again");
    // All read it a few times over: one telling each at most, then silence.
    for _ in 0..3 {
        let seen = told(&nodes[0]).await.len();
        assert!(seen <= 1 + nodes.len(), "{seen}");
        for node in &nodes {
            read_log(&node.app).await.unwrap();
        }
    }
    let seen = told(&nodes[0]).await.len();
    for node in &nodes {
        read_log(&node.app).await.unwrap();
    }
    assert_eq!(told(&nodes[0]).await.len(), seen);
    stop.send(true).unwrap();
    for task in following {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_s_own_token_of_before_is_void_and_a_new_one_is_good() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let admin = || {
        [
            ("grant_type", "client_credentials"),
            ("client_id", crate::support::SERVICE),
            ("client_secret", crate::support::SERVICE_SECRET),
            ("scope", "reseal:admin"),
        ]
    };
    let old = other.form("/oauth/token", &admin()).await.credential();
    other.get("/v1/admin/clients", &old).await.expect(StatusCode::OK);
    let patch = ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..ClientPatch::default() };
    let service = crate::support::SERVICE.parse().unwrap();
    one.app.manage(cluster.clock.now()).patch_client(&service, &patch).await.unwrap();
    for node in [&one, &other] {
        read_log(&node.app).await.unwrap();
    }
    cluster.advance(Duration::from_secs(4));
    other.get("/v1/admin/clients", &old).await.expect(StatusCode::UNAUTHORIZED);
    let new = other.form("/oauth/token", &admin()).await.credential();
    for node in [&one, &other] {
        node.get("/v1/admin/clients", &new).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn whoever_renews_while_a_change_is_under_way_gets_a_token_of_after_it() {
    let cluster = Cluster::new().await;
    let node = cluster.node().await;
    node.user("ada").await;
    let (sliding, cookie) = (node.login("sliding", "ada").await, node.login("cookie", "ada").await);
    let narrowed = ["sliding", "cookie"];
    for id in narrowed {
        let claims = Some(Projection::parse(["name"]).unwrap());
        let patch = ClientPatch { claims, ..ClientPatch::default() };
        node.app.manage(cluster.clock.now()).patch_client(&id.parse().unwrap(), &patch).await.unwrap();
    }
    read_log(&node.app).await.unwrap();
    let before = told(&node).await.into_iter().max().unwrap();
    let renewal = async {
        let renewed = node.post("/v1/session/renew", &sliding.credential(), serde_json::Value::Null).await;
        renewed.expect(StatusCode::OK);
        renewed.claims()
    };
    let app_behind_a_proxy = async {
        let mut request = crate::support::request(
            http::Method::GET,
            "/gateway/verify",
            &cookie.credential(),
            &serde_json::Value::Null,
        );
        request.headers_mut().insert("x-forwarded-method", "GET".parse().unwrap());
        let answer = node.send(request).await;
        answer.expect(StatusCode::OK);
        crate::support::claims(answer.header("authorization").unwrap().strip_prefix("Bearer ").unwrap())
    };
    let clock = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.advance(Duration::from_secs(4));
    };
    let (renewed, verified, ()) = tokio::join!(renewal, app_behind_a_proxy, clock);
    for claims in [renewed, verified] {
        assert!(claims["iat"].as_i64().unwrap() >= before && claims.get("email").is_none(), "{claims}");
    }
}
