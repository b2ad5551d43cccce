use super::*;
use crate::event::EndReason;
use crate::fixture::{at, at_millis, cookie, fixed, password, policy, refresh, sliding, start, two_factors};

fn token(session: &Session, policy: &Policy, now: Timestamp) -> PresentedToken {
    let life = session.access_life(policy, now);
    PresentedToken { iat: life.iat, exp: life.exp, rev: 1, strength: session.strength }
}

fn renewed(renewal: Renewal) -> (Session, Change) {
    match renewal {
        Renewal::Issue { session, change, .. } => (session, change),
        other => panic!("{other:?}"),
    }
}

// Sliding tokens.

#[test]
fn a_sliding_token_renews_from_its_half_life_on() {
    let (policy, session) = (sliding(), start(&sliding()));
    let token = token(&session, &policy, at(0));
    let early = renew_access(&session, &policy, &token, 1, at_millis(599_999));
    assert_eq!(early, Renewal::NotYet { renew_at: Some(at(600).secs()) });
    let (next, change) = renewed(renew_access(&session, &policy, &token, 1, at(600)));
    assert_eq!((next.renewed_at, next.idle_expires_at), (at(600), at(1800)));
    assert_eq!(next.version, session.version + 1);
    assert_eq!(change.session, Some(next));
    assert!(change.timeline.is_empty() && change.events.is_empty(), "renewals are not listed");
}

#[test]
fn any_number_of_tabs_with_the_old_token_cost_one_write() {
    let (policy, mut session) = (sliding(), start(&sliding()));
    let old = token(&session, &policy, at(0));
    let mut writes = 0;
    for i in 0..1000 {
        let now = at_millis(600_000 + i);
        let (next, change) = renewed(renew_access(&session, &policy, &old, 1, now));
        assert!(next.access_life(&policy, now).exp > old.exp, "each gets a good new one");
        writes += usize::from(!change.is_empty());
        session = next;
    }
    assert_eq!(writes, 1);
}

