//! A change of a client of which the node learns late: it made tokens of the client as it was before.

use crate::common::{PATIENCE, Reading, Running, log, names};
use http::StatusCode;
use reseal_core::claims::Projection;
use reseal_core::event::EventKind;
use reseal_server::manage::Manage;
use reseal_server::manage::clients::ClientPatch;
use reseal_server::random::Random;
use reseal_server::start::open_store;
use reseal_store::Access;
use serde_json::Value;
use tokio::time::timeout;

#[tokio::test]
async fn tokens_made_before_the_node_knew_are_stale_and_renew() {
    let authority = Running::start().await;
    authority.user("ada").await;
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;

    // A command reads its clock, and its commit takes a while; meanwhile somebody logs in.
    let config = &authority.app.config;
    let command = open_store(config, &Random::new(), Access::Tool).await.unwrap().shared();
    let (random, policies) = (Random::new(), config.policies().unwrap());
    let decided = authority.app.clock.now();
    authority.advance(3);
    let session = authority.login("sliding", "ada").await;
    let iat = session.claims()["iat"].as_i64().unwrap();
    assert!(session.claims().get("email").is_some());
    let event_until = authority.app.event_until(decided);
    let manage = Manage { store: &*command, random: &random, now: decided, event_until, policies: &policies };
    let narrowed =
        ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..ClientPatch::default() };
    manage.patch_client(&"sliding".parse().unwrap(), &narrowed).await.unwrap();

    let reaches = async {
        loop {
            match reading.event().await.kind() {
                EventKind::ClientChanged { client_id, before } if client_id.as_str() == "sliding" => {
                    if *before > iat {
                        return *before;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let before = timeout(PATIENCE, reaches).await.expect("the token stays good with its old claims");

    // The authority sees it as verifiers do, and gives its holder one that says no more than it may.
    let renewed = authority.post("/v1/session/renew", &session.credential(), Value::Null).await;
    renewed.expect(StatusCode::OK);
    assert_eq!(renewed.body["renewed"], true);
    assert!(renewed.claims().get("email").is_none());

    // Once is enough.
    assert_eq!(before, authority.app.clock.now().secs() + 1);
    log(&authority.app, ["next".to_owned()]).await;
    assert_eq!(names(&[reading.event().await]), ["next"]);
}

#[tokio::test]
async fn a_client_that_is_gone_by_then_is_told_of_as_well() {
    let authority = Running::start().await;
    let mut reading = Reading::open(&authority, None).await;
    reading.caught_up().await;
    log(&authority.app, ["another".to_owned()]).await;
    assert_eq!(names(&[reading.event().await]), ["another"]);
    let write = crate::common::changed(&authority.app, "no-client");
    authority.advance(5);
    authority.app.store.commit(reseal_store::Commit::of([write])).await.unwrap();
    assert_eq!(names(&[reading.event().await]), ["no-client"]);
    let again = reading.event().await;
    let EventKind::ClientChanged { before, .. } = again.kind() else { panic!("{again:?}") };
    assert_eq!(*before, authority.app.clock.now().secs() + 1);
}
