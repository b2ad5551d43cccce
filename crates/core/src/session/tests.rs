use super::*;
use crate::fixture::{
    at, at_millis, cookie, fixed, new_session, password, policy, refresh, sliding, start, two_factors,
};
use crate::refresh::{OnRollback, Outcome, Presenter, rotate};
use crate::touch::{PresentedToken, Renewal, renew_access};
use std::time::Duration;

const DAY: i64 = 86_400;

#[test]
fn a_session_starts_with_both_ends_ahead_and_one_line() {
    let (session, change) = Session::start(new_session(at(0)), &refresh(), at(0));
    assert_eq!((session.version, session.ended), (1, None));
    assert_eq!((session.idle_expires_at, session.expires_at), (at(14 * DAY), at(90 * DAY)));
    assert_eq!(
        (session.rotation.used, session.rotation.branch, session.rotation.used_nonce),
        (0, 0, [2; 16])
    );
    assert_eq!(session.cookie, None);
    assert_eq!(change.session.as_ref(), Some(&session));
    assert!(change.events.is_empty(), "verifiers need not know of a start");
    let kinds: Vec<_> = change.timeline.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [TimelineKind::Started]);
}

#[test]
fn a_start_with_two_factors_says_so_on_the_timeline() {
    let new = NewSession { strength: two_factors(at(0)), ..new_session(at(0)) };
    let (session, change) = Session::start(new, &refresh(), at(0));
    assert_eq!(session.acr(), Acr::Aal2);
    let kinds: Vec<_> = change.timeline.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [TimelineKind::Started, TimelineKind::FactorPassed]);
}

#[test]
fn only_a_cookie_session_has_a_cookie() {
    let state = start(&cookie()).cookie.unwrap();
    assert_eq!((state.generation, state.confirmed), (1, true), "the first value has none before it");
    for policy in [sliding(), fixed(), refresh()] {
        assert_eq!(start(&policy).cookie, None);
    }
}

#[test]
fn user_agents_are_cut_by_characters() {
    let new = NewSession { user_agent: Some("ü".repeat(300)), ..new_session(at(0)) };
    let (session, _) = Session::start(new, &refresh(), at(0));
    assert_eq!(session.user_agent.unwrap(), "ü".repeat(Session::USER_AGENT_MAX));
}

#[test]
fn a_session_lives_until_its_deadline_and_not_at_it() {
    let (policy, session) = (sliding(), start(&sliding()));
    let deadlines = Deadlines { idle: at(1200), absolute: at(43_200) };
    assert_eq!(session.status(&policy, at_millis(1_199_999)), Status::Live(deadlines));
    let over = Ended { at: at(1200), reason: EndReason::IdleTimeout };
    assert_eq!(session.status(&policy, at(1200)), Status::Over(over));
    assert_eq!(session.status(&policy, at(999_999)), Status::Over(over), "when it ended, not when we looked");
}

#[test]
fn a_session_without_idle_time_ends_by_age() {
    let (policy, session) = (fixed(), start(&fixed()));
    assert_eq!(session.deadlines(&policy), Deadlines { idle: at(7 * DAY), absolute: at(7 * DAY) });
    let over = Ended { at: at(7 * DAY), reason: EndReason::MaxLifetime };
    assert_eq!(session.status(&policy, at(7 * DAY)), Status::Over(over));
}

#[test]
fn the_idle_end_never_passes_the_absolute_one() {
    let policy = policy(r#"{"kind": "sliding", "access_ttl": "20m", "max_ttl": "30m"}"#);
    let session = start(&policy);
    let token = PresentedToken { iat: at(0).secs(), exp: at(1200).secs(), rev: 1, strength: password(at(0)) };
    let Renewal::Issue { session, .. } = renew_access(&session, &policy, &token, 1, at(1100)) else {
        panic!()
    };
    assert_eq!((session.idle_expires_at, session.expires_at), (at(1800), at(1800)));
    let over = Ended { at: at(1800), reason: EndReason::MaxLifetime };
    assert_eq!(session.status(&policy, at(1800)), Status::Over(over));
}

#[test]
fn a_tightened_policy_binds_a_live_session_at_once() {
    let session = start(&refresh());
    let tight = policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "1h", "max_ttl": "1d"}"#);
    assert_eq!(session.deadlines(&tight), Deadlines { idle: at(3600), absolute: at(DAY) });
    let exp = session.access_life(&tight, at(3500)).exp;
    assert_eq!(exp, at(3600).secs(), "and no token outlives it");
}

#[test]
fn a_loosened_policy_never_lengthens_a_session() {
    let tight = policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "1h", "max_ttl": "1d"}"#);
    let session = start(&tight);
    assert_eq!(session.deadlines(&refresh()), session.deadlines(&tight));
}

