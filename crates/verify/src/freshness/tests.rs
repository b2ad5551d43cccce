use super::*;
use proptest::prelude::*;
use reseal_core::event::{Event, EventKind, event_until};
use reseal_core::{ClientId, Timestamp};
use std::time::Duration;

const LONGEST_TTL: i64 = 300;
const LEEWAY: i64 = 60;
/// What an issuing node's clock may be ahead of the one that commits.
const NODE_SKEW: i64 = 30;
const START: i64 = 1_800_000_000;

fn sid(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn sub(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn client(n: u8) -> ClientId {
    format!("client-{n}").parse().unwrap()
}

fn kid(n: u8) -> String {
    format!("key-{n}")
}

fn event(kind: EventKind, committed: i64) -> LoggedEvent {
    let ttl = Duration::from_secs(LONGEST_TTL.unsigned_abs());
    let until = event_until(Timestamp::from_secs(committed), ttl);
    LoggedEvent { seq: 0, event: Event { kind, until } }
}

fn ended(n: u8, committed: i64) -> LoggedEvent {
    event(EventKind::SessionEnded { sid: sid(n), reason: EndReason::Revoked }, committed)
}

#[test]
fn each_map_judges_its_own_and_the_worst_counts() {
    let mut freshness = Freshness::default();
    let token = Facts {
        kid: Some("key-1"),
        sid: Some(sid(1)),
        sub: Some(sub(1)),
        rev: Some(4),
        client_id: Some("client-1"),
        iat: Some(START),
    };
    assert_eq!(freshness.judge(&token), Judgement::Current);
    freshness.apply(&event(EventKind::ClaimsChanged { sub: sub(1), rev: 4 }, START));
    freshness.apply(&event(EventKind::ClientChanged { client_id: client(1), before: START }, START));
    assert_eq!(freshness.judge(&token), Judgement::Current, "neither is before");
    freshness.apply(&event(EventKind::ClaimsChanged { sub: sub(1), rev: 5 }, START));
    assert_eq!(freshness.judge(&token), Judgement::Stale);
    let newer = Facts { rev: Some(5), ..token };
    assert_eq!(freshness.judge(&newer), Judgement::Current);
    freshness.apply(&event(EventKind::ClientChanged { client_id: client(1), before: START + 1 }, START));
    assert_eq!(freshness.judge(&newer), Judgement::Stale);
    freshness.apply(&ended(1, START));
    assert_eq!(freshness.judge(&newer), Judgement::SessionEnded(EndReason::Revoked));
    freshness.apply(&event(EventKind::KeysChanged { withdrawn: vec![kid(1)] }, START));
    assert_eq!(freshness.judge(&newer), Judgement::KeyWithdrawn);
    assert!(freshness.is_withdrawn("key-1") && !freshness.is_withdrawn("key-2"));
    assert_eq!(freshness.entries(), Entries { sessions: 1, users: 1, clients: 1, keys: 1 });
}

#[test]
fn a_token_that_does_not_say_how_old_it_is_is_older_than_any_change() {
    let mut freshness = Freshness::default();
    freshness.apply(&event(EventKind::ClaimsChanged { sub: sub(1), rev: 0 }, START));
    freshness.apply(&event(EventKind::ClientChanged { client_id: client(1), before: i64::MIN }, START));
    let no_rev = Facts { sub: Some(sub(1)), ..Facts::default() };
    let no_iat = Facts { client_id: Some("client-1"), ..Facts::default() };
    assert_eq!(freshness.judge(&no_rev), Judgement::Stale);
    assert_eq!(freshness.judge(&no_iat), Judgement::Stale);
    assert_eq!(freshness.judge(&Facts::default()), Judgement::Current);
}

#[test]
fn everything_goes_when_its_time_has_passed_and_nothing_before() {
    let mut freshness = Freshness::default();
    for n in 0..=255 {
        freshness.apply(&ended(n, START));
        freshness.apply(&event(EventKind::ClaimsChanged { sub: sub(n), rev: 1 }, START));
        freshness.apply(&event(EventKind::ClientChanged { client_id: client(n), before: 1 }, START));
        freshness.apply(&event(EventKind::KeysChanged { withdrawn: vec![kid(n)] }, START));
    }
    let until = START + LONGEST_TTL + 120;
    for _ in 0..2 * maps::SHARDS {
        freshness.prune(until);
    }
    assert_eq!(freshness.entries().total(), 1024);
    for _ in 0..2 * maps::SHARDS {
        freshness.prune(until + 1);
    }
    assert_eq!(freshness.entries().total(), 0);
}

#[test]
fn one_that_is_too_full_says_so_until_it_has_started_over_with_room() {
    let mut freshness = Freshness::new(8);
    for n in 0..8 {
        freshness.apply(&ended(n, START));
    }
    assert!(!freshness.is_incomplete());
    freshness.apply(&ended(3, START + 1));
    assert!(!freshness.is_incomplete(), "what is known needs no place");
    freshness.apply(&ended(8, START + 1000));
    assert!(freshness.is_incomplete() && !freshness.must_start_over(START));
    freshness.caught_up();
    assert!(freshness.is_incomplete(), "only a new start mends it");

    let later = START + LONGEST_TTL + 122;
    for _ in 0..maps::SHARDS {
        freshness.prune(later);
    }
    assert!(freshness.must_start_over(later));
    freshness.start_over();
    assert!(freshness.is_incomplete(), "not mended before it has caught up");
    assert!(!freshness.must_start_over(later), "once is enough");
    freshness.apply(&ended(8, START + 1000));
    freshness.caught_up();
    assert!(!freshness.is_incomplete());
    assert_eq!(freshness.entries().total(), 1);
}

#[test]
fn maps_that_had_no_place_for_all_do_not_replace_the_old_ones() {
    let mut freshness = Freshness::new(4);
    freshness.apply(&ended(9, START));
    freshness.start_over();
    for n in 0..5 {
        freshness.apply(&ended(n, START));
    }
    freshness.caught_up();
    assert!(freshness.is_incomplete());
    let token = Facts { sid: Some(sid(9)), ..Facts::default() };
    assert_ne!(freshness.judge(&token), Judgement::Current);
}

#[test]
fn names_of_keys_are_bounded_together() {
    let mut freshness = Freshness::default();
    for n in 0..20_u32 {
        let name = format!("{n:0>60000}");
        freshness.apply(&event(EventKind::KeysChanged { withdrawn: vec![name] }, START));
    }
    assert!(freshness.is_incomplete());
    assert_eq!(freshness.entries().keys, 17);
}

#[test]
fn a_clock_that_is_set_back_further_than_there_is_to_spare_needs_a_new_start() {
    let mut freshness = Freshness::default();
    freshness.prune(START + 3600);
    freshness.prune(START + 3570);
    assert!(!freshness.must_start_over(START + 3570));
    assert!(freshness.must_start_over(START + 3569));
    freshness.start_over();
    assert!(!freshness.must_start_over(START));
}

/// A token and what concerns it.
#[derive(Clone, Debug)]
struct Issued {
    n: u8,
    rev: u64,
    iat: i64,
    exp: i64,
    kid: String,
    client_id: String,
}

impl Issued {
    fn facts(&self) -> Facts<'_> {
        Facts {
            kid: Some(&self.kid),
            sid: Some(sid(self.n)),
            sub: Some(sub(self.n)),
            rev: Some(self.rev),
            client_id: Some(&self.client_id),
            iat: Some(self.iat),
        }
    }
}

/// The naive model: the worst that any event that was delivered says, whatever its age.
fn model<'a>(delivered: impl Iterator<Item = &'a LoggedEvent>, token: &Issued) -> u8 {
    let says = |event: &LoggedEvent| match &event.event.kind {
        EventKind::KeysChanged { withdrawn } if withdrawn.contains(&token.kid) => 3,
        EventKind::SessionEnded { sid: ended, .. } if *ended == sid(token.n) => 2,
        EventKind::ClaimsChanged { sub: changed, rev } if *changed == sub(token.n) && token.rev < *rev => 1,
        EventKind::ClientChanged { client_id, before }
            if client_id.as_str() == token.client_id && token.iat < *before =>
        {
            1
        }
        _ => 0,
    };
    delivered.map(says).max().unwrap_or(0)
}

