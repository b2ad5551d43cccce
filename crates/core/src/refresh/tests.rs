use super::*;
use crate::credential::KeyRing;
use crate::event::EventKind;
use crate::fixture::{at, at_millis, policy, refresh, ring, start};

/// One session, its ring and its policy: presents tokens and commits what is decided.
struct Login {
    session: Session,
    policy: Policy,
    ring: KeyRing,
    on_rollback: OnRollback,
}

impl Login {
    fn with(policy: Policy) -> Self {
        Self { session: start(&policy), policy, ring: ring(), on_rollback: OnRollback::Theft }
    }

    fn new() -> Self {
        Self::with(refresh())
    }

    fn with_grace(grace: &str, lost_response: &str) -> Self {
        Self::with(policy(&format!(
            r#"{{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d",
                "grace": "{grace}", "lost_response": "{lost_response}"}}"#
        )))
    }

    /// The token that the last answer carried.
    fn successor(&self) -> RefreshToken {
        self.ring.successor(&self.session).unwrap()
    }

    fn present(&mut self, token: &RefreshToken, now: Timestamp) -> Outcome {
        let outcome =
            rotate(&self.session, &self.policy, token, self.on_rollback, (now, Presenter::default()));
        if let Outcome::Issue { change, .. } | Outcome::Superseded { change } | Outcome::Reuse { change } =
            &outcome
            && let Some(next) = &change.session
        {
            assert_eq!(next.version, self.session.version + 1, "every write raises the version");
            self.session = next.clone();
        }
        outcome
    }

    /// Presents a token that must be answered with a successor.
    fn renew(&mut self, token: &RefreshToken, now: Timestamp) -> (Issued, RefreshToken) {
        let before = self.session.clone();
        match self.present(token, now) {
            Outcome::Issue { session, how, change } => {
                assert_eq!(session, self.session);
                assert_eq!(change.session.is_none(), how == Issued::Repeat, "a repeat writes nothing");
                assert!(how != Issued::Repeat || before == self.session);
                (how, self.successor())
            }
            other => panic!("{token:?} at {now:?}: {other:?}"),
        }
    }

    /// Renews `n` times, each a minute after the other, from `from` on; returns all tokens, oldest first.
    fn lineage(&mut self, n: i64, from: i64) -> Vec<RefreshToken> {
        let mut tokens = vec![self.successor()];
        for i in 0..n {
            let (how, next) = self.renew(&tokens[tokens.len() - 1].clone(), at(from + 60 * i));
            assert_eq!(how, Issued::Advance);
            tokens.push(next);
        }
        tokens
    }
}

fn is_superseded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Superseded { change } if change.session.is_none()
        && change.events.is_empty() && change.timeline[0].kind == TimelineKind::Late)
}

fn is_theft(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Reuse { change } => {
            let ended = change.session.as_ref().unwrap().ended.unwrap();
            assert_eq!(ended.reason, EndReason::ReuseDetected);
            assert!(matches!(
                change.events[..],
                [EventKind::SessionEnded { reason: EndReason::ReuseDetected, .. }]
            ));
            true
        }
        _ => false,
    }
}

// Row 1: advance.

#[test]
fn the_first_token_is_number_one_and_each_advance_adds_one() {
    let mut login = Login::new();
    let first = login.successor();
    assert_eq!(first.number, 1);
    let (how, second) = login.renew(&first, at(100));
    assert_eq!((how, second.number), (Issued::Advance, 2));
    let row = &login.session.rotation;
    assert_eq!((row.used, row.used_nonce, row.branch), (1, first.nonce, 0));
    assert_eq!(login.session.renewed_at, at(100));
    assert_eq!(login.session.idle_expires_at, at(100 + 14 * 86_400));
}

#[test]
fn an_advance_after_a_branch_begins_again_at_branch_zero() {
    let mut login = Login::new();
    let first = login.successor();
    login.renew(&first, at(0));
    let (how, mended) = login.renew(&first, at(60));
    assert_eq!((how, login.session.rotation.branch), (Issued::Branch, 1));
    login.renew(&mended, at(61));
    assert_eq!(login.session.rotation.branch, 0);
}

#[test]
fn the_idle_end_moves_but_never_past_the_absolute_one() {
    let mut login = Login::with(policy(
        r#"{"kind": "refresh", "access_ttl": "1m", "idle_ttl": "10m", "max_ttl": "15m"}"#,
    ));
    let first = login.successor();
    let (_, second) = login.renew(&first, at(590));
    assert_eq!(login.session.idle_expires_at, at(900));
    assert!(matches!(login.present(&second, at_millis(899_999)), Outcome::Issue { .. }));
    let third = login.successor();
    let over = Outcome::Over(Ended { at: at(900), reason: EndReason::MaxLifetime });
    assert_eq!(login.present(&third, at(900)), over);
}

