//! What can be said of an advance before the row has been read.

use crate::credential::RefreshToken;
use crate::id::{ClientId, KeyId, PolicyName};
use crate::policy::{Policy, PolicyKind};
use crate::session::Session;
use crate::time::Timestamp;
use std::time::Duration;

/// A prediction: the token is the newest of its session, whose row is as nearly all rows are.
///
/// A store that is far away can write it in the same trip in which it reads the row, and the decision
/// ([`rotate`](super::rotate)) is then made on what was read. It is never more than a prediction: where it does
/// not hold nothing is written ahead, and the decision rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The client that presents the token; the session must be of it.
    pub client_id: ClientId,
    /// The policy that the session must be under.
    pub policy: PolicyName,
    /// The key that the session's credentials must be made with.
    pub key_id: KeyId,
    /// The token's number; at least 1.
    pub number: u64,
    /// Its nonce.
    pub nonce: [u8; 16],
    /// When.
    pub now: Timestamp,
    /// Of the policy.
    pub grace: Duration,
    /// Of the policy.
    pub idle_ttl: Option<Duration>,
    /// Of the policy.
    pub max_ttl: Duration,
}

impl Advance {
    /// The prediction for a token that a client presents, if the policy rotates refresh tokens at all.
    pub fn of(token: &RefreshToken, client_id: &ClientId, policy: &Policy, now: Timestamp) -> Option<Self> {
        (policy.kind == PolicyKind::Refresh && token.number > 0).then(|| Self {
            client_id: client_id.clone(),
            policy: policy.name.clone(),
            key_id: token.key_id,
            number: token.number,
            nonce: token.nonce,
            now,
            grace: policy.grace,
            idle_ttl: policy.idle_ttl,
            max_ttl: policy.max_ttl,
        })
    }

    /// The row as a plain advance leaves it; none where it is not one. What a store writes ahead must be
    /// exactly this.
    pub fn apply(&self, session: &Session) -> Option<Session> {
        let row = &session.rotation;
        let absolute = session.expires_at.min(session.started_at + self.max_ttl);
        let idle = self.idle_ttl.map_or(absolute, |ttl| session.renewed_at + ttl);
        let foretold = session.ended.is_none()
            && (&session.client_id, &session.policy) == (&self.client_id, &self.policy)
            && session.key_id == self.key_id
            && row.used.checked_add(1) == Some(self.number)
            && self.now < idle.min(session.idle_expires_at).min(absolute);
        if !foretold {
            return None;
        }
        let mut next = session.next();
        next.renewed_at = self.now;
        next.expires_at = absolute;
        next.idle_expires_at = self.idle_ttl.map_or(absolute, |ttl| (self.now + ttl).min(absolute));
        if self.now.since(row.window_at) > self.grace {
            next.rotation.prev_window_at = row.window_at;
            next.rotation.prev_window_from = row.window_from;
            next.rotation.window_at = self.now;
            next.rotation.window_from = row.used;
        }
        next.rotation.used = self.number;
        next.rotation.used_nonce = self.nonce;
        next.rotation.branch = 0;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Issued, OnRollback, Outcome, Presenter, rotate};
    use super::*;
    use crate::event::EndReason;
    use crate::policy::{LostResponse, Policies};
    use crate::session::{Change, Ended, NewSession};
    use crate::{Acr, Amr, SessionId, Strength, UserId};
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000;