#[derive(Clone, Debug)]
enum Step {
    /// Deliver that event (again).
    Deliver(proptest::sample::Index),
    /// Let time pass, or set the clock back by a little.
    Pass(i64),
    Prune(usize),
    StartOver,
    /// Whatever is live and has not come since the start comes, then `caught-up`.
    CaughtUp,
}

fn events() -> impl Strategy<Value = Vec<LoggedEvent>> {
    let one = (0..4_u8, 0..4_u8, 0..6_u64, 0..600_i64).prop_map(|(kind, n, rev, at)| {
        let committed = START + at;
        let kind = match kind {
            0 => EventKind::SessionEnded {
                sid: sid(n),
                reason: EndReason::ALL[usize::try_from(rev).unwrap() % EndReason::ALL.len()],
            },
            1 => EventKind::ClaimsChanged { sub: sub(n), rev },
            2 => EventKind::ClientChanged { client_id: client(n), before: committed + 1 },
            _ => EventKind::KeysChanged { withdrawn: vec![kid(n)] },
        };
        event(kind, committed)
    });
    proptest::collection::vec(one, 1..24)
}

/// The tokens that an event concerns were issued before it, by a clock that may be ahead by 30 s.
fn concerned(events: &[LoggedEvent], ttl: i64, age: i64) -> Vec<Issued> {
    let tokens = events.iter().flat_map(|event| {
        let committed = event.event.until.secs() - LONGEST_TTL - 120;
        let iat = committed + NODE_SKEW - age;
        (0..4_u8).flat_map(move |n| {
            (0..6_u64).map(move |rev| Issued {
                n,
                rev,
                iat,
                exp: iat + ttl,
                kid: kid(n),
                client_id: client(n).as_str().to_owned(),
            })
        })
    });
    tokens.collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        8 => any::<proptest::sample::Index>().prop_map(Step::Deliver),
        3 => (-15..120_i64).prop_map(Step::Pass),
        2 => (1..200_usize).prop_map(Step::Prune),
        1 => Just(Step::StartOver),
        1 => Just(Step::CaughtUp),
    ];
    proptest::collection::vec(one, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("RESEAL_LONG").is_some() { 2000 } else { 64 }))]

    /// However events come, in whatever order, late or again, with pruning and new starts between them: no
    /// living token is ever judged more mildly than by all that was told, nor more harshly.
    #[test]
    fn no_order_brings_an_old_right_back(
        events in events(), steps in steps(), ttl in prop_oneof![Just(LONGEST_TTL), 1..=LONGEST_TTL], age in prop_oneof![Just(0), 0..60_i64],
    ) {
        let tokens = concerned(&events, ttl, age);
        let mut freshness = Freshness::default();
        let mut delivered = vec![false; events.len()];
        let mut since_start = vec![true; events.len()];
        let (mut now, mut latest) = (START, START);
        for step in steps {
            match step {
                Step::Deliver(index) => {
                    let i = index.index(events.len());
                    // What the log has dropped does not come any more (its clock is 15 s ahead of ours).
                    if events[i].event.until.secs() >= latest + 15 {
                        freshness.apply(&events[i]);
                        (delivered[i], since_start[i]) = (true, true);
                    }
                }
                Step::Pass(seconds) => {
                    now = (now + seconds).max(latest - 15);
                    latest = latest.max(now);
                }
                Step::Prune(times) => (0..times).for_each(|_| freshness.prune(now)),
                Step::StartOver => {
                    freshness.start_over();
                    since_start.fill(false);
                }
                Step::CaughtUp => {
                    for (i, event) in events.iter().enumerate() {
                        if delivered[i] && !since_start[i] && event.event.until.secs() >= latest + 15 {
                            freshness.apply(event);
                            since_start[i] = true;
                        }
                    }
                    freshness.caught_up();
                }
            }
            prop_assert!(!freshness.must_start_over(now));
            let told = || events.iter().zip(&delivered).filter(|(_, d)| **d).map(|(e, _)| e);
            for token in &tokens {
                let (expected, seen) = (model(told(), token), severity(freshness.judge(&token.facts())));
                prop_assert!(seen <= expected, "{token:?}: {seen} though nobody said so");
                if token.exp + LEEWAY > now {
                    prop_assert!(
                        seen >= expected || issued_after(told(), token, expected),
                        "{token:?} at {now}: {seen} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_order_ends_in_the_same_judgements(
        (events, shuffled) in events().prop_flat_map(|events| {
            let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
            (Just(events), Just(twice).prop_shuffle())
        }),
    ) {
        let judge_all = |events: &[LoggedEvent]| {
            let mut freshness = Freshness::default();
            events.iter().for_each(|event| freshness.apply(event));
            concerned(events, 1, 0).iter().map(|t| (format!("{t:?}"), freshness.judge(&t.facts())))
                .map(|(token, judgement)| (token, format!("{judgement:?}")))
                .collect::<std::collections::BTreeSet<_>>()
        };
        prop_assert_eq!(judge_all(&events), judge_all(&shuffled));
    }
}

/// Whether all that says so much of the token was committed more than the clocks' difference before it was
/// issued: then the authority would never have issued it like that.
fn issued_after<'a>(told: impl Iterator<Item = &'a LoggedEvent>, token: &Issued, expected: u8) -> bool {
    let committed = |event: &LoggedEvent| event.event.until.secs() - LONGEST_TTL - 120;
    let before: Vec<_> = told.filter(|event| token.iat <= committed(event) + NODE_SKEW).collect();
    model(before.into_iter(), token) < expected
}