// Row 2: repeat.

#[test]
fn a_repeat_within_grace_gets_the_same_successor_and_writes_nothing() {
    let mut login = Login::new();
    let first = login.successor();
    let (_, successor) = login.renew(&first, at(100));
    for millis in [0, 1, 5_000, 10_000] {
        assert_eq!(login.renew(&first, at_millis(100_000 + millis)), (Issued::Repeat, successor));
    }
    assert_eq!(login.renew(&first, at_millis(110_001)).0, Issued::Branch, "grace is ten seconds, not more");
}

#[test]
fn a_repeat_that_reads_an_older_clock_is_still_a_repeat() {
    let mut login = Login::new();
    let first = login.successor();
    let (_, successor) = login.renew(&first, at(100));
    assert_eq!(login.renew(&first, at(99)), (Issued::Repeat, successor));
}

#[test]
fn a_repeat_from_elsewhere_is_put_on_the_timeline() {
    let mut login = Login::new();
    let first = login.successor();
    login.renew(&first, at(0));
    let lines = |ip: [u8; 4], user_agent: &str| {
        let presenter = Presenter { ip: Some(ip.into()), user_agent: Some(user_agent) };
        let outcome = rotate(&login.session, &login.policy, &first, OnRollback::Theft, (at(1), presenter));
        let Outcome::Issue { how: Issued::Repeat, change, .. } = outcome else { panic!() };
        assert_eq!(change.session, None);
        change.timeline.into_iter().map(|line| line.kind).collect::<Vec<_>>()
    };
    assert_eq!(lines([192, 0, 2, 1], "Firefox"), []);
    assert_eq!(lines([192, 0, 2, 99], "Firefox"), [TimelineKind::RepeatElsewhere]);
    assert_eq!(lines([192, 0, 2, 1], "curl"), [TimelineKind::RepeatElsewhere]);
}

#[test]
fn user_agents_that_differ_past_the_stored_part_are_the_same() {
    let mut login = Login::new();
    let stored = "x".repeat(Session::USER_AGENT_MAX);
    login.session.user_agent = Some(stored.clone());
    let first = login.successor();
    login.renew(&first, at(0));
    let user_agent = format!("{stored} and more");
    let presenter = Presenter { ip: login.session.ip, user_agent: Some(&user_agent) };
    let outcome = rotate(&login.session, &login.policy, &first, OnRollback::Theft, (at(1), presenter));
    assert!(matches!(outcome, Outcome::Issue { change, .. } if change.is_empty()));
}

// Row 3: branch.

#[test]
fn a_lost_answer_is_mended_after_a_second_after_grace_and_after_an_hour() {
    let mut login = Login::new();
    let first = login.successor();
    let (_, lost) = login.renew(&first, at(0));
    assert_eq!(login.renew(&first, at(1)), (Issued::Repeat, lost));
    let (how, second) = login.renew(&first, at(11));
    assert_eq!((how, second.number), (Issued::Branch, 2));
    assert_ne!(second.nonce, lost.nonce, "a branch differs from its sibling");
    let (how, third) = login.renew(&first, at(3600));
    assert_eq!(how, Issued::Branch);
    assert_ne!(third.nonce, second.nonce);
    assert_eq!(login.session.renewed_at, at(3600), "a branch counts as use");
    assert_eq!(login.renew(&third, at(3601)).0, Issued::Advance);
}

#[test]
fn a_branch_has_a_grace_of_its_own() {
    let mut login = Login::new();
    let first = login.successor();
    login.renew(&first, at(0));
    let (_, mended) = login.renew(&first, at(60));
    assert_eq!(login.renew(&first, at(70)), (Issued::Repeat, mended));
}

#[test]
fn with_grace_only_a_late_repeat_is_theft() {
    let mut login = Login::with_grace("10s", "grace-only");
    let first = login.successor();
    login.renew(&first, at(0));
    assert_eq!(login.renew(&first, at(10)).0, Issued::Repeat);
    assert!(is_theft(&login.present(&first, at_millis(10_001))));
}