#[test]
fn an_end_that_was_tightened_stays_when_the_policy_is_loosened_again() {
    let (loose, ring) = (refresh(), crate::fixture::ring());
    let tight = policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "1d", "max_ttl": "1d"}"#);
    let session = start(&loose);
    let token = ring.successor(&session).unwrap();
    let presented = (at(60), Presenter::default());
    let Outcome::Issue { session, .. } = rotate(&session, &tight, &token, OnRollback::Theft, presented)
    else {
        panic!()
    };
    assert_eq!(session.deadlines(&loose).absolute, at(DAY));
}

#[test]
fn an_end_is_final_and_is_told_to_verifiers() {
    let session = start(&refresh());
    let change = session.end(EndReason::SignedOut, at(9), None).unwrap();
    let ended = change.session.unwrap();
    assert_eq!(ended.ended, Some(Ended { at: at(9), reason: EndReason::SignedOut }));
    assert_eq!(ended.version, session.version + 1);
    assert_eq!(change.events, [EventKind::SessionEnded { sid: session.id, reason: EndReason::SignedOut }]);
    assert_eq!(change.timeline[0].kind, TimelineKind::Ended(EndReason::SignedOut));
    assert_eq!(ended.end(EndReason::Revoked, at(10), None), None, "nothing ends it twice");
    let over = Status::Over(Ended { at: at(9), reason: EndReason::SignedOut });
    assert_eq!(ended.status(&refresh(), at(8)), over, "not even for a clock that is behind");
}

#[test]
fn the_events_of_a_change_get_their_time_to_leave() {
    let change = start(&refresh()).end(EndReason::SignedOut, at(9), None).unwrap();
    let events: Vec<_> = change.events_until(at(99)).collect();
    assert_eq!((events.len(), events[0].until), (1, at(99)));
    assert!(!change.is_empty());
    assert!(Change::default().is_empty());
}

#[test]
fn an_access_token_ends_with_its_ttl_or_with_its_session() {
    let (policy, session) = (refresh(), start(&refresh()));
    let life = session.access_life(&policy, at_millis(1_999));
    assert_eq!(life, AccessLife { iat: at(1).secs(), exp: at(301).secs(), renew_at: None });
    let late = session.access_life(&policy, at(14 * DAY - 10));
    assert_eq!(late.exp, at(14 * DAY).secs(), "never past the idle end");
}

#[test]
fn a_sliding_token_says_when_to_come_back() {
    let (policy, session) = (sliding(), start(&sliding()));
    let life = session.access_life(&policy, at(0));
    assert_eq!((life.exp, life.renew_at), (at(1200).secs(), Some(at(600).secs())));
    let cut = session.access_life(&policy, at(1000));
    assert_eq!((cut.exp, cut.renew_at), (at(1200).secs(), Some(at(1100).secs())), "half its own life");
}

#[test]
fn every_token_of_a_fixed_session_has_the_same_end() {
    let (policy, session) = (fixed(), start(&fixed()));
    for secs in [0, 1, 3 * DAY, 7 * DAY - 1] {
        let life = session.access_life(&policy, at(secs));
        assert_eq!((life.iat, life.exp, life.renew_at), (at(secs).secs(), at(7 * DAY).secs(), None));
    }
}

#[test]
fn a_reseal_prolongs_sliding_tokens_only() {
    let presented_exp = at(300).secs();
    let life = |policy: &Policy| start(policy).resealed_life(policy, presented_exp, at(200));
    assert_eq!(
        life(&refresh()).exp,
        presented_exp,
        "a stolen token is not kept alive by changing the record"
    );
    assert_eq!(life(&cookie()).exp, presented_exp);
    assert_eq!(life(&fixed()).exp, presented_exp);
    assert_eq!(life(&sliding()).exp, at(1200).secs());
    assert_eq!(life(&refresh()).iat, at(200).secs());
}

#[test]
fn a_step_up_raises_the_session_and_its_cookie() {
    let session = start(&cookie());
    let change = session.step_up(two_factors(at(30)), at(30), None);
    let next = change.session.unwrap();
    assert_eq!((next.version, next.strength), (session.version + 1, two_factors(at(30))));
    let state = next.cookie.unwrap();
    assert_eq!((state.generation, state.confirmed, state.raised_at), (2, false, at(30)));
    assert_eq!(state.previous, password(at(0)), "the value before vouches for no more than it did");
    assert_eq!(change.timeline[0].kind, TimelineKind::FactorPassed);
    assert_eq!((next.renewed_at, next.idle_expires_at), (session.renewed_at, session.idle_expires_at));
}

#[test]
fn a_change_of_privilege_leaves_refresh_tokens_alone() {
    let session = start(&refresh());
    let next = session.change_privilege(at(30));
    assert_eq!(next.cookie, None);
    assert_eq!(next.rotation, session.rotation);
    assert_eq!(next.version, session.version + 1);
}

#[test]
fn no_policy_makes_a_token_outlive_its_session() {
    for policy in [sliding(), fixed(), refresh(), cookie()] {
        let session = start(&policy);
        let end = session.deadlines(&policy).idle;
        for back in [1, 2, 59, 600, 1199] {
            let life = session.access_life(&policy, end - Duration::from_secs(back));
            assert!(life.exp <= end.secs(), "{:?}", policy.kind);
        }
    }
}
