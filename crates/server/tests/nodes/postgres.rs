//! The same over a real PostgreSQL, whose clock and cells the nodes use.

use crate::common::PATIENCE;
use crate::support::{Credential, ISSUER, Outbox, SERVICE, TestAuthority, client, request};
use http::{Method, StatusCode};
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::manage::clients::ClientPatch;
use reseal_store::postgres::{PostgresOptions, PostgresStore};
use reseal_store::{Commit, Store, Write};
use reseal_test_servers::Postgres;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::timeout;

async fn node(url: &str, folder: &Arc<tempfile::TempDir>, clients: bool) -> TestAuthority {
    let mut config = Config { issuer: Some(ISSUER.to_owned()), ..Config::default() };
    config.store.data = folder.path().to_owned();
    let options = PostgresOptions {
        connections: 3,
        timeout: PATIENCE,
        epoch: [7; 16],
        ..PostgresOptions::new(url.parse().unwrap())
    };
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(options).await.unwrap());
    if clients {
        for (id, policy) in [("sliding", "web"), ("refresh", "app"), (SERVICE, "app")] {
            store.commit(Commit::of([Write::CreateClient(Box::new(client(id, policy)))])).await.unwrap();
        }
    }
    let over = (Clock::system(), Arc::new(Outbox::default()));
    TestAuthority::over(config, store, over, Arc::clone(folder)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_share_limits_keys_and_the_clock_and_learn_of_each_other_s_changes() {
    let database = Postgres::shared().database();
    let (url, folder) = (database.url(), Arc::new(tempfile::tempdir().unwrap()));
    let first = node(&url, &folder, true).await;
    let (second, third) = tokio::join!(node(&url, &folder, false), node(&url, &folder, false));
    let nodes = [first, second, third];
    nodes[0].user("ada").await;
    for node in &nodes {
        assert!(node.app.clock.machine_behind().is_some() && node.app.clock.agrees());
        assert_eq!(node.app.store.keys().await.unwrap().len(), 2);
    }

    // Sessions of one are good on every other.
    let mut held = nodes[0].login("refresh", "ada").await;
    for n in 0..9 {
        held = nodes[n % 3].refresh("refresh", &held).await;
        held.expect(StatusCode::OK);
    }

    // Parallel guesses gain nothing.
    let tries: Vec<_> = (0..18)
        .map(|n| {
            let body = json!({ "client_id": "sliding", "username": "ada", "password": format!("wrong {n}") });
            nodes[n % 3].spawn(request(Method::POST, "/v1/session", &Credential::None, &body))
        })
        .collect();
    let mut told = 0;
    for attempt in tries {
        told += usize::from(attempt.await.unwrap().status == StatusCode::UNAUTHORIZED);
    }
    // A counter forgets one failure in 90 seconds, and this machine may be slow.
    assert!((10..=12).contains(&told), "{told}");

    // What one node changed, the others know, without being asked.
    let (stop, stopped) = watch::channel(false);
    let jobs: Vec<_> = nodes
        .iter()
        .map(|node| tokio::spawn(reseal_server::jobs::run(Arc::clone(&node.app), stopped.clone())))
        .collect();
    let disabled = ClientPatch { disabled: Some(true), ..ClientPatch::default() };
    let id = "refresh".parse().unwrap();
    for node in &nodes {
        assert!(node.app.client_as_known(&id).await.unwrap().is_some());
    }
    nodes[2].app.manage(nodes[2].app.clock.now()).patch_client(&id, &disabled).await.unwrap();
    let known = async {
        for node in &nodes {
            while node.app.client_as_known(&id).await.unwrap().is_some() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    };
    timeout(PATIENCE, known).await.expect("a node goes on with what it knew");
    stop.send(true).unwrap();
    for job in jobs {
        job.await.unwrap();
    }
}