#[test]
fn with_a_grace_of_zero_no_two_parties_ever_share_a_successor() {
    let mut login = Login::with_grace("0s", "until-used");
    let first = login.successor();
    let (_, a) = login.renew(&first, at(0));
    let (how, b) = login.renew(&first, at(0));
    assert_eq!(how, Issued::Branch, "even in the same instant");
    assert_ne!(a, b);
    login.renew(&a, at(0));
    assert!(is_theft(&login.present(&b, at(0))), "the second party to appear is caught");
}

#[test]
fn with_a_grace_of_zero_nothing_is_merely_late() {
    let mut login = Login::with_grace("0s", "until-used");
    let tokens = login.lineage(2, 0);
    assert!(is_theft(&login.present(&tokens[0], at(60))));
}

#[test]
fn with_a_grace_of_zero_and_grace_only_any_repeat_is_theft() {
    let mut login = Login::with_grace("0s", "grace-only");
    let first = login.successor();
    login.renew(&first, at(0));
    assert!(is_theft(&login.present(&first, at(0))));
}

// Row 4: late.

#[test]
fn a_packet_that_was_under_way_when_another_tab_renewed_is_forgiven_for_twice_grace() {
    let mut login = Login::new();
    let tokens = login.lineage(2, 0);
    // Number 1 became stale at 60 s, when number 2 was used; that opened a window.
    for millis in [60_000, 70_000, 80_000] {
        assert!(is_superseded(&login.present(&tokens[0], at_millis(millis))), "{millis}");
    }
    assert_eq!(login.session.ended, None);
    assert!(is_theft(&login.present(&tokens[0], at_millis(80_001))));
}

#[test]
fn a_packet_is_forgiven_however_often_other_tabs_renewed_meanwhile() {
    let mut login = Login::new();
    let mut token = login.successor();
    let late = token;
    for i in 0..100 {
        token = login.renew(&token, at_millis(i * 100)).1;
    }
    assert_eq!(login.session.rotation.used, 100);
    assert!(is_superseded(&login.present(&late, at(20))));
    assert!(is_theft(&login.present(&late, at_millis(20_001))), "the window opened at zero");
}

#[test]
fn the_window_before_the_current_one_is_kept_too() {
    let mut login = Login::new();
    let tokens = login.lineage(1, 0);
    let (_, third) = login.renew(&tokens[1], at(100)); // Window: 1 is stale since 100 s.
    let (_, fourth) = login.renew(&third, at(110)); // Still that one: 2 is stale since then, too.
    login.renew(&fourth, at(111)); // A new one: 3 is stale since 111 s.
    let row = &login.session.rotation;
    assert_eq!((row.window_at, row.window_from), (at(111), 3));
    assert_eq!((row.prev_window_at, row.prev_window_from), (at(100), 1));
    for (number, last) in [(1, 120), (2, 120), (3, 131)] {
        let stale = [tokens[0], tokens[1], third][number - 1];
        let outcome = |now| rotate(&login.session, &login.policy, &stale, OnRollback::Theft, now);
        assert!(is_superseded(&outcome((at(last), Presenter::default()))), "{number}");
        assert!(is_theft(&outcome((at_millis(last * 1000 + 1), Presenter::default()))), "{number}");
    }
}

#[test]
fn what_is_older_than_both_windows_is_theft_at_once() {
    let mut login = Login::new();
    let mut tokens = vec![login.successor()];
    for secs in [0, 11, 22, 33] {
        let (_, next) = login.renew(&tokens[tokens.len() - 1].clone(), at(secs));
        tokens.push(next);
    }
    let present = |stale| {
        rotate(&login.session, &login.policy, stale, OnRollback::Theft, (at(33), Presenter::default()))
    };
    assert!(is_superseded(&present(&tokens[2])), "stale since 33 s");
    assert!(is_superseded(&present(&tokens[1])), "stale since 22 s");
    assert!(is_theft(&present(&tokens[0])), "stale since 11 s, three windows ago");
}

#[test]
fn a_thief_who_renews_every_nine_seconds_is_ended_by_the_owners_next_try() {
    let mut login = Login::new();
    let owners = login.lineage(1, 0)[1];
    let mut thiefs = owners;
    let overtaken = 100 + 9;
    for i in 0..20 {
        thiefs = login.renew(&thiefs, at(100 + 9 * i)).1;
    }
    let next_try = at(overtaken + 21);
    assert!(next_try < login.session.renewed_at + Duration::from_secs(300));
    assert!(is_theft(&login.present(&owners, at(100 + 9 * 20))));
    assert!(matches!(login.present(&thiefs, at(100 + 9 * 20)), Outcome::Over(_)), "and he is out");
}