    fn base() -> (Session, Policy) {
        let policies = Policies::new([]).unwrap();
        let policy = policies.find(&"app".parse().unwrap()).unwrap().clone();
        let now = Timestamp::from_millis(NOW);
        let new = NewSession {
            id: SessionId::from_bytes([1; 16]),
            nonce: [2; 16],
            user_id: UserId::from_bytes([3; 16]),
            client_id: "web".parse().unwrap(),
            scope: "read".parse().unwrap(),
            key_id: KeyId(1),
            strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: now },
            user_agent: None,
            ip: None,
        };
        (Session::start(new, &policy, now).0, policy)
    }

    /// Times around the ones that matter, in milliseconds.
    fn around(at: i64) -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            4 => (-3_i64..=3).prop_map(move |d| at + d),
            3 => (-30_000_i64..=30_000).prop_map(move |d| at + d),
            1 => (-10_000_000_000_i64..=10_000_000_000).prop_map(move |d| at + d),
        ]
        .prop_map(Timestamp::from_millis)
    }

    prop_compose! {
        fn any_case()(
            used in 0_u64..4, number in 1_u64..6, nonces in (0_u8..2, 0_u8..2), branch in 0_u32..2,
            windows in (around(NOW - 10_000), 0_u64..4, around(NOW - 20_000), 0_u64..4),
            times in (around(NOW), around(NOW + 1000), around(NOW + 1000), around(NOW - 60_000)),
            ttls in (0_u64..30, prop::option::of(1_u64..120), 1_u64..120),
            odd in (0_u8..8, 0_u8..8, 0_u8..8, 0_u8..8, any::<bool>()),
            version in prop_oneof![Just(1), Just(u32::MAX), any::<u32>()],
        ) -> (Session, Policy, RefreshToken, Advance) {
            let (mut session, mut policy) = base();
            session.version = version;
            session.rotation.used = used;
            session.rotation.used_nonce = [nonces.0; 16];
            session.rotation.branch = branch;
            session.rotation.window_at = windows.0;
            session.rotation.window_from = windows.1;
            session.rotation.prev_window_at = windows.2;
            session.rotation.prev_window_from = windows.3;
            session.renewed_at = times.0;
            session.idle_expires_at = times.1;
            session.expires_at = times.2;
            session.started_at = times.3;
            policy.grace = Duration::from_secs(ttls.0);
            policy.idle_ttl = ttls.1.map(Duration::from_secs);
            policy.max_ttl = Duration::from_secs(ttls.2);
            policy.lost_response = if odd.4 { LostResponse::GraceOnly } else { LostResponse::UntilUsed };
            if odd.0 == 0 {
                session.ended = Some(Ended { at: times.1, reason: EndReason::SignedOut });
            }
            let token = RefreshToken {
                session_id: session.id, key_id: KeyId(1), number, nonce: [nonces.1; 16],
            };
            let mut advance =
                Advance::of(&token, &session.client_id, &policy, Timestamp::from_millis(NOW)).unwrap();
            if odd.1 == 0 { advance.client_id = "other".parse().unwrap(); }
            if odd.2 == 0 { session.policy = "other".parse().unwrap(); }
            if odd.3 == 0 { session.key_id = KeyId(2); }
            (session, policy, token, advance)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn whatever_is_foretold_is_what_the_rule_decides((session, policy, token, advance) in any_case()) {
            let at = (Timestamp::from_millis(NOW), Presenter::default());
            let decided = rotate(&session, &policy, &token, OnRollback::Theft, at);
            let ours = session.client_id == advance.client_id
                && session.policy == advance.policy
                && token.is_of(&session);
            match advance.apply(&session) {
                Some(next) => {
                    prop_assert!(ours);
                    let change = Change { session: Some(next.clone()), ..Change::default() };
                    let expected = Outcome::Issue { session: next, how: Issued::Advance, change };
                    prop_assert_eq!(decided, expected);
                }
                // And nothing that the rule calls an advance is missed.
                None => {
                    let plain = matches!(decided, Outcome::Issue { how: Issued::Advance, .. });
                    prop_assert!(!ours || !plain);
                }
            }
        }
    }

    #[test]
    fn only_refresh_tokens_are_foretold() {
        let (session, mut policy) = base();
        let token = RefreshToken { session_id: session.id, key_id: KeyId(1), number: 1, nonce: [2; 16] };
        policy.kind = PolicyKind::Cookie;
        assert_eq!(Advance::of(&token, &session.client_id, &policy, Timestamp::from_millis(NOW)), None);
    }
}
