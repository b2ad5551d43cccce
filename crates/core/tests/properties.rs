//! Invariants of the rules under arbitrary sequences of presentations, policies and clocks.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use reseal_core::credential::{
    KeyRing, RefreshToken, RingKey, UnverifiedRefreshToken, UnverifiedSessionCookie,
};
use reseal_core::policy::{LostResponse, PolicyConfig};
use reseal_core::refresh::{Issued, OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::{Change, NewSession, Status};
use reseal_core::touch::{CookieUse, PresentedToken, Renewal, renew_access, use_cookie};
use reseal_core::{
    Acr, Amr, EndReason, KeyId, Policy, PolicyKind, Session, SessionId, Strength, Timestamp, UserId,
};
use std::collections::BTreeMap;
use std::time::Duration;

const ZERO: i64 = 1_700_000_000_000;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() }
}

fn ring() -> KeyRing {
    KeyRing::new([(KeyId(1), RingKey::new(&[7; 32]))], KeyId(1)).unwrap()
}

fn strength(acr: Acr, amr: Amr, at: Timestamp) -> Strength {
    Strength { acr, amr, authenticated_at: at }
}

fn start(policy: &Policy) -> Session {
    let now = Timestamp::from_millis(ZERO);
    let new = NewSession {
        id: SessionId::from_bytes([1; 16]),
        nonce: [2; 16],
        user_id: UserId::from_bytes([3; 16]),
        client_id: "spa".parse().unwrap(),
        scope: "read".parse().unwrap(),
        key_id: KeyId(1),
        strength: strength(Acr::Aal1, Amr::PWD, now),
        user_agent: None,
        ip: None,
    };
    Session::start(new, policy, now).0
}

/// Any lawful policy of the kind, of seconds to days.
fn policies(kind: PolicyKind) -> impl Strategy<Value = Policy> {
    let lives = (1_u64..3600, 0_u64..7200, 0_u64..100_000);
    (lives, 0.01..0.99, 0_u64..=300, any::<bool>()).prop_map(
        move |((access, idle, max), fraction, grace, strict)| {
            let secs = |s: u64| format!("{s}s").parse().ok();
            let (idle, max) = (access + idle, access + idle + max);
            let touches = matches!(kind, PolicyKind::Sliding | PolicyKind::Cookie);
            let is_refresh = kind == PolicyKind::Refresh;
            let config = PolicyConfig {
                kind,
                access_ttl: secs(access),
                renew_after: touches.then_some(fraction),
                idle_ttl: if kind == PolicyKind::Fixed { None } else { secs(idle) },
                max_ttl: if kind == PolicyKind::Fixed { None } else { secs(max) },
                grace: if is_refresh { secs(grace) } else { None },
                lost_response: (is_refresh && strict).then_some(LostResponse::GraceOnly),
            };
            config.validate(&"test".parse().unwrap()).unwrap()
        },
    )
}

/// What happens next to a refresh session.
#[derive(Clone, Debug)]
enum Step {
    /// One of the tokens that were ever issued is presented, counted from the newest.
    Present(usize),
    /// Milliseconds pass, a few thousandths of the session's life.
    Wait(u64),
    /// Another policy of the kind takes effect.
    Policy(Box<Policy>),
    /// The user signs out.
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![4 => Just(0_usize), 4 => 0_usize..4, 1 => 0_usize..100].prop_map(Step::Present),
        5 => prop_oneof![0_u64..100, 0_u64..20_000, 0_u64..2_000_000].prop_map(Step::Wait),
        1 => policies(PolicyKind::Refresh).prop_map(|p| Step::Policy(Box::new(p))),
        1 => prop_oneof![9 => Just(Step::Wait(1)), 1 => Just(Step::End)],
    ];
    prop::collection::vec(step, 1..80)
}

