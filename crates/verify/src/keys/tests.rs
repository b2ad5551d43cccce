use super::fetch::FetchError;
use super::*;
use aws_lc_rs::rand::SystemRandom;
use reseal_core::Timestamp;
use reseal_core::event::{Event, EventKind, LoggedEvent};
use reseal_jose::{Algorithm, JwkSet, SigningKey};

#[expect(clippy::disallowed_methods, reason = "tests need keys")]
fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa, &SystemRandom::new()).unwrap()
}

fn set(keys: &[&SigningKey]) -> VerifyingKeys {
    VerifyingKeys::from_set(&JwkSet { keys: keys.iter().map(|key| key.public_jwk().clone()).collect() })
}

fn withdrawal(kid: &str) -> LoggedEvent {
    let kind = EventKind::KeysChanged { withdrawn: vec![kid.to_owned()] };
    LoggedEvent { seq: 1, event: Event { kind, until: Timestamp::from_secs(1000) } }
}

#[test]
fn a_set_after_none_is_not_taken_for_the_one_before() {
    let (shared, freshness) = (Shared::new(None, Duration::ZERO), SharedFreshness::new(10));
    let generation = || shared.current.load().as_ref().map(|keys| keys.generation);
    shared.replace(set(&[&key()]), &freshness);
    let before = generation();
    assert!(before.is_some());
    // None could be fetched for so long that they are given up.
    shared.failed(&FetchError::Metadata);
    assert_eq!(generation(), None);
    shared.replace(set(&[&key()]), &freshness);
    assert!(generation() > before, "what was cached under the old set must be looked at again");
}

#[test]
fn a_withdrawn_key_stays_so_whatever_comes_in_between() {
    let (shared, freshness) = (Shared::new(None, Duration::ZERO), SharedFreshness::new(10));
    let (leaked, other) = (key(), key());
    let (of_leaked, of_other) = (set(&[&leaked]), set(&[&other]));
    let is_good = |keys: &VerifyingKeys| {
        shared.current.load().as_ref().is_some_and(|set| set.has(keys.keys()[0].thumbprint()))
    };
    shared.replace(set(&[&leaked, &other]), &freshness);
    freshness.apply(&withdrawal(leaked.kid()));
    shared.withdraw(&freshness);
    assert!(!is_good(&of_leaked) && is_good(&of_other));
    (0..64).for_each(|_| freshness.prune(10_000));
    // A cache on the way shows the old set, the new one and the old one again.
    shared.replace(set(&[&other]), &freshness);
    shared.replace(set(&[&leaked, &other]), &freshness);
    assert!(!is_good(&of_leaked) && is_good(&of_other));
    shared.failed(&FetchError::Metadata);
    shared.replace(set(&[&leaked, &other]), &freshness);
    assert!(!is_good(&of_leaked) && is_good(&of_other));
}

#[tokio::test]
async fn a_fetch_that_began_before_says_nothing_of_a_key_that_came_since() {
    let shared = Arc::new(Shared::new(Some(set(&[&key()])), Duration::ZERO));
    shared.begin_round();
    let asking = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { shared.ask(Some("new"), 1, PATIENCE).await })
    };
    // It waits for the fetch that is under way.
    while shared.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    shared.end_round(1, true);
    assert!(matches!(asking.await.unwrap(), Asked::NoSuchKey));
    let again = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { shared.ask(Some("new"), 1, PATIENCE).await })
    };
    // Another one is asked for, instead of none for a minute.
    while shared.waiting() == 0 {
        assert!(!again.is_finished(), "it was taken for missing");
        tokio::task::yield_now().await;
    }
    shared.begin_round();
    shared.end_round(2, true);
    assert!(matches!(again.await.unwrap(), Asked::NoSuchKey));
    assert!(matches!(shared.ask(Some("new"), 1, PATIENCE).await, Asked::NoSuchKey), "known to be missing");
}
