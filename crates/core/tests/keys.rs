//! The plan of key rotation, run as the server runs it: whatever happens, some key is active, and what
//! was signed at any instant verifies until its death.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use reseal_core::Timestamp;
use reseal_core::keys::{KeyRecord, KeySchedule, KeyState, KeyStep, KeyUse, active_key, plan, retire};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const ZERO: Timestamp = Timestamp::from_secs(1_700_000_000);
const SCHEDULE: KeySchedule = KeySchedule {
    rotate_every: Duration::from_secs(30 * 86_400),
    publish_before: Duration::from_secs(86_400),
    longest_access_ttl: Duration::from_secs(3600),
    longest_max_ttl: Duration::from_secs(90 * 86_400),
};

/// The keys of one algorithm, kept as a server keeps them.
#[derive(Default)]
struct Keys {
    records: Vec<KeyRecord>,
    made: u32,
}

impl Keys {
    fn run(&mut self, schedule: &KeySchedule, now: Timestamp, wanted: bool) -> Vec<KeyStep> {
        let steps = plan(&self.records, schedule, now, wanted);
        for step in &steps {
            match step {
                KeyStep::Create { active_from } => {
                    for old in self.records.iter_mut().filter(|k| k.retired_at.is_none()) {
                        *old = retire(old, *active_from, schedule);
                    }
                    self.made += 1;
                    self.records.push(KeyRecord {
                        key_use: KeyUse::Signing { algorithm: "ES256".into(), kid: self.made.to_string() },
                        created_at: now,
                        active_from: *active_from,
                        retired_at: None,
                        unpublished_at: None,
                        withdrawn_at: None,
                        sealed: vec![],
                    });
                }
                KeyStep::Forget(key_use) => self.records.retain(|k| k.key_use != *key_use),
            }
        }
        steps
    }

    fn states(&self, now: Timestamp) -> Vec<KeyState> {
        self.records.iter().map(|k| k.state(now)).collect()
    }
}

#[test]
fn the_first_key_signs_at_once() {
    let mut keys = Keys::default();
    assert_eq!(keys.run(&SCHEDULE, ZERO, false), [KeyStep::Create { active_from: ZERO }]);
    assert_eq!(keys.states(ZERO), [KeyState::Active]);
    assert_eq!(keys.run(&SCHEDULE, ZERO, false), [], "and is not made again");
}

#[test]
fn a_successor_is_published_before_it_signs_and_then_takes_over_in_one_instant() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    let due = ZERO + SCHEDULE.rotate_every;
    let published = due - SCHEDULE.publish_before;
    assert_eq!(keys.run(&SCHEDULE, published - Duration::from_millis(1), false), []);
    assert_eq!(keys.run(&SCHEDULE, published, false), [KeyStep::Create { active_from: due }]);
    assert_eq!(keys.states(due - Duration::from_millis(1)), [KeyState::Active, KeyState::Next]);
    assert_eq!(keys.states(due), [KeyState::Retired, KeyState::Active]);
    assert!(keys.records.iter().all(|k| k.is_published(due)));
}

#[test]
fn a_rotation_that_is_asked_for_still_publishes_first_and_is_made_once() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    let asked = ZERO + HOUR;
    let active_from = asked + SCHEDULE.publish_before;
    assert_eq!(keys.run(&SCHEDULE, asked, true), [KeyStep::Create { active_from }]);
    assert_eq!(keys.run(&SCHEDULE, asked + HOUR, true), [], "one is under way");
}

#[test]
fn an_authority_that_slept_through_a_rotation_catches_up_without_haste() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    let woke = ZERO + DAY * 400;
    let active_from = woke + SCHEDULE.publish_before;
    assert_eq!(keys.run(&SCHEDULE, woke, false), [KeyStep::Create { active_from }]);
    assert_eq!(keys.states(woke), [KeyState::Active, KeyState::Next], "the old key signs meanwhile");
}