/// What holds between a row and the one swapped in for it, whatever was decided.
fn check_write(before: &Session, after: &Session, oldest_max: Timestamp) -> Result<(), TestCaseError> {
    prop_assert_eq!(after.version, before.version + 1, "each write raises the version");
    prop_assert!(before.ended.is_none(), "an ended session is never written again");
    prop_assert!(after.rotation.used >= before.rotation.used);
    prop_assert!(after.expires_at <= before.expires_at, "the absolute end never moves away");
    prop_assert!(after.expires_at <= oldest_max);
    prop_assert!(after.idle_expires_at <= after.expires_at);
    let same = |s: &Session| (s.id, s.user_id, s.key_id, s.started_at, s.strength, s.scope.clone());
    prop_assert_eq!(same(before), same(after), "renewal changes nothing else");
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_sequence_of_presentations_breaks_a_refresh_session(
        first in policies(PolicyKind::Refresh), steps in steps(), advance in any::<bool>(),
    ) {
        let ring = ring();
        let on_rollback = if advance { OnRollback::Advance } else { OnRollback::Theft };
        let mut policy = first;
        let mut session = start(&policy);
        let oldest_max = session.started_at + policy.max_ttl;
        let mut now = session.started_at;
        let mut issued = vec![ring.successor(&session).unwrap()];
        // The answer to a token stays the same as long as the row does.
        let mut answers: BTreeMap<(u32, u64, [u8; 16]), RefreshToken> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
                Step::Policy(next) => policy = *next,
                Step::End => {
                    if let Some(change) = session.end(EndReason::SignedOut, now, None) {
                        session = change.session.unwrap();
                    }
                }
                Step::Present(back) => {
                    let token = issued[issued.len() - 1 - back.min(issued.len() - 1)];
                    let at = (now, Presenter::default());
                    let outcome = rotate(&session, &policy, &token, on_rollback, at);
                    prop_assert_eq!(&outcome, &rotate(&session, &policy, &token, on_rollback, at), "pure");
                    let live = matches!(session.status(&policy, now), Status::Live(_));
                    prop_assert_eq!(live, !matches!(outcome, Outcome::Over(_)), "only a live session answers");
                    if session.ended.is_some() {
                        prop_assert!(matches!(outcome, Outcome::Over(_)), "an ended session never lives again");
                    }
                    match outcome {
                        Outcome::Issue { session: next, how, change } => {
                            prop_assert!(now < session.started_at + policy.max_ttl);
                            prop_assert_eq!(how == Issued::Repeat, change.session.is_none());
                            if let Some(written) = &change.session {
                                prop_assert_eq!(written, &next);
                                check_write(&session, &next, oldest_max)?;
                                prop_assert_eq!(next.renewed_at, now);
                            } else {
                                prop_assert_eq!(&next, &session);
                            }
                            prop_assert_eq!(next.rotation.used, token.number, "the token presented is in use now");
                            prop_assert_eq!(next.rotation.used_nonce, token.nonce);
                            let life = next.access_life(&policy, now);
                            let deadlines = next.deadlines(&policy);
                            prop_assert!(life.exp <= deadlines.idle.secs() && life.exp <= deadlines.absolute.secs());
                            session = next;
                            let successor = ring.successor(&session).unwrap();
                            prop_assert_eq!(successor, ring.successor(&session).unwrap(), "made again the same");
                            prop_assert_eq!(successor.number, token.number + 1);
                            let row = (session.rotation.branch, token.number, token.nonce);
                            prop_assert_eq!(*answers.entry(row).or_insert(successor), successor);
                            issued.push(successor);
                        }
                        Outcome::Superseded { change } => {
                            prop_assert!(change.session.is_none() && change.events.is_empty());
                            prop_assert!(token.number < session.rotation.used);
                        }
                        Outcome::Reuse { change } => {
                            let next = change.session.unwrap();
                            check_write(&session, &next, oldest_max)?;
                            prop_assert_eq!(next.ended.unwrap().reason, EndReason::ReuseDetected);
                            prop_assert_eq!(change.events.len(), 1);
                            session = next;
                        }
                        Outcome::Over(ended) => prop_assert!(ended.at <= now || session.ended.is_some()),
                    }
                }
            }
            let deadlines = session.deadlines(&policy);
            prop_assert!(deadlines.idle <= deadlines.absolute);
            prop_assert!(deadlines.absolute <= oldest_max, "no session outlives the max_ttl it began with");
            prop_assert!(deadlines.absolute <= session.started_at + policy.max_ttl, "nor that of the moment");
        }
    }

    /// One well-behaved client, whatever its gaps: it is in until it idles out or grows too old.
    #[test]
    fn a_lone_client_is_never_called_a_thief(
        policy in policies(PolicyKind::Refresh), gaps in prop::collection::vec((0_u64..400_000, any::<bool>()), 1..60),
    ) {
        prop_assume!(policy.lost_response == LostResponse::UntilUsed);
        let ring = ring();
        let mut session = start(&policy);
        let mut held = ring.successor(&session).unwrap();
        let mut now = session.started_at;
        for (millis, lost) in gaps {
            now = now + Duration::from_millis(millis);
            match rotate(&session, &policy, &held, OnRollback::Theft, (now, Presenter::default())) {
                Outcome::Issue { session: next, .. } => session = next,
                Outcome::Over(ended) => {
                    prop_assert!(matches!(ended.reason, EndReason::IdleTimeout | EndReason::MaxLifetime));
                    break;
                }
                other => prop_assert!(false, "{other:?}"),
            }
            if !lost {
                held = ring.successor(&session).unwrap();
            }
        }
    }

    /// Any tokens, of any age and strength, at any time.
    #[test]
    fn sliding_writes_at_most_once_per_half_life_and_never_prolongs_too_far(
        policy in policies(PolicyKind::Sliding),
        uses in prop::collection::vec((prop_oneof![0_u64..50, 0_u64..2_000, 0_u64..500_000], 0_usize..5, 0_u64..2), 1..120),
        stronger in any::<bool>(),
    ) {
        let mut session = start(&policy);
        let end = session.expires_at;
        let mut now = session.started_at;
        let life = session.access_life(&policy, now);
        let mut tokens = vec![PresentedToken { iat: life.iat, exp: life.exp, rev: 1, strength: session.strength }];
        if stronger {
            let amr = Amr::PWD.union(Amr::SMS).union(Amr::MFA);
            session = session.step_up(strength(Acr::Aal2, amr, now), now, None).session.unwrap();
        }
        let mut last_write = now;
        for (millis, back, revision) in uses {
            now = now + Duration::from_millis(millis);
            let token = tokens[tokens.len() - 1 - back.min(tokens.len() - 1)];
            if token.exp <= now.secs() {
                continue; // Refused before it comes here.
            }
            match renew_access(&session, &policy, &token, 1 + revision, now) {
                Renewal::NotYet { renew_at } => {
                    prop_assert!(renew_at.is_some_and(|at| now.secs() < at && at < token.exp));
                    prop_assert!(token.rev > revision);
                }
                Renewal::Issue { session: next, strength, change } => {
                    if change.session.is_some() {
                        check_write(&session, &next, end)?;
                        let half = policy.half_life();
                        if half < Duration::from_secs(1) {
                            prop_assert!(now.since(last_write) >= half);
                        } else {
                            let whole = i64::try_from(half.as_secs()).unwrap();
                            prop_assert!(now.secs() - last_write.secs() >= whole, "one write per half-life");
                        }
                        last_write = now;
                    } else {
                        prop_assert_eq!(&next, &session);
                    }
                    session = next;
                    prop_assert!(strength.acr <= token.strength.acr);
                    prop_assert_eq!(strength.amr.intersection(token.strength.amr), strength.amr);
                    prop_assert!(strength.authenticated_at <= token.strength.authenticated_at);
                    let life = session.access_life(&policy, now);
                    prop_assert!(life.exp <= session.idle_expires_at.secs() && life.exp <= end.secs());
                    tokens.push(PresentedToken { iat: life.iat, exp: life.exp, rev: 1 + revision, strength });
                }
                Renewal::Over(ended) => {
                    prop_assert!(ended.at <= now);
                    break;
                }
            }
        }
    }

    /// Who presents his newest token again and again before a quarter of its life has passed stays in
    /// to the absolute end.
    #[test]
    fn an_active_sliding_user_is_never_logged_out_early(
        access in 8_u64..3600, max_in_lives in 1_u64..20, gaps in prop::collection::vec(0.0..1.0, 200),
    ) {
        let json = format!(r#"{{"kind": "sliding", "access_ttl": "{access}s", "max_ttl": "{}s"}}"#, access * max_in_lives);
        let policy = serde_json::from_str::<PolicyConfig>(&json).unwrap().validate(&"test".parse().unwrap()).unwrap();
        let mut session = start(&policy);
        let mut now = session.started_at;
        let mut life = session.access_life(&policy, now);
        for gap in gaps {
            now = now + policy.access_ttl.mul_f64(gap / 4.0);
            if now.secs() >= session.expires_at.secs() {
                break;
            }
            prop_assert!(now.secs() < life.exp, "the token died in an active user's hands");
            let token = PresentedToken { iat: life.iat, exp: life.exp, rev: 1, strength: session.strength };
            match renew_access(&session, &policy, &token, 1, now) {
                Renewal::NotYet { .. } => {}
                Renewal::Issue { session: next, .. } => {
                    session = next;
                    life = session.access_life(&policy, now);
                }
                Renewal::Over(ended) => prop_assert!(false, "{ended:?}"),
            }
        }
    }

    /// Any generations at any time, with steps up between.
    #[test]
    fn cookies_never_gain_strength_and_the_newest_always_answers(
        policy in policies(PolicyKind::Cookie),
        uses in prop::collection::vec((prop_oneof![0_u64..500, 0_u64..70_000], 0_u32..4, any::<bool>(), 0_u8..10), 1..100),
    ) {
        let mut session = start(&policy);
        let end = session.expires_at;
        let mut now = session.started_at;
        let mut vouched = vec![session.strength]; // By generation, from 1.
        for (millis, back, slide, step_up) in uses {
            now = now + Duration::from_millis(millis);
            if !matches!(session.status(&policy, now), Status::Live(_)) {
                break;
            }
            if step_up == 0 {
                let amr = Amr::PWD.union(Amr::SMS).union(Amr::MFA);
                session = session.step_up(strength(Acr::Aal2, amr, now), now, None).session.unwrap();
                vouched.push(session.strength);
            }
            let newest = session.cookie.unwrap().generation;
            prop_assert_eq!(usize::try_from(newest).unwrap(), vouched.len());
            let generation = newest.saturating_sub(back).max(1);
            match use_cookie(&session, &policy, generation, slide, now) {
                CookieUse::Accepted { session: next, strength, change, send, .. } => {
                    prop_assert!(generation + 1 >= newest);
                    let own = vouched[usize::try_from(generation).unwrap() - 1];
                    prop_assert!(strength.acr <= own.acr && strength.authenticated_at <= own.authenticated_at);
                    prop_assert_eq!(strength.amr.intersection(own.amr), strength.amr);
                    if generation < newest {
                        let age = now.since(session.cookie.unwrap().raised_at);
                        prop_assert!(!session.cookie.unwrap().confirmed && age <= Duration::from_secs(60));
                        prop_assert_eq!(send, age <= Duration::from_secs(10));
                    } else {
                        prop_assert!(next.cookie.unwrap().confirmed);
                    }
                    if let Change { session: Some(_), .. } = change {
                        check_write(&session, &next, end)?;
                    }
                    prop_assert!(slide || next.renewed_at == session.renewed_at);
                    session = next;
                }
                CookieUse::Superseded => prop_assert!(generation < newest),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn any_session_s_token_reads_back_and_any_other_text_is_refused(
        id in any::<[u8; 16]>(), nonce in any::<[u8; 16]>(), used in 0_u64..1 << 62, branch in any::<u32>(), text in "\\PC{0,120}",
    ) {
        let ring = ring();
        let json = r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d"}"#;
        let policy = serde_json::from_str::<PolicyConfig>(json).unwrap().validate(&"test".parse().unwrap()).unwrap();
        let mut session = Session { id: SessionId::from_bytes(id), ..start(&policy) };
        session.rotation.used = used;
        session.rotation.used_nonce = nonce;
        session.rotation.branch = branch;
        let token = ring.successor(&session).unwrap();
        let made = ring.refresh_token_text(&session, &token).unwrap();
        let read = ring.authenticate_refresh_token(UnverifiedRefreshToken::parse(made.reveal()).unwrap());
        prop_assert_eq!(read, Ok(token));
        prop_assert!(UnverifiedRefreshToken::parse(&text).is_err());
        prop_assert!(UnverifiedSessionCookie::parse(&text).is_err());
    }

    /// A tightened policy binds, a loosened one never lengthens, for sessions of every kind.
    #[test]
    fn no_change_of_policy_lengthens_a_session(
        kind in prop_oneof![Just(PolicyKind::Sliding), Just(PolicyKind::Fixed), Just(PolicyKind::Refresh), Just(PolicyKind::Cookie)],
        seed in any::<prop::sample::Index>(), all in prop::collection::vec(policies(PolicyKind::Refresh), 2..6),
    ) {
        let with_kind = |p: &Policy| Policy { kind, ..p.clone() };
        let first = with_kind(&all[seed.index(all.len())]);
        let session = start(&first);
        let stored = session.deadlines(&first);
        for other in all.iter().map(with_kind) {
            let deadlines = session.deadlines(&other);
            prop_assert!(deadlines.idle <= stored.idle && deadlines.absolute <= stored.absolute);
            prop_assert!(deadlines.absolute <= session.started_at + other.max_ttl);
            prop_assert!(deadlines.idle <= session.renewed_at + other.idle_ttl.unwrap_or(other.max_ttl));
        }
    }
}
