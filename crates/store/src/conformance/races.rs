//! What happens at once, with the rules that the server runs.

use super::*;
use crate::{
    CommitError, Conflict, EndFilter, EndSessions, Snapshot, Store, StoreError, Write, decide_foreseen,
};
use reseal_core::credential::RefreshToken;
use reseal_core::refresh::{Advance, Issued, OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::Change;
use reseal_core::user::UserPatch;
use reseal_core::{EndReason, SessionId, TimelineKind, Timestamp};
use std::time::Duration;

/// What a client gets for its refresh token.
enum Answer {
    Successor(RefreshToken, Issued),
    Refused,
}

async fn present(store: &dyn Store, token: RefreshToken, now: Timestamp) -> Result<Answer, StoreError> {
    let foreseen = Advance::of(&token, &"web".parse().unwrap(), policy(), now);
    let place = (token.session_id, UNTIL);
    let decided = decide_foreseen(store, place, foreseen, move |s: &Snapshot| {
        let presenter = Presenter { ip: s.session.ip, user_agent: s.session.user_agent.as_deref() };
        match rotate(&s.session, policy(), &token, OnRollback::Theft, (now, presenter)) {
            Outcome::Issue { session, how, change } => {
                (Answer::Successor(ring().successor(&session).unwrap(), how), change)
            }
            Outcome::Superseded { change } | Outcome::Reuse { change } => (Answer::Refused, change),
            Outcome::Over(_) => (Answer::Refused, Change::default()),
        }
    });
    Ok(decided.await?.expect("the session is there"))
}

pub async fn racing_rotations_of_one_token_make_one_lineage<E: Engine>(engine: E) {
    const ROUNDS: u64 = 60;
    const TABS: usize = 16;
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let mut token = ring().successor(&session).unwrap();
    for round in 1..=ROUNDS {
        let now = NOW + Duration::from_secs(round * 30);
        let answers = at_once(TABS, |_| {
            let (store, token) = (Arc::clone(&store), token);
            async move { present(&*store, token, now).await.unwrap() }
        });
        let mut successors = Vec::new();
        let mut advances = 0;
        for answer in answers.await {
            let Answer::Successor(successor, how) = answer else { panic!("a tab was logged out") };
            advances += usize::from(how == Issued::Advance);
            successors.push(successor);
        }
        assert_eq!(advances, 1, "one of them wrote, the others repeated its answer");
        assert!(successors.iter().all(|s| *s == successors[0]), "all tabs hold the same token");
        token = successors.pop().unwrap();
    }
    let row = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(row.rotation.used, ROUNDS);
    assert_eq!(u64::from(row.version), u64::from(session.version) + ROUNDS);
    assert_eq!(row.ended, None);
    assert_eq!(store.timeline(session.id).await.unwrap(), []);
}

fn end_one(id: SessionId, reason: EndReason) -> EndSessions {
    EndSessions { filter: EndFilter::One(id), reason, now: NOW, ip: None, event_until: UNTIL }
}

pub async fn a_renewal_that_races_an_end_leaves_an_ended_session<E: Engine>(engine: E) {
    const ROUNDS: usize = 40;
    let store = open(&engine).await;
    for i in 0..ROUNDS {
        let (_, session) = with_session(&*store, i).await;
        let token = ring().successor(&session).unwrap();
        let ends = at_once(8, |k| {
            let (store, token, id) = (Arc::clone(&store), token, session.id);
            async move {
                match k {
                    0 => store.end_sessions(end_one(id, EndReason::Revoked)).await.unwrap(),
                    1 => {
                        let end = Write::EndSessions(end_one(id, EndReason::SignedOut));
                        commit(&*store, [end]).await.unwrap();
                        0
                    }
                    _ => {
                        present(&*store, token, NOW).await.unwrap();
                        0
                    }
                }
            }
        });
        assert!(ends.await.iter().sum::<usize>() <= 1);
        let ended = store.session(session.id).await.unwrap().unwrap().session;
        let reason = ended.ended.expect("it has ended").reason;
        let lines = store.timeline(session.id).await.unwrap();
        let told = lines.iter().filter(|l| matches!(l.kind, TimelineKind::Ended(r) if r == reason)).count();
        assert_eq!((told, lines.len()), (1, 1), "{lines:?}");
        let Answer::Refused = present(&*store, token, NOW).await.unwrap() else { panic!("it lives again") };
        assert_eq!(store.session(session.id).await.unwrap().unwrap().session, ended);
    }
    assert_eq!(store.last_event().await.unwrap(), u64::try_from(ROUNDS).unwrap(), "one event for each end");
}

pub async fn a_login_that_races_a_password_change_leaves_no_session<E: Engine>(engine: E) {
    let store = open(&engine).await;
    for i in 0..40 {
        let (user, _) = with_session(&*store, i).await;
        let results = at_once(4, |k| {
            let (store, user) = (Arc::clone(&store), user.clone());
            async move {
                if k > 0 {
                    return commit(&*store, [start(&session(1000 + 10 * i + k, &user))]).await;
                }
                let end = EndSessions {
                    filter: EndFilter::User { user: user.id, except: None },
                    reason: EndReason::PasswordChanged,
                    now: NOW,
                    ip: None,
                    event_until: UNTIL,
                };
                let changed = Write::SwapUser(Box::new(user.with_new_secret(NOW)), Some(secrets("new")));
                commit(&*store, [changed, Write::EndSessions(end)]).await
            }
        });
        for (k, result) in results.await.into_iter().enumerate() {
            match result {
                Ok(()) => {}
                Err(CommitError::Conflict(Conflict::EpochRaised)) => assert_ne!(k, 0),
                Err(other) => panic!("{other:?}"),
            }
        }
        let sessions = store.sessions_of_user(user.id, None, 10).await.unwrap();
        assert!(sessions.iter().all(|s| s.ended.is_some()), "a login with the old password lives on");
    }
}

pub async fn racing_changes_of_one_user_lose_nothing<E: Engine>(engine: E) {
    const EDITORS: usize = 8;
    const EDITS: usize = 8;
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let edits = at_once(EDITORS, |editor| {
        let store = Arc::clone(&store);
        async move {
            for edit in 0..EDITS {
                // The loser reads again and decides again.
                loop {
                    let found = store.user(user_id(1)).await.unwrap().unwrap();
                    let mut patch = UserPatch::default();
                    patch.attributes.insert(format!("e{editor}-{edit}"), edit.into());
                    let next = found.patched(&patch, NOW).unwrap().unwrap();
                    match commit(&*store, [Write::SwapUser(Box::new(next), None)]).await {
                        Ok(()) => break,
                        Err(CommitError::Conflict(Conflict::UserChanged)) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
    });
    edits.await;
    let found = store.user(user.id).await.unwrap().unwrap();
    let edits = EDITORS * EDITS;
    assert_eq!(found.attributes.len(), edits);
    assert_eq!(found.revision, user.revision + u64::try_from(edits).unwrap());
}