#[test]
fn a_key_leaves_in_steps_and_is_forgotten_when_nothing_of_it_can_live() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    let handover = ZERO + HOUR + SCHEDULE.publish_before;
    keys.run(&SCHEDULE, ZERO + HOUR, true);
    let first = keys.records[0].clone();
    let slack = Duration::from_secs(120);
    let unpublished = handover + SCHEDULE.longest_access_ttl + slack;
    assert_eq!(first.state(unpublished - Duration::from_millis(1)), KeyState::Retired);
    assert_eq!(first.state(unpublished), KeyState::Unpublished);
    assert!(!first.is_published(unpublished));
    let forgotten = handover + SCHEDULE.longest_max_ttl + slack;
    assert_eq!(first.forget_at(&SCHEDULE), Some(forgotten));
    assert!(
        !keys
            .run(&SCHEDULE, forgotten - Duration::from_millis(1), false)
            .contains(&KeyStep::Forget(first.key_use.clone()))
    );
    assert!(keys.run(&SCHEDULE, forgotten, false).contains(&KeyStep::Forget(first.key_use)));
}

#[test]
fn a_key_that_still_signs_is_never_forgotten() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    assert_eq!(keys.records[0].forget_at(&SCHEDULE), None);
}

#[test]
fn a_record_prints_without_its_secret() {
    let mut keys = Keys::default();
    keys.run(&SCHEDULE, ZERO, false);
    keys.records[0].sealed = b"do not show".to_vec();
    assert!(!format!("{:?}", keys.records[0]).contains("sealed"));
    assert_eq!(KeyState::Next.as_str(), "next");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The clock advances by any steps, rotations are asked for at any time, and at every instant
    /// between: one key is active, and was published long enough unless it was the first; the key of any
    /// token that may live is published, that of any session is known.
    #[test]
    fn what_was_signed_at_any_instant_verifies_until_its_death(
        steps in prop::collection::vec((1_u64..200_000, any::<bool>()), 1..120),
        rotate_every in 1_u64..40, publish_before in 1_u64..30, access in 1_u64..100, max in 100_u64..300,
    ) {
        let schedule = KeySchedule {
            rotate_every: HOUR * u32::try_from(rotate_every).unwrap(),
            publish_before: HOUR * u32::try_from(publish_before).unwrap(),
            longest_access_ttl: HOUR * u32::try_from(access).unwrap(),
            longest_max_ttl: HOUR * u32::try_from(max).unwrap(),
        };
        let mut keys = Keys::default();
        let mut now = ZERO;
        keys.run(&schedule, now, false);
        // Who signed when, for as long as it matters.
        let mut signed: Vec<(Timestamp, KeyUse)> = Vec::new();
        for (seconds, wanted) in steps {
            let next = now + Duration::from_secs(seconds);
            // The instants at which something changes, and those just before.
            let mut instants = vec![now, next];
            for key in &keys.records {
                for t in [Some(key.active_from), key.retired_at, key.unpublished_at].into_iter().flatten() {
                    instants.extend([t, t - Duration::from_millis(1)]);
                }
            }
            instants.retain(|t| (now..=next).contains(t));
            instants.sort();
            for at in instants {
                let active = active_key(&keys.records, at).expect("some key is active at any instant");
                prop_assert_eq!(keys.states(at).iter().filter(|s| **s == KeyState::Active).count(), 1);
                let is_first = matches!(&active.key_use, KeyUse::Signing { kid, .. } if kid == "1");
                prop_assert!(is_first || at.since(active.created_at) >= schedule.publish_before);
                signed.push((at, active.key_use.clone()));
                signed.retain(|(then, _)| at.since(*then) <= schedule.longest_max_ttl);
                for (then, key_use) in &signed {
                    let key = keys.records.iter().find(|k| k.key_use == *key_use);
                    prop_assert!(key.is_some(), "forgotten while a session of it may live");
                    if at.since(*then) <= schedule.longest_access_ttl {
                        prop_assert!(key.unwrap().is_published(at), "a living token nobody can verify");
                    }
                }
            }
            now = next;
            keys.run(&schedule, now, wanted);
        }
    }
}