#[test]
fn a_late_token_leaves_the_row_alone() {
    let mut login = Login::new();
    let tokens = login.lineage(2, 0);
    let before = login.session.clone();
    assert!(is_superseded(&login.present(&tokens[0], at(61))));
    assert_eq!(login.session, before);
}

// Row 5: theft.

#[test]
fn another_branch_of_the_token_in_use_is_theft_even_within_grace() {
    let mut login = Login::new();
    let first = login.successor();
    let (_, owners) = login.renew(&first, at(0));
    let (how, thiefs) = login.renew(&first, at(60));
    assert_eq!(how, Issued::Branch);
    login.renew(&owners, at(61));
    assert!(is_theft(&login.present(&thiefs, at(61))));
}

#[test]
fn after_a_theft_nobody_renews() {
    let mut login = Login::new();
    let tokens = login.lineage(3, 0);
    assert!(is_theft(&login.present(&tokens[0], at(500))));
    for token in &tokens {
        let over = Ended { at: at(500), reason: EndReason::ReuseDetected };
        assert_eq!(login.present(token, at(501)), Outcome::Over(over));
    }
}

#[test]
fn number_zero_was_never_issued() {
    let mut login = Login::new();
    // Not even with the nonce that the first token's is derived from.
    let zero = RefreshToken { number: 0, nonce: login.session.rotation.used_nonce, ..login.successor() };
    assert!(is_theft(&login.present(&zero, at(0))));
}

// Row 6: ahead.

#[test]
fn where_the_store_never_forgets_a_token_ahead_of_it_is_theft() {
    let mut login = Login::new();
    let old = login.session.clone();
    let tokens = login.lineage(2, 0);
    login.session = old;
    assert!(is_theft(&login.present(&tokens[2], at(200))));
}

#[test]
fn where_it_may_forget_a_token_ahead_of_it_mends_the_row() {
    let mut login = Login::new();
    login.on_rollback = OnRollback::Advance;
    let mut tokens = login.lineage(2, 0);
    let old = login.session.clone();
    tokens.push(login.renew(&tokens[2].clone(), at(300)).1);
    tokens.push(login.renew(&tokens[3].clone(), at(301)).1);
    login.session = old;
    let (how, next) = login.renew(&tokens[4].clone(), at(302));
    assert_eq!((how, next.number), (Issued::Ahead, 6));
    let row = &login.session.rotation;
    assert_eq!((row.used, row.used_nonce, row.branch), (5, tokens[4].nonce, 0));
    assert!(is_superseded(&login.present(&tokens[3], at(303))), "its predecessors are late, not stolen");
    assert_eq!(login.renew(&tokens[4].clone(), at(303)), (Issued::Repeat, next));
}

#[test]
fn ahead_is_put_on_the_timeline_and_is_no_licence_for_old_tokens() {
    let mut login = Login::new();
    login.on_rollback = OnRollback::Advance;
    let tokens = login.lineage(3, 0);
    let ahead = RefreshToken { number: 9, ..tokens[3] };
    let Outcome::Issue { how: Issued::Ahead, change, .. } = login.present(&ahead, at(500)) else { panic!() };
    assert_eq!(change.timeline[0].kind, TimelineKind::Ahead);
    assert!(is_theft(&login.present(&tokens[0], at(521))));
}

// Whoever comes too late.

#[test]
fn no_token_renews_an_idle_or_ended_session() {
    let mut login = Login::new();
    let first = login.successor();
    let idle = Outcome::Over(Ended { at: at(14 * 86_400), reason: EndReason::IdleTimeout });
    assert_eq!(login.present(&first, at(14 * 86_400)), idle);
    let change = login.session.end(EndReason::SignedOut, at(5), None).unwrap();
    login.session = change.session.unwrap();
    let out = Outcome::Over(Ended { at: at(5), reason: EndReason::SignedOut });
    assert_eq!(login.present(&first, at(6)), out);
}

#[test]
fn a_thousand_races_of_two_tabs_leave_one_lineage() {
    let mut login = Login::new();
    let mut token = login.successor();
    for round in 0..1000 {
        let now = at(round * 300);
        let (first, a) = login.renew(&token, now);
        let (second, b) = login.renew(&token, now + Duration::from_millis(3));
        assert_eq!((first, second), (Issued::Advance, Issued::Repeat));
        assert_eq!(a, b);
        token = a;
    }
    assert_eq!(login.session.rotation.used, 1000);
}
