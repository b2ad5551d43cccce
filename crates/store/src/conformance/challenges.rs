//! Challenges: good once.

use super::*;
use crate::{CommitError, Conflict, Write};
use reseal_core::challenge::Challenge;

pub async fn every_field_of_a_challenge_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut all = Vec::new();
    for pair in sample(any_challenge(), 80).chunks(2) {
        let [challenge, next] = pair else { unreachable!("80 is even") };
        commit(&*store, [Write::CreateChallenge(Box::new(challenge.clone()))]).await.unwrap();
        assert_eq!(store.challenge(&challenge.id).await.unwrap().as_ref(), Some(challenge));
        let next = Challenge { id: challenge.id, version: challenge.version.wrapping_add(1), ..next.clone() };
        commit(&*store, [Write::SwapChallenge(Box::new(next.clone()))]).await.unwrap();
        all.push(next);
    }
    let store = reopen(&engine, store).await;
    for challenge in all {
        assert_eq!(store.challenge(&challenge.id).await.unwrap(), Some(challenge));
    }
    assert_eq!(store.challenge(&challenge_id(1)).await.unwrap(), None);
}

pub async fn a_challenge_is_replaced_only_by_its_next_version<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let challenge = challenge(1);
    commit(&*store, [Write::CreateChallenge(Box::new(challenge.clone()))]).await.unwrap();
    for version in [0, 1, 3] {
        let wrong = Challenge { version, tries_left: 9, ..challenge.clone() };
        let swapped = commit(&*store, [Write::SwapChallenge(Box::new(wrong))]).await;
        assert!(matches!(swapped, Err(CommitError::Conflict(Conflict::ChallengeChanged))), "{swapped:?}");
    }
    let take = |version| Write::TakeChallenge { id: challenge.id, version };
    let taken = commit(&*store, [take(2)]).await;
    assert!(matches!(taken, Err(CommitError::Conflict(Conflict::ChallengeChanged))), "{taken:?}");
    assert_eq!(store.challenge(&challenge.id).await.unwrap(), Some(challenge));
}

pub async fn a_challenge_is_taken_once_by_fifty_at_once<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let challenge = challenge(1);
    commit(&*store, [Write::CreateChallenge(Box::new(challenge.clone()))]).await.unwrap();
    let results = at_once(50, |i| {
        let store = Arc::clone(&store);
        let take = Write::TakeChallenge { id: challenge.id, version: 1 };
        let session = session(i, &user);
        async move { (session.id, commit(&*store, [take, start(&session)]).await) }
    });
    let mut started = 0;
    for (id, result) in results.await {
        let found = store.session(id).await.unwrap();
        match result {
            Ok(()) => started += 1,
            Err(CommitError::Conflict(Conflict::ChallengeChanged)) => assert_eq!(found, None),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(started, 1);
    assert_eq!(store.challenge(&challenge.id).await.unwrap(), None);
    assert_eq!(store.sessions_of_user(user.id, None, 100).await.unwrap().len(), 1);
}