#[test]
fn a_half_life_below_a_second_still_bounds_the_writes() {
    let policy = policy(r#"{"kind": "sliding", "access_ttl": "20s", "max_ttl": "1h", "renew_after": 0.02}"#);
    assert_eq!(policy.half_life(), Duration::from_millis(400));
    let mut session = start(&policy);
    let old = token(&session, &policy, at(0));
    let mut writes = vec![];
    for millis in 0..2000 {
        let (next, change) = renewed(renew_access(&session, &policy, &old, 1, at_millis(millis)));
        if !change.is_empty() {
            writes.push(millis);
        }
        session = next;
    }
    assert_eq!(writes, [400, 800, 1200, 1600], "at most one write per half-life");
}

#[test]
fn a_cookie_that_idles_for_a_second_slides_all_the_same() {
    let policy = policy(r#"{"kind": "cookie", "idle_ttl": "1s", "max_ttl": "1h"}"#);
    let session = start(&policy);
    let touched = |millis| match use_cookie(&session, &policy, 1, true, at_millis(millis)) {
        CookieUse::Accepted { change, .. } => !change.is_empty(),
        other => panic!("{other:?}"),
    };
    assert!(!touched(499));
    assert!(touched(500));
    assert!(touched(999));
}

#[test]
fn the_renewal_that_a_client_was_told_to_make_also_counts() {
    let (policy, mut session) = (sliding(), start(&sliding()));
    // Touched within a second: the token's iat is rounded down, the row's time is not.
    let first = token(&session, &policy, at(0));
    session = renewed(renew_access(&session, &policy, &first, 1, at_millis(700_900))).0;
    let told = token(&session, &policy, at_millis(700_900));
    let renew_at = policy.renew_at(told.iat, told.exp);
    let (_, change) = renewed(renew_access(&session, &policy, &told, 1, Timestamp::from_secs(renew_at)));
    assert!(!change.is_empty());
}

#[test]
fn stale_claims_reseal_at_once_and_need_no_write() {
    let (policy, session) = (sliding(), start(&sliding()));
    let token = token(&session, &policy, at(0));
    let (next, change) = renewed(renew_access(&session, &policy, &token, 2, at(1)));
    assert!(change.is_empty());
    assert_eq!(next.access_life(&policy, at(1)).exp, at(1200).secs(), "the row was not touched");
    let (_, change) = renewed(renew_access(&session, &policy, &token, 2, at(600)));
    assert!(!change.is_empty(), "past the half-life it is a renewal as well");
}

#[test]
fn claims_newer_than_the_record_are_not_stale() {
    let (policy, session) = (sliding(), start(&sliding()));
    let token = PresentedToken { rev: 9, ..token(&session, &policy, at(0)) };
    assert!(matches!(renew_access(&session, &policy, &token, 1, at(1)), Renewal::NotYet { .. }));
}

#[test]
fn sliding_never_passes_the_absolute_end() {
    let policy = policy(r#"{"kind": "sliding", "access_ttl": "20m", "max_ttl": "1h"}"#);
    let mut session = start(&policy);
    let mut now = at(0);
    loop {
        let token = token(&session, &policy, now);
        assert!(token.exp <= at(3600).secs());
        now = Timestamp::from_secs(policy.renew_at(token.iat, token.exp)).max(now + Duration::from_secs(1));
        match renew_access(&session, &policy, &token, 1, now) {
            Renewal::Issue { session: next, .. } => session = next,
            Renewal::Over(ended) => break assert_eq!(ended.reason, EndReason::MaxLifetime),
            Renewal::NotYet { .. } => panic!("{now:?}"),
        }
    }
    assert_eq!(now, at(3600));
}

#[test]
fn a_renewal_is_also_made_when_exp_is_the_absolute_end_already() {
    let policy = policy(r#"{"kind": "sliding", "access_ttl": "20m", "max_ttl": "20m"}"#);
    let session = start(&policy);
    let token = token(&session, &policy, at(0));
    let (next, _) = renewed(renew_access(&session, &policy, &token, 1, at(700)));
    assert_eq!(next.access_life(&policy, at(700)).exp, token.exp);
}

#[test]
fn a_renewed_token_vouches_for_no_more_than_the_one_presented() {
    let policy = sliding();
    let mut session = start(&policy);
    let before = token(&session, &policy, at(0));
    session = session.step_up(two_factors(at(300)), at(300), None).session.unwrap();
    let strength = |token: &PresentedToken| match renew_access(&session, &policy, token, 1, at(700)) {
        Renewal::Issue { strength, .. } => strength,
        other => panic!("{other:?}"),
    };
    assert_eq!(strength(&before), password(at(0)));
    assert_eq!(strength(&token(&session, &policy, at(0))), two_factors(at(300)));
    let boast = PresentedToken { strength: two_factors(at(900)), ..before };
    assert_eq!(strength(&boast), two_factors(at(300)), "nor for more than the session");
}

#[test]
fn an_idle_or_ended_session_renews_nothing() {
    let (policy, session) = (sliding(), start(&sliding()));
    let token = token(&session, &policy, at(0));
    let idle = Ended { at: at(1200), reason: EndReason::IdleTimeout };
    assert_eq!(renew_access(&session, &policy, &token, 2, at(1200)), Renewal::Over(idle));
    let ended = session.end(EndReason::Revoked, at(1), None).unwrap().session.unwrap();
    let over = Ended { at: at(1), reason: EndReason::Revoked };
    assert_eq!(renew_access(&ended, &policy, &token, 2, at(600)), Renewal::Over(over));
}

// The other kinds.

#[test]
fn a_fixed_token_is_resealed_with_the_same_end_and_never_renewed() {
    let (policy, session) = (fixed(), start(&fixed()));
    let token = token(&session, &policy, at(0));
    let never = Renewal::NotYet { renew_at: None };
    assert_eq!(renew_access(&session, &policy, &token, 1, at(600_000)), never);
    let (next, change) = renewed(renew_access(&session, &policy, &token, 2, at(600_000)));
    assert!(change.is_empty());
    assert_eq!(next.access_life(&policy, at(600_000)).exp, token.exp);
}

#[test]
fn tokens_of_refresh_and_cookie_sessions_are_resealed_and_never_renewed() {
    for policy in [refresh(), cookie()] {
        let session = start(&policy);
        let token = token(&session, &policy, at(0));
        let never = Renewal::NotYet { renew_at: None };
        assert_eq!(renew_access(&session, &policy, &token, 1, at(200)), never);
        let (next, change) = renewed(renew_access(&session, &policy, &token, 2, at(200)));
        assert!(change.is_empty(), "no idle time is gained");
        assert_eq!(next.resealed_life(&policy, token.exp, at(200)).exp, token.exp);
    }
}

// Cookies.

/// What a use came to: strength, whether the newest value is sent, whether anything is written.
fn used(session: &Session, generation: u32, now: Timestamp) -> (Strength, bool, bool) {
    match use_cookie(session, &cookie(), generation, true, now) {
        CookieUse::Accepted { strength, send, change, .. } => (strength, send, !change.is_empty()),
        other => panic!("{generation} at {now:?}: {other:?}"),
    }
}

fn stepped_up(at_secs: i64) -> Session {
    start(&cookie()).step_up(two_factors(at(at_secs)), at(at_secs), None).session.unwrap()
}

#[test]
fn a_cookie_slides_at_most_once_per_half_life() {
    let session = start(&cookie());
    let half = 7 * 86_400;
    assert_eq!(used(&session, 1, at_millis(half * 1000 - 1)), (password(at(0)), false, false));
    let CookieUse::Accepted { session: next, send, renew_at, change, .. } =
        use_cookie(&session, &cookie(), 1, true, at(half))
    else {
        panic!()
    };
    assert!(send, "the browser's copy gets its new life");
    assert_eq!(change.session.as_ref(), Some(&next));
    assert_eq!((next.idle_expires_at, renew_at), (at(3 * half), at(2 * half).secs()));
    assert_eq!(used(&next, 1, at(half + 1)), (password(at(0)), false, false));
}

#[test]
fn a_use_that_must_not_slide_writes_nothing() {
    let session = start(&cookie());
    let CookieUse::Accepted { send: false, change, .. } =
        use_cookie(&session, &cookie(), 1, false, at(13 * 86_400))
    else {
        panic!()
    };
    assert!(change.is_empty());
}

#[test]
fn the_value_before_answers_for_a_minute_at_its_old_strength() {
    let session = stepped_up(100);
    for (millis, send) in [(100_000, true), (110_000, true), (110_001, false), (160_000, false)] {
        assert_eq!(used(&session, 1, at_millis(millis)), (password(at(0)), send, false), "{millis}");
    }
    assert_eq!(use_cookie(&session, &cookie(), 1, true, at_millis(160_001)), CookieUse::Superseded);
    assert_eq!(session.ended, None);
}

#[test]
fn the_value_before_is_done_when_the_new_one_is_first_used() {
    let session = stepped_up(100);
    let CookieUse::Accepted { session: next, strength, send: false, change, .. } =
        use_cookie(&session, &cookie(), 2, false, at(101))
    else {
        panic!()
    };
    assert_eq!(strength, two_factors(at(100)));
    assert_eq!(
        change.session.as_ref(),
        Some(&next),
        "the first use is remembered, even one that must not slide"
    );
    assert_eq!((next.version, next.cookie.unwrap().confirmed), (session.version + 1, true));
    assert_eq!(use_cookie(&next, &cookie(), 1, true, at(101)), CookieUse::Superseded);
    assert_eq!(used(&next, 2, at(102)), (two_factors(at(100)), false, false), "once is enough");
}

#[test]
fn first_use_and_slide_are_one_write() {
    let session = stepped_up(100);
    let CookieUse::Accepted { session: next, send: true, .. } =
        use_cookie(&session, &cookie(), 2, true, at(7 * 86_400))
    else {
        panic!()
    };
    assert_eq!(next.version, session.version + 1);
    assert_eq!((next.cookie.unwrap().confirmed, next.renewed_at), (true, at(7 * 86_400)));
}

#[test]
fn only_the_one_value_before_answers() {
    let session = stepped_up(100).step_up(two_factors(at(105)), at(105), None).session.unwrap();
    assert_eq!(session.cookie.unwrap().generation, 3);
    assert_eq!(use_cookie(&session, &cookie(), 1, true, at(105)), CookieUse::Superseded);
    assert_eq!(used(&session, 2, at(105)), (two_factors(at(100)), true, false), "at the strength it had");
}

#[test]
fn a_generation_from_the_future_or_from_nowhere_is_unknown() {
    assert_eq!(use_cookie(&start(&cookie()), &cookie(), 2, true, at(1)), CookieUse::Unknown);
    assert_eq!(use_cookie(&start(&cookie()), &cookie(), 0, true, at(1)), CookieUse::Superseded);
    assert_eq!(use_cookie(&start(&refresh()), &refresh(), 1, true, at(1)), CookieUse::Unknown);
    let mut session = start(&cookie());
    session.cookie.as_mut().unwrap().generation = u32::MAX;
    assert_eq!(use_cookie(&session, &cookie(), 0, true, at(1)), CookieUse::Superseded, "no wrapping round");
}

#[test]
fn no_value_opens_a_session_that_is_over() {
    let session = stepped_up(100);
    let ended = session.end(EndReason::SignedOut, at(101), None).unwrap().session.unwrap();
    let over = Ended { at: at(101), reason: EndReason::SignedOut };
    for generation in [1, 2] {
        assert_eq!(use_cookie(&ended, &cookie(), generation, true, at(102)), CookieUse::Over(over));
        let idle = Ended { at: at(14 * 86_400), reason: EndReason::IdleTimeout };
        let late = use_cookie(&session, &cookie(), generation, true, at(15 * 86_400));
        assert_eq!(late, CookieUse::Over(idle));
    }
}
